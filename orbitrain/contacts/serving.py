"""Which satellite serves a region, and which one carries its model to the next: pure functions of the plan.

A region is its devices. A satellite is *in view* of it while both directions to every one of its devices are
active. One satellite serves at a time:

1. the serving satellite keeps the region until it sets (is no longer in view);
2. then, or when nobody served, the one in view that sets last takes over at once; ties go to the smaller
   name.

So there is no gap while a satellite is in view, and no change that the orbits do not force. Every node
computes the same timeline from the same plan, which is what makes "only the serving satellite opens a round"
need no messages.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from orbitrain.contacts.plan import ContactPlan, Window, intersected


@dataclass(frozen=True, slots=True)
class Service:
    """One satellite serving one region from `start_ns` (included) to `end_ns` (excluded)."""

    satellite: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Carriage:
    """A satellite that serves the source region (`pickup`) and then the target region (`delivery`)."""

    satellite: str
    pickup: Service
    delivery: Service


@dataclass(frozen=True, slots=True)
class _Run:
    services: list[Service]
    ends_ns: list[int]


class ServiceTimeline:
    """The services of one region over the whole plan, computed once on construction.

    `devices` are the names of the region's devices; ValueError when there are none or the plan does not know
    one.
    """

    __slots__ = ("_by_satellite", "_changes_ns", "_services", "_starts_ns")

    def __init__(self, plan: ContactPlan, devices: Sequence[str]) -> None:
        views = views_of_region(plan, devices)
        self._services = _swept(views)
        self._starts_ns = [service.start_ns for service in self._services]
        self._changes_ns = sorted({edge for s in self._services for edge in (s.start_ns, s.end_ns)})
        self._by_satellite: dict[str, _Run] = {}
        for service in self._services:
            run = self._by_satellite.setdefault(service.satellite, _Run([], []))
            run.services.append(service)
            run.ends_ns.append(service.end_ns)

    @property
    def services(self) -> tuple[Service, ...]:
        """All services in time order."""
        return self._services

    def serving(self, t_ns: int) -> Service | None:
        """The service with start_ns <= t_ns < end_ns, None while nobody is in view."""
        index = bisect_right(self._starts_ns, t_ns) - 1
        if index < 0 or self._services[index].end_ns <= t_ns:
            return None
        return self._services[index]

    def next_change_ns(self, t_ns: int) -> int | None:
        """The first instant after `t_ns` at which `serving` answers otherwise; None when it never does."""
        index = bisect_right(self._changes_ns, t_ns)
        return self._changes_ns[index] if index < len(self._changes_ns) else None

    def services_of(self, satellite: str) -> tuple[Service, ...]:
        """The satellite's services of this region in time order; none for a name that never serves it."""
        run = self._by_satellite.get(satellite)
        return tuple(run.services) if run else ()

    def next_service(self, satellite: str, t_ns: int) -> Service | None:
        """The satellite's service in progress at `t_ns`, else its next one."""
        run = self._by_satellite.get(satellite)
        if run is None:
            return None
        index = bisect_right(run.ends_ns, t_ns)
        return run.services[index] if index < len(run.services) else None

    def services_after(self, t_ns: int) -> tuple[Service, ...]:
        """The services that end after `t_ns`, in time order."""
        return self._services[self._first_after(t_ns) :]

    def _first_after(self, t_ns: int) -> int:
        index = bisect_right(self._starts_ns, t_ns)
        return index - 1 if index > 0 and self._services[index - 1].end_ns > t_ns else index


def earliest_carrier(source: ServiceTimeline, target: ServiceTimeline, ready_ns: int) -> Carriage | None:
    """The satellite that brings what is ready in the source region at `ready_ns` to the target region first.

    A carriage is a service of the source that ends after `ready_ns`, and a service of the target by the same
    satellite that goes on after both `ready_ns` and the pick-up's start: it starts at or after the pick-up,
    or overlaps it. The earliest instant of delivery wins: the latest of the delivery's start, the pick-up's
    start and `ready_ns`. Ties: the earlier pick-up (no two services of a region start together, so the name
    is never needed). None when there is none.
    """
    best: Carriage | None = None
    best_ns = 0
    seen: set[str] = set()
    for index in range(source._first_after(ready_ns), len(source._services)):
        pickup = source._services[index]
        if best is not None and pickup.start_ns >= best_ns:
            break  # from here on nothing can be delivered earlier, and a tie goes to the earlier pick-up
        if pickup.satellite in seen:
            continue  # its earlier pick-up is at least as good
        seen.add(pickup.satellite)
        held_ns = max(pickup.start_ns, ready_ns)
        delivery = target.next_service(pickup.satellite, held_ns)
        if delivery is None:
            continue
        delivered_ns = max(delivery.start_ns, held_ns)
        if best is None or delivered_ns < best_ns:
            best, best_ns = Carriage(pickup.satellite, pickup, delivery), delivered_ns
    return best


def views_of_region(plan: ContactPlan, devices: Sequence[str]) -> dict[str, tuple[Window, ...]]:
    """For each satellite ever in view of all `devices`: its disjoint (start_ns, end_ns), ascending."""
    if not devices:
        raise ValueError("devices: must name at least one device")
    kinds = {node.name: node.kind for node in plan.nodes}
    for device in devices:
        if device not in kinds:
            raise ValueError(f"devices: {device!r} is not a node of the plan")
    views: dict[str, tuple[Window, ...]] = {}
    for satellite in plan.neighbours(devices[0]):
        if kinds[satellite] != "satellite":
            continue
        windows = plan.windows(satellite, devices[0])
        for device in devices[1:]:
            windows = intersected(windows, plan.windows(satellite, device))
        if windows:
            views[satellite] = windows
    return views


def _swept(views: dict[str, tuple[Window, ...]]) -> tuple[Service, ...]:
    rises = sorted(
        (start_ns, end_ns, satellite) for satellite in views for start_ns, end_ns in views[satellite]
    )
    in_view: list[tuple[int, str]] = []  # heap of (-end_ns, satellite): the one that sets last on top
    services: list[Service] = []
    t_ns = 0
    risen = 0
    while True:
        while risen < len(rises) and rises[risen][0] <= t_ns:
            heapq.heappush(in_view, (-rises[risen][1], rises[risen][2]))
            risen += 1
        if in_view and -in_view[0][0] > t_ns:
            end_ns, satellite = -in_view[0][0], in_view[0][1]
            services.append(Service(satellite, t_ns, end_ns))
            t_ns = end_ns
        elif risen < len(rises):
            in_view.clear()  # the last to set has set, so have the others
            t_ns = rises[risen][0]
        else:
            return tuple(services)
