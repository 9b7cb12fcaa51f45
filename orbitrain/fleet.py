"""The satellites of a scenario: of its shells, of its element files, and as they truly fly.

Errors are ValueErrors of one line; what `skip_bad` leaves out is told.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Final

import numpy as np
from sgp4.api import SGP4_ERRORS, SatrecArray

from orbitrain.contacts.element_files import as_nodes, read_elements
from orbitrain.contacts.elements import (
    EARTH_RADIUS_KM,
    FIRST_CATALOGUE_NUMBER,
    Satellite,
    Shell,
    satellites_of,
)
from orbitrain.contacts.orbits import orbit_of, satellite_of
from orbitrain.contacts.validity import outside_validity
from orbitrain.scenario import Scenario
from orbitrain.scenario.file import Truth
from orbitrain.scenario.space import Constellation

_MINUTES_A_DAY: Final = 1440.0

CHECK_S: Final = 6 * 3600.0
"""SGP4 is asked this often whether it still makes something of elements: a decay is known by its end."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Satellites under their names as nodes, and a line for each that was left out."""

    satellites: tuple[Satellite, ...]
    left_out: tuple[str, ...] = ()


def fleet_of(table: Constellation, data: bytes, epoch: datetime, duration: timedelta) -> Fleet:
    """The satellites of an element file that can be used from `epoch` over `duration`."""
    assert table.elements is not None
    file = read_elements(data, table.elements, skip_bad=table.skip_bad)
    satellites = as_nodes(file.satellites)
    if table.only is not None:
        known = {satellite.name: satellite for satellite in satellites}
        for name in table.only:
            if name not in known:
                raise ValueError(f"{table.elements}: only: {name!r} is none of its {len(known)} satellites")
        satellites = tuple(known[name] for name in dict.fromkeys(table.only))
    end = epoch + duration
    errors = outside_validity(satellites, epoch, end)
    errors |= {index: line for index, line in _failing(satellites, epoch, end).items() if index not in errors}
    if errors and not table.skip_bad:
        raise ValueError(f"{table.elements}: {errors[min(errors)]}")
    left = tuple(one for index, one in enumerate(satellites) if index not in errors)
    told = (*file.errors, *(f"{table.elements}: {errors[index]}" for index in sorted(errors)))
    if not left:
        raise ValueError(f"{told[0]} (and nothing is left of {len(told)})")
    return Fleet(left, told)


def _failing(satellites: Sequence[Satellite], epoch: datetime, end: datetime) -> dict[int, str]:
    if not satellites:
        return {}
    instants = np.linspace(0.0, 1.0, max(2, math.ceil((end - epoch) / timedelta(seconds=CHECK_S)) + 1))
    days = (epoch - satellites[0].epoch) / timedelta(days=1) + instants * ((end - epoch) / timedelta(days=1))
    first = satellites[0].satrec
    whole = np.full(len(days), first.jdsatepoch)
    codes, position_km, _ = SatrecArray([one.satrec for one in satellites]).sgp4(
        whole, first.jdsatepochF + days
    )
    errors = {}
    failing = (codes > 0).any(axis=1) | ~np.isfinite(position_km).all(axis=(1, 2))
    for index in np.flatnonzero(failing).tolist():
        code = int(codes[index].max())
        text = SGP4_ERRORS.get(code, "it yields no number")
        errors[index] = f"satellite {satellites[index].name!r}: SGP4 fails within the window: {text}"
    return errors


def satellites(scenario: Scenario) -> tuple[Satellite, ...]:
    """The scenario's satellites as its nodes believe them to fly, in the order of its nodes."""
    return _members(scenario, scenario.constellation)


def true_satellites(scenario: Scenario, seed: int) -> tuple[Satellite, ...]:
    """The satellites as they fly, in the same order; `seed` is that of the run."""
    believed, truth = satellites(scenario), scenario.truth
    if truth is None:
        return believed
    fly = believed
    if truth.constellation is not None:
        by_name = {one.name: one for one in _members(scenario, truth.constellation)}
        fly = tuple(by_name[one.name] for one in believed)
    return tuple(perturbed(one, truth, seed if truth.seed is None else truth.seed) for one in fly)


def perturbed(satellite: Satellite, truth: Truth, seed: int) -> Satellite:
    """The satellite with its own normal errors along the track, of mean motion and of drag.

    Each is drawn from (seed, satellite, kind of error), so that another satellite changes nothing. Along the
    track, x km are a mean anomaly of x over the semi-major axis; x km a day a mean motion of that a day.
    """
    if not (truth.along_track_km or truth.drift_km_per_day or truth.drag_bstar):
        return satellite
    orbit, axis_km = orbit_of(satellite), satellite.satrec.a * EARTH_RADIUS_KM
    along_km = truth.along_track_km * _normal(seed, satellite.name, "along_track")
    drift_km = truth.drift_km_per_day * _normal(seed, satellite.name, "drift")
    drag = truth.drag_bstar * _normal(seed, satellite.name, "drag")
    disturbed = replace(
        orbit,
        mean_anomaly_radians=(orbit.mean_anomaly_radians + along_km / axis_km) % (2 * math.pi),
        mean_motion_radians_per_minute=orbit.mean_motion_radians_per_minute
        + drift_km / axis_km / _MINUTES_A_DAY,
        bstar=orbit.bstar + drag,
    )
    return replace(satellite_of(satellite.name, disturbed), source=satellite.source)


def _normal(seed: int, name: str, what: str) -> float:
    digest = hashlib.sha256(f"{seed}/{name}/{what}".encode()).digest()
    # Never 0 or 1, where the inverse has no value.
    return NormalDist().inv_cdf((int.from_bytes(digest[:8], "big") + 0.5) / 2**64)


def shell_of(table: Constellation) -> Shell:
    """The Walker shell of a table that is one."""
    values = table.values()
    return Shell(**values)


def _members(scenario: Scenario, tables: Sequence[Constellation]) -> tuple[Satellite, ...]:
    found: list[Satellite] = []
    for table in tables:
        if table.elements is None:
            found += satellites_of(shell_of(table), scenario.epoch, FIRST_CATALOGUE_NUMBER + len(found))
        else:
            data = scenario.element_file(table.elements)
            duration = timedelta(seconds=scenario.duration_s)
            found += fleet_of(table, data, scenario.epoch, duration).satellites
    return tuple(found)
