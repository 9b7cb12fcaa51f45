"""Baselines between planes: trees whose edges stay the same, whatever windows there are.

Sums go to a root in the middle and the total comes back (`tree`). Which trees, and what their lengths are,
is our derivation; FLSNN's minimum-diameter tree (arXiv 2501.15995) has the quality of links for lengths, and
relays sums both ways at once, in an order of addition that differs from plane to plane.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from orbitrain.protocols.sfft.planes import Crossings

Edge = tuple[int, int]
"""Two planes, the smaller first."""


def chain(planes: Iterable[int]) -> tuple[Edge, ...]:
    """Each plane with the next by number."""
    return tuple(pairwise(sorted(planes)))


def mean_transits_ns(
    crossings: Crossings, planes: Iterable[int], instants_ns: Sequence[int]
) -> dict[Edge, int]:
    """The mean time from being ready to having arrived, over both directions and the instants.

    An edge that cannot be crossed from one of the instants on, or in one of the directions, is left out.
    """
    lengths_ns: dict[Edge, int] = {}
    for edge in combinations(sorted(planes), 2):
        found = [
            (t_ns, crossings.earliest(source, target, t_ns))
            for source, target in (edge, edge[::-1])
            for t_ns in instants_ns
        ]
        transits_ns = [crossing.arrival_ns - t_ns for t_ns, crossing in found if crossing is not None]
        if found and len(transits_ns) == len(found):
            lengths_ns[edge] = sum(transits_ns) // len(transits_ns)
    return lengths_ns


def minimum_diameter_tree(planes: Collection[int], lengths: Mapping[Edge, int]) -> tuple[Edge, ...] | None:
    """The spanning tree whose longest way is the shortest, edges sorted; None where none spans the planes.

    Lengths are 0 or more. It is a tree of shortest ways from the absolute centre of the graph (Hassin and
    Tamir 1995), which lies on an edge that is itself a shortest way, where the farthest planes reached over
    one of its ends and over the other are as far (Kariv and Hakimi 1979).
    """
    if not planes:
        return ()
    beside: dict[int, dict[int, int]] = {plane: {} for plane in planes}
    for (a, b), length in lengths.items():
        beside[a][b] = beside[b][a] = 2 * length  # twice, so that the centre is at a whole number
    far = {plane: _shortest(beside, {plane: 0})[0] for plane in sorted(planes)}
    if any(len(reached) < len(planes) for reached in far.values()):
        return None
    centre = min((max(reached.values()), plane) for plane, reached in far.items())
    radius, starts, joined = centre[0], {centre[1]: 0}, set[Edge]()
    for (a, b), length in sorted(lengths.items()):
        if far[a][b] < 2 * length:
            continue
        outermost = max(planes, key=lambda plane: far[a][plane])
        for plane in sorted(planes, key=lambda plane: -far[a][plane]):
            if far[b][plane] > far[b][outermost]:
                around = far[a][plane] + 2 * length + far[b][outermost]
                if around < 2 * radius:
                    radius = around // 2
                    starts, joined = {a: radius - far[a][plane], b: radius - far[b][outermost]}, {(a, b)}
                outermost = plane
    parents = _shortest(beside, starts)[1]
    return tuple(sorted(joined | {(min(edge), max(edge)) for edge in parents.items()}))


def rooted(planes: Collection[int], lengths: Mapping[Edge, int]) -> dict[int, int]:
    """Of each plane of a tree with these edges the parent, where the root, its own, is in the middle.

    That is the plane whose longest way is the shortest, the smallest of such.
    """
    beside: dict[int, dict[int, int]] = {plane: {} for plane in planes}
    for (a, b), length in lengths.items():
        beside[a][b] = beside[b][a] = length
    far = {plane: max(_shortest(beside, {plane: 0})[0].values()) for plane in planes}
    root = min(far, key=lambda plane: (far[plane], plane))
    return {root: root, **_shortest(beside, {root: 0})[1]}


def _shortest(
    beside: Mapping[int, Mapping[int, int]], starts: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """(distances, parents) from the nearest of the starts, each at a distance of its own."""
    distances, parents = dict(starts), dict[int, int]()
    heap = [(distance, plane) for plane, distance in starts.items()]
    heapq.heapify(heap)
    while heap:
        distance, plane = heapq.heappop(heap)
        if distance > distances[plane]:
            continue
        for neighbour, length in beside[plane].items():
            if neighbour not in distances or distance + length < distances[neighbour]:
                distances[neighbour] = distance + length
                parents[neighbour] = plane
                heapq.heappush(heap, (distance + length, neighbour))
    return distances, parents
