"""How sums of heads get from plane to plane as soon as the windows between planes allow. Planes are numbers.

That links between planes are intermittent and that the way over them is chosen for its latency is of arXiv
2504.10403; how is our derivation. Any satellite of a plane may be its gateway, as all hold the plane's sum.
Waiting for a window is allowed, so what is ready later never arrives earlier, and Dijkstra with times for
lengths is exact. Transfers are reckoned as if no other was on the link, which is fair while all sums together
are small for a window.

- **flooding** (`flood`) takes every plane's sum to every other by its own earliest way. With whole heads,
  stored before they are sent on, nothing is done sooner: a plane needs something from every other. What
  starts at a plane goes by a tree that depends on its start alone, so each plane on the way finds the same.
- **merge tree** (`merge_tree`) adds on the way to a root and spreads the total: two heads an edge instead of
  up to one a plane each way.

The baselines, trees that stay as they are whatever the windows, are in `static_trees`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Crossing(Protocol):
    """One transfer of a head from plane `source` to plane `target`.

    `sender` begins at `start_ns`; all of the target plane hold what `receiver` got at `arrival_ns`.
    """

    @property
    def source(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def sender(self) -> str: ...
    @property
    def receiver(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def arrival_ns(self) -> int: ...


class Crossings(Protocol):
    """What the contact plan says of the windows between planes, for heads of one size."""

    def neighbours(self, plane: int) -> tuple[int, ...]:
        """Planes that it ever has a window with, either way, ascending."""
        ...

    def earliest(self, source: int, target: int, ready_ns: int) -> Crossing | None:
        """Of the crossings that start at `ready_ns` or later the one that arrives first."""
        ...

    def latest(self, source: int, target: int, deadline_ns: int) -> Crossing | None:
        """Of the crossings that arrive by `deadline_ns` the one that starts last."""
        ...

    def without(self, failed: Iterable[tuple[str, str, int]]) -> Crossings:
        """The same without the windows in which these, (sender, receiver, start_ns), were tried in vain."""
        ...


# --- earliest arrival ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When each plane has something, and by which crossing (those that had it at first by none)."""

    at_ns: Mapping[int, int]
    by: Mapping[int, Crossing]

    def leaving(self, plane: int) -> tuple[Crossing, ...]:
        """What the plane sends on, in the order of starts."""
        return tuple(
            sorted((each for each in self.by.values() if each.source == plane), key=lambda e: e.start_ns)
        )


def earliest_arrivals(crossings: Crossings, holders: Mapping[int, int]) -> Arrivals:
    """The earliest ways to all planes that can be reached from the holders (plane -> since when, ns).

    Ties go to the way found first, which is that of the plane that was reached earlier, then of the smaller.
    """
    at_ns = dict(holders)
    by: dict[int, Crossing] = {}
    heap = [(ready_ns, plane) for plane, ready_ns in holders.items()]
    heapq.heapify(heap)
    while heap:
        ready_ns, plane = heapq.heappop(heap)
        if ready_ns > at_ns[plane]:
            continue
        for neighbour in crossings.neighbours(plane):
            if neighbour in at_ns and at_ns[neighbour] <= ready_ns:
                continue
            found = crossings.earliest(plane, neighbour, ready_ns)
            if found is not None and (neighbour not in at_ns or found.arrival_ns < at_ns[neighbour]):
                at_ns[neighbour] = found.arrival_ns
                by[neighbour] = found
                heapq.heappush(heap, (found.arrival_ns, neighbour))
    return Arrivals(at_ns, by)


# --- flooding -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flood:
    """Of each origin (the plane whose sum it is) the way to all planes.

    `done_ns`: every plane holds all sums; None when some sum does not reach some plane.
    """

    of: Mapping[int, Arrivals]
    done_ns: int | None


