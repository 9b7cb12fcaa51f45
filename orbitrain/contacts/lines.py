"""Lines: how long a straight line between two nodes is, how fast that changes, how high it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.geometry import Floats, Integers, SiteFrame, Tracks, range_km, sine_of_elevation

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
        position_km = self.flown.at(self.satellite, t_s)
        before_s, after_s = _around(self.flown, t_s)
        moved_km = range_km(self.frame, self.flown.at(self.satellite, after_s)) - range_km(
            self.frame, self.flown.at(self.satellite, before_s)
        )
        sine = np.minimum(sine_of_elevation(self.frame, position_km), 1.0)
        return Line(
            range_km(self.frame, position_km),
            moved_km / (after_s - before_s),
            np.degrees(np.arcsin(sine)),
        )


@dataclass(frozen=True, slots=True)
class SpaceLine:
    """Between two satellites (their indices in the tracks)."""

    flown: Tracks
    first: int
    second: int

    def at(self, t_ns: Integers) -> Line:
        t_s = t_ns / NS_PER_S
        before_s, after_s = _around(self.flown, t_s)
        moved_km = self._range_km(after_s) - self._range_km(before_s)
        return Line(self._range_km(t_s), moved_km / (after_s - before_s), None)

    def _range_km(self, t_s: Floats) -> Floats:
        line = self.flown.at(self.first, t_s) - self.flown.at(self.second, t_s)
        length: Floats = np.sqrt(line[:, 0] ** 2 + line[:, 1] ** 2 + line[:, 2] ** 2)
        return length


def _around(flown: Tracks, t_s: Floats) -> tuple[Floats, Floats]:
    return np.maximum(t_s - _HALF_S, 0.0), np.minimum(t_s + _HALF_S, flown.duration_s)


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
