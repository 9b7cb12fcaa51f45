"""Planes: which satellites share an orbital plane, in which order, and which planes are neighbours.

A Walker shell says it itself (`Planes.of_shells`). Satellites of published elements are grouped by where they
are at an instant (`Planes.of_satellites`), by rules of our own:

- two satellites share a plane when their orbit normals (position x velocity) are within 1 degree and their
  mean semi-major axes within 10 km, directly or through others (single link): planes of a shell are degrees
  apart, and satellites that differ by more than that in height drift past each other in days;
- the places of a plane are in the order of the argument of latitude about the plane's mean normal;
- planes are of one shell when their mean inclinations are within 1 degree and their mean axes within 10 km,
  again single link; a shell's planes stand in the order of their ascending nodes, and two next to each other
  are adjacent unless their nodes are more than 180 degrees apart. That is the seam of a Walker star, whose
  nodes fill half a circle: there neighbours fly in opposite directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from sgp4.api import SatrecArray, jday

from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, Satellite, Shell
from orbitrain.contacts.geometry import Floats, Integers, dot

SAME_PLANE_DEGREES: Final = 1.0
SAME_SHELL_DEGREES: Final = 1.0
SAME_HEIGHT_KM: Final = 10.0
# Against rounding: two planes with nodes exactly opposite are neighbours.
_SEAM_DEGREES: Final = 180.0 + 1e-6


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of satellites as columns: indices `first` < `second`, and whether they share a plane."""

    first: Integers
    second: Integers
    intra: npt.NDArray[np.bool_]

    @staticmethod
    def of(pairs: Iterable[tuple[int, int]], intra: bool) -> Pairs:
        """Each pair once, in order, whichever way round it was given."""
        once = sorted({(min(pair), max(pair)) for pair in pairs})
        columns = np.array(once, dtype=np.int64).reshape(-1, 2)
        return Pairs(columns[:, 0].copy(), columns[:, 1].copy(), np.full(len(once), intra))

    def joined(self, other: Pairs) -> Pairs:
        return Pairs(
            np.concatenate((self.first, other.first)),
            np.concatenate((self.second, other.second)),
            np.concatenate((self.intra, other.intra)),
        )

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True)
class Planes:
    """Satellites (their indices) plane by plane, each a ring in the order of flight, and adjacent planes.

    `adjacent` are pairs of plane numbers, the smaller first. Every satellite is in one plane.
    """

    rings: tuple[tuple[int, ...], ...]
    adjacent: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        members = sorted(satellite for ring in self.rings for satellite in ring)
        if members != list(range(len(members))):
            raise ValueError(f"rings: must have each satellite of 0 to {len(members) - 1} once")
        for one, other in self.adjacent:
            if not 0 <= one < other < len(self.rings):
                raise ValueError(
                    f"adjacent: must be pairs of two of 0 to {len(self.rings) - 1}, the smaller first, "
                    f"not {(one, other)}"
                )

    @staticmethod
    def of_shells(shells: Sequence[Shell]) -> Planes:
        """Of Walker shells whose satellites are numbered one shell after the other (`satellites_of`).

        Planes of different shells are not adjacent.
        """
        rings: list[tuple[int, ...]] = []
        adjacent: list[tuple[int, int]] = []
        satellite = 0
        for shell in shells:
            per_plane = shell.satellites // shell.planes
            first = len(rings)
            for _ in range(shell.planes):
                rings.append(tuple(range(satellite, satellite + per_plane)))
                satellite += per_plane
            adjacent += [(plane, plane + 1) for plane in range(first, first + shell.planes - 1)]
            if shell.pattern == "delta" and shell.planes > 2:
                adjacent.append((first, first + shell.planes - 1))
        return Planes(tuple(rings), tuple(sorted(adjacent)))

    @staticmethod
    def of_satellites(satellites: Sequence[Satellite], moment: datetime) -> Planes:
        """Of satellites where SGP4 has them at `moment` (aware).

        Planes are numbered by axis, inclination and node. ValueError for one that SGP4 gives up on.
        """
        if moment.utcoffset() is None:
            raise ValueError(f"moment: must be a datetime with a time zone, not {moment.isoformat()}")
        if not satellites:
            return Planes((), ())
        position, normal, axis_km = _flown(satellites, moment)
        label = _clusters(normal, axis_km, SAME_PLANE_DEGREES)
        planes = [np.flatnonzero(label == one) for one in range(int(label.max()) + 1)]
        mean = np.array([normal[plane].mean(axis=0) for plane in planes])
        mean /= np.sqrt(dot(mean, mean))[:, np.newaxis]
        heights = np.array([axis_km[plane].mean() for plane in planes])
        inclination = np.degrees(np.arccos(np.clip(mean[:, 2], -1.0, 1.0)))
        node = np.degrees(np.arctan2(mean[:, 0], -mean[:, 1])) % 360.0
        shell = _shells(inclination, heights)
        height_of = [heights[shell == one].mean() for one in range(int(shell.max()) + 1)]
        tilt_of = [inclination[shell == one].mean() for one in range(int(shell.max()) + 1)]
        order = sorted(
            range(len(planes)), key=lambda p: (height_of[shell[p]], tilt_of[shell[p]], shell[p], node[p])
        )
        rings = tuple(_ring(planes[p], position, mean[p]) for p in order)
        adjacent: list[tuple[int, int]] = []
        for one in range(len(height_of)):
            numbers = [number for number, p in enumerate(order) if shell[p] == one]
            adjacent += _neighbours(numbers, [float(node[order[number]]) for number in numbers])
        return Planes(rings, tuple(sorted(adjacent)))

    @property
    def satellites(self) -> int:
        return sum(map(len, self.rings))

    def places(self) -> tuple[tuple[int, int], ...]:
        """(plane, place in its ring) of each satellite."""
        found = [(0, 0)] * self.satellites
        for plane, ring in enumerate(self.rings):
            for place, satellite in enumerate(ring):
                found[satellite] = (plane, place)
        return tuple(found)

    def ring_pairs(self) -> Pairs:
        """Neighbours in their plane: as many as satellites, of two one pair, of one none."""
        return Pairs.of(
            (
                (satellite, ring[(place + 1) % len(ring)])
                for ring in self.rings
                if len(ring) > 1
                for place, satellite in enumerate(ring)
            ),
            True,
        )

    def adjacent_pairs(self) -> Pairs:
        """Every satellite of a plane with every one of each adjacent plane."""
        return Pairs.of(
            ((a, b) for one, other in self.adjacent for a in self.rings[one] for b in self.rings[other]),
            False,
        )

    def cross_pairs(self) -> Pairs:
        """Every two satellites of different planes."""
        plane = np.array([plane for plane, _ in self.places()], dtype=np.int64)
        first, second = np.triu_indices(len(plane), 1)
        apart = plane[first] != plane[second]
        return Pairs(first[apart], second[apart], np.zeros(int(apart.sum()), dtype=np.bool_))


