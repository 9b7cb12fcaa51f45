"""Splits one after the other, as a satellite makes them: what each leaves to the next is kept as bytes.

Loads numpy and scipy when a split is made, never by an import.
"""

from __future__ import annotations

import json
from importlib.util import find_spec

from orbitrain.splitting.relevance import Relevance, assignment
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.split import Split, split


def lacking() -> str:
    """What a split needs that is not installed here, and what brings it; empty where all is there."""
    return "" if find_spec("scipy") else "scipy is not installed, which pip install 'orbitrain[emsfl]' brings"


def split_epoch(
    relevance: Relevance, rules: SplitRules, memory: bytes, seed: int, epoch: int
) -> tuple[Split, bytes]:
    """The split of an epoch, and the memory for the next; `memory` is of the one before, empty at first.

    Where no cluster has data nobody owns anything, and nothing is remembered of it.
    """
    if not relevance.with_data:
        return _nobodys(relevance, rules), memory
    kept = json.loads(memory) if memory else {"credits": [], "turns": []}
    found = split(relevance, rules, kept["credits"], seed, epoch, kept["turns"])
    # JSON keeps float64 to the bit.
    left = {"credits": found.credits, "turns": found.turns}
    return found, json.dumps(left, separators=(",", ":")).encode("ascii")


def _nobodys(relevance: Relevance, rules: SplitRules) -> Split:
    p = relevance.probabilities()
    return Split(
        owners=("",) * relevance.experts,
        relevance=p,
        assignment=assignment(p, rules.threshold),
        unserved=(),
        revived=(),
        displaced=(),
        gamma={},
        turns=(),
        credits=(),
    )
