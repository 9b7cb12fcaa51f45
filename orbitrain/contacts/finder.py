"""Passes: when each satellite stands above a site's mask.

F is the height over the site's horizontal plane less that of the mask's cone at the same distance, in km:
positive in view, smooth, of known slope. Three stages, each for all satellites at once:

1. Cull. On a grid no coarser than 60 s, a bound with one product per satellite, site and grid point leaves
   only the points from which view is within one step's flight. It is safe: between two grid points in view
   of which one is culled, nothing is ever seen.
2. Bracket. Where F changes sign between neighbours, a pass begins or ends. A pass shorter than a step changes
   no sign, but F rises before it and falls after it; and as F bends down wherever a satellite is low enough
   to be quick, it stays under its tangents. So where the tangents of two neighbours meet above 0, the top
   between them is searched, and where it is in view there are two edges. Dips below the mask (of high
   orbits, with several culminations in a pass) are found alike.
3. Refine each edge to a microsecond with the interpolated positions.

Passes in progress at the start or end of the window are clipped to it. Where a site has an azimuth mask, this
is done for the lowest elevation in view in any direction, and `masks` cuts the passes to what is above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.crossings import (
    GOLDEN,
    SECTIONS,
    Booleans,
    Brackets,
    Spans,
    highest,
    refined,
)
from orbitrain.contacts.geometry import PADDING, Floats, Integers, Site, SiteFrame, Tracks, dot
from orbitrain.contacts.masks import cut

__all__ = [
    "GOLDEN",
    "LONGEST_STEP_S",
    "SECTIONS",
    "Pass",
    "Passes",
    "find_all_passes",
    "find_passes",
]

# 60 s is at most 5.3 degrees of arc, of the lowest perigee; the interpolation of the tracks is made for it.
LONGEST_STEP_S: Final = 60.0

# The plumb line of the ellipsoid passes the centre at up to 21.5 km; the rest is for single precision.
_PLUMB_KM: Final = 25.0
# By how much F can be above its tangents in one step: Coriolis and centrifugal terms come to less than
# 1.5e-3 km/s2, times 60^2 / 8, and velocities of SGP4 are up to some m/s no derivatives, times 60 s.
_BEND_KM: Final = 2.0
# Memory of the culling bound: 16 bytes for each of so many satellites times grid points at once (4 MB, so
# that it stays in the cache from one site to the next).
_CULLED_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Pass:
    """Satellite `satellite` (its index in the tracks) above the mask, in seconds since the epoch."""

    satellite: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes over one site as columns, in the order of (satellite, start)."""

    satellite: Integers
    start_s: Floats
    end_s: Floats


def find_passes(tracks: Tracks, site: Site) -> tuple[Pass, ...]:
    """All passes of all satellites over one site within the tracks, ordered by (satellite, start).

    Edges are within a microsecond of the interpolated elevation's crossing of the mask; for what an azimuth
    mask adds see `masks.cut`. ValueError when the tracks' step is above 60 s.
    """
    (found,) = find_all_passes(tracks, [site])
    columns = (found.satellite.tolist(), found.start_s.tolist(), found.end_s.tolist())
    return tuple(Pass(*row) for row in zip(*columns, strict=True))


def find_all_passes(tracks: Tracks, sites: Sequence[Site]) -> list[Passes]:
    """The passes over each site, as `find_passes`; cheaper for many, as what sites share is computed once."""
    if tracks.step_s > LONGEST_STEP_S:
        raise ValueError(f"tracks: step_s must be at most {LONGEST_STEP_S:g}, not {tracks.step_s}")
    frames = [SiteFrame.of(site) for site in sites]
    near = _near(tracks, sites, frames)
    found = []
    for site, frame, points in zip(sites, frames, near, strict=True):
        passes = _passes(_Heights(tracks, frame, math.sin(math.radians(site.lowest_mask_degrees))), points)
        if site.mask:
            spans = cut(tracks, site, Spans(passes.satellite, passes.start_s, passes.end_s))
            passes = Passes(spans.owner, spans.start_s, spans.end_s)
        found.append(passes)
    return found


