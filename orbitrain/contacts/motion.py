"""Motion: where satellites are and how they move at any instant between the grid points of their tracks.

The velocity is the derivative of the polynomial through the eight nearest positions (`geometry.Tracks`): with
steps up to 60 s it is within a millimetre per second of SGP4's positions' own rate of change. (SGP4's
velocities are not: see there.) Positions and velocities are in ITRS, the velocity that in the turning frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.geometry import PADDING, Floats, Integers, Tracks

_NODES: Final = np.arange(-PADDING, PADDING + 2, dtype=np.float64)


def _coefficients() -> Floats:
    # Row k has the coefficient of u^k of each node's Lagrange polynomial.
    columns = []
    for index, node in enumerate(_NODES):
        others = np.delete(_NODES, index)
        columns.append(np.poly(others)[::-1] / np.prod(node - others))
    return np.stack(columns, axis=1)


_COEFFICIENTS: Final = _coefficients()
_SLOPES: Final = _COEFFICIENTS[1:] * np.arange(1.0, len(_NODES))[:, np.newaxis]


@dataclass(frozen=True, slots=True)
class Motion:
    """Positions and velocities in ITRS, both of shape (..., 3)."""

    position_km: Floats
    velocity_km_per_s: Floats


def motion_at(tracks: Tracks, satellite: Integers, t_s: Floats) -> Motion:
    """Of each satellite index (n,) at an instant of its own, (n,); shape (n, 3)."""
    left = np.clip((t_s / tracks.step_s).astype(np.int64), 0, tracks.points - 2)
    u = t_s / tracks.step_s - left
    eight = _eight(tracks, satellite, left)
    position = np.matmul(_horner(_COEFFICIENTS, u)[:, np.newaxis, :], eight)[:, 0]
    velocity = np.matmul(_horner(_SLOPES, u)[:, np.newaxis, :], eight)[:, 0]
    return Motion(position, velocity / tracks.step_s)


def motion_within(tracks: Tracks, satellite: Integers, point: Integers, fractions: Floats) -> Motion:
    """Of each satellite index (n,) at the same fractions (m,) of the step after a grid point, (n,).

    Shape (n, m, 3). Fractions a little outside 0 to 1 will do.
    """
    eight = _eight(tracks, satellite, point)
    position = np.matmul(_horner(_COEFFICIENTS, fractions), eight)
    velocity = np.matmul(_horner(_SLOPES, fractions) / tracks.step_s, eight)
    return Motion(position, velocity)


def _horner(coefficients: Floats, u: Floats) -> Floats:
    # Polynomials (powers, nodes) at u (n,): shape (n, nodes).
    value = np.broadcast_to(coefficients[-1], (len(u), coefficients.shape[1]))
    for row in coefficients[-2::-1]:
        value = value * u[:, np.newaxis] + row
    return value


def _eight(tracks: Tracks, satellite: Integers, left: Integers) -> Floats:
    # The eight positions around each instant, (n, 8, 3), copied a row at once as in `Tracks.at`.
    flat = tracks.padded_km.reshape(-1)
    rows = np.lib.stride_tricks.sliding_window_view(flat, 3 * len(_NODES))[::3]
    eight: Floats = rows[satellite * np.int64(tracks.padded_km.shape[1]) + left]
    return eight.reshape(-1, len(_NODES), 3)
