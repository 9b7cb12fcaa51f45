"""What a node reckons with on real links: as planned, or, without a plan, as measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orbitrain.contacts.always import EPOCH, always_in_contact
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.runtime.allowance import QUEUE_FACTOR
from orbitrain.runtime.outlook import Outlook, RealLinks
from orbitrain.runtime.peer import Peer
from orbitrain.runtime.transfers import Transfers
from orbitrain.transport.objects import Meter

S = 1_000_000_000


def a_pass(epoch: str = "2026-01-01T00:00:00Z") -> ContactPlan:
    """A pass from 64 kbit/s at the horizon to 50 Mbit/s overhead, and back."""
    samples = tuple(
        Sample(t_s * S, 0, bps, 0.0, 1.0) for t_s, bps in ((0, 64_000), (50, 50_000_000), (100, 64_000))
    )
    contacts = tuple(Contact(*ends, "service", 0, 100 * S, samples) for ends in (("a", "b"), ("b", "a")))
    nodes = (PlanNode("a", "device"), PlanNode("b", "satellite"))
    return ContactPlan(1, "ab" * 32, epoch, 100 * S, nodes, contacts)


def at(plan: ContactPlan, t_s: float, real: RealLinks) -> tuple[Outlook, Transfers]:
    clock = SimpleNamespace(now_ns=lambda: round(t_s * S), rate=1.0)
    driver: Any = SimpleNamespace(
        clock=clock, latest_ns=0, plan=plan, core=SimpleNamespace(node="a"), real=real
    )
    outlook = Outlook(driver, real, 0)
    return outlook, Transfers(driver, outlook, 0, lambda peer, incarnation: None)


def peer(meter: Meter | None = None) -> Peer:
    here: Any = SimpleNamespace(name="b", meter=meter or Meter())
    return here  # type: ignore[no-any-return]


@pytest.mark.parametrize("t_s", [0.0, 20.0, 50.0])
def test_a_queue_lasts_as_long_as_the_rate_of_its_window_says(t_s: float) -> None:
    _, transfers = at(a_pass(), t_s, RealLinks())
    window_s = (
        8 * transfers.allowance.pace(peer()).window_bytes / a_pass().contacts[0].rate_bps_at(round(t_s * S))
    )
    assert transfers.allowance.queue_s(peer()) == pytest.approx(QUEUE_FACTOR * window_s)


def test_a_queue_of_a_link_that_nobody_has_measured_is_taken_for_that_of_the_slowest() -> None:
    _, transfers = at(always_in_contact("a", "device", ["b"]), 0.0, RealLinks(planned=False))
    window_bytes = transfers.allowance.pace(peer()).window_bytes
    assert transfers.allowance.queue_s(peer()) == pytest.approx(QUEUE_FACTOR * 8 * window_bytes / 64_000)
    meter = Meter()
    meter.heard(0.0, 0)
    meter.heard(2.0, 4_000_000)
    window_bytes = transfers.allowance.pace(peer(meter)).window_bytes
    assert transfers.allowance.queue_s(peer(meter)) == pytest.approx(QUEUE_FACTOR * 8 * window_bytes / 16e6)


def test_a_plan_is_a_plan_whatever_its_epoch() -> None:
    """Also from the instant on in which nodes without one tell their time."""
    _, transfers = at(a_pass(EPOCH), 50.0, RealLinks())
    assert transfers.allowance.pace(peer()) == at(a_pass(), 50.0, RealLinks())[1].allowance.pace(peer())
    assert transfers.allowance.pace(peer()).chunk_bytes > 1_000_000


def test_a_trip_is_as_planned_or_without_a_plan_the_shortest_measured() -> None:
    planned, _ = at(a_pass(), 0.0, RealLinks())
    planned.took("b", 0.5)
    assert planned.expected_trip_s("b", 8_000) == 1.0
    outlook, _ = at(always_in_contact("a", "device", ["b"]), 0.0, RealLinks(planned=False))
    assert outlook.expected_trip_s("b", 8_000) == outlook.trip_wall_s("b", 8_000) == 1.6
    outlook.took("b", 0.5)
    outlook.took("b", 0.7)
    assert outlook.expected_trip_s("b", 8_000) == 0.5
