"""Labels of sums: what may be added, and what may be committed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.machine import RemoteProtocolError
from orbitrain.protocols.sfft.weights import NOTHING, Label, commits, of_plane, total

WEIGHTS = {f"{plane}-{place}": 1 + 3 * plane + place for plane in range(6) for place in range(3)}


def label_of(plane: int, places: set[int]) -> Label:
    return of_plane(plane, {f"{plane}-{place}": WEIGHTS[f"{plane}-{place}"] for place in places})


labels = st.builds(
    lambda planes, taking: total(
        label_of(plane, {place for place in range(3) if taking >> (3 * plane + place) & 1})
        for plane in planes
    ),
    st.sets(st.integers(0, 5)),
    st.integers(0, 2**18 - 1),
)


@given(labels, labels)
def test_labels_add_where_they_are_disjoint_and_refuse_to_count_twice(one: Label, other: Label) -> None:
    if one.origins & other.origins:
        with pytest.raises(RemoteProtocolError, match="would be counted twice"):
            one + other
    else:
        both = one + other
        assert both == other + one
        assert both.origins == one.origins | other.origins and both.names == one.names | other.names
        assert both.weight == one.weight + other.weight == sum(WEIGHTS[name] for name in both.names)


@given(st.integers(0, 2**18 - 1), st.integers(0, 2**32))
def test_however_sums_are_merged_their_label_is_the_same(taking: int, seed: int) -> None:
    random = Random(seed)
    planes = [
        label_of(plane, {place for place in range(3) if taking >> (3 * plane + place) & 1})
        for plane in range(6)
    ]
    expected = total(planes)
    while len(planes) > 1:
        random.shuffle(planes)
        planes.append(planes.pop() + planes.pop())
    assert planes == [expected]
    assert commits(expected, range(6), WEIGHTS)[0] == (taking != 0)


@given(labels)
def test_the_empty_sum_adds_nothing(label: Label) -> None:
    assert label + NOTHING == label == NOTHING + label
    if label.origins:
        with pytest.raises(RemoteProtocolError):
            label + label


def test_a_satellite_counts_once_whichever_plane_it_is_said_to_be_of() -> None:
    with pytest.raises(RemoteProtocolError, match="names: a would be counted twice"):
        of_plane(0, {"a": 1, "b": 2}) + of_plane(1, {"a": 1})


@pytest.mark.parametrize(
    ("label", "decision"),
    [
        (label_of(0, {0, 1}) + label_of(1, {2}), (True, "weight 9 of 3 names")),
        (label_of(0, {0}) + label_of(1, set()), (True, "weight 1 of 1 names")),
        (label_of(0, {0}), (False, "planes [1] are missing")),
        (total(label_of(plane, {0}) for plane in (0, 1, 2)), (False, "there are no planes [2]")),
        (label_of(0, set()) + label_of(1, set()), (False, "nobody took part")),
        (of_plane(0, {"x": 4}) + label_of(1, {0}), (False, "nobody knows the weight of x")),
        (
            Label(frozenset((0, 1)), frozenset(("0-0", "1-0")), 6),
            (False, "the weight is 6, that of its 2 names 5"),
        ),
    ],
)
def test_a_sum_commits_when_it_is_of_all_planes_and_weighs_what_its_names_do(
    label: Label, decision: tuple[bool, str]
) -> None:
    assert commits(label, (0, 1), WEIGHTS) == decision


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="weight of a: must be 1 or more, not 0"):
        of_plane(0, {"a": 0, "b": 5})
    for names, weight in ((frozenset("ab"), 1), (frozenset[str](), 3), (frozenset("a"), -1)):
        with pytest.raises(RemoteProtocolError, match="weight: must be 1 or more for each"):
            Label(frozenset((0,)), names, weight)
