"""Routes over the plan: the earliest arrival of a transfer, and the latest departure that is still in time.

Store and forward: a node has all bytes before it sends the first one on, and keeps them for as long as it
takes. A hop takes the integral of the contact's rate over the time that is not reserved (an interrupted
transfer goes on when the link is free again), and then the delay that the contact has when the last bit
leaves. A hop begins and ends within one contact. Pure functions of the plan and of the reservations, exact to
the ns: every node that asks the same question gets the same route.

`Residual` holds what has been promised: a reservation takes the very intervals that a hop needs, so neither a
contact's volume nor an instant of it is given away twice.

Dijkstra over the contact graph. It rests on one property of a plan: what leaves later does not arrive earlier
within a contact, so no delay falls faster than time runs (a range would have to shrink at the speed of
light).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan, Window

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hop:
    """One contact's part of a route: sending begins, the last bit leaves, the last bit arrives."""

    contact: Contact
    start_ns: int
    finish_ns: int
    arrival_ns: int


Route = tuple[Hop, ...]
_ContactKey = tuple[str, str, int]


class Residual:
    """What is left of each contact once the reservations are taken off; each reservation has a name.

    It speaks of the contacts of one plan: when another revision comes, begin anew and reserve again what
    still stands.
    """

    __slots__ = ("_busy", "_held")

    def __init__(self) -> None:
        self._busy: dict[_ContactKey, list[Window]] = {}
        self._held: dict[str, list[tuple[_ContactKey, Window]]] = {}

    def reserve(self, name: str, route: Route, size_bytes: int) -> None:
        """Take what the route needs, all of it or nothing.

        ValueError when the name is taken, or when a hop no longer finishes as the route says.
        """
        if name in self._held:
            raise ValueError(f"name: {name!r} holds a reservation already")
        taken: list[tuple[_ContactKey, Window]] = []
        for hop in route:
            key = _key(hop.contact)
            sent = _sent(hop.contact, hop.start_ns, size_bytes, self.busy(hop.contact))
            if sent is None or (sent[0], sent[1]) != (hop.start_ns, hop.finish_ns):
                ends = f"{hop.contact.source} to {hop.contact.destination}"
                raise ValueError(f"route: {ends} at {hop.start_ns} ns is no longer free")
            taken += [(key, window) for window in sent[2]]
        for key, window in taken:
            windows = self._busy.setdefault(key, [])
            windows.insert(bisect_right(windows, window), window)
        self._held[name] = taken

    def release(self, name: str) -> bool:
        """Give a reservation back; False when there is none of that name."""
        held = self._held.pop(name, None)
        for key, window in held or ():
            self._busy[key].remove(window)
            if not self._busy[key]:
                del self._busy[key]
        return held is not None

    def names(self) -> tuple[str, ...]:
        """Names of all reservations, sorted."""
        return tuple(sorted(self._held))

    def busy(self, contact: Contact) -> tuple[Window, ...]:
        """The reserved (start_ns, end_ns) of a contact: ascending, disjoint, some may touch."""
        return tuple(self._busy.get(_key(contact), ()))

    def volume_bytes(self, contact: Contact, from_ns: int, to_ns: int) -> int:
        """Whole bytes that can still be sent between two instants."""
        gaps = _gaps(contact, self.busy(contact), max(from_ns, contact.start_ns), min(to_ns, contact.end_ns))
        free = sum((contact.volume_bit_e9(start_ns, end_ns) for start_ns, end_ns in gaps), Fraction(0))
        return int(free / (8 * _NS_PER_S))


_NOTHING_RESERVED = Residual()


def earliest_arrival(
    plan: ContactPlan,
    source: str,
    destination: str,
    t_ns: int,
    size_bytes: int,
    residual: Residual | None = None,
    without: Collection[str] = (),
) -> Route | None:
    """The route on which what is whole at `source` at `t_ns` is whole at `destination` first.

    It leads over none of the nodes `without`. Empty when the two are one node, None when there is no route.
    Every node on the way is reached as early as it can be; ties between the ways to reach a node go to the
    fewer hops, then to the smaller name of the sender, then to the earlier contact.
    """
    _check_size(size_bytes)
    residual = residual or _NOTHING_RESERVED
    return _first_there(
        plan,
        (source, destination),
        t_ns,
        lambda node, neighbour, ready_ns: _earliest_hop(
            plan, node, neighbour, ready_ns, size_bytes, residual
        ),
        without,
    )


