"""Lines: how long a straight line between two nodes is, how fast that changes, how high it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.geometry import (
    Floats,
    Integers,
    SiteFrame,
    Tracks,
    dot,
    range_km,
    sine_of_elevation,
)

NS_PER_S: Final = 1_000_000_000
# Range rates are differences over a second: of a millimetre per second, and no SGP4 velocity is needed.
_HALF_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """At n instants: `range_km`, `range_rate_km_per_s` (growing is positive), and `elevation_degrees`.

    The elevation is that above the horizon of the end on the ground; None between satellites.
    """

    range_km: Floats
    range_rate_km_per_s: Floats
    elevation_degrees: Floats | None


@dataclass(frozen=True, slots=True)
class GroundLine:
    """Between a satellite (its index in the tracks) and a site."""

    flown: Tracks
    satellite: int
    frame: SiteFrame

    def at(self, t_ns: Integers) -> Line:
        t_s = t_ns / NS_PER_S
        sine = sine_of_elevation(self.frame, self.flown.at(self.satellite, t_s))
        elevation_degrees = np.degrees(np.arcsin(np.minimum(sine, 1.0)))
        return Line(self._range_km(t_s), _rate(self._range_km, t_s, self.flown), elevation_degrees)

    def _range_km(self, t_s: Floats) -> Floats:
        return range_km(self.frame, self.flown.at(self.satellite, t_s))


@dataclass(frozen=True, slots=True)
class SpaceLine:
    """Between two satellites (their indices in the tracks)."""

    flown: Tracks
    first: int
    second: int

    def at(self, t_ns: Integers) -> Line:
        t_s = t_ns / NS_PER_S
        return Line(self._range_km(t_s), _rate(self._range_km, t_s, self.flown), None)

    def _range_km(self, t_s: Floats) -> Floats:
        line = self.flown.at(self.first, t_s) - self.flown.at(self.second, t_s)
        length: Floats = np.sqrt(dot(line, line))
        return length


def _rate(range_at: Callable[[Floats], Floats], t_s: Floats, flown: Tracks) -> Floats:
    before_s, after_s = np.maximum(t_s - _HALF_S, 0.0), np.minimum(t_s + _HALF_S, flown.duration_s)
    rate: Floats = (range_at(after_s) - range_at(before_s)) / (after_s - before_s)
    return rate


@dataclass(frozen=True, slots=True)
class Glance:
    """A line as it was at some instants, and linear between them: for looking often.

    At the instants of `sampling.dense` the range between is off by less than 2 microseconds of light, and
    elevations by less than a thousandth of a degree.
    """

    t_ns: Integers
    seen: Line

    @staticmethod
    def of(line: GroundLine | SpaceLine, t_ns: Integers) -> Glance:
        return Glance(t_ns, line.at(t_ns))

    def at(self, t_ns: Integers) -> Line:
        elevation = self.seen.elevation_degrees
        return Line(
            np.interp(t_ns, self.t_ns, self.seen.range_km),
            np.interp(t_ns, self.t_ns, self.seen.range_rate_km_per_s),
            None if elevation is None else np.interp(t_ns, self.t_ns, elevation),
        )
