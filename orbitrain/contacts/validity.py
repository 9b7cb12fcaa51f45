"""How far elements can be trusted: their age, what it costs in time at a contact's edges, and for how long.

The model. Published elements are right to about 1 km at their epoch (10 km in deep space, with periods of
225 minutes and more), and SGP4 drifts away from the real satellite by 1 to 3 km a day, nearly all of it along
the track, so that a satellite comes early or late on an orbit that is otherwise right. We take 3 km a day,
before and after the epoch alike. At 7.6 km/s that is 0.13 s at the epoch and 0.4 s more for each day.

Sources: D. A. Vallado, P. Crawford, R. Hujsak, T. S. Kelso, Revisiting Spacetrack Report #3, AIAA 2006-6753
(the usual reference of 1 km at the epoch and 1 to 3 km a day); C. Levit, W. Marshall, Improved orbit
predictions using two-line elements, Advances in Space Research 47 (2011) 1107 (about 1 km a day). Manoeuvres
and geomagnetic storms make errors that no age tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, EARTH_RADIUS_KM, Satellite

AT_EPOCH_KM: Final = 1.0
DEEP_SPACE_AT_EPOCH_KM: Final = 10.0
DRIFT_KM_PER_DAY: Final = 3.0

# Then the model is off by 90 km, or 12 s: no longer small against a pass, nor is its straight line any use
# (drag makes the error grow with the square of the age).
LONGEST_AGE_DAYS: Final = 30.0


def age_days(satellite: Satellite, at: datetime) -> float:
    """Days from the elements' epoch to `at` (aware), negative before it."""
    return (at - satellite.epoch) / timedelta(days=1)


def along_track_error_km(age_days: float, *, deep_space: bool = False) -> float:
    """How far along its track a satellite may be from where elements of that age put it."""
    return (DEEP_SPACE_AT_EPOCH_KM if deep_space else AT_EPOCH_KM) + DRIFT_KM_PER_DAY * abs(age_days)


def edge_margin_s(satellite: Satellite, at: datetime) -> float:
    """How much earlier or later than computed a contact of the satellite at `at` may begin or end.

    That is the along-track error over the mean speed of the orbit. None for elements of our own.
    """
    if satellite.source == "walker":
        return 0.0
    satrec = satellite.satrec
    # `a` is in Earth radii; method d is SGP4's deep-space part.
    speed_km_per_s = math.sqrt(EARTH_MU_KM3_PER_S2 / (satrec.a * EARTH_RADIUS_KM))
    error_km = along_track_error_km(age_days(satellite, at), deep_space=satrec.method == "d")
    return error_km / speed_km_per_s


def confidence(contact_s: float, margin_s: float) -> float:
    """The part (0 to 1) of a contact of that length that is left when both its edges come in by the margin.

    At any instant of the contact chosen blindly, that is how surely the satellite is in view, as far as its
    elements' age is concerned: near 1 for long contacts and fresh elements, 0 for a pass that may be over
    before it was to begin.
    """
    if contact_s <= 0:
        return 0.0
    return max(0.0, 1.0 - 2.0 * margin_s / contact_s)


def outside_validity(satellites: Sequence[Satellite], start: datetime, end: datetime) -> dict[int, str]:
    """One line for each satellite (its index) whose published elements are too far from a part of the window.

    Elements of our own (`walker`) are never too old: they define the orbit.
    """
    errors: dict[int, str] = {}
    for index, satellite in enumerate(satellites):
        if satellite.source == "walker":
            continue
        oldest = max((age_days(satellite, start), age_days(satellite, end)), key=abs)
        if abs(oldest) > LONGEST_AGE_DAYS:
            errors[index] = (
                f"satellite {satellite.name!r}: epoch {satellite.epoch:%Y-%m-%dT%H:%M:%SZ}: must be within "
                f"{LONGEST_AGE_DAYS:g} days of the whole window, not {abs(oldest):.1f} days "
                f"{'before its end' if oldest > 0 else 'after its start'}"
            )
    return errors
