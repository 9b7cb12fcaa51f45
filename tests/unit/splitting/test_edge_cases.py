"""What the paper is silent on, case by case."""

from __future__ import annotations

from collections import Counter

import pytest

from orbitrain.splitting.relevance import Relevance
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import Split, split
from tests.unit.splitting.counted import counted

RULES = SplitRules(threshold=0.05, top_k=2)
MODES = pytest.mark.parametrize(
    "rules",
    [RULES, SplitRules(0.05, 2, stride=False), SplitRules(0.05, 2, greedy=True)],
    ids=["turns", "draws", "greedy"],
)


def epochs(relevance: Relevance, rules: SplitRules, count: int = 12, seed: int = 5) -> list[Split]:
    splits: list[Split] = []
    for epoch in range(1, count + 1):
        credits, turns = (splits[-1].credits, splits[-1].turns) if splits else ((), ())
        splits.append(split(relevance, rules, credits, seed, epoch, turns))
    return splits


@MODES
def test_an_expert_below_the_threshold_everywhere_goes_by_untruncated_relevance(rules: SplitRules) -> None:
    relevance = counted([1000, 0, 0], [0, 1000, 20])
    for each in epochs(relevance, rules):
        assert each.owners == ("a", "b", "b")
        assert each.assignment[1][2] == 1.0
        assert (each.revived, each.displaced) == ((), ())


@MODES
def test_an_expert_that_nobody_selects_goes_to_the_cluster_with_the_fewest_and_is_flagged(
    rules: SplitRules,
) -> None:
    relevance = counted([900, 0, 300, 0], [0, 0, 0, 900])
    for each in epochs(relevance, rules):
        assert each.owners == ("a", "b", "a", "b")
        assert each.revived == (1,)
        assert each.assignment[0][1] == each.assignment[1][1] == 0.0


@MODES
def test_dead_experts_serve_clusters_that_would_have_none(rules: SplitRules) -> None:
    relevance = counted([1000, 0, 0], [1000, 0, 0], [1000, 0, 0])
    for each in epochs(relevance, rules):
        assert sorted(each.owners) == ["a", "b", "c"]
        assert each.revived == (1, 2)
        assert each.unserved == ()


def test_of_clusters_with_as_few_experts_credits_decide_who_gets_a_dead_one() -> None:
    for seed in range(12):
        assert split(counted([0], [0]), SplitRules(0.05, 1), (0, 2), seed, 1, ()).owners == ("b",)


@MODES
def test_a_cluster_without_data_gets_nothing_not_even_what_nobody_selects(rules: SplitRules) -> None:
    relevance = counted([600, 400, 0], [0, 0, 0], totals=(1000, 0))
    for each in epochs(relevance, rules):
        assert each.owners == ("a", "a", "a")
        assert each.unserved == ()
        assert each.credits == (0, 0)
        assert each.revived == (2,)


def test_credits_of_a_cluster_that_is_away_stay_as_they_are() -> None:
    relevance = counted([1000], [0], totals=(1000, 0))
    assert split(relevance, SplitRules(0.05, 1), (0, 3), 1, 2, (0.0, 0.0)).credits == (0, 3)


@pytest.mark.parametrize("stride", [True, False])
@pytest.mark.parametrize(("clusters", "experts", "wait"), [(5, 2, 2), (3, 1, 2), (7, 3, 2), (4, 3, 1)])
def test_with_more_clusters_than_experts_everybody_is_served_in_turn(
    clusters: int, experts: int, wait: int, stride: bool
) -> None:
    """Even those who hardly select an expert: in ceil(clusters/experts) epochs each has had one."""
    rows = [[900 - 140 * k] * experts for k in range(clusters - 1)] + [[60] * experts]
    splits = epochs(counted(*rows), SplitRules(0.05, experts, stride=stride), count=40)
    for each in splits:
        assert len(set(each.owners)) == experts
        assert len(each.unserved) == clusters - experts
        assert max(each.credits) <= wait
    assert {owner for each in splits[: wait + 1] for owner in each.owners} == set("abcdefg"[:clusters])


def test_credit_is_the_number_of_epochs_without_an_expert() -> None:
    first, second = epochs(counted([1000], [1000]), SplitRules(0.05, 1), count=2)
    loser = first.unserved[0]
    assert first.credits == tuple(int(cluster == loser) for cluster in "ab")
    assert second.owners == (loser,)
    assert second.credits == tuple(int(cluster != loser) for cluster in "ab")


def test_a_shared_expert_goes_round() -> None:
    """Every third epoch to each: nobody has another expert, so each has one in each epoch."""
    splits = epochs(counted([500] * 3, [500] * 3, [500] * 3), SplitRules(0.05, 2), count=30)
    assert all(sorted(each.owners) == ["a", "b", "c"] for each in splits)
    for expert in range(3):
        assert set(Counter(each.owners[expert] for each in splits).values()) == {10}


