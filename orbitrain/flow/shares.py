"""What a ground server asks of the plan: how much goes over each satellite in sight now, down or up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from orbitrain.contacts.plan import ContactPlan
from orbitrain.flow.board import Board
from orbitrain.flow.capacity import Direction, Terms, instance_of
from orbitrain.flow.instance import Link, Plane
from orbitrain.flow.schedule import Share
from orbitrain.flow.scheduler import Scheduler, plan


class PlanShares:
    """A scheduler over one plan, in one direction. Planes are named by their numbers, as text."""

    def __init__(
        self,
        believed: ContactPlan,
        planes: Sequence[Sequence[str]],
        stations: Sequence[str],
        terms: Terms,
        scheduler: Scheduler,
        direction: Direction = "down",
    ) -> None:
        self._plan = believed
        self._slot_ns = terms.slot_ns
        self._scheduler = scheduler
        named = [Plane(str(number), tuple(members), 0) for number, members in enumerate(planes)]
        # How many chunks there are the board says.
        self._instance = instance_of(believed, named, stations, terms, direction)

    def shares(self, now_ns: int, board: Board, live: Collection[Link]) -> tuple[Share, ...]:
        """What the schedule of all that is left on the board has for live links, (satellite, station), up to
        the ends of their contacts."""
        schedule = plan(self._scheduler, self._instance, board, now_ns)
        until = {link: self._last_slot(link, now_ns) for link in live}
        return tuple(share for share in schedule.shares if share.slot <= until.get(share.link, -1))

    def _last_slot(self, link: Link, now_ns: int) -> int:
        """Of the contact that the link has now; of none, -1."""
        for start_ns, end_ns in self._plan.windows(*link):
            if start_ns <= now_ns < end_ns:
                return (end_ns - 1) // self._slot_ns
        return -1
