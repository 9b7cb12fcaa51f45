"""Geometry: where satellites and sites are on the turning Earth, how high and far one is from the other.

Frames and time are Skyfield's: SGP4's TEME vectors are turned to ITRS by the GMST-82 angle of UT1 (as its
`TEME_to_ITRF`, which is what its TEME and ITRS frames come to without polar motion), with the leap second and
delta T tables built into the package, so nothing is downloaded. Sites are on the WGS84 ellipsoid. Elevation
is of the straight line, with neither refraction nor light time, as Skyfield's `(satellite -
site).at(t).altaz()` without arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from sgp4.api import SGP4_ERRORS, SatrecArray
from skyfield.api import Timescale, load, wgs84
from skyfield.sgp4lib import theta_GMST1982

from orbitrain.contacts.elements import Satellite

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LIGHT_SPEED_KM_PER_S: Final = 299_792.458
_DAY_S: Final = 86_400.0

# Interpolation takes the eight nearest grid points, so the grid goes on three beyond its ends.
PADDING: Final = 3
_STENCIL: Final = 2 * PADDING + 2
_NODES: Final = np.arange(-PADDING, PADDING + 2, dtype=np.float64)
_NODE_SCALES: Final = np.array(
    [1.0 / math.prod(node - other for other in _NODES if other != node) for node in _NODES]
)


@dataclass(frozen=True, slots=True)
class Site:
    """A place on the ground (WGS84) that sees what stands at least `mask_degrees` above its horizon.

    `mask` is what stands in the way: points (azimuth, elevation) in degrees, azimuths ascending, clockwise
    from true north, linear between and from the last round to the first. What is in view is above both.
    """

    name: str
    latitude_degrees: float
    longitude_degrees: float
    altitude_m: float
    mask_degrees: float
    mask: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        where = f"site {self.name!r}"
        if not self.name:
            raise ValueError(f"{where}: name must not be empty")
        if not -90 <= self.latitude_degrees <= 90:
            raise ValueError(f"{where}: latitude_degrees must be -90 to 90, not {self.latitude_degrees}")
        if not -180 <= self.longitude_degrees <= 180:
            raise ValueError(f"{where}: longitude_degrees must be -180 to 180, not {self.longitude_degrees}")
        if not -500 <= self.altitude_m <= 100_000:
            raise ValueError(f"{where}: altitude_m must be -500 to 100000, not {self.altitude_m}")
        if not 0 <= self.mask_degrees < 90:
            raise ValueError(f"{where}: mask_degrees must be 0 to less than 90, not {self.mask_degrees}")
        last = -1.0
        for azimuth, elevation in self.mask:
            if not 0 <= azimuth < 360 or azimuth <= last:
                raise ValueError(
                    f"{where}: mask must have azimuths ascending from 0 to less than 360, "
                    f"not {azimuth}" + (f" after {last}" if last >= 0 else "")
                )
            if not 0 <= elevation < 90:
                raise ValueError(f"{where}: mask must have elevations of 0 to less than 90, not {elevation}")
            last = azimuth

    @property
    def lowest_mask_degrees(self) -> float:
        """The lowest elevation in view in any direction."""
        return max(self.mask_degrees, min((elevation for _, elevation in self.mask), default=0.0))


@dataclass(frozen=True, slots=True)
class SiteFrame:
    """A site in ITRS: `position_km` of shape (3,), and `up`, the unit normal of the ellipsoid there, (3,)."""

    position_km: Floats
    up: Floats

    @staticmethod
    def of(site: Site) -> SiteFrame:
        place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
        latitude, longitude = math.radians(site.latitude_degrees), math.radians(site.longitude_degrees)
        up = [
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        ]
        return SiteFrame(np.asarray(place.itrs_xyz.km, dtype=np.float64), np.array(up))


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar products of vectors of shape (..., 3).

    Spelled out it is three times as fast as einsum, and unlike a matrix product it starts no threads, which
    get in each other's way on a busy machine.
    """
    product: Floats = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return product


def sine_of_elevation(frame: SiteFrame, position_km: Floats) -> Floats:
    """Sine of the elevation of ITRS positions of shape (..., 3): no arcsine is needed to find a mask."""
    line = position_km - frame.position_km
    sine: Floats = dot(line, frame.up) / np.sqrt(dot(line, line))
    return sine


def range_km(frame: SiteFrame, position_km: Floats) -> Floats:
    """Straight-line distance of ITRS positions of shape (..., 3) from the site, shape (...)."""
    line = position_km - frame.position_km
    length: Floats = np.sqrt(dot(line, line))
    return length


