"""Bounds: in which cells of the grid a pair of satellites surely may link, surely may not, or either.

A cell goes from one grid point to the next. Between them the satellites obey gravity: with their speeds and
accelerations bounded, so is what distance, range rate and angular rate can do within half a step. The bounds
are in single precision, with room for it; nothing that they decide is decided wrongly by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from orbitrain.contacts.crossings import Booleans
from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2
from orbitrain.contacts.geometry import Floats, Integers, Tracks, dot
from orbitrain.contacts.motion import Motion
from orbitrain.contacts.sight import TURN_PER_S, Shield, local_turn

Singles = npt.NDArray[np.float32]

# SGP4 satellites are never as low; one that it has given up on stands still at the centre.
_LOWEST_KM: Final = 6_000.0
# What lies between two grid points, and J2 (0.2 per cent at the surface), may exceed what is on them by this.
_ROOM: Final = 1.03
# SGP4's velocities are not the derivatives of its positions (see `Tracks`).
_VELOCITY_ROOM_KM_PER_S: Final = 0.005
# Of single precision: distances of up to 100,000 km.
_DISTANCE_ROOM_KM: Final = 0.05
_ANGLE_ROOM_PER_S: Final = 1e-6
# Nearer to the surface the length of the tangent may bend sharply, and is no guide.
_SHORT_TANGENT_KM: Final = 300.0
_ANY_KM: Final = 3_000.0


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells: the row of the pair, and the grid point they begin at, in the order of both."""

    row: Integers
    point: Integers


