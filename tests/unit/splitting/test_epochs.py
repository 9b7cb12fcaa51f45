"""Splits one after the other: what a split leaves to the next goes through bytes."""

from __future__ import annotations

from orbitrain.splitting.epochs import split_epoch
from orbitrain.splitting.relevance import Relevance
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import split

CLUSTERS = ("a", "b", "c")
COUNTS = ((70, 20, 10), (30, 50, 20), (33, 33, 34))
RELEVANCE = Relevance(CLUSTERS, COUNTS, (100, 100, 100))
RULES = SplitRules(0.05, 1, 2)


def test_splits_over_bytes_are_those_over_numbers() -> None:
    memory, credits, turns = b"", (), ()
    for epoch in range(1, 30):
        found, memory = split_epoch(RELEVANCE, RULES, memory, 5, epoch)
        assert found == split(RELEVANCE, RULES, credits, 5, epoch, turns)
        credits, turns = found.credits, found.turns
    assert sorted(found.owners) == list(CLUSTERS)


def test_where_no_cluster_has_data_nobody_owns_anything() -> None:
    nothing = Relevance(CLUSTERS, ((0, 0, 0),) * 3, (0, 0, 0))
    found, memory = split_epoch(nothing, RULES, b"", 5, 1)
    assert (found.owners, found.gamma, memory) == (("", "", ""), {}, b"")
