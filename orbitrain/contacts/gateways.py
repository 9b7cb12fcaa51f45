"""Which two satellites take something from one plane to another, and when: pure functions of the plan.

Planes have numbers and members; any member may send to any member of the other plane while the contact plan
has a contact from the one to the other. A transfer lies within one contact: it begins after the link is set
up, its last byte arrives while there is still time to answer. Sending takes the integral of the contact's
rate, then its delay when the last bit leaves; nothing is reserved. It rests on the property of a plan that
`contacts.routing` names. Standard library only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ActiveIndex, ContactPlan, Window


@dataclass(frozen=True, slots=True)
class Transfer:
    """What crosses: `size_bytes`, begun `setup_ns` after a contact's start at the earliest, and there
    `answer_ns` before its end at the latest. `spread_ns` after that all of the plane have it."""

    size_bytes: int
    setup_ns: int = 0
    answer_ns: int = 0
    spread_ns: int = 0

    def __post_init__(self) -> None:
        for name in ("size_bytes", "setup_ns", "answer_ns", "spread_ns"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be 0 or more, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Crossing:
    """`sender` of plane `source` begins at `start_ns`; all of plane `target` have it at `arrival_ns`."""

    source: int
    target: int
    sender: str
    receiver: str
    start_ns: int
    arrival_ns: int


class Gateways:
    """The windows between planes (plane -> names of its members) for one kind of transfer.

    ValueError for a member of two planes. Members that the plan does not know have no contacts.
    """

    __slots__ = ("_among", "_failed", "_neighbours", "_passages", "_plan", "_transfer")

    def __init__(self, plan: ContactPlan, members: Mapping[int, Sequence[str]], transfer: Transfer) -> None:
        plane_of = {name: plane for plane, names in members.items() for name in names}
        if len(plane_of) < sum(map(len, members.values())):
            raise ValueError("members: must each be of one plane")
        between: dict[tuple[int, int], list[Contact]] = {}
        for contact in plan.contacts:
            source, target = plane_of.get(contact.source), plane_of.get(contact.destination)
            if source is not None and target is not None and source != target:
                between.setdefault((source, target), []).append(contact)
        self._plan = plan
        self._transfer = transfer
        self._failed: frozenset[tuple[str, str, int]] = frozenset()
        self._among: frozenset[str] | None = None
        self._passages = {way: _Passage(contacts) for way, contacts in between.items()}
        beside: dict[int, set[int]] = {plane: set() for plane in members}
        for source, target in between:
            beside[source].add(target)
            beside[target].add(source)
        self._neighbours = {plane: tuple(sorted(others)) for plane, others in beside.items()}

    def without(self, failed: Iterable[tuple[str, str, int]]) -> Gateways:
        """The same without the contacts in which these crossings, (sender, receiver, start_ns), begin."""
        found = (self._plan.active(sender, receiver, start_ns) for sender, receiver, start_ns in failed)
        other = copy(self)
        other._failed = self._failed | {_key(contact) for contact in found if contact is not None}
        return other

    def among(self, satellites: Collection[str]) -> Gateways:
        """The same for these satellites: nobody else sends or receives."""
        other = copy(self)
        other._among = frozenset(satellites)
        return other

    def neighbours(self, plane: int) -> tuple[int, ...]:
        """Planes that it has a contact with, whoever's, in either direction, ascending."""
        return self._neighbours.get(plane, ())

    def windows(self, source: int, target: int) -> tuple[Window, ...]:
        """When a crossing may begin: disjoint (first_ns, last_ns), both included, ascending.

        The union over all pairs of satellites of what their contacts leave; contacts too short leave nothing.
        """
        found: list[Window] = []
        for contact in self._passage(source, target).contacts:
            first_ns = contact.start_ns + self._transfer.setup_ns
            last_ns = self._last_start_ns(contact, contact.end_ns) if self._usable(contact) else None
            if last_ns is None:
                continue
            if found and first_ns <= found[-1][1] + 1:
                found[-1] = (found[-1][0], max(found[-1][1], last_ns))
            else:
                found.append((first_ns, last_ns))
        return tuple(found)

    def earliest(self, source: int, target: int, ready_ns: int) -> Crossing | None:
        """Of the crossings that begin at `ready_ns` or later the first to arrive.

        Ties go to the earlier start, then to the smaller names.
        """
        best: tuple[int, int, str, str] | None = None
        for contact in self._passage(source, target).from_instant(ready_ns):
            if best is not None and contact.start_ns + self._transfer.setup_ns > best[0]:
                break  # nothing arrives before it has left
            begin_ns = max(ready_ns, contact.start_ns + self._transfer.setup_ns)
            arrival_ns = self._arrival_ns(contact, begin_ns) if self._usable(contact) else None
            if arrival_ns is not None:
                found = (arrival_ns, begin_ns, contact.source, contact.destination)
                best = found if best is None else min(best, found)
        return None if best is None else self._crossing(source, target, best)

    def latest(self, source: int, target: int, deadline_ns: int) -> Crossing | None:
        """Of the crossings that arrive by `deadline_ns` the last to begin.

        Ties go to the earlier arrival, then to the smaller names.
        """
        best: tuple[int, int, str, str] | None = None  # the first is minus the start
        for contact in self._passage(source, target).back_from_instant(deadline_ns):
            if best is not None and contact.end_ns < -best[0]:
                break
            if not self._usable(contact):
                continue
            begin_ns = self._last_start_ns(contact, deadline_ns - self._transfer.spread_ns)
            if begin_ns is not None:
                arrival_ns = self._arrival_ns(contact, begin_ns)
                assert arrival_ns is not None
                found = (-begin_ns, arrival_ns, contact.source, contact.destination)
                best = found if best is None else min(best, found)
        if best is None:
            return None
        return self._crossing(source, target, (best[1], -best[0], *best[2:]))

    def _crossing(self, source: int, target: int, best: tuple[int, int, str, str]) -> Crossing:
        arrival_ns, begin_ns, sender, receiver = best
        return Crossing(source, target, sender, receiver, begin_ns, arrival_ns + self._transfer.spread_ns)

    def _passage(self, source: int, target: int) -> _Passage:
        return self._passages.get((source, target), _NO_PASSAGE)

    def _usable(self, contact: Contact) -> bool:
        ends = {contact.source, contact.destination}
        return _key(contact) not in self._failed and (self._among is None or ends <= self._among)

    def _arrival_ns(self, contact: Contact, begin_ns: int) -> int | None:
        """At the receiver; None where it does not fit into the contact."""
        if begin_ns >= contact.end_ns:
            return None
        finish_ns = contact.finish_ns(begin_ns, self._transfer.size_bytes)
        if finish_ns is None:
            return None
        arrival_ns = finish_ns + contact.delay_ns_at(finish_ns)
        return arrival_ns if arrival_ns + self._transfer.answer_ns <= contact.end_ns else None

    def _last_start_ns(self, contact: Contact, deadline_ns: int) -> int | None:
        """The last instant to begin at so as to be at the receiver by the deadline."""

        def too_late(begin_ns: int) -> bool:
            arrival_ns = self._arrival_ns(contact, begin_ns)
            return arrival_ns is None or arrival_ns > deadline_ns

        first_ns = contact.start_ns + self._transfer.setup_ns
        starts_ns = range(first_ns, contact.end_ns)
        place = bisect_left(starts_ns, True, key=too_late)
        return first_ns + place - 1 if place else None


