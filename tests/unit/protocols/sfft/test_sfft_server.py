"""What the server makes of words of satellites that miss each other."""

from __future__ import annotations

import numpy as np

from orbitrain.machine import Action, Send
from orbitrain.v1 import sfft_pb2 as wire
from tests.trace.sfft_world import NumpyEngine, backhaul, params_of, plan_of, reference, rings, world
from tests.unit.protocols.sfft.roles import END_S, server, status, told


def begun(actions: list[Action]) -> list[list[str]]:
    """Participants of each round, or attempt, that begins with these."""
    rounds = [one.message for one in actions if isinstance(one, Send) and isinstance(one.message, wire.Round)]
    return [list(one.participants) for one in rounds]


def test_an_attempt_goes_on_without_those_whom_a_neighbour_misses() -> None:
    actions = told(server(), "gs", status("a-1", serial=2, absent=("a-0",)))
    assert begun(actions) == [["a-1", "a-2", "b-0", "b-1"]]


def test_two_satellites_that_miss_each_other_cost_the_one_that_goes_on_no_round() -> None:
    engine = NumpyEngine()
    params = params_of([2], engine, rounds=5)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += [("feeder", (f"a-{n % 2}", "gs", 10.0 + 40 * n, 45.0 + 40 * n)) for n in range(24)]
    true = [("intra_isl", ("a-0", "a-1", 0.0, 20.0)), *spells[1:]]
    ran = world(plan_of(params, spells, END_S), params, engine, truth=plan_of(params, true, END_S)).run()
    assert ran.simulation.dead_letters == 0
    assert len(ran.heads()) == 5
    np.testing.assert_allclose(ran.head(), reference(ran.participants(), 6), rtol=0, atol=1e-12)
