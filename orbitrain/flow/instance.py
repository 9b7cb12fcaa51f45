"""What is to be moved, and what can be carried when: the input of every scheduler.

Scenario time is cut into slots of equal length; slot k is [k * slot_ns, (k + 1) * slot_ns). After the
all-gather within a plane each of its satellites has all of the plane's chunks, so a plane has a backlog, and
any of its satellites in view of any station may carry any part of it.

Down (satellites to ground server) and up are one problem: with all arcs turned round a flow is still a flow,
of the same size. So an instance does not say which it is; `flow.capacity` reads the one or the other from a
contact plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Final, TypeAlias

Link: TypeAlias = tuple[str, str]
"""A satellite and a station."""

CHUNKS_MAX: Final = 2**31 - 1
"""Chunks of all planes together: scipy's maximum flow counts in 32 bits."""

STATIONS_CUT: Final = 4
"""Stations in view at once up to which all cuts are looked at: their number doubles with each station."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Satellites of one plane, and how many chunks are to be moved between them and the ground server.

    The chunks are numbered from 0. The plane takes part from the first slot that begins at `ready_ns` or
    later: before, its satellites (down) or the server (up) hold nothing of it.
    """

    name: str
    satellites: tuple[str, ...]
    chunks: int
    ready_ns: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What a satellite and a station can move between them in one slot: `chunks` that end in it, if all do.

    The link is usable from `start_ns` to `end_ns`, within the slot. The two came into view at `since_ns`;
    rooms of one link with one `since_ns` are of one contact.
    """

    satellite: str
    station: str
    chunks: int
    start_ns: int
    end_ns: int
    since_ns: int

    @property
    def link(self) -> Link:
        return self.satellite, self.station


@dataclass(frozen=True, slots=True)
class Slot:
    """Rooms of one slot, by (satellite, station), and what a node can move in it over all its links.

    `satellites` and `stations` hold whole chunks by name; a name that is not there has no bound of its own.
    """

    index: int
    rooms: tuple[Room, ...]
    satellites: Mapping[str, int] = field(default_factory=dict)
    stations: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rooms", tuple(sorted(self.rooms, key=_link)))

    def bound(self, planes: Mapping[str, str], chosen: frozenset[str]) -> int:
        """More chunks than these the chosen planes cannot move in this slot; `planes` has each satellite's.

        It is the smallest cut, so they can move just as many; where their satellites see more than
        STATIONS_CUT stations it is the smaller one of two.
        """
        rooms = [room for room in self.rooms if planes[room.satellite] in chosen]
        stations = sorted({room.station for room in rooms})
        sizes = range(len(stations) + 1) if len(stations) <= STATIONS_CUT else (0, len(stations))
        return min(self._cut(rooms, near) for size in sizes for near in combinations(stations, size))

    def _cut(self, rooms: Sequence[Room], near: tuple[str, ...]) -> int:
        """Behind the stations that are near, and before the links of the others."""
        stations = dict.fromkeys(near, 0)
        satellites: dict[str, int] = {}
        for room in rooms:
            if room.station in stations:
                stations[room.station] += room.chunks
            else:
                satellites[room.satellite] = satellites.get(room.satellite, 0) + room.chunks
        return _bounded(stations, self.stations) + _bounded(satellites, self.satellites)


@dataclass(frozen=True, slots=True)
class Instance:
    """Planes by name, and the slots in which anything can be carried, ascending.

    Raises ValueError with one line for names that are not unique or not known, counts below 0, slots out of
    order, and more than CHUNKS_MAX chunks.
    """

    planes: tuple[Plane, ...]
    slot_ns: int
    slots: tuple[Slot, ...]
    plane_of: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """The plane of each satellite, by names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "planes", tuple(sorted(self.planes, key=lambda plane: plane.name)))
        object.__setattr__(self, "slots", tuple(self.slots))
        if self.slot_ns < 1:
            raise ValueError(f"slot_ns: must be 1 or more, not {self.slot_ns}")
        object.__setattr__(self, "plane_of", _plane_of(self.planes))
        before = -1
        for slot in self.slots:
            if slot.index <= before:
                raise ValueError(f"slots: must ascend from 0, but {slot.index} follows {before}")
            before = slot.index
            _check_slot(slot, self.plane_of)

    def ready_slot(self, plane: Plane) -> int:
        """The first slot in which the plane takes part."""
        return max(0, -(-plane.ready_ns // self.slot_ns))

    def ready(self, slot: Slot) -> frozenset[str]:
        """Names of the planes that take part in a slot."""
        return frozenset(plane.name for plane in self.planes if self.ready_slot(plane) <= slot.index)

    def rest(self, from_slot: int, outstanding: Mapping[Link, int]) -> Instance:
        """The instance from a slot on, less what chunks that are handed out and not acknowledged will take.

        `outstanding` has their number for each link. They take the link's first room, up to the end of the
        contact that it is in, or that comes next: what is left then goes nowhere.
        """
        waiting = dict(outstanding)
        since_ns: dict[Link, int] = {}
        slots = []
        for slot in self.slots:
            if slot.index < from_slot:
                continue
            if any(waiting.values()):
                for room in slot.rooms:
                    if since_ns.setdefault(room.link, room.since_ns) != room.since_ns:
                        waiting[room.link] = 0
                slot, waiting = _taken(slot, waiting)
            slots.append(slot)
        return replace(self, slots=tuple(slots))

    def done_ns(self, slot: Slot, carried: Mapping[Link, int]) -> dict[Link, int]:
        """When within the slot each link has moved its last chunk, in scenario ns, as reckoned from the
        counts.

        It takes a link, a satellite and a station to work at an even rate; what is more than fits is taken to
        end with the slot. Links that carried nothing are left out. The delay of the link is not in it.
        """
        start_ns = slot.index * self.slot_ns
        end_ns = start_ns + self.slot_ns
        satellites: dict[str, int] = {}
        stations: dict[str, int] = {}
        for (satellite, station), count in carried.items():
            satellites[satellite] = satellites.get(satellite, 0) + count
            stations[station] = stations.get(station, 0) + count
        rooms = {room.link: room for room in slot.rooms}
        done: dict[Link, int] = {}
        for (satellite, station), count in sorted(carried.items()):
            if count == 0:
                continue
            room = rooms[satellite, station]
            at_ns = _share(room.start_ns, room.end_ns, count, room.chunks)
            if satellite in slot.satellites:
                node_ns = _share(start_ns, end_ns, satellites[satellite], slot.satellites[satellite])
                at_ns = max(at_ns, node_ns)
            if station in slot.stations:
                at_ns = max(at_ns, _share(start_ns, end_ns, stations[station], slot.stations[station]))
            done[satellite, station] = at_ns
        return done


def _link(room: Room) -> Link:
    return room.link


def _bounded(sums: Mapping[str, int], limits: Mapping[str, int]) -> int:
    return sum(min(chunks, limits.get(name, chunks)) for name, chunks in sums.items())


def _share(start_ns: int, end_ns: int, count: int, of: int) -> int:
    """When `count` of `of` chunks are through, at an even rate and rounded up."""
    return end_ns if count >= of else start_ns - (start_ns - end_ns) * count // of


def _plane_of(planes: Sequence[Plane]) -> dict[str, str]:
    found: dict[str, str] = {}
    names: set[str] = set()
    for plane in planes:
        if plane.name in names:
            raise ValueError(f"plane {plane.name!r}: must have a name of its own")
        names.add(plane.name)
        if plane.chunks < 0:
            raise ValueError(f"plane {plane.name!r}: chunks must be 0 or more, not {plane.chunks}")
        for satellite in plane.satellites:
            if satellite in found:
                raise ValueError(
                    f"satellite {satellite!r}: must be of one plane, not of {found[satellite]!r} "
                    f"and {plane.name!r}"
                )
            found[satellite] = plane.name
    total = sum(plane.chunks for plane in planes)
    if total > CHUNKS_MAX:
        raise ValueError(f"planes: must have at most {CHUNKS_MAX} chunks together, not {total}")
    return found


def _check_slot(slot: Slot, plane_of: Mapping[str, str]) -> None:
    before: Link | None = None
    for room in slot.rooms:
        if room.satellite not in plane_of:
            raise ValueError(f"slot {slot.index}: satellite {room.satellite!r} is of no plane")
        if room.link == before:
            raise ValueError(f"slot {slot.index}: must have {room.satellite} to {room.station} once")
        before = room.link
        if room.chunks < 0:
            raise ValueError(
                f"slot {slot.index}: chunks from {room.satellite} to {room.station} must be 0 or more, "
                f"not {room.chunks}"
            )
    for limits in (slot.satellites, slot.stations):
        for name, chunks in sorted(limits.items()):
            if chunks < 0:
                raise ValueError(f"slot {slot.index}: chunks of {name!r} must be 0 or more, not {chunks}")


def _taken(slot: Slot, waiting: Mapping[Link, int]) -> tuple[Slot, dict[Link, int]]:
    """The slot less what waits on its links as far as it fits, and what waits still."""
    waiting = dict(waiting)
    satellites, stations = dict(slot.satellites), dict(slot.stations)
    rooms = []
    for room in slot.rooms:
        satellite, station = room.link
        count = min(
            waiting.get(room.link, 0),
            room.chunks,
            satellites.get(satellite, room.chunks),
            stations.get(station, room.chunks),
        )
        if count:
            waiting[room.link] -= count
            if satellite in satellites:
                satellites[satellite] -= count
            if station in stations:
                stations[station] -= count
        rooms.append(replace(room, chunks=room.chunks - count))
    return Slot(slot.index, tuple(rooms), satellites, stations), waiting