@dataclass(frozen=True, slots=True)
class Bounds:
    """Tracks in single precision, (3, satellites, points) or without the 3, and the extremes of each."""

    step_s: float
    points: int
    stretch: float
    longest_km: float | None
    range_rate_km_per_s: float | None
    angular_rate_per_s: float | None
    position: Singles  # the third row stretched
    velocity: Singles
    tangent: Singles
    turn: Singles | None
    flies: Booleans
    radius_km: Floats
    speed: Floats
    acceleration: Floats
    tangent_bend_km: Floats
    longest_tangent_km: Floats
    turn_per_s: Floats
    turn_change_per_s2: Floats

    @staticmethod
    def of(
        tracks: Tracks,
        shield: Shield,
        longest_km: float | None,
        range_rate_km_per_s: float | None,
        angular_rate_degrees_per_s: float | None,
    ) -> Bounds:
        count, points = tracks.satellites, tracks.points
        angular = angular_rate_degrees_per_s is not None
        position = np.empty((3, count, points), dtype=np.float32)
        velocity = np.empty_like(position)
        tangent = np.empty((count, points), dtype=np.float32)
        turn = np.empty_like(position) if angular else None
        own = np.zeros((8, count))
        for index in range(count):  # one at a time: the whole in double precision would not fit the cache
            motion = Motion(tracks.position_km[index], tracks.velocity_km_per_s[index])
            position[:, index] = (motion.position_km * (1.0, 1.0, shield.stretch)).T
            velocity[:, index] = motion.velocity_km_per_s.T
            length = shield.tangent_km(motion.position_km)
            tangent[index] = length
            radius = np.sqrt(dot(motion.position_km, motion.position_km))
            lowest_km = float(radius.min())
            if lowest_km < _LOWEST_KM:
                continue
            speed = _ROOM * float(np.sqrt(dot(motion.velocity_km_per_s, motion.velocity_km_per_s).max()))
            highest_km = _ROOM * float(radius.max())
            pull = EARTH_MU_KM3_PER_S2 / lowest_km**2
            # In the turning frame: gravity, Coriolis, centrifugal.
            acceleration = _ROOM * (pull + 2.0 * TURN_PER_S * speed + TURN_PER_S**2 * highest_km)
            # Twice what three points in a row show of the bend within a step.
            bend_km = float(np.abs(np.diff(length, 2)).max()) / 4.0
            if length.min() < _SHORT_TANGENT_KM:
                bend_km = _ANY_KM
            own[:6, index] = 1.0, highest_km, speed, acceleration, bend_km, length.max() + bend_km
            if turn is not None:
                turning = local_turn(motion)
                turn[:, index] = turning.T
                # The rate of turning is h / r^2, so it changes by -2 r' / r of itself.
                rate = _ROOM * float(np.sqrt(dot(turning, turning).max()))
                radial = float((np.abs(dot(motion.position_km, motion.velocity_km_per_s)) / radius).max())
                own[6:, index] = rate, 2.0 * (rate + TURN_PER_S) * (radial + 0.2) / lowest_km
        return Bounds(
            tracks.step_s,
            points,
            shield.stretch,
            longest_km,
            range_rate_km_per_s,
            math.radians(angular_rate_degrees_per_s) if angular_rate_degrees_per_s is not None else None,
            position,
            velocity,
            tangent,
            turn,
            own[0] > 0,
            *own[1:],
        )

    def classified(self, first: Integers, second: Integers) -> tuple[Cells, Cells]:
        """Of the pairs of satellites, cells in which all rules hold all the time, and those to be looked at.

        In all others some rule never holds.
        """
        near = self._near(first, second)
        wanted = np.zeros((len(first), self.points), dtype=np.bool_)
        wanted[:, :-1] = near
        wanted[:, 1:] |= near
        row, point = np.nonzero(wanted)
        cell = np.flatnonzero(near[row, np.minimum(point, self.points - 2)] & (point < self.points - 1))
        steps = self._steps(first, second, row, point, cell)
        yes, no = self._clear(steps)
        for more_yes, more_no in (self._in_range(steps), self._slow(steps), *self._steady(steps)):
            yes &= more_yes
            no |= more_no
        inside, open_ = cell[yes & ~no], cell[~yes & ~no]
        return Cells(row[inside], point[inside]), Cells(row[open_], point[open_])

    def _near(self, first: Integers, second: Integers) -> Booleans:
        # Cells (pairs, points - 1) that the clearance and the range may allow.
        x, y, z = self.position[:, second] - self.position[:, first]
        x *= x
        y *= y
        z *= z
        x += y
        x += z
        limit = self.tangent[first] + self.tangent[second]
        limit *= limit
        bend = self._bend(
            (self.speed[first] + self.speed[second]) ** 2,
            self.radius_km[first] + self.radius_km[second],
            self.acceleration[first] + self.acceleration[second],
        )
        bend *= self.stretch**2
        limit -= x
        may = limit > -(bend + self._tangent_bend(first, second)).astype(np.float32)[:, np.newaxis]
        near = may[:, 1:] | may[:, :-1]
        if self.longest_km is not None:
            reach = ((self.stretch * self.longest_km) ** 2 + bend).astype(np.float32)
            may = x < reach[:, np.newaxis]
            near &= may[:, 1:] | may[:, :-1]
        flying: Booleans = near & (self.flies[first] & self.flies[second])[:, np.newaxis]
        return flying

    def _bend(self, speed_squared: Any, distance_km: Any, acceleration: Any) -> Any:
        # By how much the square of a distance can differ from its chord within a step: its second derivative
        # is 2 (v^2 + r . a), times step^2 / 8.
        bend = self.step_s**2 / 4.0 * (speed_squared + distance_km * acceleration)
        return bend + 2.0 * _DISTANCE_ROOM_KM * distance_km

    def _tangent_bend(self, first: Integers, second: Integers) -> Floats:
        # The same of the square of the sum of both tangents.
        bend_km = self.tangent_bend_km[first] + self.tangent_bend_km[second]
        length_km = self.longest_tangent_km[first] + self.longest_tangent_km[second]
        bend: Floats = 2.0 * length_km * bend_km + bend_km**2
        return bend

    def _steps(
        self, first: Integers, second: Integers, row: Integers, point: Integers, cell: Integers
    ) -> _Steps:
        one, other = first[row] * self.points + point, second[row] * self.points + point
        position, velocity = self.position.reshape(3, -1), self.velocity.reshape(3, -1)
        line = [np.take(axis, other) - np.take(axis, one) for axis in position]
        moving = [np.take(axis, other) - np.take(axis, one) for axis in velocity]
        stretched = line[0] ** 2 + line[1] ** 2 + line[2] ** 2
        line[2] /= np.float32(self.stretch)
        square = line[0] ** 2 + line[1] ** 2 + line[2] ** 2
        distance = np.sqrt(square)
        speed = np.sqrt(moving[0] ** 2 + moving[1] ** 2 + moving[2] ** 2)
        of = row[cell]
        acceleration = (self.acceleration[first] + self.acceleration[second]).astype(np.float32)[of]
        half_s = np.float32(self.step_s / 2.0)
        fastest = _most(speed, cell) + acceleration * half_s + np.float32(_VELOCITY_ROOM_KM_PER_S)
        farthest = _most(distance, cell) + fastest * half_s
        bend = self._bend(fastest**2, farthest, acceleration)
        nearest = np.maximum(
            _least(distance, cell) - fastest * half_s - np.float32(_DISTANCE_ROOM_KM),
            np.sqrt(np.maximum(_least(square, cell) - bend, 0.0)),
        )
        np.maximum(nearest, np.float32(1e-3), out=nearest)
        return _Steps(
            first,
            second,
            of,
            one,
            other,
            cell,
            line,
            moving,
            stretched,
            square,
            distance,
            acceleration,
            fastest,
            nearest,
            farthest,
            bend,
        )

    def _clear(self, steps: _Steps) -> tuple[Booleans, Booleans]:
        tangent = self.tangent.reshape(-1)
        length = np.take(tangent, steps.one) + np.take(tangent, steps.other)
        margin = length**2 - steps.stretched
        # The square of a chord is below the chord of the squares.
        sag = (length[steps.cell + 1] - length[steps.cell]) ** 2 / 4.0
        bend = self._tangent_bend(steps.first, steps.second).astype(np.float32)[steps.row] + sag
        bend += np.float32(self.stretch**2) * steps.bend
        return _least(margin, steps.cell) > bend, _most(margin, steps.cell) < -bend

    def _in_range(self, steps: _Steps) -> tuple[Booleans, Booleans]:
        if self.longest_km is None:
            return _anything(steps)
        limit = np.float32(self.longest_km**2)
        return (
            _most(steps.square, steps.cell) + steps.bend < limit,
            _least(steps.square, steps.cell) - steps.bend > limit,
        )

    def _slow(self, steps: _Steps) -> tuple[Booleans, Booleans]:
        # The range rate changes by (v^2 - rate^2) / r + u . a.
        if self.range_rate_km_per_s is None:
            return _anything(steps)
        (x, y, z), (u, v, w) = steps.line, steps.moving
        along = x * u + y * v + z * w
        rate = np.abs(along) / np.maximum(steps.distance, np.float32(1e-3))
        swing = (steps.fastest**2 / steps.nearest + steps.acceleration) * np.float32(self.step_s / 2.0)
        swing += np.float32(_VELOCITY_ROOM_KM_PER_S)
        limit = np.float32(self.range_rate_km_per_s)
        return _most(rate, steps.cell) + swing < limit, _least(rate, steps.cell) - swing > limit

    def _steady(self, steps: _Steps) -> Iterator[tuple[Booleans, Booleans]]:
        # In the local frame, w = r x v / r^2 changes by r x a / r^2 - 2 w (r . v) / r^2: at most by
        # steady + growing * w, so that it can grow to (w + steady t) exp(growing t).
        if self.turn is None or self.angular_rate_per_s is None:
            return
        limit, half_s = np.float32(self.angular_rate_per_s), np.float32(self.step_s / 2.0)
        (x, y, z), (u, v, w) = steps.line, steps.moving
        square = np.maximum(steps.square, np.float32(1e-6))
        across = ((y * w - z * v) / square, (z * u - x * w) / square, (x * v - y * u) / square)
        for satellite, at in ((steps.first, steps.one), (steps.second, steps.other)):
            turn = [np.take(axis, at) for axis in self.turn.reshape(3, -1)]
            along = (x * turn[0] + y * turn[1] + z * turn[2]) / square
            parts = [a - b + c * along for a, b, c in zip(across, turn, steps.line, strict=True)]
            rate = np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
            frame = self.turn_per_s[satellite].astype(np.float32)[steps.row]
            change = self.turn_change_per_s2[satellite].astype(np.float32)[steps.row]
            speed = steps.fastest + frame * steps.farthest
            pull = steps.acceleration + 2.0 * frame * speed + (change + frame**2) * steps.farthest
            steady = pull / steps.nearest * half_s + np.float32(_ANGLE_ROOM_PER_S)
            growth = np.exp(np.minimum(2.0 * speed / steps.nearest * half_s, np.float32(50.0)))
            yield (
                (_most(rate, steps.cell) + steady) * growth < limit,
                _least(rate, steps.cell) / growth - steady > limit,
            )


@dataclass(frozen=True, slots=True)
class _Steps:
    """Grid points of pairs (n) and the cells among them (m): `cell` is the number of its first point.

    Lines and relative velocities are three rows of n; the extremes within each cell have m.
    """

    first: Integers
    second: Integers
    row: Integers
    one: Integers
    other: Integers
    cell: Integers
    line: list[Singles]
    moving: list[Singles]
    stretched: Singles
    square: Singles
    distance: Singles
    acceleration: Singles
    fastest: Singles
    nearest: Singles
    farthest: Singles
    bend: Singles


def _most(value: Singles, cell: Integers) -> Singles:
    return np.maximum(value[cell], value[cell + 1])


def _least(value: Singles, cell: Integers) -> Singles:
    return np.minimum(value[cell], value[cell + 1])


def _anything(steps: _Steps) -> tuple[Booleans, Booleans]:
    return np.ones(len(steps.cell), dtype=np.bool_), np.zeros(len(steps.cell), dtype=np.bool_)
