"""The meter of what a split can gain: how much more than others a cluster selects its own experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orbitrain.splitting.relevance import Relevance


def ratios(relevance: Relevance, owners: Sequence[str]) -> dict[str, float]:
    """gamma by cluster: its relevance of its own experts over the mean relevance that they have.

    The mean is over clusters with data, so gamma is from 0 to their number; 1 is no gain. A cluster without
    experts has no gamma, nor has one whose experts nobody ever selected. `owners` has the cluster of each
    expert, or "".
    """
    p = relevance.probabilities()
    found = {}
    for k, cluster in enumerate(relevance.clusters):
        own = [i for i, owner in enumerate(owners) if owner == cluster]
        shares = {other: math.fsum(p[other][i] for i in own) for other in relevance.with_data}
        mean = math.fsum(shares.values()) / len(shares) if shares else 0.0
        if mean:
            found[cluster] = shares.get(k, 0.0) / mean
    return found


def predicted_reduction(gamma: float) -> float | None:
    """By which part the cycles to a target should shrink: 1 - 1/gamma; below 0 where a split loses.

    It holds for small steps, and has measured as an upper estimate. None for gamma 0: there is no end.
    """
    return 1.0 - 1.0 / gamma if gamma else None
