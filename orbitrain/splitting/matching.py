"""Maximum matchings of clusters with experts: first as many as possible, then credits, then weights.

scipy's assignment knows one sum of float64 costs. Three levels are put into it as the digits of one whole
number: a pair counts `level[2]` for being there, its cluster's rank among the credits times `level[1]`, and
its weight in steps of 1/2^bits. A level is larger than all that the levels below it can add up to in any
matching. Everything the solver adds and subtracts is then a whole number below 2^53, which float64 holds
exactly: the order of levels is never decided by rounding. Only weights are rounded, once, to their steps.

Ranks may stand for credits: the sets of clusters that can be matched together are the independent sets of a
matroid, in which the heaviest set is the same for all weights in one order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

WEIGHTS: Final = (-64.0, 64.0)
"""Weights are between these: log q is above -45 for counts below 2^53, and noise from -3.6 to 36.8."""

_BITS_MAX = 20  # of a weight's fraction; more would not change who is drawn
_EXACT = 2**53  # float64 holds every whole number up to here

Pair = tuple[int, int]
"""Numbers of a cluster and an expert."""


def best_matching(weights: Mapping[Pair, float], credits: Sequence[int], experts: int) -> tuple[Pair, ...]:
    """The pairs of a matching among those that have a weight, by cluster.

    No matching has more pairs; of those with as many, none has clusters with more credits (by cluster, 0 or
    more); of those that are left, none a greater sum of weights.
    """
    if not weights:
        return ()
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    values = np.zeros((len(credits), experts))
    for (cluster, expert), value in _levels(weights, credits, experts).items():
        values[cluster, expert] = value
    found = zip(*(side.tolist() for side in linear_sum_assignment(values, maximize=True)), strict=True)
    return tuple(sorted(pair for pair in found if pair in weights))


def _levels(weights: Mapping[Pair, float], credits: Sequence[int], experts: int) -> dict[Pair, int]:
    """Each pair's value as one whole number, above 0: a pair that is not there counts 0."""
    ranks = {credit: rank for rank, credit in enumerate(sorted(set(credits)))}
    pairs = min(len(credits), experts)
    for bits in range(_BITS_MAX, -1, -1):
        span = math.ceil((WEIGHTS[1] - WEIGHTS[0]) * 2**bits)
        credit = pairs * span + 1
        there = pairs * ((len(ranks) - 1) * credit + span) + 1
        # A price in the solver is at most what an alternating path adds up to, and so is a difference of two.
        if 2 * (len(credits) + experts) * (there + (len(ranks) - 1) * credit + span) < _EXACT:
            return {
                pair: there
                + ranks[credits[pair[0]]] * credit
                + round((min(max(weight, WEIGHTS[0]), WEIGHTS[1]) - WEIGHTS[0]) * 2**bits)
                for pair, weight in weights.items()
            }
    raise ValueError(f"{len(credits)} clusters and {experts} experts are too many for an exact matching")
