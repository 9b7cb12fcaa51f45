"""Both roles of EMS-FL together over tiny plans, line by line against the files of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orbitrain.protocols.emsfl.terms import Algorithm, Shared
from orbitrain.step import Job
from tests.property.emsfl_checks import check
from tests.trace.emsfl_world import FloatEngine, World, in_turn, params_of, world
from tests.trace.world import SECOND_NS, check_trace

HERE = Path(__file__).parent
WORDS = " letter_delivered "
"""Of messages there are reports of their own."""
PAIR = ("east", "west")


def emsfl_masked_gate() -> World:
    """Two clusters in turn with a frozen, masked gate: experts alone go up and down (Algorithm 3)."""
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=2)
    return world(params, engine, in_turn(PAIR, 4), 320)


def emsfl_gate_cycles() -> World:
    """The second of two passes tunes the gate: all experts loaded, experts and gate committed apart."""
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=2, gate_cycles=1)
    return world(params, engine, in_turn(PAIR, 4), 320)


def emsfl_upload_cut() -> World:
    """The second pass ends at 84 s instead of 119 s, amid the uploads; they are completed in the third."""
    engine = FloatEngine()
    params = params_of(("east",), engine, cycles=4)
    believed = {"east": [(0, 39), (80, 119), (160, 199), (240, 279)]}
    true = {"east": [(0, 39), (80, 84), (160, 199), (240, 279)]}
    return world(params, engine, believed, 320, truth=true, rates_bps={"east-0": 30_000, "east-1": 30_000})


def emsfl_resplit() -> World:
    """Experts are given out anew after a commit of each owner: what west has trained meanwhile is refused."""
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=3, resplit_cycles=1)
    return world(params, engine, in_turn(PAIR, 5), 400)


def emsfl_synchronous() -> World:
    """The baseline: the connected cluster alone trains everything, two rounds in contact."""
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=1, algorithm=Algorithm.SYNCHRONOUS, rounds_max=2, masked=False)
    return world(params, engine, in_turn(PAIR, 2), 160)


def emsfl_steps() -> World:
    """Experts of rank 6: in their second pass devices get steps, which a job applies before they train on."""
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=2, rank=6, masked=False)
    return world(params, engine, in_turn(PAIR, 4), 320)


def emsfl_step_that_fails() -> World:
    """The first job of east-0 that applies a step fails: it gets the model whole in the same pass."""
    engine = FloatEngine()
    params = params_of(("east",), engine, cycles=3, rank=6)
    tried: list[str] = []

    def fails(node: str, job: Job) -> str:
        if job.kind != "moe.merge" or node != "east-0":
            return ""
        tried.append(job.job)
        return "no space" if len(tried) == 1 else ""

    engine.fails = fails
    return world(params, engine, {"east": [(0, 39), (80, 119), (160, 199)]}, 200)


def kinds(ran: World) -> list[tuple[str, str, int]]:
    """(cluster, item, version) of every commit."""
    return [(fields["cluster"], fields["item"], fields["version"]) for fields in ran.committed()]


def asserts_masked(ran: World) -> None:
    assert kinds(ran) == [("west", "expert/1", 1), ("east", "expert/0", 1)]
    assert {len(fields["versions"]) for fields in ran.fields("model_adopted")} == {3}, "the others' stay away"


def asserts_tuned(ran: World) -> None:
    assert kinds(ran) == [
        ("west", "expert/1", 1),
        ("west", "gate", 1),
        ("east", "expert/0", 1),
        ("east", "gate", 2),
    ]
    assert [fields["gate"] for fields in ran.fields("pass_ended")] == [False, False, True, True]


def asserts_completed(ran: World) -> None:
    assert [fields["uploads"] for fields in ran.fields("pass_ended")] == [0, 0, 2, 2]
    sent = [(entry.node, entry.event.fields["key"]) for entry in ran.events("update_sent")]
    assert len(sent) == len(set(sent)) == 4, "none is sent a second time"


def asserts_fenced(ran: World) -> None:
    assert [fields["owners"] for fields in ran.fields("split")][:2] == [["east", "west"], ["west", "east"]]
    refused = ran.fields("update_refused")
    assert {(fields["device"], fields["reason"]) for fields in refused} == {
        ("west-0", "east owns it"),
        ("west-1", "east owns it"),
    }


def asserts_synchronous(ran: World) -> None:
    assert kinds(ran) == [
        (cluster, item, version)
        for version, cluster in enumerate(PAIR, 1)
        for item in ("expert/0", "expert/1", "gate")
    ]
    assert all(fields["connected"] for fields in ran.fields("trained"))


def asserts_steps(ran: World) -> None:
    assert kinds(ran) == [("west", "expert/1", 1), ("east", "expert/0", 1)]
    assert ran.applied() == [
        ("west-0", ["expert/1"]),
        ("west-1", ["expert/1"]),
        ("east-0", ["expert/0", "expert/1"]),
        ("east-1", ["expert/0", "expert/1"]),
    ]


def asserts_whole(ran: World) -> None:
    (failed,) = ran.events("model_incomplete")
    assert failed.node == "east-0"
    number = failed.event.fields["number"]
    adopted = {
        entry.node: entry for entry in ran.events("model_adopted") if entry.event.fields["number"] == number
    }
    assert set(adopted) == {"east-0", "east-1"}
    assert adopted["east-0"].event.t_ns - failed.event.t_ns < SECOND_NS
    assert [len(fields["contributors"]) for fields in ran.committed()] == [2, 2]
    assert [node for node, _ in ran.applied()] == ["east-0", "east-1"] * 2, "steps again in the next pass"


SCENARIOS: dict[Callable[[], World], Callable[[World], None]] = {
    emsfl_masked_gate: asserts_masked,
    emsfl_gate_cycles: asserts_tuned,
    emsfl_upload_cut: asserts_completed,
    emsfl_resplit: asserts_fenced,
    emsfl_synchronous: asserts_synchronous,
    emsfl_steps: asserts_steps,
    emsfl_step_that_fails: asserts_whole,
}


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: str(make.__name__))
def test_the_trace_is_the_one_on_file(make: Callable[[], World], pytestconfig: pytest.Config) -> None:
    ran = make().run()
    check(ran, faithful=make is not emsfl_step_that_fails)
    assert ran.finished
    SCENARIOS[make](ran)
    file = HERE / f"{make.__name__}.txt"
    check_trace(ran.simulation, file, make.__doc__, pytestconfig.getoption("--rewrite-traces"), WORDS)


def test_a_pass_too_short_drops_the_gate_and_never_an_expert() -> None:
    engine = FloatEngine()
    params = params_of(("east",), engine, cycles=4, shared=Shared.GATE, masked=False)
    ran = world(params, engine, {"east": [(0, 39), (80, 85), (160, 199), (240, 279)]}, 320).run()
    check(ran)
    ends = [(fields["uploads"], fields["gate"]) for fields in ran.fields("pass_ended")]
    assert ends == [(0, True), (2, False), (2, True), (2, True)]
    assert [version for _, item, version in kinds(ran) if item == "expert/0"] == [1, 2, 3]
