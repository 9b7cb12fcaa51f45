"""Channels: what a budget makes of a line over a window - when there is a link, and its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.geometry import LIGHT_SPEED_KM_PER_S, Integers
from orbitrain.contacts.lines import NS_PER_S, Glance, GroundLine, SpaceLine
from orbitrain.contacts.linkbudget import Budget
from orbitrain.contacts.sampling import Phase, States, dense, phases, samples

# A category of `sampling` is sharers times this, and the budget's step.
_STEPS: Final = 1024


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a window in which there is a link."""

    start_ns: int
    end_ns: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Sharers:
    """How many devices are under a satellite: `count[i]` from `since_ns[i]` on; ascending, from 0."""

    since_ns: Integers
    count: Integers

    @staticmethod
    def of(passes: Sequence[tuple[int, int, int]]) -> Sharers:
        """Of passes (start_ns, end_ns, devices)."""
        changes: dict[int, int] = {0: 0}
        for start_ns, end_ns, devices in passes:
            changes[start_ns] = changes.get(start_ns, 0) + devices
            changes[end_ns] = changes.get(end_ns, 0) - devices
        since = sorted(changes)
        return Sharers(np.array(since), np.cumsum([changes[t_ns] for t_ns in since]))

    def within(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int, int]]:
        """(start_ns, end_ns, devices) of each stretch of a window."""
        first = int(np.searchsorted(self.since_ns, start_ns, side="right")) - 1
        last = int(np.searchsorted(self.since_ns, end_ns, side="left"))
        edges = [start_ns, *self.since_ns[first + 1 : last].tolist(), end_ns]
        for index, count in enumerate(self.count[first:last].tolist()):
            yield edges[index], edges[index + 1], count


ALONE: Final = Sharers(np.array([0]), np.array([1]))


def stretches(
    budget: Budget, line: GroundLine | SpaceLine, start_ns: int, end_ns: int, sharers: Sharers = ALONE
) -> list[Stretch]:
    """The parts of a window in which the budget gives a rate, in one direction of the line."""
    glance = Glance.of(line, dense(start_ns, end_ns))
    found = _phases(budget, glance, start_ns, end_ns, sharers)
    exact, near = partial(_states, budget, line), partial(_states, budget, glance)
    return [Stretch(run[0][0], run[-1][1], samples(exact, run, near)) for run in _runs(found)]


def volume_bits(budget: Budget, line: GroundLine | SpaceLine, start_ns: int, end_ns: int) -> int:
    """What can be sent within a window, in one direction, by a device that has the beam to itself."""
    volume = 0
    for part in stretches(budget, line, start_ns, end_ns):
        whole = Contact("a", "b", "service", part.start_ns, part.end_ns, part.samples)
        volume += int(whole.volume_bit_e9(part.start_ns, part.end_ns) // NS_PER_S)
    return volume


def _phases(budget: Budget, line: Glance, from_ns: int, to_ns: int, sharers: Sharers) -> list[Phase]:
    found: list[Phase] = []
    for start_ns, end_ns, count in sharers.within(from_ns, to_ns):
        if budget.capacity == "constant" and budget.doppler_limit_hz is None:
            found.append((start_ns, end_ns, count * _STEPS + 1))
            continue

        def step_at(t_ns: Integers, count: int = count) -> Integers:
            now = line.at(t_ns)
            return budget.at(now.range_km, now.elevation_degrees, now.range_rate_km_per_s, count).step

        for phase_start_ns, phase_end_ns, step in phases(step_at, start_ns, end_ns):
            found.append((phase_start_ns, phase_end_ns, count * _STEPS + step))
    return found


def _runs(found: Sequence[Phase]) -> Iterator[list[Phase]]:
    """Phases with a link that follow each other without a gap."""
    run: list[Phase] = []
    for phase in found:
        if phase[2] % _STEPS:
            run.append(phase)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _states(
    budget: Budget, line: GroundLine | SpaceLine | Glance, category: Integers, t_ns: Integers
) -> States:
    sharers, step = np.divmod(category, _STEPS)
    now = line.at(t_ns)
    delay_ns = now.range_km * (NS_PER_S / LIGHT_SPEED_KM_PER_S)
    at = budget.at(now.range_km, now.elevation_degrees, now.range_rate_km_per_s, sharers, step=step)
    return States(delay_ns, at.rate_bps.astype(np.float64), at.loss_mean, at.loss_burst)
