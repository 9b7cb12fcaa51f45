"""Passes: when each satellite stands above a site's mask.

The height above the mask is taken on a grid no coarser than 20 s; where it changes sign, a pass begins or
ends, and halving the interval finds the edge. A pass (or a dip below the mask) shorter than a step changes no
sign on the grid: so every highest point that stays below, and every lowest point that stays above, is refined
as well, and where it turns out to cross, both its edges are found. Passes in progress at the start or end of
the window are clipped to it.

20 s is at most 2.2 degrees of arc for the lowest orbit, so that a grid interval holds at most one
culmination.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.geometry import Floats, Integers, Site, SiteFrame, Tracks, sine_of_elevation

LONGEST_STEP_S: Final = 20.0

# 20 s / 2^25 is below a microsecond.
_HALVINGS: Final = 25
# Golden section: 40 s * 0.618^40 is 2e-7 s, where the flat top makes elevations equal to the last digit.
_SECTIONS: Final = 40
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Satellite `satellite` (its index in the tracks) above the mask, in seconds since the epoch."""

    satellite: int
    start_s: float
    end_s: float


def find_passes(tracks: Tracks, site: Site) -> tuple[Pass, ...]:
    """All passes of all satellites over one site within the tracks, ordered by (satellite, start).

    Edges are within a microsecond of the interpolated elevation's crossing of the mask. ValueError when the
    tracks' step is above 20 s.
    """
    if tracks.step_s > LONGEST_STEP_S:
        raise ValueError(f"tracks: step_s must be at most {LONGEST_STEP_S:g}, not {tracks.step_s}")
    heights = _Heights(tracks, SiteFrame.of(site), math.sin(math.radians(site.mask_degrees)))
    satellite, low_s, high_s, rising = _brackets(heights)
    edge_s = _halved(heights, satellite, low_s, high_s, rising)
    order = np.lexsort((edge_s, satellite))
    satellite, edge_s, rising = satellite[order], edge_s[order], rising[order]
    end_s = tracks.step_s * (tracks.points - 1)
    passes: list[Pass] = []
    bounds = np.searchsorted(satellite, np.arange(len(tracks.position_km) + 1))
    for index in range(len(tracks.position_km)):
        mine = slice(int(bounds[index]), int(bounds[index + 1]))
        above = bool(heights.grid[index, 0] > 0)
        passes.extend(_paired(index, edge_s[mine].tolist(), rising[mine].tolist(), above, end_s))
    return tuple(passes)


class _Heights:
    """Sine of elevation minus sine of the mask: on the grid (satellites, points), and at any instants."""

    __slots__ = ("frame", "grid", "sine_of_mask", "tracks")

    def __init__(self, tracks: Tracks, frame: SiteFrame, sine_of_mask: float) -> None:
        self.tracks = tracks
        self.frame = frame
        self.sine_of_mask = sine_of_mask
        self.grid: Floats = sine_of_elevation(frame, tracks.position_km) - sine_of_mask

    def at(self, satellite: Integers, t_s: Floats) -> Floats:
        height: Floats = sine_of_elevation(self.frame, self.tracks.at(satellite, t_s)) - self.sine_of_mask
        return height


def _brackets(
    heights: _Heights,
) -> tuple[Integers, Floats, Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    # Intervals with exactly one crossing each: satellite, from, to, and whether it rises there.
    step_s, above = heights.tracks.step_s, heights.grid > 0
    satellite, left = np.nonzero(above[:, 1:] != above[:, :-1])
    found = [(satellite, left * step_s, (left + 1) * step_s, above[satellite, left + 1])]
    for sign in (1.0, -1.0):
        satellite, before_s, top_s, after_s = _hidden_tops(heights, sign)
        rises = np.full(len(satellite), sign > 0)
        found.append((satellite, before_s, top_s, rises))
        found.append((satellite, top_s, after_s, ~rises))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]


def _hidden_tops(heights: _Heights, sign: float) -> tuple[Integers, Floats, Floats, Floats]:
    # Extremes (highest for sign 1, lowest for -1) on the other side of the mask than the grid points around
    # them: satellite, the grid point before, the extreme, the grid point after, in seconds.
    step_s, grid = heights.tracks.step_s, sign * heights.grid
    last = grid.shape[1] - 1
    peak = grid <= 0
    peak[:, 1:] &= grid[:, 1:] >= grid[:, :-1]
    peak[:, :-1] &= grid[:, :-1] > grid[:, 1:]  # strict: of two equal neighbours one is the peak
    satellite, point = np.nonzero(peak)
    before_s = np.maximum(point - 1, 0) * step_s
    after_s = np.minimum(point + 1, last) * step_s
    low_s, high_s = before_s.copy(), after_s.copy()
    for _ in range(_SECTIONS):
        inner_s = high_s - _GOLDEN * (high_s - low_s)
        outer_s = low_s + _GOLDEN * (high_s - low_s)
        rises = sign * heights.at(satellite, inner_s) < sign * heights.at(satellite, outer_s)
        low_s, high_s = np.where(rises, inner_s, low_s), np.where(rises, high_s, outer_s)
    top_s = (low_s + high_s) / 2.0
    crosses = sign * heights.at(satellite, top_s) > 0
    return satellite[crosses], before_s[crosses], top_s[crosses], after_s[crosses]


def _halved(
    heights: _Heights,
    satellite: Integers,
    low_s: Floats,
    high_s: Floats,
    rising: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> Floats:
    for _ in range(_HALVINGS):
        middle_s = (low_s + high_s) / 2.0
        crossed = (heights.at(satellite, middle_s) > 0) == rising
        low_s, high_s = np.where(crossed, low_s, middle_s), np.where(crossed, middle_s, high_s)
    edge_s: Floats = (low_s + high_s) / 2.0
    return edge_s


def _paired(
    satellite: int, edge_s: Sequence[float], rising: Sequence[bool], above: bool, end_s: float
) -> list[Pass]:
    passes = []
    start_s = 0.0
    for t_s, rises in zip(edge_s, rising, strict=True):
        if rises == above:
            raise AssertionError(f"satellite {satellite}: two edges of one kind in a row at {t_s} s")
        if above:
            passes.append(Pass(satellite, start_s, t_s))
        start_s, above = t_s, rises
    if above:
        passes.append(Pass(satellite, start_s, end_s))
    return passes
