"""The baseline: whoever came into view first sends, to the station that it saw first, as much as goes."""

from __future__ import annotations

from collections.abc import Mapping

from orbitrain.flow.instance import Instance, Room, Slot
from orbitrain.flow.schedule import Schedule, Share


def first_visible(instance: Instance, left: Mapping[str, int]) -> Schedule:
    """In each slot satellites take their turn in the order in which they came into view, ties by name.

    Each fills its link with the station that it came into view of first, ties by name, and uses no other. Our
    reading of a baseline; no flow is computed.
    """
    left = dict(left)
    shares = []
    for slot in instance.slots:
        if not any(left.values()):
            break
        ready = instance.ready(slot)
        stations = dict(slot.stations)
        for room in _in_turn(slot):
            plane = instance.plane_of[room.satellite]
            chunks = min(
                room.chunks,
                left.get(plane, 0) if plane in ready else 0,
                slot.satellites.get(room.satellite, room.chunks),
                stations.get(room.station, room.chunks),
            )
            if chunks:
                left[plane] -= chunks
                if room.station in stations:
                    stations[room.station] -= chunks
                shares.append(Share(slot.index, plane, room.satellite, room.station, chunks))
    return Schedule(tuple(shares), {plane: chunks for plane, chunks in sorted(left.items()) if chunks})


def _in_turn(slot: Slot) -> list[Room]:
    """One room of each satellite."""
    chosen: dict[str, Room] = {}
    for room in sorted(slot.rooms, key=lambda room: (room.since_ns, room.satellite, room.station)):
        chosen.setdefault(room.satellite, room)
    return list(chosen.values())
