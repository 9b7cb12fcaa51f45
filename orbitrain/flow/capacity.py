"""From a contact plan to what can be carried in each slot.

A chunk counts for the slot in which its last bit leaves. So a contact's slots add up to what the contact
carries whole, however long a chunk takes; in return a link that was given nothing to do for a while is behind
by up to one chunk. Which satellite a station's antennas are turned to is in the plan already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orbitrain.contacts.plan import ContactPlan
from orbitrain.flow.instance import Instance, Link, Plane, Room, Slot

Direction = Literal["down", "up"]
"""From satellites to the ground, or back."""

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """How chunks are cut and links are used.

    `overhead` (1 or more) is the bytes on the link for each byte of a chunk: headers of all layers, and what
    is repeated. A link is used from `acquisition_ns` after its two ends came into view until `answer_ns`
    before they leave it, so that the last chunk is acknowledged in time. ValueError for what cannot be.
    """

    chunk_bytes: int
    slot_ns: int
    acquisition_ns: int = 0
    answer_ns: int = 0
    overhead: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("chunk_bytes", 1), ("slot_ns", 1), ("acquisition_ns", 0), ("answer_ns", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be {least} or more, not {getattr(self, name)}")
        if not 1.0 <= self.overhead < math.inf:
            raise ValueError(f"overhead: must be 1 or more, not {self.overhead}")

    @property
    def link_bytes(self) -> int:
        """A chunk's bytes on the link."""
        return math.ceil(self.chunk_bytes * self.overhead)

    def chunks_by(self, rate_bps: int, t_ns: int) -> int:
        """Whole chunks that a constant rate has carried from scenario time 0 until `t_ns`."""
        return rate_bps * t_ns // (8 * _NS_PER_S * self.link_bytes)


@dataclass(frozen=True, slots=True)
class Limits:
    """What nodes can move over all their links at once, in bit/s at the link layer, by name.

    `backhaul_bps` is between a station and the ground server. A name that is not there has no bound.
    """

    satellite_bps: Mapping[str, int] = field(default_factory=dict)
    station_bps: Mapping[str, int] = field(default_factory=dict)
    backhaul_bps: Mapping[str, int] = field(default_factory=dict)


def instance_of(
    plan: ContactPlan,
    planes: Iterable[Plane],
    stations: Iterable[str],
    terms: Terms,
    direction: Direction = "down",
    limits: Limits | None = None,
) -> Instance:
    """The planes' chunks over the plan's contacts with the stations, from 0 to the plan's end.

    A link is there while the plan has both directions of it, as answers have to come back. Of two contacts
    that it has in one slot the one that carries less there is left out. ValueError as `Instance`.
    """
    limits = limits or Limits()
    rooms: dict[int, dict[Link, Room]] = {}
    planes = tuple(planes)
    stations = sorted(set(stations))
    for plane in planes:
        # Where the plane begins to take part: a link that had nothing to send is not in the midst of a chunk.
        ready_ns = -(-max(plane.ready_ns, 0) // terms.slot_ns) * terms.slot_ns
        for satellite in plane.satellites:
            for station in stations:
                for index, room in _rooms(plan, (satellite, station), ready_ns, terms, direction):
                    there = rooms.setdefault(index, {})
                    if room.link not in there or there[room.link].chunks < room.chunks:
                        there[room.link] = room
    return Instance(
        planes,
        terms.slot_ns,
        tuple(_slot(index, tuple(found.values()), terms, limits) for index, found in sorted(rooms.items())),
    )


def _rooms(
    plan: ContactPlan, link: tuple[str, str], ready_ns: int, terms: Terms, direction: Direction
) -> Iterable[tuple[int, Room]]:
    satellite, station = link
    source, destination = (satellite, station) if direction == "down" else (station, satellite)
    for since_ns, gone_ns in plan.windows(satellite, station):
        begin_ns = max(since_ns + terms.acquisition_ns, ready_ns)
        end_ns = gone_ns - terms.answer_ns
        if begin_ns >= end_ns:
            continue
        before = 0
        for index in range(begin_ns // terms.slot_ns, -(-end_ns // terms.slot_ns)):
            from_ns = max(begin_ns, index * terms.slot_ns)
            to_ns = min(end_ns, (index + 1) * terms.slot_ns)
            by_then = plan.volume_bytes(source, destination, begin_ns, to_ns) // terms.link_bytes
            yield index, Room(satellite, station, by_then - before, from_ns, to_ns, since_ns)
            before = by_then


def _slot(index: int, rooms: Sequence[Room], terms: Terms, limits: Limits) -> Slot:
    def chunks(rate_bps: int) -> int:
        start_ns = index * terms.slot_ns
        return terms.chunks_by(rate_bps, start_ns + terms.slot_ns) - terms.chunks_by(rate_bps, start_ns)

    satellites = {}
    stations = {}
    for room in rooms:
        if room.satellite in limits.satellite_bps:
            satellites[room.satellite] = chunks(limits.satellite_bps[room.satellite])
        rates = [
            rates[room.station]
            for rates in (limits.station_bps, limits.backhaul_bps)
            if room.station in rates
        ]
        if rates:
            stations[room.station] = chunks(min(rates))
    return Slot(index, tuple(rooms), satellites, stations)