class _Passage:
    """All contacts from one plane to another, whichever satellites they are of, by start and by end."""

    __slots__ = ("_active", "_by_end", "_ends_ns", "_starts_ns", "contacts")

    def __init__(self, contacts: Sequence[Contact]) -> None:
        self.contacts = contacts  # by start, as a plan has them
        self._by_end = sorted(contacts, key=lambda contact: contact.end_ns)
        self._starts_ns = [contact.start_ns for contact in contacts]
        self._ends_ns = [contact.end_ns for contact in self._by_end]
        self._active = ActiveIndex(self._starts_ns, [contact.end_ns for contact in contacts])

    def active_at(self, t_ns: int) -> Iterator[Contact]:
        return (self.contacts[position] for position in self._active.at(t_ns))

    def from_instant(self, t_ns: int) -> Iterator[Contact]:
        """Those that end after an instant, by start."""
        yield from self.active_at(t_ns)
        for position in range(bisect_right(self._starts_ns, t_ns), len(self.contacts)):
            yield self.contacts[position]

    def back_from_instant(self, t_ns: int) -> Iterator[Contact]:
        """Those that start by an instant: first those that go on, then the others, the last to end first."""
        yield from self.active_at(t_ns)
        for position in range(bisect_right(self._ends_ns, t_ns) - 1, -1, -1):
            yield self._by_end[position]


_NO_PASSAGE = _Passage(())


def _key(contact: Contact) -> tuple[str, str, int]:
    return contact.source, contact.destination, contact.start_ns
