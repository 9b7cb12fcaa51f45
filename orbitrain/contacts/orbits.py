"""A plan's orbits (`contacts.node.Orbit`) as SGP4 satellites, and back.

Exact where the satellite was made by `sgp4init`, as shells and OMM records are: it flies the same positions,
bit for bit. A TLE's too, but for orbits of 225 minutes and more: there `Satrec.twoline2rv` starts SGP4's
deep-space part from an epoch rounded to some microseconds, which no other way in repeats, and positions may
be millimetres apart.
"""

from __future__ import annotations

from typing import Final

from sgp4.api import WGS72, Satrec

from orbitrain.contacts.elements import EARTH_RADIUS_KM, Satellite
from orbitrain.contacts.node import Orbit

_JULIAN_1950: Final = 2_433_281.5  # 1949-12-31 00:00 UTC, from which sgp4init counts


def orbit_of(satellite: Satellite) -> Orbit:
    """The mean elements that the satellite's SGP4 was given.

    ValueError for other constants than WGS72, or the mode of operation that imitates old software.
    """
    satrec = satellite.satrec
    if satrec.radiusearthkm != EARTH_RADIUS_KM or satrec.operationmode != "i":
        raise ValueError(f"satellite {satellite.name!r}: must be of SGP4 with WGS72 in its improved mode")
    return Orbit(
        # In this order nothing is lost: the whole days cancel exactly.
        epoch_days=(satrec.jdsatepoch - _JULIAN_1950) + satrec.jdsatepochF,
        bstar=satrec.bstar,
        eccentricity=satrec.ecco,
        argument_of_perigee_radians=satrec.argpo,
        inclination_radians=satrec.inclo,
        mean_anomaly_radians=satrec.mo,
        mean_motion_radians_per_minute=satrec.no_kozai,
        ascending_node_radians=satrec.nodeo,
    )


def satellite_of(name: str, orbit: Orbit) -> Satellite:
    """The satellite on that orbit.

    Its source is `walker`, as a plan does not keep whose elements they were: their age tells nothing here.
    """
    satrec = Satrec()
    satrec.sgp4init(
        WGS72,
        "i",
        0,  # the catalogue number, a label
        orbit.epoch_days,
        orbit.bstar,
        0.0,  # ndot, unused by SGP4
        0.0,  # nddot, unused by SGP4
        orbit.eccentricity,
        orbit.argument_of_perigee_radians,
        orbit.inclination_radians,
        orbit.mean_anomaly_radians,
        orbit.mean_motion_radians_per_minute,
        orbit.ascending_node_radians,
    )
    return Satellite(name, satrec)
