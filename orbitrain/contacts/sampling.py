"""Samples of a link's state: few, and close enough that what a plan says between them is right.

A plan runs delay and rate linearly from sample to sample and holds loss until the next. The state itself is a
function of time, smooth but for steps (another modulation, another sharer of a beam). `samples` places knots
where the state bends, holds them to the tolerances on a dense grid, and puts two knots a nanosecond apart
where it steps. `phases` finds the steps.

The dense grid has a point a second for a pass, and at most `SPACING_NS` between two for contacts of hours.
What happens twice between two of its points is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.contact import Sample
from orbitrain.contacts.geometry import Floats, Integers

# A fortieth of the shortest delay from 550 km, and what the timers of a link shaper can follow.
DELAY_TOLERANCE_NS: Final = 50_000
# Of the rate: well below what fading and weather do to it.
RATE_TOLERANCE: Final = 0.01
# Of the fraction of packets lost, which holds between samples; and of the length of a run of losses.
LOSS_TOLERANCE: Final = 0.005
BURST_TOLERANCE: Final = 0.25

# Knots and edges are whole milliseconds: the last bits of a cosine on another machine do not change a plan.
EDGE_NS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
# In 20 s the delay between two satellites bends by a tenth of its tolerance.
SPACING_NS: Final = 20 * _NS_PER_S
_LONG_NS: Final = 1800 * _NS_PER_S
_FEWEST: Final = 9


@dataclass(frozen=True, slots=True)
class States:
    """A link at n instants, each of shape (n,): delay in ns, rate in bit/s, loss as in `contact.Sample`."""

    delay_ns: Floats
    rate_bps: Floats
    loss_mean: Floats
    loss_burst: Floats


Phase = tuple[int, int, int]
"""(start_ns, end_ns, category), end excluded. Within a phase the state is smooth."""

StateAt = Callable[[Integers, Integers], States]
"""From categories and instants in ns of scenario time, each in a phase of its category."""


def phases(category_at: Callable[[Integers], Integers], start_ns: int, end_ns: int) -> list[Phase]:
    """The window cut where a whole-number function of time changes; inner edges are whole milliseconds.

    An edge is the first whole millisecond at which the later category holds.
    """
    dense_ns = dense(start_ns, end_ns)
    category = category_at(dense_ns)
    left = np.flatnonzero(category[1:] != category[:-1])
    # Bisected in whole milliseconds: `low` is before the edge, `high` is not.
    low, high = dense_ns[left] // EDGE_NS, -(-dense_ns[left + 1] // EDGE_NS)
    before = category[left]
    while len(left) and int(np.max(high - low)) > 1:
        middle = (low + high) // 2
        same = category_at(np.clip(middle * EDGE_NS, start_ns, end_ns)) == before
        low, high = np.where(same, middle, low), np.where(same, high, np.maximum(middle, low + 1))
    edges_ns = np.clip(high * EDGE_NS, start_ns, end_ns)
    found: list[Phase] = []
    since_ns, now = start_ns, int(category[0])
    for edge_ns, after in zip(edges_ns.tolist(), category[left + 1].tolist(), strict=True):
        if edge_ns > since_ns:
            found.append((since_ns, edge_ns, now))
            since_ns = edge_ns
        now = after
    if end_ns > since_ns:
        found.append((since_ns, end_ns, now))
    return found


def samples(
    state_at: StateAt, contact: Sequence[Phase], near_at: StateAt | None = None
) -> tuple[Sample, ...]:
    """Samples of a contact through its phases, each beginning where the one before ends.

    `near_at` is a quicker stand-in, right to a small part of the tolerances, by which the knots are chosen.
    """
    knots: list[Integers] = []
    categories: list[int] = []
    for index, (start_ns, end_ns, category) in enumerate(contact):
        last_ns = end_ns if index == len(contact) - 1 else end_ns - 1
        knots.append(_knots(near_at or state_at, category, start_ns, last_ns))
        categories += [category] * len(knots[-1])
    return _as_samples(state_at, np.array(categories), np.concatenate(knots))


def _knots(state_at: StateAt, category: int, start_ns: int, end_ns: int) -> Integers:
    # A chord over h seconds is off by h^2 / 8 times the second derivative, what is held by h times the first:
    # knots at equal steps of the integral of the tolerances' share error evenly, which is nearly the fewest
    # knots. The dense grid then proves it, and knots are added until it holds.
    if end_ns - start_ns < 2 * EDGE_NS:
        return np.unique(np.array([start_ns, end_ns]))
    dense_ns = dense(start_ns, end_ns)
    truth = state_at(np.full(len(dense_ns), category), dense_ns)
    density = _density(truth, float(dense_ns[1] - dense_ns[0]))
    pieces = (density[1:] + density[:-1]) / 2 * np.diff(dense_ns)
    spent = np.concatenate(([0.0], np.cumsum(pieces)))
    intervals = max(1, math.ceil(float(spent[-1])))
    while True:
        inner = np.interp(np.linspace(0, float(spent[-1]), intervals + 1)[1:-1], spent, dense_ns)
        middle_ns = np.unique(np.round(inner / EDGE_NS).astype(np.int64) * EDGE_NS)
        middle_ns = middle_ns[(middle_ns > start_ns) & (middle_ns < end_ns)]
        knots_ns = np.concatenate(([start_ns], middle_ns, [end_ns]))
        at_knots = state_at(np.full(len(knots_ns), category), knots_ns)
        if intervals >= len(dense_ns) or _close(dense_ns, truth, knots_ns, at_knots):
            return knots_ns
        intervals += max(1, intervals // 8)


def dense(start_ns: int, end_ns: int) -> Integers:
    """The instants at which a window is looked at, both ends among them."""
    length_ns = end_ns - start_ns
    spacing_ns = _NS_PER_S if length_ns <= _LONG_NS else SPACING_NS
    points = max(_FEWEST, math.ceil(length_ns / spacing_ns) + 1)
    return np.round(np.linspace(start_ns, end_ns, points)).astype(np.int64)


def _density(truth: States, spacing_ns: float) -> Floats:
    bends = np.sqrt(_bend(truth.delay_ns) / (8 * DELAY_TOLERANCE_NS))
    rate = np.maximum(truth.rate_bps, 1.0)
    bends = np.maximum(bends, np.sqrt(_bend(truth.rate_bps) / (8 * RATE_TOLERANCE * rate)))
    held = _slope(truth.loss_mean) / LOSS_TOLERANCE
    held = np.maximum(held, _slope(truth.loss_burst) / (BURST_TOLERANCE * truth.loss_burst))
    density: Floats = np.maximum(bends, held) / spacing_ns
    return density


def _bend(values: Floats) -> Floats:
    inner = np.abs(np.diff(values, 2))
    return np.concatenate(([inner[0]], inner, [inner[-1]]))


def _slope(values: Floats) -> Floats:
    return np.abs(np.gradient(values))


def _close(dense_ns: Integers, truth: States, knots_ns: Integers, at_knots: States) -> bool:
    # The 1 % leaves room for what lies between two dense points and for rounding to whole ns.
    delay_ns = np.interp(dense_ns, knots_ns, at_knots.delay_ns)
    rate_bps = np.interp(dense_ns, knots_ns, at_knots.rate_bps)
    held = np.maximum(np.searchsorted(knots_ns, dense_ns, side="right") - 1, 0)
    mean, burst = at_knots.loss_mean[held], at_knots.loss_burst[held]
    return bool(
        np.max(np.abs(delay_ns - truth.delay_ns)) <= 0.99 * DELAY_TOLERANCE_NS
        and np.all(np.abs(rate_bps - truth.rate_bps) <= 0.99 * RATE_TOLERANCE * truth.rate_bps + 1)
        and np.max(np.abs(mean - truth.loss_mean)) <= LOSS_TOLERANCE
        and np.all(np.abs(burst - truth.loss_burst) <= BURST_TOLERANCE * truth.loss_burst)
    )


def _as_samples(state_at: StateAt, categories: Integers, knots_ns: Integers) -> tuple[Sample, ...]:
    at = state_at(categories, knots_ns)
    rows = zip(
        knots_ns.tolist(),
        at.delay_ns.tolist(),
        at.rate_bps.tolist(),
        at.loss_mean.tolist(),
        at.loss_burst.tolist(),
        strict=True,
    )
    # Loss to six digits: more is noise, and a file's size.
    return tuple(
        Sample(t_ns, round(delay_ns), max(1, int(rate_bps)), round(mean, 6), round(burst, 3))
        for t_ns, delay_ns, rate_bps, mean, burst in rows
    )
