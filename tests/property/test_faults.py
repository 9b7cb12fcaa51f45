"""Whatever crashes, whenever: no update is counted twice or lost, and the models are those of a calm run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.machine import Digest
from orbitrain.sim import CrashPoint
from tests.property.checks import check, final_models
from tests.trace.world import Passes, World, fake_world, ring, rotation

DURATION_S = 400
REGIONS = ring("east", "north", "west")
SATELLITES = ("sat-0", "sat-1", "sat-2")
NODES = (*SATELLITES, *(device for region in REGIONS for device in region.devices))


@st.composite
def passes(draw: st.DrawFn) -> Passes:
    """Satellites that go round the ring at their own pace, with overlaps, gaps and passes left out."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for n in range(draw(st.integers(2, 3))):
        t_s, place = draw(st.integers(0, 20)), draw(st.integers(0, 2))
        while t_s < DURATION_S - 10:
            length_s = draw(st.integers(6, 30))
            region = REGIONS[place % 3].name
            if draw(st.integers(0, 9)):
                end_s = min(t_s + length_s, DURATION_S)
                found.setdefault((f"sat-{n}", region), []).append((t_s, end_s))
            t_s += length_s + draw(st.integers(1, 8))
            place += 1
    return found


@dataclass(frozen=True)
class Crash:
    node: str
    step: int
    point: CrashPoint


crashes = st.lists(
    st.builds(Crash, st.sampled_from(NODES), st.integers(1, 80), st.sampled_from(CrashPoint)), max_size=6
)
lost_disks = st.lists(st.tuples(st.integers(1, DURATION_S), st.sampled_from(NODES)), max_size=3)


def build(found: Passes, carry: str) -> World:
    return fake_world(REGIONS, found, DURATION_S, rounds=6, carry=carry)


def crash_at(world: World, faults: list[Crash]) -> None:
    wanted = {(fault.node, fault.step, fault.point) for fault in faults}
    world.simulation.crash = lambda node, step, point: (node, step, point) in wanted


@settings(max_examples=40, derandomize=True)
@given(passes(), st.sampled_from(["pre", "post"]), crashes)
def test_crashes_change_neither_the_books_nor_the_models(
    found: Passes, carry: str, faults: list[Crash]
) -> None:
    calm = build(found, carry).run()
    check(calm)
    shaken = build(found, carry)
    crash_at(shaken, faults)
    shaken.run()
    check(shaken)
    if calm.finished and shaken.finished:
        assert final_models(shaken) == final_models(calm)


@settings(max_examples=40, derandomize=True)
@given(passes(), st.sampled_from(["pre", "post"]), crashes, lost_disks)
def test_lost_disks_change_neither_the_books_nor_the_models(
    found: Passes, carry: str, faults: list[Crash], lost: list[tuple[int, str]]
) -> None:
    calm = build(found, carry).run()
    shaken = build(found, carry)
    crash_at(shaken, faults)
    for t_s, node in lost:
        if any(node == one.name for one in shaken.plan.nodes):
            shaken.kill_at(t_s, node, lose_disk=True)
    shaken.run()
    check(shaken)
    if calm.finished and shaken.finished:
        assert final_models(shaken) == final_models(calm)


@settings(max_examples=40, derandomize=True)
@given(st.integers(1, 60), st.sampled_from(CrashPoint), st.integers(0, 11), st.integers(22, 29))
def test_one_crash_costs_passes_and_never_the_run(
    step: int, point: CrashPoint, victim: int, slot_s: int
) -> None:
    """Short slots end services at every point of a round; there are slots enough to catch up."""
    shaken = short_slots(slot_s)
    crash_at(shaken, [Crash(NODES[victim % len(NODES)], step, point)])
    shaken.run()
    check(shaken)
    assert shaken.finished
    assert final_models(shaken) == undisturbed(slot_s)


def short_slots(slot_s: int) -> World:
    passes = rotation([region.name for region in REGIONS], 16, slot_s)
    return fake_world(REGIONS, passes, 16 * slot_s, rounds=6)


@cache
def undisturbed(slot_s: int) -> dict[str, Digest]:
    calm = short_slots(slot_s).run()
    assert calm.finished
    return final_models(calm)


def sweep_world() -> World:
    regions = ring("north", "south")
    return fake_world(regions, rotation(["north", "south"], 6, 30), 180, rounds=4)


@cache
def undisturbed_sweep() -> dict[str, Digest]:
    return final_models(sweep_world().run())


def steps_of(node: str) -> int:
    world = sweep_world()
    taken = [0]

    def count(name: str, step: int, point: CrashPoint) -> bool:
        taken[0] = max(taken[0], step if name == node else 0)
        return False

    world.simulation.crash = count
    world.run()
    return taken[0]


def survives(node: str, step: int, point: CrashPoint) -> None:
    world = sweep_world()
    crash_at(world, [Crash(node, step, point)])
    world.run()
    check(world)
    assert world.finished, "one crash of a few seconds costs no more than the slots to spare"
    assert final_models(world) == undisturbed_sweep()


@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("node", ["sat-0", "north-0"])
def test_a_node_may_crash_at_any_third_step(node: str, point: CrashPoint) -> None:
    for step in range(1, steps_of(node) + 1, 3):
        survives(node, step, point)


@pytest.mark.full
@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("node", ["sat-0", "sat-1", "north-0", "south-1"])
def test_a_node_may_crash_at_any_step(node: str, point: CrashPoint) -> None:
    for step in range(1, steps_of(node) + 1):
        survives(node, step, point)


@pytest.mark.full
def test_two_nodes_may_crash_at_any_pair_of_steps() -> None:
    for first in range(1, steps_of("sat-0") + 1, 2):
        for second in range(1, steps_of("north-0") + 1, 2):
            world = sweep_world()
            faults = [
                Crash("sat-0", first, CrashPoint.AFTER_COMMIT),
                Crash("north-0", second, CrashPoint.BEFORE_COMMIT),
            ]
            crash_at(world, faults)
            world.run()
            check(world)
            assert world.finished
            assert final_models(world) == undisturbed_sweep()


def test_most_random_plans_are_long_enough_to_finish() -> None:
    """Or the properties above would say little."""
    outcomes: list[bool] = []

    @settings(max_examples=30, derandomize=True, database=None)
    @given(passes())
    def count(found: Passes) -> None:
        outcomes.append(build(found, "post").run().finished)

    count()
    assert sum(outcomes) >= len(outcomes) // 3, f"{sum(outcomes)} of {len(outcomes)}"
