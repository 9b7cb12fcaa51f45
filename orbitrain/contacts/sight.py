"""Sight: what a link between two satellites asks of where they are and how they move, as smooth functions.

Each is positive where the link may be, of any unit, and depends on nothing but the two satellites' motion in
ITRS (or one's own, for what is asked of each). `isl` finds where all of them are positive.

- Clearance: the straight line stays `clearance_km` above the WGS84 ellipsoid. What is that high is taken for
  the ellipsoid with both axes longer by it, which is nowhere off by more than 1.2e-5 of the clearance (a
  metre at 80 km). Stretched along its axis to a sphere of radius R, straight lines stay straight; a line
  touches the sphere when it is as long as both tangents, sqrt(r1^2 - R^2) + sqrt(r2^2 - R^2), and clears it
  when it is shorter.
- Range rate: the rate of change of the distance, either way (Doppler is proportional to it).
- Angular rate: how fast the line of sight turns in the local frame of each satellite, which follows its
  position about the orbit normal (so that nadir and normal stand still in it): that is what a pointing
  mechanism follows on a spacecraft that keeps its face to the Earth. With u the direction, r and v the
  relative position and velocity in ITRS and w the local frame's rate of turning in ITRS, it is
  |(r x v) / r^2 - w + u (u . w)|. The normal itself is taken to stand still; J2 turns it by 1e-4 degrees/s
  at most.
- Latitude: geodetic, of the satellite's own position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.geometry import Floats, dot
from orbitrain.contacts.motion import Motion

# WGS84 (NIMA TR8350.2): semi-major axis, flattening.
EQUATOR_KM: Final = 6378.137
FLATTENING: Final = 1.0 / 298.257223563
POLE_KM: Final = EQUATOR_KM * (1.0 - FLATTENING)
_ECCENTRICITY_SQUARED: Final = FLATTENING * (2.0 - FLATTENING)
# Of the ITRS frame of `geometry`: the GMST-82 polynomial's rate, radians of sidereal time in a UT1 second
# (Aoki et al. 1982). UT1 seconds are SI seconds to 1e-7.
TURN_PER_S: Final = 7.292115855e-5

PairRule = Callable[[Motion, Motion], Floats]
OwnRule = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Shield:
    """The ellipsoid that lines of sight clear, stretched along its axis to a sphere of `radius_km`."""

    radius_km: float
    stretch: float

    @staticmethod
    def above(clearance_km: float) -> Shield:
        return Shield(EQUATOR_KM + clearance_km, (EQUATOR_KM + clearance_km) / (POLE_KM + clearance_km))

    def tangent_km(self, position_km: Floats) -> Floats:
        """Length of the tangent from positions (..., 3), stretched; 0 from below the surface."""
        square = _square(position_km, self.stretch) - self.radius_km**2
        length: Floats = np.sqrt(np.maximum(square, 0.0))
        return length

    def clear(self, one: Motion, other: Motion) -> Floats:
        """Positive where the line clears the surface, given that both ends do; in square kilometres."""
        longest = self.tangent_km(one.position_km) + self.tangent_km(other.position_km)
        return longest**2 - _square(other.position_km - one.position_km, self.stretch)

    def over(self, position_km: Floats) -> Floats:
        """How high (stretched) km positions are above the surface."""
        height: Floats = np.sqrt(_square(position_km, self.stretch)) - self.radius_km
        return height


def within_range(longest_km: float) -> PairRule:
    def value(one: Motion, other: Motion) -> Floats:
        line = other.position_km - one.position_km
        return longest_km**2 - dot(line, line)

    return value


def within_range_rate(limit_km_per_s: float) -> PairRule:
    def value(one: Motion, other: Motion) -> Floats:
        line = other.position_km - one.position_km
        along = dot(line, other.velocity_km_per_s - one.velocity_km_per_s)
        return limit_km_per_s**2 * dot(line, line) - along**2

    return value


def within_angular_rate(limit_per_s: float, second: bool) -> PairRule:
    """In the local frame of the first satellite, or the second; the limit in radians per second."""

    def value(one: Motion, other: Motion) -> Floats:
        line = other.position_km - one.position_km
        velocity = other.velocity_km_per_s - one.velocity_km_per_s
        frame = local_turn(other if second else one)
        square = dot(line, line)
        turned = (
            cross(line, velocity) - frame * square[..., np.newaxis] + line * dot(line, frame)[..., np.newaxis]
        )
        return limit_per_s * square - np.sqrt(dot(turned, turned))

    return value


def within_latitude(cut_degrees: float) -> OwnRule:
    """Positive at geodetic latitudes below the cut, north and south; in km of distance from it."""
    sine, cosine = math.sin(math.radians(cut_degrees)), math.cos(math.radians(cut_degrees))
    # All plumb lines of a latitude meet on the axis, this far beyond the centre.
    beyond_km = EQUATOR_KM * _ECCENTRICITY_SQUARED * sine / math.sqrt(1.0 - _ECCENTRICITY_SQUARED * sine**2)

    def value(position_km: Floats) -> Floats:
        out = np.hypot(position_km[..., 0], position_km[..., 1])
        within: Floats = out * sine - (np.abs(position_km[..., 2]) + beyond_km) * cosine
        return within

    return value


def local_turn(motion: Motion) -> Floats:
    """How the satellite's local frame turns in ITRS, radians per second, (..., 3)."""
    x, y, z = (motion.position_km[..., axis] for axis in range(3))
    turning = np.stack((-TURN_PER_S * y, TURN_PER_S * x, np.zeros_like(z)), axis=-1)
    momentum = cross(motion.position_km, motion.velocity_km_per_s + turning)
    turn = momentum / dot(motion.position_km, motion.position_km)[..., np.newaxis]
    turn[..., 2] -= TURN_PER_S
    return turn


def cross(a: Floats, b: Floats) -> Floats:
    """Vector products of shape (..., 3); numpy's own is slower by half."""
    return np.stack(
        (
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ),
        axis=-1,
    )


def _square(position_km: Floats, stretch: float) -> Floats:
    x, y, z = position_km[..., 0], position_km[..., 1], position_km[..., 2] * stretch
    square: Floats = x * x + y * y + z * z
    return square