@dataclass(frozen=True, slots=True)
class Tracks:
    """Satellites on one even time grid in ITRS, and any instant between by interpolation.

    Grid point i is `i * step_s` seconds after the epoch. `padded_km` has `PADDING` points more at both ends
    of the grid, shape (satellites, grid points + 2 * PADDING, 3); `velocity_km_per_s` (in the turning frame)
    has shape (satellites, grid points, 3).

    Between the points it is the polynomial through the eight nearest positions. With steps up to 60 s it is
    within a centimetre of SGP4 for every orbit, perigees of Molniya orbits included: that is 0.04 ns of delay
    and two microseconds of rise and set. (Not at an inclination of exactly 180 degrees in deep space, where
    SGP4 itself leaps by kilometres.) SGP4's velocities would not do: they are not quite
    the derivatives of its positions, for eccentric orbits by a metre per second.
    """

    step_s: float
    padded_km: Floats
    velocity_km_per_s: Floats

    @property
    def points(self) -> int:
        return int(self.velocity_km_per_s.shape[1])

    @property
    def satellites(self) -> int:
        return int(self.velocity_km_per_s.shape[0])

    @property
    def duration_s(self) -> float:
        return self.step_s * (self.points - 1)

    @property
    def position_km(self) -> Floats:
        """Positions on the grid, shape (satellites, grid points, 3)."""
        return self.padded_km[:, PADDING:-PADDING]

    def at(self, satellite: Integers | int, t_s: Floats) -> Floats:
        """ITRS positions in km, (n, 3), of each satellite index (n or one) at each instant `t_s`, (n,)."""
        steps = t_s / self.step_s
        left = np.clip(steps.astype(np.int64), 0, self.points - 2)
        weights = _weights(steps - left)
        # Rows of 24 numbers, each 3 numbers on from the one before: the eight positions around an instant
        # lie side by side, and one row is copied at once.
        flat = self.padded_km.reshape(-1)
        rows = np.lib.stride_tricks.sliding_window_view(flat, 3 * _STENCIL)[::3]
        eight = rows[satellite * np.int64(self.padded_km.shape[1]) + left].reshape(-1, _STENCIL, 3)
        between: Floats = np.matmul(weights[:, np.newaxis, :], eight)[:, 0]
        return between


def _weights(u: Floats) -> Floats:
    # Lagrange's polynomials of the nodes -3 to 4 at u in 0 to 1, shape (n, 8).
    distance = u[:, np.newaxis] - _NODES
    before, after = np.ones_like(distance), np.ones_like(distance)
    np.cumprod(distance[:, :-1], axis=1, out=before[:, 1:])
    np.cumprod(distance[:, :0:-1], axis=1, out=after[:, -2::-1])
    weights: Floats = before * after * _NODE_SCALES
    return weights


def tracks(
    satellites: Sequence[Satellite], epoch: datetime, duration_s: float, longest_step_s: float
) -> Tracks:
    """Propagate all satellites over one shared grid from the epoch to exactly `duration_s` later.

    The step is the largest even one not above `longest_step_s`. ValueError when SGP4 gives up on a satellite.
    """
    flown, errors = propagated(satellites, epoch, duration_s, longest_step_s)
    if errors:
        raise ValueError(errors[min(errors)])
    return flown


def propagated(
    satellites: Sequence[Satellite], epoch: datetime, duration_s: float, longest_step_s: float
) -> tuple[Tracks, dict[int, str]]:
    """As `tracks`, with one line for each satellite (its index) that SGP4 gives up on.

    The tracks of such a satellite stay at the Earth's centre, where nothing sees them; they are never NaN.
    """
    steps = max(2, math.ceil(duration_s / longest_step_s))  # two, so that every grid has an inner point
    step_s = duration_s / steps
    utc = epoch.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    since_s = np.arange(-PADDING, steps + 1 + PADDING) * step_s
    seconds = (utc - midnight) / timedelta(seconds=1) + since_s
    grid = _timescale().utc(utc.year, utc.month, utc.day, 0, 0, seconds)
    # The same split of the UTC day that Skyfield's EarthSatellite hands to SGP4.
    utc_fraction = grid.tai_fraction - grid._leap_seconds() / _DAY_S
    codes, position_km, velocity = SatrecArray([s.satrec for s in satellites]).sgp4(grid.whole, utc_fraction)
    finite = np.isfinite(position_km.sum(axis=(1, 2))) & np.isfinite(velocity.sum(axis=(1, 2)))
    errors: dict[int, str] = {}
    for index in np.flatnonzero(codes.any(axis=1) | ~finite).tolist():
        point = int(np.argmax((codes[index] > 0) | ~np.isfinite(position_km[index].sum(axis=1))))
        text = SGP4_ERRORS.get(int(codes[index, point]), "it yields no number")
        errors[index] = (
            f"satellite {satellites[index].name!r}: SGP4 fails {max(0.0, since_s[point]):.0f} s in: {text}"
        )
        position_km[index], velocity[index] = 0.0, 0.0
    angle, turn_per_day = theta_GMST1982(grid.whole, grid.ut1_fraction)
    for index in range(len(satellites)):  # one at a time: it stays in the cache, and in place
        _turn(position_km[index], velocity[index], angle, turn_per_day / _DAY_S)
    return Tracks(step_s, position_km, np.ascontiguousarray(velocity[:, PADDING:-PADDING])), errors


def _turn(position_km: Floats, velocity_km_per_s: Floats, angle: Floats, rate_per_s: Floats) -> None:
    # TEME to ITRS in place: about the axis by the GMST angle; the velocity less that of the turning frame.
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = position_km[:, 0].copy(), position_km[:, 1].copy()
    position_km[:, 0] = cosine * x + sine * y
    position_km[:, 1] = cosine * y - sine * x
    x, y = velocity_km_per_s[:, 0].copy(), velocity_km_per_s[:, 1].copy()
    velocity_km_per_s[:, 0] = cosine * x + sine * y + rate_per_s * position_km[:, 1]
    velocity_km_per_s[:, 1] = cosine * y - sine * x - rate_per_s * position_km[:, 0]


@cache
def _timescale() -> Timescale:
    return load.timescale(builtin=True)
