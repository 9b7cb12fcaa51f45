"""Play a scheduler against an instance, slot by slot, as the ground server would: who is done when.

Where a slot does not carry what its links were handed, the scheduler is called again before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from orbitrain.flow.board import Board
from orbitrain.flow.instance import Instance, Link, Room, Slot
from orbitrain.flow.schedule import Handout, Schedule, count
from orbitrain.flow.scheduler import Scheduler, plan
from orbitrain.transport.objects import Range, split

Carried = Callable[[Slot, Handout], Iterable[Range] | None]
"""Of what a link has been handed, what is acknowledged by the end of the slot; None: the link is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """When a plane's last chunk was acknowledged: the slot, and the instant as `Instance.done_ns` reckons."""

    slot: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done` has each plane that was finished, `left` the chunks of each that was not. Both by name.

    A plane without chunks is in neither.
    """

    done: Mapping[str, Done]
    left: Mapping[str, int]
    plans: int
    """How often the scheduler was called."""

    @property
    def slot(self) -> int | None:
        """The slot in which all was finished; None where something is left, or nothing was to be moved."""
        return None if self.left else max((done.slot for done in self.done.values()), default=None)

    @property
    def at_ns(self) -> int | None:
        """When all was finished, as `slot`."""
        return None if self.left else max((done.at_ns for done in self.done.values()), default=None)


def finish(instance: Instance, scheduler: Scheduler, carried: Carried | None = None) -> Outcome:
    """Move the instance's chunks. Without `carried` each link moves what it has room for."""
    board = Board({plane.name: plane.chunks for plane in instance.planes})
    unfinished = [plane.name for plane in instance.planes if plane.chunks]
    schedule: Schedule | None = None
    plans = 0
    done: dict[str, Done] = {}
    since_ns: dict[Link, int] = {}
    for slot in instance.slots:
        if not unfinished:
            break
        if _end_contacts(board, slot, since_ns):
            schedule = None
        if schedule is None:
            schedule = plan(scheduler, instance, board, slot.index * instance.slot_ns)
            plans += 1
        board.hand_out(schedule.in_slot(slot.index))
        counts, as_planned = _carry(board, slot, carried)
        if not as_planned:
            schedule = None
        at_ns = instance.done_ns(slot, counts)
        for name in [name for name in unfinished if not board.unacknowledged(name)]:
            unfinished.remove(name)
            of_plane = [t_ns for link, t_ns in at_ns.items() if instance.plane_of[link[0]] == name]
            done[name] = Done(slot.index, max(of_plane))
    return Outcome(
        dict(sorted(done.items())), {name: board.unacknowledged(name) for name in unfinished}, plans
    )


def _end_contacts(board: Board, slot: Slot, since_ns: dict[Link, int]) -> bool:
    """Give back what links hold that are out of view, or have been since; whether there was anything."""
    rooms = {room.link: room for room in slot.rooms}
    given_back = False
    for handout in board.outstanding():
        room = rooms.get(handout.link)
        if room is None or room.since_ns != since_ns[handout.link]:
            given_back |= bool(board.contact_ended(*handout.link))
    since_ns.update({link: room.since_ns for link, room in rooms.items()})
    return given_back


def _carry(board: Board, slot: Slot, carried: Carried | None) -> tuple[dict[Link, int], bool]:
    """What each link has carried, and whether that is all it was handed."""
    rooms = {room.link: room for room in slot.rooms}
    counts: dict[Link, int] = {}
    as_planned = True
    for handout in board.outstanding():
        through = _all_that_fits(rooms[handout.link], handout) if carried is None else carried(slot, handout)
        news = () if through is None else board.acknowledged(handout.plane, through)
        counts[handout.link] = count(news)
        if counts[handout.link] < handout.chunks:
            as_planned = False
        if through is None:
            board.contact_ended(*handout.link)
    return counts, as_planned


def _all_that_fits(room: Room, handout: Handout) -> list[Range]:
    return split(handout.ranges, room.chunks)[0]
