"""(29), (32) and (33), and what cannot have been counted."""

from __future__ import annotations

import pytest

from orbitrain.splitting.relevance import LARGEST, Relevance, assignment, truncated
from tests.unit.splitting.counted import counted


def test_relevance_is_the_share_of_pairs_that_selected_the_expert() -> None:
    assert counted([750, 250], [10, 30], totals=(1000, 40)).probabilities() == ((0.75, 0.25), (0.25, 0.75))


def test_a_cluster_without_data_has_relevance_0() -> None:
    relevance = counted([750, 250], [0, 0], totals=(1000, 0))
    assert relevance.probabilities()[1] == (0.0, 0.0)
    assert relevance.with_data == (0,)


def test_relevance_below_the_threshold_is_cut_and_what_equals_it_stays() -> None:
    assert truncated(((0.05, 0.0499), (0.95, 0.0)), 0.05) == ((0.05, 0.0), (0.95, 0.0))


def test_assignment_is_normalised_over_the_clusters() -> None:
    assert assignment(((0.6, 0.04), (0.2, 0.96)), 0.05) == (
        (pytest.approx(0.75), 0.0),
        (pytest.approx(0.25), 1.0),
    )


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        pytest.param(
            ((0.01, 0.9), (0.03, 0.9)), ((0.25, 0.5), (0.75, 0.5)), id="below the threshold everywhere"
        ),
        pytest.param(((0.0, 0.9), (0.0, 0.9)), ((0.0, 0.5), (0.0, 0.5)), id="never selected"),
        pytest.param(((0.01, 0.9), (0.06, 0.9)), ((0.0, 0.5), (1.0, 0.5)), id="claimed by one"),
    ],
)
def test_an_unclaimed_expert_falls_back_to_untruncated_relevance(
    probabilities: tuple[tuple[float, ...], ...], expected: tuple[tuple[float, ...], ...]
) -> None:
    found = assignment(probabilities, 0.05)
    assert [list(row) for row in found] == [pytest.approx(list(row)) for row in expected]


@pytest.mark.parametrize(
    ("clusters", "counts", "totals", "said"),
    [
        ((), (), (), "clusters"),
        (("a", "a"), ((1,), (1,)), (1, 1), "clusters"),
        (("a", ""), ((1,), (1,)), (1, 1), "clusters"),
        (("a", "b"), ((1,),), (1, 1), "2 clusters have 1 rows and 2 totals"),
        (("a",), ((1,),), (1, 1), "1 clusters have 1 rows and 2 totals"),
        (("a", "b"), ((1, 1), (1,)), (1, 1), "a count for each expert"),
        (("a",), ((),), (1,), "a count for each expert"),
        (("a",), ((1, -1),), (1,), "cluster 'a': must not be negative"),
        (("a",), ((0, 0),), (-1,), "cluster 'a': must not be negative"),
        (("a",), ((3, 0),), (2,), "selected 3 times in 2"),
        (("a",), ((1, 0),), (0,), "selected 1 times in 0"),
        (("a",), ((0,) * (LARGEST + 1),), (1,), "at most 256 clusters and 256 experts, not 1 and 257"),
    ],
)
def test_what_cannot_have_been_counted_is_refused_in_one_line(
    clusters: tuple[str, ...], counts: tuple[tuple[int, ...], ...], totals: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Relevance(clusters, counts, totals)
    assert "\n" not in str(error.value)
