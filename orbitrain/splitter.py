"""Who owns which expert, for EMS-FL's satellite: Algorithm 1 of `splitting` as the protocol asks for it.

What a split leaves to the next one, arrears and credits, the machine keeps as bytes. Loads numpy and scipy
when a split is made, never by an import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from orbitrain.protocols.emsfl import terms
from orbitrain.splitting.relevance import Relevance, Table
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import split


@dataclass(frozen=True, slots=True)
class Owned:
    """A split, as `protocols.emsfl.terms.Split`."""

    owners: tuple[str, ...]
    relevance: Table
    gamma: Mapping[str, float]
    unserved: tuple[str, ...]
    revived: tuple[int, ...]
    memory: bytes


def lacking() -> str:
    """What a split needs that is not installed here, and what brings it; empty where all is there."""
    return "" if find_spec("scipy") else "scipy is not installed, which pip install 'orbitrain[emsfl]' brings"


def split_experts(
    relevance: terms.Relevance, rules: terms.Rules, memory: bytes, seed: int, epoch: int
) -> Owned:
    """Where no cluster has data nobody owns anything."""
    counted = Relevance(relevance.clusters, relevance.counts, relevance.totals)
    if not counted.with_data:
        nobody = ("",) * counted.experts
        return Owned(nobody, counted.probabilities(), {}, (), (), memory)
    kept = json.loads(memory) if memory else {"credits": [], "turns": []}
    found = split(
        counted,
        SplitRules(rules.threshold, relevance.top_k, rules.capacity, rules.greedy),
        kept["credits"],
        seed,
        epoch,
        kept["turns"],
    )
    # JSON keeps float64 to the bit.
    left = {"credits": found.credits, "turns": found.turns}
    return Owned(
        owners=found.owners,
        relevance=found.relevance,
        gamma=found.gamma,
        unserved=found.unserved,
        revived=found.revived,
        memory=json.dumps(left, separators=(",", ":")).encode("ascii"),
    )
