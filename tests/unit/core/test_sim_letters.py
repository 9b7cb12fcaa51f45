"""Letters over a modelled link: which goes first, and how each ends."""

from __future__ import annotations

from orbitrain.machine import Action, Lane, Send, Withdraw
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import DEVICE, heard, kill, letter, plan, simulate


def test_a_letter_posted_before_the_contact_goes_when_it_is_confirmed() -> None:
    found = simulate(plan((10, 30)), {1: [letter("a")]})
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "30: ContactEnded home-0",
    ]
    assert heard(found, DEVICE) == ["11: ContactStarted sat", "12: Delivered a", "30: ContactEnded sat"]


def test_one_letter_is_in_the_air_at_a_time_and_the_urgent_overtake() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x", "y"), letter("b"), letter("c", lane=Lane.CONTROL)]}
    assert [line for line in heard(simulate(plan((10, 60)), sends), DEVICE) if "Delivered" in line] == [
        "12: Delivered c",
        "17: Delivered a",
        "20: Delivered b",
    ]


def test_a_letter_expires_at_its_sender_if_it_was_never_tried() -> None:
    found = simulate(plan((50, 60)), {1: [letter("a", expires_at_ns=7 * SECOND_NS)]})
    assert heard(found, "sat")[0] == "7: Undelivered a expired"
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]


def test_a_letter_withdrawn_before_it_was_tried_ends_at_once_and_moves_nothing() -> None:
    for second in (5, 20):  # without a contact, and in one
        found = simulate(plan((10, 60)), {second: [letter("a"), Withdraw("a")]})
        assert f"{second}: Undelivered a withdrawn" in heard(found, "sat")
        assert not [entry for entry in found.entries() if entry.event.fields.get("bytes")]


def test_a_letter_withdrawn_in_the_air_may_have_been_delivered() -> None:
    found = simulate(plan((10, 60)), {1: [letter("a", "x", "y")], 12: [Withdraw("a")]})
    assert "14: Delivered a" in heard(found, DEVICE)
    assert "15: Acknowledged a" in heard(found, "sat")


def test_a_letter_withdrawn_in_doubt_ends_when_the_receiver_says_so() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x")], 20: [Withdraw("a")]}
    found = simulate(plan((10, 17), (40, 60)), sends, kill(12, DEVICE))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert "43: Undelivered a withdrawn" in heard(found, "sat")


def test_a_letter_expired_in_doubt_ends_when_the_receiver_says_so() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x", expires_at_ns=30 * SECOND_NS)]}
    found = simulate(plan((10, 17), (40, 60)), sends, kill(12, DEVICE))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert "43: Undelivered a expired" in heard(found, "sat")  # without its object


def test_a_letter_for_a_role_that_is_not_there_is_refused_with_the_reason() -> None:
    stray = Send(DEVICE, "nobody", "a", wire.Poll(), Lane.CONTROL)
    assert "13: Undelivered a refused this node has no role 'nobody'" in heard(
        simulate(plan((10, 60)), {1: [stray]}), "sat"
    )
