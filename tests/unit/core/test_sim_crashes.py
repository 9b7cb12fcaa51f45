"""Nodes that crash, or lose their disks, in the middle of letters and contacts."""

from __future__ import annotations

import pytest

from orbitrain.machine import Action
from orbitrain.sim import CrashPoint
from tests.unit.core.two_nodes import DEVICE, crash, heard, kill, letter, plan, simulate


@pytest.mark.parametrize(("who", "delivered_s"), [("sat", 26), (DEVICE, 31)])
def test_what_has_arrived_when_either_end_dies_need_not_come_again(who: str, delivered_s: int) -> None:
    """Of ten objects five are there at 16. Back at 19, a sender goes on at 20; one that waits for its answer
    asks for it at 24."""
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(10)))]}
    found = simulate(plan((10, 60)), sends, kill(16, who))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == [f"{delivered_s}: Delivered a"]


@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_receiver_that_crashes_takes_a_letter_once(step: int, point: CrashPoint) -> None:
    found = simulate(plan((10, 60)), {1: [letter("a"), letter("b")]}, crash(DEVICE, step, point))
    assert [line.split(": ")[1] for line in heard(found, DEVICE) if "Delivered" in line] == [
        "Delivered a",
        "Delivered b",
    ]
    assert [line.split(": ")[1] for line in heard(found, "sat") if "Acknow" in line] == [
        "Acknowledged a",
        "Acknowledged b",
    ]


@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_letter_of_a_sender_that_crashes_is_delivered_once(step: int, point: CrashPoint) -> None:
    found = simulate(plan((10, 60)), {1: [letter("a"), letter("b")]}, crash("sat", step, point))
    assert [line.split(": ")[1] for line in heard(found, DEVICE) if "Delivered" in line] == [
        "Delivered a",
        "Delivered b",
    ]
    assert [line.split(": ")[1] for line in heard(found, "sat") if "Acknow" in line] == [
        "Acknowledged a",
        "Acknowledged b",
    ]


def test_a_transfer_does_not_survive_the_crash_of_its_receiver() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(9)))]}
    found = simulate(plan((10, 60)), sends, kill(12, DEVICE))
    calm = simulate(plan((10, 60)), sends)
    assert "21: Delivered a" in heard(calm, DEVICE)
    arrived = next(int(line.split(":")[0]) for line in heard(found, DEVICE) if "Delivered" in line)
    assert arrived >= 16 + 10


def test_a_node_that_lost_its_disk_begins_contacts_and_mailboxes_anew() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a")], 30: [letter("b")]}
    found = simulate(plan((10, 60)), sends, kill(20, DEVICE, lose_disk=True))
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "24: ContactEnded home-0",
        "24: ContactStarted home-0",
        "32: Acknowledged b",
        "60: ContactEnded home-0",
    ]
    assert found.journal(DEVICE).load().incarnation != "sim-2"


@pytest.mark.parametrize("down", [7, 8, 9])
def test_a_node_that_is_back_about_when_a_contact_is_acquired_still_meets(down: int) -> None:
    """Down at 7, 8 and 9: back before, at and after the instant at which the contact is confirmed."""
    found = simulate(plan((10, 60)), {1: [letter("a")]}, kill(down, DEVICE))
    assert any("Acknowledged a" in line for line in heard(found, "sat"))
