"""What a custodian of bundles is told of the plan: the first leg, with what is promised taken off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.mailbox import ENVELOPE_BYTES
from orbitrain.protocols.bundles import Leg
from orbitrain.routes import PlanRoutes, trimmed

S = 1_000_000_000
NODES = tuple(PlanNode(name, "satellite") for name in ("a", "b", "c", "d"))
RATE_BPS = 8_000


def contact(pair: str, start_s: int, end_s: int, rate_bps: int = RATE_BPS) -> Contact:
    samples = (Sample(start_s * S, 1_000, rate_bps, 0.0, 1.0),)
    return Contact(pair[0], pair[1], "inter_isl", start_s * S, end_s * S, samples)


def routes(*contacts: Contact, acquisition_s: int = 0, error_s: int = 0) -> PlanRoutes:
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1000 * S, NODES, contacts)
    return PlanRoutes(plan, "a", acquisition_s * S, error_s * S)


def of(kilobytes: int) -> int:
    """Bytes of a file whose letter takes as many seconds."""
    return kilobytes * 1000 - ENVELOPE_BYTES


def test_the_first_leg_is_that_of_the_earliest_arrival() -> None:
    ways = routes(contact("ad", 100, 200), contact("ab", 0, 10), contact("bd", 20, 30))
    assert ways.leg("x", "d", 0, of(5), ()) == Leg("b", 10 * S)
    assert ways.leg("x", "d", 0, of(5), {"a", "b"}) == Leg("d", 200 * S)
    assert ways.leg("x", "d", 0, of(5), {"a", "d"}) is None
    assert ways.leg("x", "d", 6 * S, of(5), ()) == Leg("d", 200 * S)
    assert ways.leg("x", "c", 0, of(1), ()) is None
    assert ways.leg("x", "moon", 0, of(1), ()) is None
    assert (ways.knows("d"), ways.knows("moon")) == (True, False)


def test_what_is_promised_to_one_bundle_is_not_anothers() -> None:
    ways = routes(contact("ab", 0, 10), contact("bd", 0, 50), contact("ad", 100, 200))
    assert ways.leg("x", "d", 0, of(6), ()) == Leg("b", 10 * S)
    assert ways.leg("y", "d", 0, of(6), ()) == Leg("d", 200 * S)
    assert ways.leg("x", "d", 0, of(6), ()) == Leg("b", 10 * S)  # its own is given back first
    ways.release("x")
    ways.release("never heard of")
    assert ways.leg("y", "d", 0, of(6), ()) == Leg("b", 10 * S)


def test_what_no_contact_has_room_for_goes_over_several() -> None:
    ways = routes(contact("ad", 0, 10), contact("ad", 20, 30))
    assert ways.leg("x", "d", 0, of(15), ()) == Leg("d", 10 * S)
    assert ways.leg("y", "d", 12 * S, of(15), ()) is None
    assert ways.leg("z", "d", 0, of(8), ()) == Leg("d", 10 * S)  # what goes in parts is promised nothing
    assert ways.leg("w", "d", 0, of(8), ()) == Leg("d", 30 * S)


def test_another_plan_is_asked_from_when_it_is_followed_and_nothing_of_it_is_promised() -> None:
    ways = routes(contact("ad", 0, 10))
    ways.leg("x", "d", 0, of(10), ())
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1000 * S, NODES[1:], (contact("bd", 0, 9),))
    follow = ways.prepare(plan)
    assert (ways.leg("x", "d", 0, of(1), ()), ways.knows("a")) == (Leg("d", 10 * S), True)
    follow()
    assert (ways.leg("x", "d", 0, of(1), ()), ways.knows("a")) == (None, False)
    ways.follow(ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1000 * S, NODES, (contact("ad", 0, 10),)))
    assert ways.leg("y", "d", 0, of(10), ()) == Leg("d", 10 * S)


def test_a_contact_is_counted_on_once_it_is_confirmed_and_away_from_its_edges() -> None:
    edges = contact("ad", 10, 30)
    ways = routes(edges, acquisition_s=5, error_s=2)
    assert ways.leg("x", "d", 0, of(11), ()) == Leg("d", 28 * S)  # 17 to 28
    assert ways.leg("x", "d", 18 * S, of(11), ()) is None
    assert routes(contact("ad", 10, 19), acquisition_s=5, error_s=2).leg("x", "d", 0, of(1), ()) is None


@pytest.mark.parametrize(("before_s", "after_s"), [(0, 0), (1, 0), (0, 3), (4, 4), (9, 0)])
def test_what_is_left_of_a_contact_is_as_it_was(before_s: int, after_s: int) -> None:
    samples = tuple(
        Sample((10 + n) * S, 5_000_000 - n * 1_000, 1_000_000 + n * n * 7_000, n / 20, 1.0)
        for n in (0, 2, 5, 10)
    )
    whole = Contact("a", "b", "inter_isl", 10 * S, 20 * S, samples)
    cut = trimmed(whole, before_s * S, after_s * S)
    assert cut is not None
    assert (cut.start_ns, cut.end_ns) == ((10 + before_s) * S, (20 - after_s) * S)
    assert cut == replace(whole, start_ns=cut.start_ns, end_ns=cut.end_ns, samples=cut.samples)
    for t_ns in range(cut.start_ns, cut.end_ns + 1, S // 4):
        assert abs(cut.rate_bps_at(t_ns) - whole.rate_bps_at(t_ns)) <= 1
        assert abs(cut.delay_ns_at(t_ns) - whole.delay_ns_at(t_ns)) <= 1
        assert cut.sample_at(t_ns).loss_mean == whole.sample_at(t_ns).loss_mean


def test_nothing_is_left_of_a_contact_shorter_than_its_edges() -> None:
    short = contact("ab", 10, 20)
    assert trimmed(short, 6 * S, 4 * S) is None
    assert trimmed(short, 6 * S, 4 * S - 1) is not None
    assert trimmed(short, 60 * S, 0) is None
