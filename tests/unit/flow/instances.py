"""Small instances from a seed, and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from orbitrain.flow.instance import Instance, Plane, Room, Slot

S = 1_000_000_000
SLOT_NS = 10 * S


def room(satellite: str, station: str, slot: int, chunks: int, since: int | None = None) -> Room:
    """The whole slot; `since` is the slot in which the contact began, this one if not given."""
    start_ns = slot * SLOT_NS
    since_ns = start_ns if since is None else since * SLOT_NS
    return Room(satellite, station, chunks, start_ns, start_ns + SLOT_NS, since_ns)


def instance_of(
    chunks: Mapping[str, int], *rooms: Room, stations: Mapping[str, int] | None = None
) -> Instance:
    """Planes by the first letter of their satellites' names; `stations` bounds each slot."""
    of_slot: dict[int, list[Room]] = {}
    for one in rooms:
        of_slot.setdefault(one.start_ns // SLOT_NS, []).append(one)
    planes = [
        Plane(name, tuple(sorted({one.satellite for one in rooms if one.satellite[0] == name})), count)
        for name, count in chunks.items()
    ]
    slots = [Slot(index, tuple(found), {}, stations or {}) for index, found in sorted(of_slot.items())]
    return Instance(tuple(planes), SLOT_NS, tuple(slots))


def random_instance(seed: int, slots: int = 40, chunks_max: int = 25) -> Instance:
    """2 to 4 planes of 1 to 3 satellites, 1 or 2 stations, up to `slots` slots; stations have bounds.

    Sometimes satellites have bounds too, and planes are ready later. Some cannot be finished.
    """
    random = Random(seed)
    names = "abcd"[: random.randint(2, 4)]
    stations = ("g1", "g2")[: random.randint(1, 2)]
    length = random.randint(slots // 2, slots)
    late = random.random() < 0.3
    planes = [
        Plane(
            name,
            tuple(f"{name}{number}" for number in range(random.randint(1, 3))),
            random.randint(1, chunks_max),
            random.randint(0, length // 4 * SLOT_NS) if late else 0,
        )
        for name in names
    ]
    rooms: dict[int, list[Room]] = {}
    for plane in planes:
        for satellite in plane.satellites:
            for station in stations:
                at = random.randint(0, length // 3)
                while at < length:
                    end = min(at + random.randint(1, max(2, length // 5)), length)
                    rate = random.randint(0, 4)
                    for index in range(at, end):
                        chunks = max(0, rate + random.randint(-1, 1))
                        rooms.setdefault(index, []).append(room(satellite, station, index, chunks, at))
                    at = end + random.randint(1, length // 3)
    shared = {station: random.randint(2, 5) for station in stations}
    bounded = random.random() < 0.3
    own = {
        satellite: random.randint(1, 4)
        for plane in planes
        for satellite in plane.satellites
        if bounded and random.random() < 0.5
    }
    return Instance(
        tuple(planes),
        SLOT_NS,
        tuple(Slot(index, tuple(found), own, shared) for index, found in sorted(rooms.items())),
    )
