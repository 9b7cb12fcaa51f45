"""Orders to send a file: which are taken into custody, and what the others are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orbitrain.machine import Acknowledged, CommandReceived, Lane
from orbitrain.protocols.bundles import PRIORITIES, ROLE, Order, OrderError, order_of
from tests.unit.protocols.custody import (
    DIGEST,
    NOW,
    RELAY,
    S,
    bundle,
    command,
    deeds,
    fields,
    held,
    letter,
    node,
    offered,
    reports,
)


def test_an_order_is_taken_into_custody_and_sent_to_the_first_on_the_way() -> None:
    machine, ways = node()
    done = machine.handle(command(), NOW)
    assert reports(done) == ["bundle_queued", "bundle_routed"]
    sent = letter(done)
    assert (sent.to, sent.role, sent.lane, sent.objects) == ("relay", ROLE, Lane.UPDATE, (DIGEST,))
    assert sent.message == bundle(source="home", created_ns=NOW, custodians=["home"])
    assert machine.snapshot()[1] == {DIGEST}
    assert machine.deadline_ns() == RELAY.ends_ns
    moved = machine.handle(Acknowledged(sent.key), NOW + S)
    assert fields(moved, "custody_moved")["to"] == "relay"
    assert (held(machine), machine.snapshot()[1], ways.kept) == ([], frozenset(), set())
    assert machine.deadline_ns() is None


def test_a_relay_adds_itself_to_the_custodians_and_keeps_the_priority_and_the_expiry() -> None:
    machine, _ = node()
    sent = letter(offered(machine, bundle(lane=int(Lane.BULK), expires_at_ns=NOW + S)))
    assert list(sent.message.custodians) == ["start", "before", "home"]  # type: ignore[attr-defined]
    assert (sent.lane, sent.expires_at_ns) == (Lane.BULK, NOW + S)


def test_an_order_that_is_repeated_is_taken_once() -> None:
    machine, _ = node()
    assert "bundle_queued" in reports(machine.handle(command("once"), NOW))
    before = machine.snapshot()
    assert reports(machine.handle(command("once"), NOW + S)) == ["bundle_queued_before"]
    assert machine.snapshot() == before
    for token in ("twice", "", ""):
        assert "bundle_queued" in reports(machine.handle(command(token), NOW))
    assert len(held(machine)) == 4


def test_two_long_tokens_that_begin_alike_are_two_orders() -> None:
    machine, _ = node()
    for token in ("x" * 64 + "1", "x" * 64 + "2"):
        assert "bundle_queued" in reports(machine.handle(command(token), NOW))


ORDERS = [
    ({"destination": "moon"}, "'moon' is not a node of the plan"),
    ({"name": "a/b"}, "name: must be printable, without slashes"),
    ({"name": ".."}, "name: must not begin with a dot, nor begin or end with a space"),
    ({"name": ""}, "name: must have 1 to 200 bytes, not 0"),
    ({"name": "\udcff"}, "name: must be UTF-8"),
    ({"lane": 9}, "priority: must be expedited, normal, bulk, not lane 9"),
    ({"lane": 0}, "priority: must be expedited, normal, bulk, not lane 0"),
    ({"expires_at_ns": -1}, "expires: must be 0 to 9223372036854775807 ns, not -1"),
    ({"expires_at_ns": 1 << 63}, "expires: must be 0 to 9223372036854775807 ns, not 9223372036854775808"),
    ({"expires_at_ns": "soon"}, "expires_at_ns: must be a whole number"),
    ({"lane": None}, "lane: must be a whole number"),
]


@pytest.mark.parametrize(("wrong", "why"), ORDERS, ids=[why for _, why in ORDERS])
def test_an_order_that_cannot_be_taken_is_reported_and_changes_nothing(
    wrong: dict[str, Any], why: str
) -> None:
    machine, _ = node()
    before = machine.snapshot()
    done = machine.handle(command("token", **wrong), NOW)
    assert (reports(done), deeds(done)) == (["bundle_refused"], [])
    assert fields(done, "bundle_refused")["reason"] == why
    assert machine.snapshot() == before


def test_an_order_that_lacks_something_says_what() -> None:
    whole = Order("far", "a", Lane.BULK, 5).arguments()
    assert order_of(whole) == Order("far", "a", Lane.BULK, 5)
    for lacking in whole:
        with pytest.raises(OrderError, match=f"^{lacking}: is missing$"):
            order_of({key: value for key, value in whole.items() if key != lacking})
    assert {lane for lane in Lane if lane in PRIORITIES.values()} == {Lane.ACTIVATION, Lane.UPDATE, Lane.BULK}


def test_an_order_without_its_object_is_not_taken() -> None:
    machine, _ = node()
    done = machine.handle(replace(command(), objects=()), NOW)
    assert (reports(done), held(machine)) == (["bundle_refused"], [])


def test_another_command_is_not_for_it() -> None:
    machine, _ = node()
    assert machine.handle(CommandReceived("reboot"), NOW) == []
