"""Commands given to a node in virtual time, also to one that is down or dies."""

from __future__ import annotations

from orbitrain.machine import CommandReceived
from orbitrain.sim import CrashPoint, Simulation
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import DEVICE, heard, plan, simulate


def test_a_command_reaches_its_machine_with_its_objects_and_a_node_that_is_down_takes_none() -> None:
    taken: list[bool] = []
    command = CommandReceived("send", {}, ("fresh",))

    def faults(simulation: Simulation) -> None:
        def give() -> None:
            taken.append(simulation.command(DEVICE, "role", command))

        simulation.at(5 * SECOND_NS, give)
        simulation.at(10 * SECOND_NS, lambda: simulation.kill(DEVICE))
        simulation.at(11 * SECOND_NS, give)
        simulation.at(20 * SECOND_NS, give)

    found = simulate(plan((60, 70)), {}, faults)
    assert taken == [True, False, True]
    assert [line for line in heard(found, DEVICE) if "Command" in line] == [
        "5: CommandReceived",
        "20: CommandReceived",
    ]
    assert "fresh" in found.holds(DEVICE)


def test_a_command_whose_node_dies_before_the_commit_is_lost() -> None:
    for point, kept in ((CrashPoint.BEFORE_COMMIT, 0), (CrashPoint.AFTER_COMMIT, 1)):

        def faults(simulation: Simulation, point: CrashPoint = point) -> None:
            simulation.crash = lambda node, step, at: (node, step, at) == (DEVICE, 1, point)
            give = CommandReceived("send", {}, ("fresh",))
            simulation.at(5 * SECOND_NS, lambda: simulation.command(DEVICE, "role", give) and None)

        found = simulate(plan((60, 70)), {}, faults)
        assert len([line for line in heard(found, DEVICE) if "Command" in line]) == kept
