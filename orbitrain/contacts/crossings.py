"""Crossings: the instants at which functions of time change sign, and the spans between them.

What is asked about has an *owner*, an index (a satellite, a pair, a pass), and all owners are asked at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from orbitrain.contacts.geometry import Floats, Integers

Booleans = npt.NDArray[np.bool_]
# The function of each owner, (n,), at an instant of its own in seconds, (n,).
Value = Callable[[Integers, Floats], Floats]

# A step as small as this, along a slope known to a few per cent, ends within a microsecond.
_EDGE_S: Final = 1e-5
# After so many, every other step is a halving, and 60 s / 2^26 is a microsecond.
_SECANTS: Final = 8
_STEPS: Final = 60
# Golden section: 60 s * 0.618^30 is 3e-5 s, which a flat top does not feel (1e-10 km).
SECTIONS: Final = 30
GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Brackets:
    """Intervals with one crossing each, up or down, and where and how steeply it is expected."""

    owner: Integers
    low_s: Floats
    high_s: Floats
    rises: Booleans
    guess_s: Floats
    slope: Floats

    def part(self, begin: int, end: int) -> Brackets:
        some = slice(begin, end)
        return Brackets(
            self.owner[some],
            self.low_s[some],
            self.high_s[some],
            self.rises[some],
            self.guess_s[some],
            self.slope[some],
        )

    @staticmethod
    def joined(parts: list[Brackets]) -> Brackets:
        return Brackets(
            np.concatenate([part.owner for part in parts]),
            np.concatenate([part.low_s for part in parts]),
            np.concatenate([part.high_s for part in parts]),
            np.concatenate([part.rises for part in parts]),
            np.concatenate([part.guess_s for part in parts]),
            np.concatenate([part.slope for part in parts]),
        )


def refined(value: Value, brackets: Brackets) -> Floats:
    """The instant of each bracket's crossing, to a microsecond where the function is smooth."""
    # Newton with the expected slope, then secants; where they leave the bracket, or are slow, it is halved.
    edge_s = brackets.guess_s.copy()
    left = np.arange(len(edge_s))
    owner, rises, slope = brackets.owner, brackets.rises, brackets.slope
    low_s, high_s, t_s = brackets.low_s, brackets.high_s, brackets.guess_s
    last_s, last = t_s, np.zeros(len(t_s))
    for step in range(_STEPS):
        if not len(left):
            break
        now = value(owner, t_s)
        if step:
            moved_s = t_s - last_s
            slope = np.divide(now - last, moved_s, out=slope.copy(), where=moved_s != 0)
        before = (now > 0) != rises
        low_s, high_s = np.where(before, t_s, low_s), np.where(before, high_s, t_s)
        next_s = t_s - np.divide(now, slope, out=np.zeros_like(now), where=slope != 0)
        halved = (next_s < low_s) | (next_s > high_s) | ((slope == 0) & (now != 0))
        if step >= _SECANTS and step % 2:
            halved[:] = True
        next_s = np.where(halved, (low_s + high_s) / 2.0, next_s)
        edge_s[left] = next_s
        going = np.abs(next_s - t_s) > _EDGE_S
        left, owner, rises, slope = left[going], owner[going], rises[going], slope[going]
        low_s, high_s, last_s, last = low_s[going], high_s[going], t_s[going], now[going]
        t_s = next_s[going]
    return edge_s


