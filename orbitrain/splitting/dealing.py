"""Experts given out one by one, under a cap of memory: the state of one split while it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orbitrain.splitting.chance import Chance
from orbitrain.splitting.relevance import Table


class Dealing:
    """Who has which expert so far. Clusters and experts are numbers."""

    def __init__(self, with_data: Sequence[int], experts: int, capacity: int | None, chance: Chance) -> None:
        self.owners: list[int | None] = [None] * experts
        self._held = dict.fromkeys(with_data, 0)
        self.capacity = capacity
        self._chance = chance

    def give(self, expert: int, cluster: int) -> None:
        self.owners[expert] = cluster
        self._held[cluster] += 1

    def roomy(self) -> list[int]:
        """Clusters with data and with memory for one more expert."""
        return [k for k, held in self._held.items() if self.capacity is None or held < self.capacity]

    def unserved(self) -> list[int]:
        """Clusters with data that have nothing."""
        return [cluster for cluster, held in self._held.items() if not held]

    def left(self) -> list[int]:
        """Experts that nobody has, in a drawn order: who comes last may find memory full."""
        free = [expert for expert, owner in enumerate(self.owners) if owner is None]
        return sorted(free, key=lambda expert: self._chance.uniform("order", expert))

    def draw(self, expert: int, weights: Table, clusters: Sequence[int]) -> int | None:
        """One of these clusters in proportion to their weights for the expert; None where all are 0."""
        logs = {k: math.log(weights[k][expert]) for k in clusters if weights[k][expert] > 0}
        if not logs:
            return None
        return max(logs, key=lambda k: logs[k] + self._chance.gumbel("draw", k, expert))

    def fewest(self, expert: int, credits: Sequence[int]) -> int | None:
        """Of the clusters with memory one with the fewest experts; then credits decide, then chance."""
        return min(
            self.roomy(),
            key=lambda k: (self._held[k], -credits[k], self._chance.uniform("fewest", k, expert)),
            default=None,
        )