def flood(crossings: Crossings, holders: Mapping[int, Mapping[int, int]], planes: Iterable[int]) -> Flood:
    """The earliest ways of every origin's sum from those who hold it (origin -> plane -> since when, ns).

    At first that is each plane with its own. When a crossing failed, ask again with all planes that hold each
    sum now, of `crossings.without` that one.
    """
    everyone = tuple(planes)
    of = {origin: earliest_arrivals(crossings, having) for origin, having in sorted(holders.items())}
    arrivals_ns = [arrivals.at_ns.get(plane) for arrivals in of.values() for plane in everyone]
    reached_ns = [at_ns for at_ns in arrivals_ns if at_ns is not None]
    return Flood(of, max(reached_ns, default=None) if len(reached_ns) == len(arrivals_ns) else None)


# --- merging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MergeTree:
    """Sums are added on the way to `root`, which has the total at `total_ns` and spreads it.

    `up` has of every other plane the latest crossing to its parent that is in time. A plane sends when its
    own sum and those of all `children` are there; by an earlier crossing to the same parent if there is one.
    `down` is the broadcast; `done_ns`: every plane has the total.
    """

    root: int
    up: Mapping[int, Crossing]
    total_ns: int
    down: Arrivals
    done_ns: int

    def children(self, plane: int) -> tuple[int, ...]:
        """Planes whose sums it waits for, ascending."""
        return tuple(sorted(child for child, crossing in self.up.items() if crossing.target == plane))


def merge_tree(crossings: Crossings, ready_ns: Mapping[int, int], root: int) -> MergeTree | None:
    """The merge tree of a root over planes that have their own sums at `ready_ns`; None if one is cut off.

    The total cannot be there before the last plane's earliest arrival. Nor need it be later: what can arrive
    by then can leave as late as the latest departure, and that is a tree.
    """
    return _merged(crossings, ready_ns, root, _own_arrivals(crossings, ready_ns))


def best_merge_tree(crossings: Crossings, ready_ns: Mapping[int, int]) -> MergeTree | None:
    """The merge tree that is done first, of such the one with the smallest root; None if there is none."""
    arrivals = _own_arrivals(crossings, ready_ns)
    trees = (_merged(crossings, ready_ns, root, arrivals) for root in sorted(ready_ns))
    return min((tree for tree in trees if tree is not None), key=lambda tree: tree.done_ns, default=None)


def _own_arrivals(crossings: Crossings, ready_ns: Mapping[int, int]) -> list[Arrivals]:
    return [earliest_arrivals(crossings, {plane: since_ns}) for plane, since_ns in ready_ns.items()]


def _merged(
    crossings: Crossings, ready_ns: Mapping[int, int], root: int, arrivals: Iterable[Arrivals]
) -> MergeTree | None:
    at_root_ns = [each.at_ns[root] for each in arrivals if root in each.at_ns]
    if len(at_root_ns) < len(ready_ns):
        return None
    total_ns = max(at_root_ns)
    down = earliest_arrivals(crossings, {root: total_ns})
    if not ready_ns.keys() <= down.at_ns.keys():
        return None
    up = latest_departures(crossings, root, total_ns)
    return MergeTree(root, up, total_ns, down, max(down.at_ns[plane] for plane in ready_ns))


def latest_departures(crossings: Crossings, root: int, deadline_ns: int) -> Mapping[int, Crossing]:
    """Of each plane that can still reach the root by the deadline the last crossing on the way.

    The way goes on from the crossing's target, which has it in time for its own.
    """
    leaves_ns = {root: deadline_ns}
    by: dict[int, Crossing] = {}
    heap = [(-deadline_ns, root)]
    while heap:
        minus_ns, plane = heapq.heappop(heap)
        if -minus_ns < leaves_ns[plane]:
            continue
        for neighbour in crossings.neighbours(plane):
            if neighbour in leaves_ns and leaves_ns[neighbour] >= -minus_ns:
                continue
            found = crossings.latest(neighbour, plane, -minus_ns)
            if found is not None and (neighbour not in leaves_ns or found.start_ns > leaves_ns[neighbour]):
                leaves_ns[neighbour] = found.start_ns
                by[neighbour] = found
                heapq.heappush(heap, (-found.start_ns, neighbour))
    return by
