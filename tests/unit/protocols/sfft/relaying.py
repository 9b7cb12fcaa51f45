"""Sums relayed along a tree both ways at once (RelaySum, as in FLSNN, arXiv 2501.15995): no tree is sooner.

A plane sends a neighbour the sum of its own and of all that its other neighbours sent it, once it has those;
then each plane has every sum once, over an edge one head each way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

from orbitrain.protocols.sfft.planes import Crossing, Crossings
from orbitrain.protocols.sfft.static_trees import Edge


@dataclass(frozen=True, slots=True)
class Relay:
    """What goes over each edge of a tree, (source, target) -> crossing; `done_ns`: every plane has all."""

    crossings: Mapping[tuple[int, int], Crossing]
    done_ns: int

    def awaited(self, source: int, target: int) -> tuple[int, ...]:
        """Planes whose sums are in what `source` sends `target`, besides its own; ascending."""
        return tuple(sorted(a for a, b in self.crossings if b == source and a != target))


def relay(crossings: Crossings, ready_ns: Mapping[int, int], edges: Collection[Edge]) -> Relay | None:
    """Over planes that have their own sums at `ready_ns`; None if an edge has no window in time."""
    ways = sorted(way for a, b in edges for way in ((a, b), (b, a)))
    beside = {plane: [b for a, b in ways if a == plane] for plane in ready_ns}

    @cache
    def sent(source: int, target: int) -> Crossing | None:
        having_ns = ready_ns[source]
        for other in beside[source]:
            if other != target:
                came = sent(other, source)
                if came is None:
                    return None
                having_ns = max(having_ns, came.arrival_ns)
        return crossings.earliest(source, target, having_ns)

    found: dict[tuple[int, int], Crossing] = {}
    for way in ways:
        crossing = sent(*way)
        if crossing is None:
            return None
        found[way] = crossing
    return Relay(found, max([*ready_ns.values(), *(crossing.arrival_ns for crossing in found.values())]))
