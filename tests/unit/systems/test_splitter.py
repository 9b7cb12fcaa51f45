"""Algorithm 1 as EMS-FL's satellite asks for it: what a split leaves to the next goes through bytes."""

from __future__ import annotations

from orbitrain.protocols.emsfl.terms import Relevance, Rules
from orbitrain.splitter import split_experts
from orbitrain.splitting import relevance as counted
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import split

CLUSTERS = ("a", "b", "c")
COUNTS = ((70, 20, 10), (30, 50, 20), (33, 33, 34))
RELEVANCE = Relevance(CLUSTERS, COUNTS, (100, 100, 100), 1)
RULES = Rules(0.05, 2, False)


def test_splits_over_bytes_are_those_over_numbers() -> None:
    memory, credits, turns = b"", (), ()
    for epoch in range(1, 30):
        found = split_experts(RELEVANCE, RULES, memory, 5, epoch)
        wanted = split(
            counted.Relevance(CLUSTERS, COUNTS, (100, 100, 100)),
            SplitRules(0.05, 1, 2),
            credits,
            5,
            epoch,
            turns,
        )
        assert (found.owners, found.gamma, found.unserved) == (wanted.owners, wanted.gamma, wanted.unserved)
        memory, credits, turns = found.memory, wanted.credits, wanted.turns
    assert sorted(found.owners) == list(CLUSTERS)


def test_where_no_cluster_has_data_nobody_owns_anything() -> None:
    nothing = Relevance(CLUSTERS, ((0, 0, 0),) * 3, (0, 0, 0), 1)
    found = split_experts(nothing, RULES, b"", 5, 1)
    assert (found.owners, found.gamma, found.memory) == (("", "", ""), {}, b"")
