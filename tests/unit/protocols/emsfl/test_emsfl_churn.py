"""Passes missed, devices that come and go, leases, losses, and plans put right: no expert is lost by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orbitrain.protocols.emsfl.terms import Shared
from orbitrain.sim import CrashPoint
from tests.property.emsfl_checks import check, satellite_state
from tests.trace.emsfl_world import SATELLITE, FloatEngine, World, in_turn, params_of, world
from tests.trace.world import SECOND_NS, ring, updated

PASSES = [(0, 39), (80, 119), (160, 199), (240, 279), (320, 359)]
PAIR = ("east", "west")


def lone(truth: Sequence[tuple[int, int]] | None = None, **changes: Any) -> World:
    """One cluster of two devices; `truth` instead of PASSES."""
    engine = FloatEngine()
    params = params_of(("east",), engine, **{"cycles": 5, **changes})
    true = None if truth is None else {"east": truth}
    return world(params, engine, {"east": PASSES}, 400, truth=true)


def contributors(ran: World, item: str = "expert/0") -> list[list[tuple[str, int, int]]]:
    """Of each commit: device, rounds, versions behind."""
    return [
        [(part["device"], part["rounds"], part["staleness"]) for part in fields["contributors"]]
        for fields in ran.committed()
        if fields["item"] == item
    ]


def without_one(device: str, passes: Sequence[int], cycles: int = 5, **changes: Any) -> World:
    """A device has no link in some of the passes."""
    engine = FloatEngine()
    params = params_of(("east",), engine, cycles=cycles, **changes)
    away = {device: [PASSES[number][0] for number in passes]}
    return world(params, engine, {"east": PASSES}, 400, away=away)


def test_a_pass_that_does_not_appear_costs_nothing_but_its_commit() -> None:
    ran = lone([PASSES[0], *PASSES[2:]], cycles=4, rounds_max=9).run()
    check(ran)
    assert contributors(ran)[0] == [("east-0", 8, 0), ("east-1", 8, 0)], "training went on"
    assert [fields["version"] for fields in ran.committed()] == [1, 2, 3]


@pytest.mark.parametrize("at_s", [84, 86, 100])
def test_a_link_that_is_gone_for_a_moment_makes_no_second_pass(at_s: int) -> None:
    """Once the model is adopted; the gate may be lost by it."""
    calm = lone(shared=Shared.GATE).run()
    flaps = [PASSES[0], (PASSES[1][0], at_s), (at_s + 3, PASSES[1][1]), *PASSES[2:]]
    ran = lone(flaps, shared=Shared.GATE).run()
    check(ran)
    assert contributors(ran) == contributors(calm)
    assert len(ran.fields("pass_ended")) == len(calm.fields("pass_ended")) == 5


def test_a_device_that_joins_in_mid_orbit_contributes_at_the_pass_after() -> None:
    ran = without_one("east-1", [0, 1], lease_ns=60 * SECOND_NS).run()
    check(ran)
    joined = [fields["device"] for fields in ran.fields("member_joined")]
    assert joined == ["east-0", "east-1"]
    devices = [[device for device, _, _ in parts] for parts in contributors(ran)]
    assert devices == [["east-0"], ["east-0", "east-1"], ["east-0", "east-1"]]


def test_a_device_that_left_is_waited_for_once() -> None:
    ran = without_one("east-1", [2, 3, 4], wait_ns=9 * SECOND_NS).run()
    check(ran)
    devices = [[device for device, _, _ in parts] for parts in contributors(ran)]
    assert devices[0] == ["east-0", "east-1"]
    assert set(map(tuple, devices[1:])) == {("east-0",)}
    lates = [entry.event.t_ns / SECOND_NS % 80 for entry in ran.events("expert_committed")]
    assert lates[1] > 10 > max(lates[2:]), "from the first pass without it on it is missing"


def test_a_device_that_missed_passes_counts_less_by_its_staleness() -> None:
    ran = without_one("east-1", [2], rounds_max=9).run()
    check(ran)
    behind = {device: late for device, _, late in contributors(ran)[2]}
    assert behind == {"east-0": 0, "east-1": 1}


def test_what_is_too_stale_is_refused_with_its_reason() -> None:
    ran = without_one("east-1", [2], most=0).run()
    check(ran)
    assert ran.fields("update_refused") == [
        {"device": "east-1", "item": "expert/0", "reason": "version 1 is 1 behind, allowed are 0"}
    ]


def test_an_owner_that_is_gone_loses_its_experts_and_gets_some_again_when_it_is_back() -> None:
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=6, lease_ns=130 * SECOND_NS)
    believed = in_turn(PAIR, 9)
    true = {"west": believed["west"], "east": [*believed["east"][:2], *believed["east"][6:]]}
    ran = world(params, engine, believed, 720, truth=true).run()
    check(ran)
    assert ran.fields("lease_expired")[0] == {"cluster": "east"}
    owners = [fields["owners"] for fields in ran.fields("split")]
    assert owners[:3] == [["east", "west"], ["west", "west"], ["east", "west"]]


def test_the_first_split_does_without_counts_that_do_not_come() -> None:
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=2, lease_ns=100 * SECOND_NS)
    believed = in_turn(PAIR, 6)
    ran = world(params, engine, believed, 480, truth={"east": believed["east"], "west": []}).run()
    check(ran)
    first = ran.events("split")[0].event
    assert first.t_ns == 100 * SECOND_NS
    assert first.fields["owners"] == ["east", "east"]
    assert first.fields["reason"] == "west-0, west-1 did not send counts"


def test_a_cluster_whose_samples_cannot_be_counted_owns_nothing_and_holds_nobody_up() -> None:
    engine = FloatEngine()
    engine.fails = lambda node, job: "no data" if job.kind == "moe.counts" and node.startswith("west") else ""
    ran = world(params_of(PAIR, engine, cycles=2), engine, in_turn(PAIR, 6), 480).run()
    check(ran)
    assert ran.finished
    assert ran.fields("split")[0]["owners"] == ["east", "east"]
    assert ran.fields("split")[0]["unserved"] == ["west"]


def test_more_clusters_than_experts_leaves_some_to_tune_the_gate_alone() -> None:
    engine = FloatEngine()
    names = ("east", "north", "west")
    params = params_of(names, engine, experts=2, cycles=2, shared=Shared.GATE)
    ran = world(params, engine, in_turn(names, 5), 600).run()
    check(ran)
    assert {fields["cluster"] for fields in ran.committed() if fields["item"] == "gate"} == set(names)
    assert "west" not in {fields["cluster"] for fields in ran.committed() if fields["item"] != "gate"}


def test_a_satellite_killed_between_the_two_commits_loses_at_most_the_gate() -> None:
    def steps() -> list[int]:
        """In which the satellite commits an expert."""
        found: list[int] = []
        calm, seen = lone(shared=Shared.GATE), [0]
        calm.simulation.crash = lambda node, step, point: bool(seen.append(step) if node == SATELLITE else 0)
        calm.watch = lambda node, event: (
            found.append(seen[-1] + 1) if event.kind == "expert_committed" else None
        )
        calm.run()
        return found

    for step in steps():
        shaken = lone(shared=Shared.GATE)
        shaken.simulation.crash = lambda node, number, point, step=step: (  # type: ignore[misc]
            (node, number, point) == (SATELLITE, step, CrashPoint.AFTER_COMMIT)
        )
        ran = shaken.run()
        check(ran)
        versions = [fields["version"] for fields in ran.committed() if fields["item"] == "expert/0"]
        assert versions == [1, 2, 3, 4], "an expert is never lost by it"


# --- losses -------------------------------------------------------------------------------------------------


def test_an_item_that_the_satellite_lost_is_fetched_from_a_device() -> None:
    made = lone()
    made.lose_at(130, SATELLITE, lambda: made.committed()[-1]["digest"])
    ran = made.run()
    check(ran, faithful=False)
    assert [fields["item"] for fields in ran.fields("item_found")] == ["expert/0"]
    assert [fields["version"] for fields in ran.committed()] == [1, 2, 3, 4]


def test_an_update_that_the_satellite_lost_does_not_count() -> None:
    made = lone(wait_ns=30 * SECOND_NS)
    made.kill_at(80.5, "east-1")
    made.lose_at(83.0, SATELLITE, lambda: made.fields("update_accepted")[0]["digest"])
    ran = made.run()
    check(ran)
    assert ran.fields("update_refused")[0] == {
        "device": "east-0",
        "item": "expert/0",
        "reason": "its object is lost",
    }
    assert [device for device, _, _ in contributors(ran)[0]] == ["east-1"]


def test_a_device_that_lost_its_model_gets_it_again() -> None:
    made = lone()
    made.lose_at(90, "east-0", lambda: made.committed()[-1]["digest"])
    ran = made.run()
    check(ran, faithful=False)
    adopted = [
        entry.event.fields["number"] for entry in ran.events("model_adopted") if entry.node == "east-0"
    ]
    assert len(adopted) == len(set(adopted)) + 1, "one of them twice"
    assert [len(parts) for parts in contributors(ran)] == [2, 2, 2, 2]


@pytest.mark.parametrize("t_s", [20, 83, 100])
def test_a_device_that_lost_its_disk_begins_anew(t_s: int) -> None:
    made = lone()
    made.kill_at(t_s, "east-0", lose_disk=True)
    ran = made.run()
    check(ran, faithful=False)
    assert ran.finished
    assert [device for device, _, _ in contributors(ran)[-1]] == ["east-0", "east-1"]


def test_a_satellite_that_lost_its_disk_is_refused_what_it_does_not_know() -> None:
    made = lone()
    made.kill_at(140, SATELLITE, lose_disk=True)
    ran = made.run()
    assert "epoch: must be 0 to 0, not 1" in {fields["reason"] for fields in ran.fields("message_refused")}
    assert ran.simulation.dead_letters == 0
    assert len(ran.fields("split")) == 1


def ranked_pair() -> World:
    engine = FloatEngine()
    params = params_of(PAIR, engine, cycles=3, rank=5, masked=False)
    return world(params, engine, in_turn(PAIR, 5), 400)


def test_a_step_that_the_satellite_lost_costs_a_whole_transfer_and_nothing_else() -> None:
    calm, made = ranked_pair().run(), ranked_pair()
    made.lose_at(159.5, SATELLITE, lambda: made.fields("expert_committed")[0]["step"])
    ran = made.run()
    check(ran)
    assert ran.committed() == calm.committed()
    assert ("east-0", ["expert/0", "expert/1"]) in calm.applied()
    assert next(items for node, items in ran.applied() if node == "east-0") == ["expert/0"], "1 came whole"


def test_what_a_lost_residual_held_is_lost_and_that_is_said() -> None:
    calm, made = ranked_pair().run(), ranked_pair()
    kept: list[str] = []

    def residual() -> str:
        kept.append(satellite_state(made).items["expert/1"].residual)
        return kept[0]

    made.lose_at(159.5, SATELLITE, residual)
    ran = made.run()
    check(ran)
    assert ran.fields("residual_lost") == [{"item": "expert/1", "version": 1, "digest": kept[0]}]
    assert len(ran.committed()) == len(calm.committed())
    assert ran.committed()[0] == calm.committed()[0]


# --- plans --------------------------------------------------------------------------------------------------


def test_an_update_of_the_plan_moves_when_a_pass_stops_waiting() -> None:
    """The second pass was believed to last until 119 s; at 85 s it is known to end at 95 s."""
    engine = FloatEngine()
    params = params_of(("east",), engine, cycles=3, wait_ns=60 * SECOND_NS)
    truth = {"east": [(0, 39), (80, 95), (160, 199)]}
    made = world(params, engine, {"east": PASSES}, 400, truth=truth, rates_bps={"east-1": 4_000})
    fresh = updated(made.plan, ring("east"), {(SATELLITE, "east"): [(80, 95), (160, 199)]}, 85)
    made.simulation.update(85 * SECOND_NS, fresh)
    ran = made.run()
    check(ran)
    commits = [(entry.event.t_ns / SECOND_NS, entry.event.fields) for entry in ran.events("expert_committed")]
    assert 90 < commits[0][0] < 95, "the margin of 5 s before the new end"


def test_a_pass_that_no_plan_has_is_used_as_well() -> None:
    ran = lone([*PASSES[:1], (60, 75), *PASSES[1:]], cycles=5).run()
    check(ran)
    assert any(60 * SECOND_NS < entry.event.t_ns < 75 * SECOND_NS for entry in ran.events("expert_committed"))


# --- failing jobs -------------------------------------------------------------------------------------------


def test_an_update_that_the_worker_blames_is_put_aside_and_the_others_count() -> None:
    made = lone()
    bad: list[str] = []

    def fails(node: str, job: Any) -> str:
        if job.kind == "moe.merge" and len(job.objects) == 3 and not bad:
            bad.append(job.objects["update/expert/0/1"])
            return "update/expert/0/1: not finite"
        return ""

    made.engine.fails = fails
    ran = made.run()
    check(ran)
    assert [device for device, _, _ in contributors(ran)[0]] == ["east-0"]
    assert ran.fields("update_refused")[0]["reason"] == "update/expert/0/1: not finite"


def test_a_merge_that_fails_for_no_updates_sake_is_left_to_the_next_pass() -> None:
    made = lone()
    made.engine.fails = lambda node, job: "no space" if job.kind == "moe.merge" and len(tried) < 3 else ""
    tried: list[int] = []
    watch = made.watch
    made.watch = lambda node, event: tried.append(1) if event.kind == "merge_failed" else watch(node, event)
    ran = made.run()
    check(ran)
    assert len(ran.fields("merge_failed")) == 3
    assert contributors(ran)[0] == [("east-0", 3, 0), ("east-1", 3, 0)]
    assert ran.fields("expert_committed")[0]["cycle"] == 3


def test_training_that_fails_is_tried_again_and_then_left() -> None:
    made = lone()
    made.engine.fails = lambda node, job: (
        "out of memory" if job.kind == "moe.train" and node == "east-1" else ""
    )
    ran = made.run()
    check(ran)
    assert ran.finished
    assert len(ran.fields("training_failed")) % 3 == 0
    assert {device for parts in contributors(ran) for device, _, _ in parts} == {"east-0"}


def test_an_update_that_cannot_be_packed_is_not_waited_for() -> None:
    made = lone()
    made.engine.fails = lambda node, job: "no space" if job.kind == "moe.pack" and node == "east-1" else ""
    ran = made.run()
    check(ran)
    assert ran.finished
    assert {device for parts in contributors(ran) for device, _, _ in parts} == {"east-0"}
    lates = [entry.event.t_ns / SECOND_NS % 80 for entry in ran.events("expert_committed")]
    assert max(lates) < 5