def earliest_arrival_in_parts(
    plan: ContactPlan,
    source: str,
    destination: str,
    t_ns: int,
    size_bytes: int,
    without: Collection[str] = (),
) -> Route | None:
    """As `earliest_arrival` with nothing reserved, where a hop that a contact's end cuts off goes on in the
    next contact of the two nodes: a hop's `contact` is the one that it begins in.

    It begins as soon as it can. That is the earliest arrival unless the delays of these contacts differ by
    more than the time between them.
    """
    _check_size(size_bytes)
    return _first_there(
        plan,
        (source, destination),
        t_ns,
        lambda node, neighbour, ready_ns: _hop_in_parts(plan, node, neighbour, ready_ns, size_bytes),
        without,
    )


def _first_there(
    plan: ContactPlan,
    ends: tuple[str, str],
    t_ns: int,
    hop_of: Callable[[str, str, int], Hop | None],
    without: Collection[str],
) -> Route | None:
    """`hop_of` answers with the earliest hop between two nodes that may begin at an instant."""
    source, destination = ends
    if source == destination:
        return ()
    reached: dict[str, tuple[int, int, str, int]] = {source: (t_ns, 0, "", 0)}  # the order of preference
    hop_to: dict[str, Hop] = {}
    done: set[str] = set()
    heap: list[tuple[int, int, str]] = [(t_ns, 0, source)]
    while heap:
        ready_ns, hops, node = heapq.heappop(heap)
        if node in done:
            continue
        if node == destination:
            return _traced_back(hop_to, source, destination)
        done.add(node)
        for neighbour in plan.neighbours(node):
            if neighbour in done or neighbour in without:
                continue
            hop = hop_of(node, neighbour, ready_ns)
            if hop is None:
                continue
            rank = (hop.arrival_ns, hops + 1, node, hop.contact.start_ns)
            if neighbour not in reached or rank < reached[neighbour]:
                reached[neighbour] = rank
                hop_to[neighbour] = hop
                heapq.heappush(heap, (hop.arrival_ns, hops + 1, neighbour))
    return None


def latest_departure(
    plan: ContactPlan,
    source: str,
    destination: str,
    deadline_ns: int,
    size_bytes: int,
    residual: Residual | None = None,
) -> Route | None:
    """The route that leaves `source` as late as possible and is whole at `destination` by the deadline.

    Every hop begins as late as it can; compare the first one's `start_ns` with now. Empty when the two are
    one node, None when there is no route. Ties as in `earliest_arrival`, seen from the destination: the fewer
    hops, the smaller name of the receiver, the later contact.
    """
    _check_size(size_bytes)
    if source == destination:
        return ()
    residual = residual or _NOTHING_RESERVED
    needed: dict[str, tuple[int, int, str, int]] = {destination: (-deadline_ns, 0, "", 0)}
    hop_from: dict[str, Hop] = {}
    done: set[str] = set()
    heap: list[tuple[int, int, str]] = [(-deadline_ns, 0, destination)]
    while heap:
        minus_ns, hops, node = heapq.heappop(heap)
        if node in done:
            continue
        if node == source:
            return _traced_on(hop_from, source, destination)
        done.add(node)
        for neighbour in plan.neighbours(node):
            if neighbour in done:
                continue
            hop = _latest_hop(plan, neighbour, node, -minus_ns, size_bytes, residual)
            if hop is None:
                continue
            rank = (-hop.start_ns, hops + 1, node, -hop.contact.start_ns)
            if neighbour not in needed or rank < needed[neighbour]:
                needed[neighbour] = rank
                hop_from[neighbour] = hop
                heapq.heappush(heap, (-hop.start_ns, hops + 1, neighbour))
    return None


# --- one hop ------------------------------------------------------------------------------------------------


def _earliest_hop(
    plan: ContactPlan, source: str, destination: str, ready_ns: int, size_bytes: int, residual: Residual
) -> Hop | None:
    best: Hop | None = None
    for contact in plan.from_instant(source, destination, ready_ns):
        if best is not None and contact.start_ns >= best.arrival_ns:
            break  # nothing arrives before it has left
        sent = _sent(contact, ready_ns, size_bytes, residual.busy(contact))
        if sent is not None:
            arrival_ns = sent[1] + contact.delay_ns_at(sent[1])
            if best is None or arrival_ns < best.arrival_ns:
                best = Hop(contact, sent[0], sent[1], arrival_ns)
    return best


def _hop_in_parts(
    plan: ContactPlan, source: str, destination: str, ready_ns: int, size_bytes: int
) -> Hop | None:
    missing = Fraction(size_bytes * 8 * _NS_PER_S)
    first: tuple[Contact, int] | None = None
    latest_ns = 0  # arrival of the parts so far: a later one may have less far to go
    for contact in plan.from_instant(source, destination, ready_ns):
        begin_ns = max(ready_ns, contact.start_ns)
        if begin_ns >= contact.end_ns:
            continue
        first = first or (contact, begin_ns)
        finish_ns = contact.finish_of_ns(begin_ns, missing)
        if finish_ns is not None:
            latest_ns = max(latest_ns, finish_ns + contact.delay_ns_at(finish_ns))
            return Hop(first[0], first[1], finish_ns, latest_ns)
        missing -= contact.volume_bit_e9(begin_ns, contact.end_ns)
        latest_ns = max(latest_ns, contact.end_ns + contact.delay_ns_at(contact.end_ns))
    return None