# --- 1. cull ----------------------------------------------------------------------------------------------


def _near(tracks: Tracks, sites: Sequence[Site], frames: Sequence[SiteFrame]) -> list[Integers]:
    """For each site, the grid points (satellite * points + point) that view is within a step's flight of.

    At elevation m or above, a satellite at radius r is higher over the site's plane than it would be at
    elevation m at that radius: w >= sin m * (sqrt(r^2 - s^2 cos^2 m) - s sin m), s the site's own radius,
    exactly so on a sphere. Neither side changes faster than the satellite flies.
    """
    found: list[list[Integers]] = [[] for _ in sites]
    masks = sorted({site.lowest_mask_degrees for site in sites})
    site_km = max((float(np.linalg.norm(frame.position_km)) for frame in frames), default=0.0)
    ups = [np.append(frame.up, -1.0).astype(np.float32) for frame in frames]
    levels = [float(frame.up @ frame.position_km) for frame in frames]
    at_once = max(1, _CULLED_AT_ONCE // tracks.points)
    for first in range(0, tracks.satellites, at_once):
        position_km = tracks.position_km[first : first + at_once]
        velocity = tracks.velocity_km_per_s[first : first + at_once]
        radius_km = np.sqrt(dot(position_km, position_km))
        speed = np.sqrt(dot(velocity, velocity).max(axis=1, keepdims=True))
        # A step's flight, and somewhat more, as the greatest speed may lie between two points.
        slack_km = 1.05 * speed * tracks.step_s + _PLUMB_KM
        bound = np.empty((4, radius_km.size), dtype=np.float32)
        bound[:3] = position_km.reshape(-1, 3).T
        for mask in masks:
            sine, cosine = math.sin(math.radians(mask)), math.cos(math.radians(mask))
            reach_km = np.sqrt(np.maximum(radius_km**2 - (site_km * cosine) ** 2, 0.0)) - site_km * sine
            bound[3] = (sine * reach_km - slack_km).reshape(-1)
            for index, site in enumerate(sites):
                if site.lowest_mask_degrees == mask:
                    height = np.einsum("i,in->n", ups[index], bound)  # starts no threads, see `dot`
                    points = np.flatnonzero(height >= levels[index])
                    found[index].append(points + first * tracks.points)
    return [np.concatenate(parts) if parts else np.empty(0, dtype=np.int64) for parts in found]


# --- 2. bracket -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Heights:
    """F of one site, on grid points with its slope, and at any instants."""

    tracks: Tracks
    frame: SiteFrame
    sine_of_mask: float

    def on_grid(self, points: Integers) -> tuple[Floats, Floats]:
        satellite, point = np.divmod(points, self.tracks.points)
        padded = self.tracks.padded_km.reshape(-1, 3)
        row = satellite * self.tracks.padded_km.shape[1] + point + PADDING
        line = np.take(padded, row, axis=0) - self.frame.position_km
        velocity = np.take(self.tracks.velocity_km_per_s.reshape(-1, 3), points, axis=0)
        distance = np.sqrt(dot(line, line))
        height: Floats = dot(line, self.frame.up) - self.sine_of_mask * distance
        slope: Floats = dot(velocity, self.frame.up) - self.sine_of_mask / distance * dot(line, velocity)
        return height, slope

    def at(self, satellite: Integers, t_s: Floats) -> Floats:
        line = self.tracks.at(satellite, t_s) - self.frame.position_km
        height: Floats = dot(line, self.frame.up) - self.sine_of_mask * np.sqrt(dot(line, line))
        return height


def _passes(heights: _Heights, points: Integers) -> Passes:
    tracks = heights.tracks
    height, slope = heights.on_grid(points)
    satellite, point = np.divmod(points, tracks.points)
    above = height > 0
    paired = (points[1:] == points[:-1] + 1) & (point[1:] > 0)
    changes = np.flatnonzero(paired & (above[1:] != above[:-1]))
    found = [_plain(tracks.step_s, satellite, point, height, slope, changes)]
    for sign in (1.0, -1.0):
        turns = _turns(tracks.step_s, sign * height, sign * slope, paired)
        found += _hidden(heights, satellite[turns], point[turns], height[turns], height[turns + 1], sign)
    edges_of = np.concatenate([part.owner for part in found])
    edge_s = np.concatenate([refined(heights.at, part) for part in found])
    rises = np.concatenate([part.rises for part in found])
    began, ended = satellite[above & (point == 0)], satellite[above & (point == tracks.points - 1)]
    starts = _sorted((began, edges_of[rises]), (np.zeros(len(began)), edge_s[rises]))
    ends = _sorted((edges_of[~rises], ended), (edge_s[~rises], np.full(len(ended), tracks.duration_s)))
    if not (np.array_equal(starts[0], ends[0]) and np.all(starts[1] <= ends[1])):
        raise AssertionError("a pass begins twice, or ends before it begins")
    return Passes(starts[0], starts[1], ends[1])


def _sorted(satellite: tuple[Integers, Integers], t_s: tuple[Floats, Floats]) -> tuple[Integers, Floats]:
    satellites, times_s = np.concatenate(satellite), np.concatenate(t_s)
    order = np.lexsort((times_s, satellites))
    return satellites[order], times_s[order]


def _plain(
    step_s: float, satellite: Integers, point: Integers, height: Floats, slope: Floats, left: Integers
) -> Brackets:
    # The root of the cubic with F and its slopes at both ends, by Newton from the chord: no positions needed,
    # and some milliseconds from the truth.
    low_km, rise = height[left], height[left + 1] - height[left]
    m0, m1 = slope[left] * step_s, slope[left + 1] * step_s
    a, b = m0 + m1 - 2.0 * rise, 3.0 * rise - 2.0 * m0 - m1
    u = -low_km / rise
    for _ in range(4):
        tangent = m0 + u * (2.0 * b + 3.0 * u * a)
        u = np.clip(
            u - (low_km + u * (m0 + u * (b + u * a))) / np.where(tangent == 0, rise, tangent), 0.0, 1.0
        )
    tangent = m0 + u * (2.0 * b + 3.0 * u * a)
    start_s = np.multiply(point[left], step_s, dtype=np.float64)
    return Brackets(
        satellite[left], start_s, start_s + step_s, rise > 0, start_s + u * step_s, tangent / step_s
    )


def _turns(step_s: float, height: Floats, slope: Floats, paired: Booleans) -> Integers:
    # The left points of intervals, below at both ends, that rise first and fall last, and whose tangents meet
    # above 0.
    turns = np.flatnonzero(
        paired & (height[:-1] <= 0) & (height[1:] <= 0) & (slope[:-1] > 0) & (slope[1:] < 0)
    )
    fall, rise = slope[turns + 1], slope[turns]
    meet_s = np.clip((height[turns + 1] - height[turns] - fall * step_s) / (rise - fall), 0.0, step_s)
    return turns[height[turns] + rise * meet_s > -_BEND_KM]


def _hidden(
    heights: _Heights, satellite: Integers, point: Integers, low_km: Floats, high_km: Floats, sign: float
) -> list[Brackets]:
    # The two crossings around each extreme that is on the other side of the mask than the grid points.
    before_s = np.multiply(point, heights.tracks.step_s, dtype=np.float64)
    after_s = before_s + heights.tracks.step_s
    top_s = highest(lambda owner, t_s: sign * heights.at(owner, t_s), satellite, before_s, after_s)
    top_km = heights.at(satellite, top_s)
    over = sign * top_km > 0
    satellite, before_s, top_s, after_s = satellite[over], before_s[over], top_s[over], after_s[over]
    rise, fall = (top_km - low_km)[over], (high_km - top_km)[over]
    up = np.full(len(satellite), sign > 0)
    return [
        Brackets(satellite, before_s, top_s, up, (before_s + top_s) / 2.0, rise / (top_s - before_s)),
        Brackets(satellite, top_s, after_s, ~up, (top_s + after_s) / 2.0, fall / (after_s - top_s)),
    ]
