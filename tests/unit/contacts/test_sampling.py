"""Samples: whatever the state does, what a plan says between two of them is within the tolerances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.sampling import (
    BURST_TOLERANCE,
    DELAY_TOLERANCE_NS,
    LOSS_TOLERANCE,
    RATE_TOLERANCE,
    Integers,
    Phase,
    States,
    phases,
    samples,
)

S = 1_000_000_000


def overhead(category: Integers, t_ns: Integers) -> States:
    """A pass of 600 s, 550 km overhead in the middle, with a rate and a loss that follow the range."""
    along_km = 7.5 * (t_ns / S - 300.0)
    range_km = np.hypot(550.0, along_km)
    rate = 2e6 * category * np.log2(1.0 + 3.0 * (550.0 / range_km) ** 2)
    loss = 0.4 * (1.0 - 550.0 / range_km)
    return States(range_km / 299_792.458 * S, rate, loss, 1.0 + 30.0 * loss)


def ring(category: Integers, t_ns: Integers) -> States:
    """A day between two satellites of neighbouring planes: near at the crossings, far over the equator."""
    range_km = 900.0 + 700.0 * np.cos(2 * math.pi * t_ns / (2_870 * S))
    one = np.ones(len(t_ns))
    return States(range_km / 299_792.458 * S, one * 1e9, 0 * one, one)


def within(contact: Contact, states_at: object, edges: list[Phase], every_ns: int) -> None:
    for start_ns, end_ns, category in edges:
        t_ns = np.arange(start_ns, end_ns, every_ns)
        truth = states_at(np.full(len(t_ns), category), t_ns)  # type: ignore[operator]
        for n, t in enumerate(t_ns.tolist()):
            sample: Sample = contact.sample_at(t)
            assert abs(sample.delay_ns - truth.delay_ns[n]) <= DELAY_TOLERANCE_NS
            assert abs(sample.rate_bps - truth.rate_bps[n]) <= RATE_TOLERANCE * truth.rate_bps[n] + 1
            assert abs(sample.loss_mean - truth.loss_mean[n]) <= LOSS_TOLERANCE * 1.2
            assert abs(sample.loss_burst - truth.loss_burst[n]) <= BURST_TOLERANCE * truth.loss_burst[n] * 1.2


def test_a_pass_is_within_the_tolerances_everywhere() -> None:
    edges = [(0, 600 * S, 1)]
    found = samples(overhead, edges)
    within(Contact("a", "b", "service", 0, 600 * S, found), overhead, edges, 333_000_000)
    assert found[0].t_ns == 0 and found[-1].t_ns == 600 * S
    assert len(found) < 200  # loss is held, not interpolated, and changes by 0.28 in all, up and down


def test_a_day_long_link_is_within_the_tolerances_and_not_sampled_every_second() -> None:
    edges = [(0, 86_400 * S, 1)]
    found = samples(ring, edges)
    within(Contact("a", "b", "inter_isl", 0, 86_400 * S, found), ring, edges, 7_777_000_000)
    assert len(found) < 1_000


def test_a_step_of_the_rate_is_a_nanosecond_wide() -> None:
    edges = [(0, 200 * S, 1), (200 * S, 600 * S, 3)]
    found = samples(overhead, edges)
    contact = Contact("a", "b", "service", 0, 600 * S, found)
    within(contact, overhead, edges, 333_000_000)
    assert contact.rate_bps_at(200 * S) == pytest.approx(3 * contact.rate_bps_at(200 * S - 1), rel=1e-3)
    assert [sample.t_ns for sample in found if abs(sample.t_ns - 200 * S) < 2] == [200 * S - 1, 200 * S]


def test_a_state_that_never_changes_has_two_samples() -> None:
    def still(category: Integers, t_ns: Integers) -> States:
        one = np.ones(len(t_ns))
        return States(one * 1e6, one * 5e6, 0 * one, one)

    assert [sample.t_ns for sample in samples(still, [(5, 100 * S, 1)])] == [5, 100 * S]
    assert [sample.t_ns for sample in samples(still, [(0, 1, 1), (1, 10, 2)])] == [0, 1, 10]


def test_phases_change_where_the_category_does_to_the_millisecond() -> None:
    def category(t_ns: Integers) -> Integers:
        return np.searchsorted(np.array([10_000_500_000, 17 * S, 500 * S]), t_ns, side="right")

    assert phases(category, 3, 600 * S) == [
        (3, 10_001_000_000, 0),
        (10_001_000_000, 17 * S, 1),
        (17 * S, 500 * S, 2),
        (500 * S, 600 * S, 3),
    ]
    assert phases(category, 100 * S, 200 * S) == [(100 * S, 200 * S, 2)]


def test_phases_of_a_contact_shorter_than_a_millisecond_are_one() -> None:
    assert phases(lambda t_ns: (t_ns >= 7).astype(np.int64), 0, 10) in ([(0, 10, 0)], [(0, 10, 1)])
