"""Stride scheduling: over epochs, experts go to clusters in proportion to q."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import split
from orbitrain.splitting.turns import ARREARS_MAX, Arrears
from tests.unit.splitting.counted import TOTAL, counted

EPOCHS = 60


@st.composite
def shared(draw: st.DrawFn) -> list[list[int]]:
    """Each cluster has an expert that is its alone, so coverage asks for nothing; others are shared."""
    clusters, experts = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    count = st.one_of(st.integers(0, TOTAL), st.sampled_from([0, 1, 2, 500, TOTAL]))
    columns = [
        draw(st.lists(count, min_size=clusters, max_size=clusters).filter(any)) for _ in range(experts)
    ]
    return [
        [TOTAL * (own == k) for own in range(clusters)] + [one[k] for one in columns] for k in range(clusters)
    ]


def behind(rows: Sequence[Sequence[int]], seed: int, epochs: int) -> list[list[float]]:
    """For each cluster and expert: q times the epochs so far, less the turns so far; from 0 epochs on."""
    relevance, rules = counted(*rows), SplitRules(0.0, len(rows[0]))
    credits: Sequence[int] = ()
    turns: Sequence[float] = ()
    had = [[0] * len(rows[0]) for _ in rows]
    course: list[list[float]] = [[0.0] * (len(rows) * len(rows[0]))]
    for epoch in range(1, epochs + 1):
        found = split(relevance, rules, credits, seed, epoch, turns)
        credits, turns = found.credits, found.turns
        for i, owner in enumerate(found.owners):
            had["abcdefghij".index(owner)][i] += 1
        q = found.assignment
        course.append([epoch * share - had[k][i] for k, row in enumerate(q) for i, share in enumerate(row)])
        assert turns == pytest.approx(course[-1], abs=1e-9)
    return course


@given(shared(), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_turns_follow_q_within_1_from_the_first_epoch_and_within_2_in_any_window(
    rows: list[list[int]], seed: int
) -> None:
    course = behind(rows, seed, EPOCHS)
    for one in zip(*course, strict=True):
        assert max(map(abs, one)) < 1 + 1e-9
        assert max(one) - min(one) < 2 + 1e-9


@pytest.mark.parametrize("rows", [([1000, 0, 500], [0, 1000, 500]), ([1000, 0, 900], [0, 1000, 100])])
def test_a_period_of_q_is_kept_whatever_was_drawn_first(rows: tuple[list[int], ...]) -> None:
    for seed in range(5):
        assert behind(rows, seed, 20)[-1] == pytest.approx([0.0] * 6, abs=1e-9)


def test_turns_follow_q_where_coverage_allows_it_only_for_both_at_once() -> None:
    """With two experts for two clusters either each has its own or both change over."""
    course = behind(([700, 300], [300, 700]), 3, 50)
    assert max(abs(one) for epoch in course for one in epoch) < 1 + 1e-9


def test_the_first_epoch_is_drawn() -> None:
    relevance, rules = counted([1000, 0, 500], [0, 1000, 500]), SplitRules(0.0, 3)
    assert {split(relevance, rules, (), seed, 1, ()).owners[2] for seed in range(8)} == {"a", "b"}


def test_where_coverage_forbids_q_both_experts_still_take_turns_and_arrears_stay_bounded() -> None:
    """a has nearly all of both experts, but b has to have one of them in each epoch."""
    relevance, rules = counted([990, 990], [10, 10]), SplitRules(0.0, 2)
    found = split(relevance, rules, (), 1, 1, ())
    owners = [found.owners[0]]
    for epoch in range(2, 60):
        found = split(relevance, rules, found.credits, 1, epoch, found.turns)
        owners.append(found.owners[0])
        assert abs(owners.count("a") - owners.count("b")) <= 1
        assert max(map(abs, found.turns)) <= ARREARS_MAX


def test_a_turn_that_memory_forbade_is_kept_for_later() -> None:
    arrears = Arrears((), ((1.0, 0.5), (0.0, 0.5)))
    assert arrears.after((None, 0)) == (1.0, -0.5, 0.0, 0.5)
    assert arrears.after((1, None)) == (1.0, 0.5, 0.0, 0.5)


def test_arrears_of_a_cluster_that_is_away_are_kept_and_count_for_nobody_else() -> None:
    arrears = Arrears((5.0, -5.0, 0.0), ((0.0,), (0.4,), (0.6,)))
    assert arrears.most(0) == 0.6
    assert arrears.cost(0, 1, preferred=2) == pytest.approx(1 + 0.6 + 4.6)
    assert arrears.after((2,)) == pytest.approx((5.0, -4.6, -0.4))


def test_of_those_who_are_not_ahead_the_one_who_must_wait_least_is_next() -> None:
    q = ((0.6,), (0.3,), (0.1,))
    noise = (0.0, 0.0, 0.0)
    assert Arrears((), q).preferred(0, (0, 1, 2), noise) == 0
    assert Arrears((-0.7, 0.3, 0.1), q).preferred(0, (0, 1, 2), noise) == 1  # the first is ahead by a turn
    assert Arrears((-0.7, 0.3, 0.1), q).preferred(0, (0, 2), noise) == 2
    assert Arrears((-0.7, 0.3, 0.1), q).preferred(0, (0,), noise) == 0
    assert Arrears((-0.4, -0.3, 0.7), q).preferred(0, (0, 1, 2), noise) == 0  # 2.3 epochs left; the third, 3


def test_noise_decides_between_equals() -> None:
    q = ((0.5,), (0.5,))
    assert Arrears((), q).preferred(0, (0, 1), (0.1, 0.2)) == 0
    assert Arrears((), q).preferred(0, (0, 1), (0.2, 0.1)) == 1


def test_turns_kept_as_float64_go_on_to_the_bit() -> None:
    relevance, rules = counted([333, 100, 7], [11, 500, 900]), SplitRules(0.0, 3)
    kept = split(relevance, rules, (), 1, 1, ())
    stored = struct.unpack("<6d", struct.pack("<6d", *kept.turns))
    assert stored == kept.turns
    assert split(relevance, rules, kept.credits, 1, 2, stored) == split(
        relevance, rules, kept.credits, 1, 2, kept.turns
    )
