"""Updates of the plan in a run: when nodes are told, and what their contacts and links do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import spliced
from orbitrain.machine import Action
from orbitrain.sim import CrashPoint, Simulation
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import DEVICE, SETTINGS, Workshop, crash, heard, kill, letter, plan, simulate


def following(current: ContactPlan, at_s: int, *windows: tuple[int, int]) -> ContactPlan:
    return spliced(current, plan(*windows), at_s * SECOND_NS)


def test_an_update_is_told_at_its_instant_and_after_a_crash_when_the_node_is_back() -> None:
    believed = plan((10, 30))
    update = following(believed, 40, (50, 60))

    def fault(simulation: Simulation) -> None:
        simulation.update(40 * SECOND_NS, update)
        kill(39, DEVICE)(simulation)

    found = simulate(believed, {}, fault, truth=plan((10, 30)))
    told = [e for e in found.entries() if e.event.kind == "plan_updated"]
    assert [(e.node, e.event.t_ns // SECOND_NS) for e in told] == [("sat", 40), (DEVICE, 42)]
    assert {(e.event.fields["revision"], e.event.fields["sha256"]) for e in told} == {(1, update.sha256)}
    assert "42: PlanUpdated 1" in heard(found, DEVICE)


@pytest.mark.parametrize("point", list(CrashPoint))
def test_a_crash_in_the_step_that_takes_up_an_update_takes_it_up_once(point: CrashPoint) -> None:
    believed = plan((10, 30))

    def fault(simulation: Simulation) -> None:
        simulation.update(5 * SECOND_NS, following(believed, 5, (10, 30)))
        crash(DEVICE, 1, point)(simulation)

    found = simulate(believed, {1: [letter("a")]}, fault)
    told = [e for e in found.entries() if e.event.kind == "plan_updated" and e.node == DEVICE]
    assert len(told) == 1


def test_a_believed_contact_that_an_update_makes_longer_takes_what_did_not_fit() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))], 14: [letter("b")]}
    believed = plan((10, 18))
    found = simulate(
        believed,
        sends,
        lambda simulation: simulation.update(14 * SECOND_NS, following(believed, 14, (10, 40))),
        truth=plan((10, 40)),
    )
    assert "18: Delivered a" in heard(found, DEVICE)


def test_without_a_true_plan_links_follow_an_update_and_contacts_in_progress_go_on() -> None:
    believed = plan((10, 30), (70, 80))
    update = following(believed, 20, (10, 40), (50, 60))
    found = simulate(
        believed,
        {1: [letter("a")], 35: [letter("b")]},
        lambda simulation: simulation.update(20 * SECOND_NS, update),
    )
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "20: PlanUpdated 1",
        "37: Acknowledged b",
        "40: ContactEnded home-0",
        "51: ContactStarted home-0",
        "60: ContactEnded home-0",
    ]


def test_without_a_true_plan_an_update_ends_a_contact_that_it_does_not_have() -> None:
    believed = plan((10, 30))
    update = following(believed, 20, (50, 60))
    found = simulate(believed, {}, lambda simulation: simulation.update(20 * SECOND_NS, update))
    assert heard(found, "sat")[1:3] == ["20: PlanUpdated 1", "20: ContactEnded home-0"]


def test_an_update_that_does_not_follow_is_refused_also_if_the_one_before_it_waits() -> None:
    believed = plan((10, 30))
    simulation = Simulation(believed, SETTINGS, Workshop())
    first = following(believed, 20, (50, 60))
    simulation.update(20 * SECOND_NS, first)
    with pytest.raises(ValueError, match="plan: it is another plan under the same revision 1"):
        simulation.update(30 * SECOND_NS, following(believed, 20, (50, 70)))
    simulation.update(30 * SECOND_NS, following(first, 30, (50, 70)))
    with pytest.raises(ValueError, match="at_ns: must be after 0, not 0"):
        simulation.update(0, replace(first, revision=9))


def test_an_older_update_does_not_come_after_a_newer_one() -> None:
    believed = plan((10, 30))
    first = following(believed, 20, (50, 60))

    def fault(simulation: Simulation) -> None:
        simulation.update(20 * SECOND_NS, first)
        simulation.update(15 * SECOND_NS, following(first, 15, (70, 80)))

    found = simulate(believed, {}, fault)
    assert [line for line in heard(found, "sat") if "Plan" in line] == ["15: PlanUpdated 2"]
    assert "71: ContactStarted home-0" in heard(found, "sat")
