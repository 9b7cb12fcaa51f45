"""The plan of a node without one, and what it is asked."""

from __future__ import annotations

from orbitrain.contacts.always import DELAY_NS, DURATION_NS, RATE_BPS, always_in_contact
from orbitrain.contacts.compact import compact, read_plan
from orbitrain.contacts.routing import earliest_arrival

AGE_NS = 27 * 366 * 86_400 * 10**9


def test_every_peer_is_in_contact_both_ways_for_good() -> None:
    plan = always_in_contact("me", "device", ["b", "a", "b", "me"])
    assert [node.name for node in plan.nodes] == ["me", "a", "b"]
    assert plan.neighbours("me") == ("a", "b")
    for t_ns in (0, AGE_NS, DURATION_NS - 1):
        for peer in ("a", "b"):
            assert plan.active("me", peer, t_ns) and plan.active(peer, "me", t_ns)
    assert plan.windows("me", "a") == ((0, DURATION_NS),)
    assert plan.windows("a", "b") == ()


def test_who_has_no_peers_is_alone() -> None:
    plan = always_in_contact("me", "ground", [])
    assert [(node.name, node.kind) for node in plan.nodes] == [("me", "ground")]
    assert plan.contacts == ()


def test_a_file_of_any_size_has_a_route_now_and_arithmetic_holds() -> None:
    plan = always_in_contact("me", "device", ["a"])
    for size_bytes in (0, 1, 1 << 40):
        route = earliest_arrival(plan, "me", "a", AGE_NS, size_bytes)
        assert route is not None
        assert route[0].start_ns == AGE_NS
        assert route[0].finish_ns == AGE_NS + size_bytes * 8 * 10**9 // RATE_BPS
        assert route[0].arrival_ns == route[0].finish_ns + DELAY_NS
    assert earliest_arrival(plan, "me", "stranger", AGE_NS, 1) is None


def test_it_is_a_plan_as_any_other() -> None:
    plan = always_in_contact("me", "device", ["a", "b"])
    assert read_plan(plan.to_json()) == plan
    assert read_plan(compact(plan)) == plan
    assert always_in_contact("me", "device", ["b", "a"]).sha256 == plan.sha256