def highest(value: Value, owner: Integers, low_s: Floats, high_s: Floats) -> Floats:
    """The instant of the top of each function that first rises, then falls from `low_s` to `high_s`."""
    for _ in range(SECTIONS if len(owner) else 0):
        inner_s = high_s - GOLDEN * (high_s - low_s)
        outer_s = low_s + GOLDEN * (high_s - low_s)
        rises = value(owner, inner_s) < value(owner, outer_s)
        low_s, high_s = np.where(rises, inner_s, low_s), np.where(rises, high_s, outer_s)
    top_s: Floats = (low_s + high_s) / 2.0
    return top_s


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of time as columns, in the order of (owner, start)."""

    owner: Integers
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True, slots=True)
class Changes:
    """Steps up and down of a level, that of each owner 0 before its first one and after its last."""

    owner: Integers
    t_s: Floats
    step: Integers

    @staticmethod
    def joined(parts: list[Changes]) -> Changes:
        return Changes(
            np.concatenate([part.owner for part in parts] or [np.empty(0, dtype=np.int64)]),
            np.concatenate([part.t_s for part in parts] or [np.empty(0)]),
            np.concatenate([part.step for part in parts] or [np.empty(0, dtype=np.int64)]),
        )

    @staticmethod
    def of(spans: Spans) -> Changes:
        """One up at the start of each span, and down at its end."""
        ones = np.ones(len(spans.owner), dtype=np.int64)
        return Changes(
            np.concatenate((spans.owner, spans.owner)),
            np.concatenate((spans.start_s, spans.end_s)),
            np.concatenate((ones, -ones)),
        )


def spans_at(changes: Changes, level: int) -> Spans:
    """The longest spans in which an owner's level is at least `level` (1 or more).

    What ends and begins again at one instant goes on; nothing is shorter than the clock can tell.
    """
    if not len(changes.owner):
        return Spans(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))
    order = np.lexsort((changes.t_s, changes.owner))
    owner, t_s = changes.owner[order], changes.t_s[order]
    first = np.flatnonzero(
        np.concatenate(([True], (owner[1:] != owner[:-1]) | (t_s[1:] != t_s[:-1])))
    )  # of those at one instant
    height = np.cumsum(np.add.reduceat(changes.step[order], first))
    over = np.concatenate(([False], height >= level))
    begin = np.flatnonzero(over[1:] & ~over[:-1])
    end = np.flatnonzero(~over[1:] & over[:-1])
    return Spans(owner[first[begin]], t_s[first[begin]], t_s[first[end]])


# --- functions that must all be positive, on cells of a grid ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Functions:
    """Some functions of each owner.

    `within(owner, point, fractions)` has each one's values, (n, m), at m fractions of the step after grid
    points, (n,); `at` has one value function for each.
    """

    within: Callable[[Integers, Integers, Floats], list[Floats]]
    at: list[Value]


# Cells are looked at this often. The functions of orbits are so smooth that between three such points there
# is at most one extreme, and a parabola through them tells it to a fraction of their bend.
_LOOK_S: Final = 4.0
# Memory: a few kilobytes for each cell at once.
_CELLS_AT_ONCE: Final = 1 << 12
_EDGES_AT_ONCE: Final = 1 << 15


def changes_in_cells(functions: Functions, step_s: float, owner: Integers, point: Integers) -> Changes:
    """How many of the functions are positive, over cells: from each grid point (n,) to the next one.

    A level starts from 0 and returns to 0 at the ends of each cell. Crossings are refined as in `refined`; a
    function that is positive, or not, for a moment between two looks is found by its extreme.
    """
    looks = max(2, math.ceil(step_s / _LOOK_S))
    fractions = np.arange(-1.0, looks + 2.0) / looks
    parts: list[Changes] = []
    brackets: list[list[Brackets]] = [[] for _ in functions.at]
    for begin in range(0, len(owner), _CELLS_AT_ONCE):
        one, at = owner[begin : begin + _CELLS_AT_ONCE], point[begin : begin + _CELLS_AT_ONCE]
        t_s = (at[:, np.newaxis] + fractions) * step_s
        first, last = np.zeros(len(one), dtype=np.int64), np.zeros(len(one), dtype=np.int64)
        for index, values in enumerate(functions.within(one, at, fractions)):
            first += values[:, 1] > 0
            last += values[:, -2] > 0
            brackets[index].append(_plain(one, t_s, values))
            for sign in (1.0, -1.0):
                brackets[index] += _hidden(functions.at[index], one, t_s, values, sign)
        parts += [Changes(one, t_s[:, 1], first), Changes(one, t_s[:, -2], -last)]
    for value, some in zip(functions.at, brackets, strict=True):
        if not some:
            continue
        every = Brackets.joined(some)
        for begin in range(0, len(every.owner), _EDGES_AT_ONCE):
            piece = every.part(begin, begin + _EDGES_AT_ONCE)
            edge_s = np.clip(refined(value, piece), piece.low_s, piece.high_s)
            parts.append(Changes(piece.owner, edge_s, np.where(piece.rises, 1, -1)))
    return Changes.joined(parts)


def _plain(owner: Integers, t_s: Floats, values: Floats) -> Brackets:
    above = values[:, 1:-1] > 0
    row, column = np.nonzero(above[:, 1:] != above[:, :-1])
    column += 1
    low_s, high_s = t_s[row, column], t_s[row, column + 1]
    low, high = values[row, column], values[row, column + 1]
    slope = (high - low) / (high_s - low_s)
    return Brackets(owner[row], low_s, high_s, high > 0, low_s - low / slope, slope)


def _hidden(value: Value, owner: Integers, t_s: Floats, values: Floats, sign: float) -> list[Brackets]:
    # Where the middle one of three looks is the highest and not above 0, but by half of their bend it may be:
    # enough for a roof, and four times what a parabola can rise.
    middle, before, after = sign * values[:, 1:-1], sign * values[:, :-2], sign * values[:, 2:]
    row, column = np.nonzero(
        (middle <= 0) & (before < middle) & (after <= middle) & (4.0 * middle > before + after)
    )  # of two equal ones the first
    if not len(row):
        return []
    one, low_s, high_s = owner[row], t_s[row, column], t_s[row, column + 2]
    top_s = highest(lambda who, at_s: sign * value(who, at_s), one, low_s, high_s)
    top = value(one, top_s)
    # What tops in the next cell is that one's.
    over = (sign * top > 0) & (top_s >= t_s[row, 1]) & (top_s < t_s[row, -2])
    one, low_s, top_s, high_s, top = one[over], low_s[over], top_s[over], high_s[over], top[over]
    low, high = values[row, column][over], values[row, column + 2][over]
    up = np.full(len(one), sign > 0)
    rise, fall = (top - low) / (top_s - low_s), (high - top) / (high_s - top_s)
    return [
        Brackets(one, low_s, top_s, up, (low_s + top_s) / 2.0, rise),
        Brackets(one, top_s, high_s, ~up, (top_s + high_s) / 2.0, fall),
    ]
