"""A plan's nodes: their names and kinds, and where they are, for whoever draws a plan or watches a run.

Nothing in the protocols reads places and orbits. Standard library only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from orbitrain.contacts.contact import PlanError, choices

NODE_KINDS: Final = ("satellite", "ground", "device")

NodeKind = Literal["satellite", "ground", "device"]

NAME = re.compile(r"[!-~]{1,64}")

_LOWEST_ALTITUDE_M: Final = -500.0
_HIGHEST_ALTITUDE_M: Final = 100_000.0  # above stands nothing that is not in orbit
_LAST_EPOCH_DAYS: Final = 100_000.0  # in 2223; SGP4's time scale ends long before
_FASTEST_RADIANS_PER_MINUTE: Final = 0.1  # 23 revolutions a day; on the Earth's surface it would be 17


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station or device stands, on the WGS84 ellipsoid; east is positive."""

    latitude_degrees: float
    longitude_degrees: float
    altitude_m: float


@dataclass(frozen=True, slots=True)
class Orbit:
    """SGP4's own mean elements (TEME, WGS72), the very numbers that `sgp4init` takes; not rounded.

    `epoch_days` counts from 1949-12-31 00:00 UTC; `bstar` is in inverse Earth radii; the mean motion is
    Kozai's, as in published elements.
    """

    epoch_days: float
    bstar: float
    eccentricity: float
    argument_of_perigee_radians: float
    inclination_radians: float
    mean_anomaly_radians: float
    mean_motion_radians_per_minute: float
    ascending_node_radians: float


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node of the scenario; `kind` is satellite, ground or device.

    A satellite may have an `orbit`, the others a `place`.
    """

    name: str
    kind: NodeKind
    place: Place | None = None
    orbit: Orbit | None = None


def check_node(where: str, node: PlanNode) -> None:
    """Hold one node to the rules of a plan; PlanError begins with `where`."""
    if not NAME.fullmatch(node.name):
        raise PlanError(
            f"{where}.name: must be 1 to 64 printable ASCII characters without spaces, not {node.name!r}"
        )
    if node.kind not in NODE_KINDS:
        raise PlanError(f"{where}.kind: must be {choices(NODE_KINDS)}, not {node.kind!r}")
    if node.place is not None:
        if node.kind == "satellite":
            raise PlanError(f"{where}.place: must not be there for a satellite, which has an orbit")
        _check_place(f"{where}.place", node.place)
    if node.orbit is not None:
        if node.kind != "satellite":
            raise PlanError(f"{where}.orbit: must not be there for a {node.kind}, which has a place")
        _check_orbit(f"{where}.orbit", node.orbit)


def _check_place(where: str, place: Place) -> None:
    _check(f"{where}.latitude_degrees", place.latitude_degrees, -90, 90)
    _check(f"{where}.longitude_degrees", place.longitude_degrees, -180, 180)
    _check(f"{where}.altitude_m", place.altitude_m, _LOWEST_ALTITUDE_M, _HIGHEST_ALTITUDE_M)


def _check_orbit(where: str, orbit: Orbit) -> None:
    _check(f"{where}.epoch_days", orbit.epoch_days, 0, _LAST_EPOCH_DAYS)
    if not math.isfinite(orbit.bstar):
        raise PlanError(f"{where}.bstar: must be a finite number, not {orbit.bstar}")
    if not 0 <= orbit.eccentricity < 1:
        raise PlanError(f"{where}.eccentricity: must be 0 to less than 1, not {orbit.eccentricity}")
    # Published elements may have their angles from -360 to 360 degrees.
    _check(f"{where}.inclination_radians", orbit.inclination_radians, 0, math.pi)
    for key in ("argument_of_perigee_radians", "mean_anomaly_radians", "ascending_node_radians"):
        _check(f"{where}.{key}", getattr(orbit, key), -2 * math.pi, 2 * math.pi)
    motion = orbit.mean_motion_radians_per_minute
    if not 0 < motion <= _FASTEST_RADIANS_PER_MINUTE:
        raise PlanError(
            f"{where}.mean_motion_radians_per_minute: must be above 0 and at most "
            f"{_FASTEST_RADIANS_PER_MINUTE}, not {motion}"
        )


def _check(where: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # nor is nan
        raise PlanError(f"{where}: must be {least:.17g} to {most:.17g}, not {value}")
