"""Satellites on orbits by hand and in shells, all of one epoch; and where above the Earth a point is."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sgp4.api import WGS72, Satrec

from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, Satellite, Shell, satellites_of
from orbitrain.contacts.isl import IslRules
from orbitrain.contacts.planes import Pairs, Planes
from orbitrain.contacts.sight import EQUATOR_KM, FLATTENING

EPOCH = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)


def orbit(
    name: str,
    axis_km: float,
    eccentricity: float,
    inclination: float,
    raan: float = 0.0,
    perigee: float = 0.0,
    anomaly: float = 0.0,
    bstar: float = 0.0,
) -> Satellite:
    """A satellite on an ellipse of that mean axis (Kozai's, which is near enough), angles in degrees."""
    satrec = Satrec()
    satrec.sgp4init(
        WGS72,
        "i",
        270_000,
        (EPOCH - datetime(1949, 12, 31, tzinfo=UTC)) / timedelta(days=1),
        bstar,
        0.0,
        0.0,
        eccentricity,
        math.radians(perigee),
        math.radians(inclination),
        math.radians(anomaly),
        math.sqrt(EARTH_MU_KM3_PER_S2 / axis_km**3) * 60.0,
        math.radians(raan),
    )
    return Satellite(name, satrec)


def geodetic(position: Any) -> tuple[Any, Any]:
    """Latitude in degrees and height in km, by iteration."""
    square = FLATTENING * (2.0 - FLATTENING)
    out = np.hypot(position[:, 0], position[:, 1])
    latitude = np.arctan2(position[:, 2], out * (1.0 - square))
    for _ in range(8):
        normal = EQUATOR_KM / np.sqrt(1.0 - square * np.sin(latitude) ** 2)
        latitude = np.arctan2(position[:, 2] + square * normal * np.sin(latitude), out)
    normal = EQUATOR_KM / np.sqrt(1.0 - square * np.sin(latitude) ** 2)
    height = out * np.cos(latitude) + position[:, 2] * np.sin(latitude) - EQUATOR_KM**2 / normal
    return np.degrees(latitude), height


def everything(planes: Planes) -> Pairs:
    return planes.ring_pairs().joined(planes.cross_pairs())


def walker(*shells: Shell) -> tuple[tuple[Satellite, ...], Planes]:
    satellites: list[Satellite] = []
    for shell in shells:
        satellites += satellites_of(shell, EPOCH, 270_000 + len(satellites))
    return tuple(satellites), Planes.of_shells(shells)


ALL_RULES = IslRules(80.0, 4_500.0, 4.0, 0.25, 60.0)

ECCENTRIC = (
    orbit("molniya", 26_560.0, 0.74, 63.4, 100.0, 270.0, 340.0),
    orbit("molniya-low-perigee", 26_560.0, 0.75, 63.4, 250.0, 270.0, 20.0),
    orbit("leo-eccentric", 7300.0, 0.08, 63.0, 33.0, 270.0, 10.0),
    orbit("leo-eccentric-against", 7400.0, 0.09, 117.0, 33.0, 90.0, 200.0),
    orbit("transfer", 24_400.0, 0.73, 7.0, 0.0, 178.0, 350.0),
)
LOW_AND_HIGH = (
    orbit("leo", 6928.0, 0.0005, 53.0, 10.0, 40.0, 5.0),
    orbit("polar", 6978.0, 0.001, 97.8, 300.0, 0.0, 50.0),
    orbit("low", 6540.0, 0.0, 40.0, 200.0, 0.0, 50.0),
    orbit("o3b", 14_440.0, 0.0, 0.1),
    orbit("gps", 26_560.0, 0.01, 55.0, 20.0, 30.0, 60.0),
    orbit("gps-other-plane", 26_560.0, 0.02, 55.0, 140.0, 200.0, 10.0),
    orbit("geosynchronous", 42_164.0, 0.02, 12.0, 0.0, 90.0, 200.0),
)