def _latest_hop(
    plan: ContactPlan, source: str, destination: str, deadline_ns: int, size_bytes: int, residual: Residual
) -> Hop | None:
    for contact in plan.back_from_instant(source, destination, deadline_ns):
        busy = residual.busy(contact)
        finish_ns = _latest_finish_ns(contact, deadline_ns)
        start_ns = None if finish_ns is None else _latest_start_ns(contact, finish_ns, size_bytes, busy)
        if start_ns is not None:  # contacts do not overlap: an earlier one begins earlier
            sent = _sent(contact, start_ns, size_bytes, busy)
            assert sent is not None
            return Hop(contact, start_ns, sent[1], sent[1] + contact.delay_ns_at(sent[1]))
    return None


def _sent(
    contact: Contact, ready_ns: int, size_bytes: int, busy: tuple[Window, ...]
) -> tuple[int, int, list[Window]] | None:
    """(start, finish, intervals used) of a transfer that may begin at `ready_ns`; None if it does not fit."""
    begin_ns = max(ready_ns, contact.start_ns)
    if begin_ns >= contact.end_ns:
        return None
    if not busy:
        finish_ns = contact.finish_ns(begin_ns, size_bytes)
        return None if finish_ns is None else (begin_ns, finish_ns, [(begin_ns, finish_ns)])
    missing = Fraction(size_bytes * 8 * _NS_PER_S)
    used: list[Window] = []
    for start_ns, end_ns in _gaps(contact, busy, begin_ns, contact.end_ns):
        volume = contact.volume_bit_e9(start_ns, end_ns)
        if volume >= missing:
            finish_ns = contact.finish_of_ns(start_ns, missing)
            assert finish_ns is not None
            used.append((start_ns, finish_ns))
            return used[0][0], finish_ns, used
        missing -= volume
        used.append((start_ns, end_ns))
    return None


def _latest_finish_ns(contact: Contact, deadline_ns: int) -> int | None:
    """The last whole ns of the contact at which a bit can leave and be there by the deadline."""
    if contact.end_ns + contact.delay_ns_at(contact.end_ns) <= deadline_ns:
        return contact.end_ns
    if contact.start_ns + contact.delay_ns_at(contact.start_ns) > deadline_ns:
        return None
    low, high = contact.start_ns, contact.end_ns  # in time, too late
    while high - low > 1:
        middle = (low + high) // 2
        if middle + contact.delay_ns_at(middle) <= deadline_ns:
            low = middle
        else:
            high = middle
    return low


def _latest_start_ns(
    contact: Contact, finish_ns: int, size_bytes: int, busy: tuple[Window, ...]
) -> int | None:
    if size_bytes == 0:
        # A message without bytes still needs an instant of the contact that is its own.
        gaps = list(_gaps(contact, busy, contact.start_ns, min(finish_ns + 1, contact.end_ns)))
        return gaps[-1][1] - 1 if gaps else None
    missing = Fraction(size_bytes * 8 * _NS_PER_S)
    for start_ns, end_ns in reversed(list(_gaps(contact, busy, contact.start_ns, finish_ns))):
        volume = contact.volume_bit_e9(start_ns, end_ns)
        if volume >= missing:
            return contact.latest_start_of_ns(end_ns, missing)
        missing -= volume
    return None


def _gaps(contact: Contact, busy: tuple[Window, ...], from_ns: int, to_ns: int) -> Iterator[Window]:
    """What is free of a contact between two of its instants."""
    at_ns = from_ns
    for start_ns, end_ns in busy:
        if start_ns >= to_ns:
            break
        if start_ns > at_ns:
            yield at_ns, start_ns
        at_ns = max(at_ns, end_ns)
    if at_ns < to_ns:
        yield at_ns, to_ns


def _key(contact: Contact) -> _ContactKey:
    return contact.source, contact.destination, contact.start_ns


def _check_size(size_bytes: int) -> None:
    if size_bytes < 0:
        raise ValueError(f"size_bytes: must be 0 or more, not {size_bytes}")


def _traced_back(hop_to: dict[str, Hop], source: str, destination: str) -> Route:
    hops: list[Hop] = []
    while destination != source:
        hops.append(hop_to[destination])
        destination = hops[-1].contact.source
    return tuple(reversed(hops))


def _traced_on(hop_from: dict[str, Hop], source: str, destination: str) -> Route:
    hops: list[Hop] = []
    while source != destination:
        hops.append(hop_from[source])
        source = hops[-1].contact.destination
    return tuple(hops)
