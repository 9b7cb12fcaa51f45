"""Where the nodes of a plan are on the ground: satellites' tracks and sites, for `orbitrain.picture`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.geometry import Floats, propagated
from orbitrain.contacts.node import Orbit, PlanNode
from orbitrain.contacts.orbits import satellite_of

STEP_S: Final = 30.0
LONGEST_TRACK_S: Final = 86_400.0
_AT_ONCE: Final = 2_000  # satellites that are propagated together

# WGS84.
_EQUATOR_KM: Final = 6378.137
_FLATTENING: Final = 1 / 298.257223563


@dataclass(frozen=True, slots=True)
class Track:
    """Longitudes and latitudes in degrees, (n,) each; a nan is where it goes on at the other side."""

    name: str
    longitude_degrees: Floats
    latitude_degrees: Floats


@dataclass(frozen=True, slots=True)
class GroundTracks:
    """`names` are of all satellites that fly, above `longitude_degrees` and `latitude_degrees` at the epoch.

    `tracks` are of some of them, each over one revolution, but at most a day and the plan. `lost` counts
    satellites that SGP4 cannot fly.
    """

    names: tuple[str, ...]
    longitude_degrees: Floats
    latitude_degrees: Floats
    tracks: tuple[Track, ...]
    lost: int


@dataclass(frozen=True, slots=True)
class Marker:
    """Nodes of one kind that stand at one place (longitude, latitude in degrees).

    `label` names the first and counts the others.
    """

    label: str
    kind: str
    place: tuple[float, float]


def ground_tracks(
    nodes: Sequence[PlanNode], epoch: datetime, duration_s: float, most_tracks: int
) -> GroundTracks:
    """Of all nodes with an orbit from `epoch` (aware); at most `most_tracks` tracks, evenly chosen."""
    orbits = [(node.name, node.orbit) for node in nodes if node.orbit is not None]
    names: list[str] = []
    places: list[Floats] = []
    lost = 0
    for first in range(0, len(orbits), _AT_ONCE):
        group = [satellite_of(name, orbit) for name, orbit in orbits[first : first + _AT_ONCE]]
        flown, errors = propagated(group, epoch, 2 * STEP_S, STEP_S)
        lost += len(errors)
        for index, satellite in enumerate(group):
            if index not in errors:
                names.append(satellite.name)
                places.append(flown.position_km[index, 0])
    longitude, latitude = geodetic(np.array(places).reshape(-1, 3))
    flying = set(names)
    able = [(name, orbit) for name, orbit in orbits if name in flying]
    count = min(most_tracks, len(able))
    chosen = [able[index * len(able) // count] for index in range(count)]
    tracks = [_track(satellite_of(name, orbit), orbit, epoch, duration_s) for name, orbit in chosen]
    return GroundTracks(tuple(names), longitude, latitude, tuple(one for one in tracks if one), lost)


def markers(nodes: Sequence[PlanNode]) -> tuple[Marker, ...]:
    """One for each place and kind, in the order of the nodes."""
    at: dict[tuple[str, float, float], list[str]] = {}
    for node in nodes:
        if node.place is not None:
            key = (node.kind, node.place.longitude_degrees, node.place.latitude_degrees)
            at.setdefault(key, []).append(node.name)
    return tuple(
        Marker(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", kind, (east, north))
        for (kind, east, north), names in at.items()
    )


def _track(satellite: Satellite, orbit: Orbit, epoch: datetime, duration_s: float) -> Track | None:
    revolution_s = 60 * 2 * math.pi / orbit.mean_motion_radians_per_minute
    flown, errors = propagated([satellite], epoch, min(revolution_s, LONGEST_TRACK_S, duration_s), STEP_S)
    if errors:
        return None
    return Track(satellite.name, *split(*geodetic(flown.position_km[0])))


def geodetic(position_km: Floats) -> tuple[Floats, Floats]:
    """Longitude and geodetic latitude (degrees, WGS84) of ITRS positions, shape (n, 3).

    B. R. Bowring, Transformation from spatial to geographical coordinates, Survey Review 23 (1976): one step,
    far within a millidegree at any height.
    """
    x, y, z = position_km.T
    polar_km = _EQUATOR_KM * (1 - _FLATTENING)
    squared = _FLATTENING * (2 - _FLATTENING)  # of the first eccentricity
    from_axis = np.hypot(x, y)
    reduced = np.arctan2(z * _EQUATOR_KM, from_axis * polar_km)
    north = z + squared / (1 - squared) * polar_km * np.sin(reduced) ** 3
    out = from_axis - squared * _EQUATOR_KM * np.cos(reduced) ** 3
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(north, out))


def split(longitude_degrees: Floats, latitude_degrees: Floats) -> tuple[Floats, Floats]:
    """A line cut where it crosses the date line: to the frame's edge, a nan, and on from the other edge."""
    east: list[float] = []
    north: list[float] = []
    for longitude, latitude in zip(longitude_degrees.tolist(), latitude_degrees.tolist(), strict=True):
        if east and abs(longitude - east[-1]) > 180:
            edge = math.copysign(180.0, east[-1])
            left = edge - east[-1]  # degrees until the edge, and beyond it
            beyond = longitude + edge
            part = left / (left + beyond) if left + beyond else 0.5
            crossing = north[-1] + part * (latitude - north[-1])
            east += [edge, math.nan, -edge]
            north += [crossing, math.nan, crossing]
        east.append(longitude)
        north.append(latitude)
    return np.array(east), np.array(north)
