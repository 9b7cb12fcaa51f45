"""Contacts come when they truly do, whatever is believed; letters that this cuts off end once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from orbitrain.machine import Action, ContactStarted, Input, Withdraw
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import DEVICE, heard, letter, plan, simulate


def test_a_contact_too_short_to_be_confirmed_is_none() -> None:
    assert heard(simulate(plan((10, 11)), {1: [letter("a")]}), "sat") == []


def test_contacts_come_when_they_truly_do_whatever_is_believed() -> None:
    found = simulate(plan((10, 30), (50, 70)), {1: [letter("a")]}, truth=plan((15, 25), (35, 45)))
    assert heard(found, "sat") == [
        "16: ContactStarted home-0",
        "18: Acknowledged a",
        "25: ContactEnded home-0",
        "36: ContactStarted home-0",
        "45: ContactEnded home-0",
    ]


def test_the_end_of_a_contact_is_told_as_it_is_believed_and_not_at_all_if_it_is_not() -> None:
    ends: dict[int, int | None] = {}

    def note(item: Input, second: int) -> Iterable[Action]:
        if isinstance(item, ContactStarted):
            ends[second] = item.end_ns
        return ()

    simulate(plan((10, 30)), {}, answers=note, truth=plan((15, 25), (35, 45)))
    assert ends == {16: 30 * SECOND_NS, 36: None}


def test_a_letter_cut_off_never_arrives_and_is_delivered_once_at_the_next_contact() -> None:
    """Believed to have time; sending its objects takes four seconds more than there truly are."""
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))]}
    found = simulate(plan((10, 60)), sends, truth=plan((10, 15), (40, 60)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["44: Delivered a"]
    assert [line for line in heard(found, "sat") if "Acknowledged" in line] == ["45: Acknowledged a"]


def test_a_letter_whose_answer_is_cut_off_has_arrived_and_is_known_at_the_next_contact() -> None:
    found = simulate(plan((10, 60)), {1: [letter("a")]}, truth=plan((10, 13), (40, 60)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["12: Delivered a"]
    assert [line for line in heard(found, "sat") if "Acknowledged" in line] == ["43: Acknowledged a"]


@pytest.mark.parametrize(("objects", "ends_s"), [(6, 20), (4, 43)])
def test_a_letter_withdrawn_after_it_was_cut_off_is_not_delivered(objects: int, ends_s: int) -> None:
    """Cut with its objects still going out it is the sender's; cut when it was out itself it is in doubt."""
    sends: dict[int, list[Action]] = {
        1: [letter("a", *(f"x{n}" for n in range(objects)))],
        20: [Withdraw("a")],
    }
    found = simulate(plan((10, 60)), sends, truth=plan((10, 15 if objects == 6 else 16), (40, 60)))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert f"{ends_s}: Undelivered a withdrawn" in heard(found, "sat")


def test_what_does_not_fit_by_the_believed_end_is_tried_when_the_link_outlasts_it() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))]}
    found = simulate(plan((10, 16)), sends, truth=plan((10, 40)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["18: Delivered a"]
