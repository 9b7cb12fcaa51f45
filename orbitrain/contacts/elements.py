"""Orbital elements as SGP4 satellites: shells of our own on circular orbits (Walker patterns).

Published elements come from files (`element_files`).

A shell of T satellites in P planes with phasing F is written T/P/F at an inclination (J. G. Walker, 1984):

- the planes' ascending nodes are spread evenly over 360 degrees (`delta`) or 180 degrees (`star`);
- a plane's T/P satellites are spread evenly over its 360 degrees of anomaly;
- the satellites of the next plane are F * 360 / T degrees further on.

A shell's elements are mean elements in the TEME frame at the scenario's epoch, propagated by SGP4 with WGS72
constants. Its satellites and catalogue numbers are fictional; they are no prediction of any real spacecraft.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from sgp4.api import WGS72, Satrec

# WGS72, the constants SGP4 was fitted with: these, not WGS84, belong to its mean elements.
EARTH_RADIUS_KM: Final = 6378.135
EARTH_MU_KM3_PER_S2: Final = 398600.8
EARTH_J2: Final = 0.001082616

# Below, SGP4's drag and short-period terms (and any satellite) are in trouble; above, its lunisolar terms
# rule and the pass finder's step is no longer chosen from experience.
LOWEST_ALTITUDE_KM: Final = 160.0
HIGHEST_ALTITUDE_KM: Final = 40_000.0
LARGEST_SHELL: Final = 50_000

# The last letters of the Alpha-5 scheme (270000 is T0000), far from any number in use.
FIRST_CATALOGUE_NUMBER: Final = 270_000
LAST_CATALOGUE_NUMBER: Final = 339_999

_SGP4_EPOCH = datetime(1949, 12, 31, tzinfo=UTC)
_NOON_2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_JULIAN_2000: Final = 2_451_545.0

_CODE = re.compile(r"([DS]):(\d+(?:\.\d+)?):(\d+(?:\.\d+)?):(\d{1,9})/(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Satellite:
    """A named satellite and its SGP4 state.

    `source` says whose elements they are: `walker` elements are ours and true by definition, the others were
    fitted to a real spacecraft at `epoch` and are the worse the older they are (`validity`).
    """

    name: str
    satrec: Satrec
    source: Literal["walker", "omm", "tle"] = "walker"
    catalogue_number: int | None = None

    @property
    def epoch(self) -> datetime:
        """The epoch of the elements, in UTC."""
        days = timedelta(days=self.satrec.jdsatepoch - _JULIAN_2000)
        return _NOON_2000 + days + timedelta(days=self.satrec.jdsatepochF)


@dataclass(frozen=True, slots=True)
class Shell:
    """A Walker pattern of `satellites` in `planes` at one altitude and inclination.

    `altitude_km` is of the mean semi-major axis above 6378.135 km. `raan_degrees` and `anomaly_degrees`
    belong to satellite 0: its ascending node in TEME at the epoch and its angle from there. ValueError for
    what no shell can be.
    """

    name: str
    altitude_km: float
    inclination_degrees: float
    satellites: int
    planes: int = 1
    phasing: int = 0
    pattern: Literal["delta", "star"] = "delta"
    raan_degrees: float = 0.0
    anomaly_degrees: float = 0.0

    @staticmethod
    def from_code(code: str, name: str = "sat") -> Shell:
        """The shell of a compact Walker code, PATTERN:ALTITUDE:INCLINATION:T/P/F as in D:550:53.0:72/24/1.

        The pattern is D (delta) or S (star), the altitude in km, the inclination in degrees. ValueError for
        what is no code, or no shell.
        """
        match = _CODE.fullmatch(code)
        if match is None:
            raise ValueError(
                f"shell {name!r}: code must be D or S:altitude km:inclination degrees:T/P/F, "
                f"such as D:550:53.0:72/24/1, not {code!r}"
            )
        pattern, altitude, inclination, satellites, planes, phasing = match.groups()
        return Shell(
            name,
            float(altitude),
            float(inclination),
            int(satellites),
            int(planes),
            int(phasing),
            "delta" if pattern == "D" else "star",
        )

    def __post_init__(self) -> None:
        where = f"shell {self.name!r}"
        if not self.name:
            raise ValueError(f"{where}: name must not be empty")
        if not LOWEST_ALTITUDE_KM <= self.altitude_km <= HIGHEST_ALTITUDE_KM:
            raise ValueError(
                f"{where}: altitude_km must be {LOWEST_ALTITUDE_KM:g} to {HIGHEST_ALTITUDE_KM:g}, "
                f"not {self.altitude_km}"
            )
        if not 0 <= self.inclination_degrees <= 180:
            raise ValueError(f"{where}: inclination_degrees must be 0 to 180, not {self.inclination_degrees}")
        if not 1 <= self.satellites <= LARGEST_SHELL:
            raise ValueError(f"{where}: satellites must be 1 to {LARGEST_SHELL}, not {self.satellites}")
        if self.planes < 1 or self.satellites % self.planes:
            raise ValueError(f"{where}: planes must divide satellites ({self.satellites}), not {self.planes}")
        if not 0 <= self.phasing < self.planes:
            raise ValueError(
                f"{where}: phasing must be 0 to planes - 1 ({self.planes - 1}), not {self.phasing}"
            )
        if self.pattern not in ("delta", "star"):
            raise ValueError(f"{where}: pattern must be delta or star, not {self.pattern!r}")
        for key, angle in (("raan_degrees", self.raan_degrees), ("anomaly_degrees", self.anomaly_degrees)):
            if not math.isfinite(angle):
                raise ValueError(f"{where}: {key} must be a finite number, not {angle}")


def satellites_of(
    shell: Shell, epoch: datetime, first_number: int = FIRST_CATALOGUE_NUMBER
) -> tuple[Satellite, ...]:
    """The shell's satellites NAME-0, NAME-1, ..., plane after plane, with elements at `epoch`.

    `first_number` is the catalogue number of NAME-0. ValueError for an epoch that is not aware or numbers
    that run out (Alpha-5 ends at 339999).
    """
    if epoch.utcoffset() is None:
        raise ValueError(f"epoch: must be a datetime with a time zone, not {epoch.isoformat()}")
    if not 0 <= first_number <= LAST_CATALOGUE_NUMBER - shell.satellites + 1:
        raise ValueError(
            f"first_number: must leave room for {shell.satellites} numbers up to {LAST_CATALOGUE_NUMBER}"
        )
    epoch_days = (epoch - _SGP4_EPOCH) / timedelta(days=1)
    inclination = math.radians(shell.inclination_degrees)
    motion = kozai_mean_motion(EARTH_RADIUS_KM + shell.altitude_km, inclination)
    per_plane = shell.satellites // shell.planes
    spread_degrees = 360.0 if shell.pattern == "delta" else 180.0
    satellites = []
    for index in range(shell.satellites):
        plane, place = divmod(index, per_plane)
        raan_degrees = shell.raan_degrees + plane * spread_degrees / shell.planes
        anomaly_degrees = (
            shell.anomaly_degrees
            + place * 360.0 / per_plane
            + plane * shell.phasing * 360.0 / shell.satellites
        )
        satrec = Satrec()
        satrec.sgp4init(
            WGS72,
            "i",  # improved mode, as Skyfield and the sgp4 package read elements
            first_number + index,
            epoch_days,
            0.0,  # bstar: no drag, a synthetic shell keeps its altitude
            0.0,  # ndot, unused by SGP4
            0.0,  # nddot, unused by SGP4
            0.0,  # eccentricity
            0.0,  # argument of perigee
            inclination,
            math.radians(anomaly_degrees % 360.0),
            motion,
            math.radians(raan_degrees % 360.0),
        )
        satellites.append(Satellite(f"{shell.name}-{index}", satrec, "walker", first_number + index))
    return tuple(satellites)


def kozai_mean_motion(semi_major_axis_km: float, inclination_radians: float) -> float:
    """Mean motion (radians per minute, as in element sets) of a circle of that mean semi-major axis.

    SGP4 takes Kozai's mean motion and recovers Brouwer's, whose Kepler axis is the mean semi-major axis
    (Hoots and Roehrich, Spacetrack Report 3, section 6). This is the inverse: a fixed point, as the
    correction is of order J2.
    """
    minutes: float = (
        math.sqrt(EARTH_RADIUS_KM**3 / EARTH_MU_KM3_PER_S2) / 60.0
    )  # per radian at the Earth's radius
    axis = semi_major_axis_km / EARTH_RADIUS_KM
    brouwer = 1.0 / (minutes * axis**1.5)
    d = 0.75 * EARTH_J2 * (3.0 * math.cos(inclination_radians) ** 2 - 1.0)
    kozai: float = brouwer
    for _ in range(10):  # each step gains about three digits
        first_axis = (1.0 / (minutes * kozai)) ** (2.0 / 3.0)
        first = d / first_axis**2
        second_axis = first_axis * (1.0 - first * first - first * (1.0 / 3.0 + 134.0 * first * first / 81.0))
        kozai = brouwer * (1.0 + d / second_axis**2)
    return kozai