def _flown(satellites: Sequence[Satellite], moment: datetime) -> tuple[Floats, Floats, Floats]:
    # Positions (n, 3) and unit normals (n, 3) in TEME, and mean semi-major axes in km (n,).
    utc = moment.astimezone(UTC)
    day, fraction = jday(
        utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second + utc.microsecond / 1e6
    )
    satrecs = [satellite.satrec for satellite in satellites]
    codes, position, velocity = SatrecArray(satrecs).sgp4(np.array([day]), np.array([fraction]))
    bad = np.flatnonzero(codes[:, 0])
    if len(bad):
        name = satellites[int(bad[0])].name
        raise ValueError(f"satellite {name!r}: SGP4 fails at {utc.isoformat()}")
    normal = np.cross(position[:, 0], velocity[:, 0])
    normal /= np.sqrt(dot(normal, normal))[:, np.newaxis]
    motion = np.array([satrec.no_kozai for satrec in satrecs]) / 60.0
    return position[:, 0], normal, np.cbrt(EARTH_MU_KM3_PER_S2 / motion**2)


def _clusters(normal: Floats, axis_km: Floats, degrees: float) -> Integers:
    # Single link, breadth first: the label of each, numbered by the first member.
    cosine = math.cos(math.radians(degrees))
    label = np.full(len(normal), -1, dtype=np.int64)
    for first in range(len(normal)):
        if label[first] >= 0:
            continue
        name = int(label.max()) + 1
        label[first], reached = name, [first]
        while reached:
            one = reached.pop()
            close = (dot(normal, normal[one]) >= cosine) & (np.abs(axis_km - axis_km[one]) <= SAME_HEIGHT_KM)
            fresh = np.flatnonzero(close & (label < 0))
            label[fresh] = name
            reached += fresh.tolist()
    return label


def _shells(inclination: Floats, axis_km: Floats) -> Integers:
    # The same with directions that differ by the inclination alone.
    tilt = np.radians(inclination)
    return _clusters(
        np.stack((np.sin(tilt), np.zeros_like(tilt), np.cos(tilt)), axis=1), axis_km, SAME_SHELL_DEGREES
    )


def _ring(members: Integers, position: Floats, normal: Floats) -> tuple[int, ...]:
    # From the ascending node on; an orbit over the equator has none, and starts at the frame's x axis.
    node = np.array([-normal[1], normal[0], 0.0])
    length = math.hypot(node[0], node[1])
    node = node / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
    ahead = np.cross(normal, node)
    angle = np.arctan2(dot(position[members], ahead), dot(position[members], node)) % (2.0 * math.pi)
    return tuple(members[np.argsort(angle, kind="stable")].tolist())


def _neighbours(numbers: list[int], nodes_degrees: list[float]) -> list[tuple[int, int]]:
    # `numbers` of one shell's planes, in the order of their nodes.
    found = set()
    for place, number in enumerate(numbers):
        following = (place + 1) % len(numbers)
        gap = (nodes_degrees[following] - nodes_degrees[place]) % 360.0
        if following != place and gap <= _SEAM_DEGREES:
            found.add((min(number, numbers[following]), max(number, numbers[following])))
    return sorted(found)
