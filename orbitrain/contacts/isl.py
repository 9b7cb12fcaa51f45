"""Inter-satellite links: when two satellites may link each other, by rules of geometry and motion.

What each rule says exactly is in `sight`. Three stages, for many pairs at once:

1. Cull, on the grid of the tracks in single precision, with one distance for each pair and grid point: a cell
   (from one grid point to the next) is left out when distance and tangents, which bend by no more than
   gravity allows, cannot come within the limit.
2. Classify what is left with velocities: a cell where every rule holds all the time, by bounds on how fast
   the rule's quantity can change there, is in; where one never holds, it is out.
3. Cells that are neither are looked at every 4 s and less, and crossings and extremes between two looks are
   refined (`crossings`). So the quick encounters of crossing orbits, at up to 15 km/s, are looked at closely
   and the slow dance of neighbouring planes costs next to nothing.

What concerns one satellite alone (its latitude, its own height) is found once for each and then intersected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.bounds import Bounds
from orbitrain.contacts.crossings import (
    Booleans,
    Changes,
    Functions,
    Spans,
    Value,
    changes_in_cells,
    spans_at,
)
from orbitrain.contacts.finder import LONGEST_STEP_S
from orbitrain.contacts.geometry import LIGHT_SPEED_KM_PER_S, Floats, Integers, Tracks, dot
from orbitrain.contacts.motion import motion_at, motion_within
from orbitrain.contacts.planes import Pairs
from orbitrain.contacts.sight import (
    OwnRule,
    PairRule,
    Shield,
    within_angular_rate,
    within_latitude,
    within_range,
    within_range_rate,
)

# Where aerosols, absorption and refraction of a grazing ray are over: our choice, scenarios can set theirs.
CLEARANCE_KM: Final = 80.0

# Memory of a chunk of pairs: some 100 bytes for each pair times grid point where all is in range (30 MB).
_POINTS_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class IslRules:
    """What a link needs; None asks nothing.

    `clearance_km` (of the line of sight above the WGS84 ellipsoid) and `longest_km` hold for all pairs. Only
    pairs of different planes are asked for the rest: the range rate either way, the angular rate of the line
    of sight in both satellites' local frames, and the geodetic latitude of both satellites, north or south.
    """

    clearance_km: float = CLEARANCE_KM
    longest_km: float | None = None
    range_rate_km_per_s: float | None = None
    angular_rate_degrees_per_s: float | None = None
    latitude_cut_degrees: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.clearance_km <= 10_000:
            raise ValueError(f"clearance_km: must be 0 to 10000, not {self.clearance_km}")
        for key in ("longest_km", "range_rate_km_per_s", "angular_rate_degrees_per_s"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{key}: must be a finite number above 0, not {value}")
        if self.latitude_cut_degrees is not None and not 0 < self.latitude_cut_degrees <= 90:
            raise ValueError(
                f"latitude_cut_degrees: must be above 0 and at most 90, not {self.latitude_cut_degrees}"
            )


def range_rate_of_doppler(limit_hz: float, carrier_hz: float) -> float:
    """The range rate in km/s that shifts a carrier by `limit_hz`, to first order in v / c."""
    if not (carrier_hz > 0 and math.isfinite(carrier_hz)):
        raise ValueError(f"carrier_hz: must be a finite number above 0, not {carrier_hz}")
    if not (limit_hz > 0 and math.isfinite(limit_hz)):
        raise ValueError(f"limit_hz: must be a finite number above 0, not {limit_hz}")
    return LIGHT_SPEED_KM_PER_S * limit_hz / carrier_hz


@dataclass(frozen=True, slots=True)
class IslWindows:
    """Windows as columns, in the order of (first, second, start): indices of the satellites in the tracks,
    whether they share a plane, and seconds since the epoch."""

    first: Integers
    second: Integers
    intra: Booleans
    start_s: Floats
    end_s: Floats

    def __len__(self) -> int:
        return len(self.first)


def find_isl(tracks: Tracks, pairs: Pairs, rules: IslRules) -> IslWindows:
    """All windows within the tracks in which a pair satisfies all rules, each as long as it lasts.

    Edges are within a millisecond (mostly a microsecond) of the interpolated motion's; windows in progress at
    the start or end of the tracks are clipped to it. ValueError when the tracks' step is above 60 s or a pair
    is not of two satellites of the tracks.
    """
    if tracks.step_s > LONGEST_STEP_S:
        raise ValueError(f"tracks: step_s must be at most {LONGEST_STEP_S:g}, not {tracks.step_s}")
    if len(pairs) and not (
        min(pairs.first.min(), pairs.second.min()) >= 0
        and max(pairs.first.max(), pairs.second.max()) < tracks.satellites
        and np.all(pairs.first != pairs.second)
    ):
        raise ValueError(f"pairs: must be of two different satellites of 0 to {tracks.satellites - 1}")
    shield = Shield.above(rules.clearance_km)
    found: list[tuple[Integers, Spans]] = []
    for intra in (True, False):
        chosen = np.flatnonzero(pairs.intra == intra)
        if not len(chosen):
            continue
        of = IslRules(rules.clearance_km, rules.longest_km) if intra else rules
        first, second = pairs.first[chosen], pairs.second[chosen]
        alone = _alone(tracks, shield, of)
        spans = _together(tracks, shield, of, first, second)
        spans = _intersected(spans, alone, first, second)
        found.append((chosen[spans.owner], spans))
    pair = np.concatenate([pair for pair, _ in found] or [np.empty(0, dtype=np.int64)])
    start_s = np.concatenate([spans.start_s for _, spans in found] or [np.empty(0)])
    end_s = np.concatenate([spans.end_s for _, spans in found] or [np.empty(0)])
    order = np.lexsort((start_s, pairs.second[pair], pairs.first[pair]))
    pair = pair[order]
    return IslWindows(pairs.first[pair], pairs.second[pair], pairs.intra[pair], start_s[order], end_s[order])


# --- pairs ------------------------------------------------------------------------------------------------


def _together(tracks: Tracks, shield: Shield, rules: IslRules, first: Integers, second: Integers) -> Spans:
    # When each pair (the owner) satisfies what is asked of both together.
    asked: list[PairRule] = [shield.clear]
    if rules.longest_km is not None:
        asked.append(within_range(rules.longest_km))
    if rules.range_rate_km_per_s is not None:
        asked.append(within_range_rate(rules.range_rate_km_per_s))
    if rules.angular_rate_degrees_per_s is not None:
        limit = math.radians(rules.angular_rate_degrees_per_s)
        asked += [within_angular_rate(limit, False), within_angular_rate(limit, True)]

    def within(pair: Integers, point: Integers, fractions: Floats) -> list[Floats]:
        one = motion_within(tracks, first[pair], point, fractions)
        other = motion_within(tracks, second[pair], point, fractions)
        return [rule(one, other) for rule in asked]

    def at(rule: PairRule) -> Value:
        return lambda pair, t_s: rule(
            motion_at(tracks, first[pair], t_s), motion_at(tracks, second[pair], t_s)
        )

    functions = Functions(within, [at(rule) for rule in asked])
    bounds = Bounds.of(
        tracks, shield, rules.longest_km, rules.range_rate_km_per_s, rules.angular_rate_degrees_per_s
    )
    parts: list[Changes] = []
    at_once = max(1, _POINTS_AT_ONCE // tracks.points)
    for begin in range(0, len(first), at_once):
        inside, open_ = bounds.classified(first[begin : begin + at_once], second[begin : begin + at_once])
        parts.append(_runs(inside.row + begin, inside.point, tracks.step_s, len(asked)))
        parts.append(changes_in_cells(functions, tracks.step_s, open_.row + begin, open_.point))
    return spans_at(Changes.joined(parts), len(asked))


def _runs(owner: Integers, point: Integers, step_s: float, level: int) -> Changes:
    # Whole cells, in the order of owner and point: one step up and down for each run of neighbours.
    starts = np.ones(len(owner), dtype=np.bool_)
    starts[1:] = (owner[1:] != owner[:-1]) | (point[1:] != point[:-1] + 1)
    begin = np.flatnonzero(starts)
    end = np.append(begin[1:] - 1, len(owner) - 1)[: len(begin)]
    return Changes(
        np.concatenate((owner[begin], owner[end])),
        np.concatenate((point[begin], point[end] + 1)) * step_s,
        np.repeat(np.array([level, -level]), len(begin)),
    )


# --- satellites alone -------------------------------------------------------------------------------------


def _alone(tracks: Tracks, shield: Shield, rules: IslRules) -> Spans:
    # When each satellite (the owner) satisfies what is asked of it alone.
    asked: list[OwnRule] = [shield.over]
    if rules.latitude_cut_degrees is not None:
        asked.append(within_latitude(rules.latitude_cut_degrees))

    def within(one: Integers, point: Integers, fractions: Floats) -> list[Floats]:
        position_km = motion_within(tracks, one, point, fractions).position_km
        return [rule(position_km) for rule in asked]

    def at(rule: OwnRule) -> Value:
        return lambda one, t_s: rule(tracks.at(one, t_s))

    functions = Functions(within, [at(rule) for rule in asked])
    parts: list[Changes] = []
    at_once = max(1, _POINTS_AT_ONCE // tracks.points)
    for begin in range(0, tracks.satellites, at_once):
        position_km = tracks.position_km[begin : begin + at_once]
        velocity = tracks.velocity_km_per_s[begin : begin + at_once]
        # Values are in km, no faster than the satellite (stretched, with room for what lies between points),
        # and every instant is within half a step of a grid point.
        speed = 1.02 * shield.stretch * np.sqrt(dot(velocity, velocity).max(axis=1))
        reach_km = (speed * tracks.step_s / 2.0)[:, np.newaxis]
        values = [rule(position_km) for rule in asked]
        sure = np.logical_and.reduce([value > reach_km for value in values])
        never = np.logical_or.reduce(
            [(value[:, 1:] < -reach_km) & (value[:, :-1] < -reach_km) for value in values]
        )
        inside = sure[:, 1:] & sure[:, :-1]
        one, point = np.nonzero(inside)
        parts.append(_runs(one + begin, point, tracks.step_s, len(asked)))
        one, point = np.nonzero(~inside & ~never)
        parts.append(changes_in_cells(functions, tracks.step_s, one + begin, point))
    return spans_at(Changes.joined(parts), len(asked))


def _intersected(spans: Spans, alone: Spans, first: Integers, second: Integers) -> Spans:
    pair = np.unique(spans.owner)
    parts = [Changes.of(spans)]
    for satellite in (first[pair], second[pair]):
        begin = np.searchsorted(alone.owner, satellite, "left")
        count = np.searchsorted(alone.owner, satellite, "right") - begin
        index = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
        parts.append(Changes.of(Spans(np.repeat(pair, count), alone.start_s[index], alone.end_s[index])))
    return spans_at(Changes.joined(parts), 3)