def test_fewer_experts_than_the_gate_selects_is_no_matter_of_the_split() -> None:
    splits = epochs(counted([1000, 1000], [1000, 1000]), SplitRules(0.05, 2))
    assert all(sorted(each.owners) == ["a", "b"] for each in splits)


@MODES
def test_with_all_memory_full_an_expert_is_frozen_and_each_is_for_once(rules: SplitRules) -> None:
    capped = SplitRules(0.05, 4, capacity=1, greedy=rules.greedy, stride=rules.stride)
    splits = epochs(counted([900] * 4, [900] * 4), capped, count=40)
    for each in splits:
        assert Counter(each.owners) == {"a": 1, "b": 1, "": 2}
        assert each.frozen == tuple(i for i, owner in enumerate(each.owners) if owner == "")
        assert each.displaced == each.revived == ()
    if not rules.greedy:  # which takes experts in their order, whoever is left out
        assert all(any(each.owners[expert] for each in splits) for expert in range(4))
    if rules.stride and not rules.greedy:
        assert {sum(bool(each.owners[expert]) for each in splits) for expert in range(4)} <= {19, 20, 21}


@MODES
def test_where_related_clusters_are_full_an_expert_is_displaced_by_relevance_below_the_threshold(
    rules: SplitRules,
) -> None:
    capped = SplitRules(0.05, 3, capacity=2, greedy=rules.greedy, stride=rules.stride)
    for each in epochs(counted([900, 900, 900], [20, 20, 20], [0, 0, 0]), capped):
        assert Counter(each.owners) == {"a": 2, "b": 1}
        assert [each.owners[expert] for expert in each.displaced] == ["b"]
        assert each.revived == each.frozen == ()
        assert each.unserved == ("c",)


def test_memory_goes_to_the_experts_that_have_waited_longest() -> None:
    capped = SplitRules(0.05, 4, capacity=2)
    for seed in range(4):
        found = split(counted([900] * 4), capped, (0,), seed, 2, (0.0, 0.5, 0.3, 0.9))
        assert found.owners == ("", "a", "", "a")


def test_a_displaced_expert_is_the_first_to_come_back() -> None:
    capped = SplitRules(0.05, 2, capacity=1)
    splits = epochs(counted([900, 900], [0, 0]), capped, count=10)
    displaced = [each.displaced for each in splits]
    for first, second in zip(displaced[::2], displaced[1::2], strict=True):
        assert sorted(first + second) == [0, 1]


def test_the_greedy_rule_can_strand_a_cluster_that_the_matching_serves() -> None:
    """Expert 0 is everybody's, expert 1 only b's: if a draw gives expert 0 to b, a is left with nothing."""
    relevance = counted([900, 0], [900, 900])
    greedy = epochs(relevance, SplitRules(0.05, 2, greedy=True), count=30)
    assert {each.owners for each in greedy} == {("a", "b"), ("b", "b")}
    assert {each.owners for each in epochs(relevance, RULES, count=30)} == {("a", "b")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"threshold": 1.0}, "threshold: must be 0 or more and below 1, not 1.0"),
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"top_k": 0}, "top_k: must be 1 or more, not 0"),
        ({"capacity": 0}, "capacity: must be 1 or more, not 0"),
    ],
)
def test_rules_out_of_range_are_refused_in_one_line(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        SplitRules(**{"threshold": 0.05, "top_k": 1} | arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "totals", "top_k", "credits", "epoch", "turns", "said"),
    [
        ([[5, 5]], [10], 3, (), 1, (), "top_k: must be at most the 2 experts there are, not 3"),
        ([[0, 0], [0, 0]], [0, 0], 1, (), 1, (), "no cluster has data"),
        ([[8, 8]], [10], 1, (), 1, (), "'a': 16 selections are more than top_k 1 times 10"),
        ([[5, 5]], [10], 1, (), -1, (), "epoch: must not be negative"),
        ([[5, 5]], [10], 1, (1, 2), 1, (), "credits: must be 1 numbers"),
        ([[5, 5]], [10], 1, (-1,), 1, (), "credits: must be 1 numbers"),
        ([[5, 5]], [10], 1, (), 1, (0.5,), "turns: must be 2 finite numbers"),
        ([[5, 5]], [10], 1, (), 1, (0.5, float("inf")), "turns: must be 2 finite numbers"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(
    rows: list[list[int]],
    totals: list[int],
    top_k: int,
    credits: tuple[int, ...],
    epoch: int,
    turns: tuple[float, ...],
    said: str,
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        split(counted(*rows, totals=totals), SplitRules(0.05, top_k), credits, 1, epoch, turns)
    assert "\n" not in str(error.value)
