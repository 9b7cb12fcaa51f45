"""What a ground server asks of the plan: which chunks each satellite in sight is to send down now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from orbitrain.contacts.plan import ContactPlan
from orbitrain.flow.capacity import Terms, instance_of
from orbitrain.flow.instance import Instance, Link, Plane
from orbitrain.flow.scheduler import Scheduler


class PlanDownlink:
    """A scheduler over the plan believed; it follows the plan's updates."""

    def __init__(
        self,
        plan: ContactPlan,
        planes: Sequence[Sequence[str]],
        stations: Sequence[str],
        terms: Terms,
        scheduler: Scheduler,
    ) -> None:
        self._plan = plan
        self._planes = tuple(tuple(members) for members in planes)
        self._stations = tuple(stations)
        self._terms = terms
        self._scheduler = scheduler

    def prepare(self, plan: ContactPlan) -> Callable[[], None]:
        """Calling what is returned makes an updated plan the one that is asked."""

        def follow() -> None:
            self._plan = plan

        return follow

    def handouts(
        self,
        now_ns: int,
        free: Mapping[int, Sequence[int]],
        outstanding: Mapping[Link, int],
        live: Collection[Link],
    ) -> dict[Link, tuple[int, ...]]:
        """Chunks for each live link, by (satellite, station): what the schedule gives it up to its contact's
        end. `free` has the numbers of chunks by plane."""
        instance = self._instance(now_ns, free).rest(now_ns // self._terms.slot_ns, outstanding)
        schedule = self._scheduler(instance, {str(plane): len(some) for plane, some in free.items()})
        until = {link: self._last_slot(link, now_ns) for link in live}
        left = {str(plane): sorted(some) for plane, some in free.items()}
        found: dict[Link, tuple[int, ...]] = {}
        for share in schedule.shares:
            if share.slot <= until.get(share.link, -1):
                some = left[share.plane]
                found[share.link] = (*found.get(share.link, ()), *some[: share.chunks])
                del some[: share.chunks]
        return found

    def _instance(self, now_ns: int, free: Mapping[int, Sequence[int]]) -> Instance:
        planes = [
            Plane(str(number), members, len(free.get(number, ())), now_ns)
            for number, members in enumerate(self._planes)
        ]
        return instance_of(self._plan, planes, self._stations, self._terms)

    def _last_slot(self, link: Link, now_ns: int) -> int:
        """Of the contact that the link has now; of none, -1."""
        for start_ns, end_ns in self._plan.windows(*link):
            if start_ns <= now_ns < end_ns:
                return (end_ns - 1) // self._terms.slot_ns
        return -1
