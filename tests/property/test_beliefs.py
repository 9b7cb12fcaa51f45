"""Whatever the believed plan is wrong about, and whoever crashes: nothing is lost, nothing is doubled."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.checks import check, final_models
from tests.property.test_faults import (
    DURATION_S,
    REGIONS,
    Crash,
    build,
    crash_at,
    crashes,
    lost_disks,
    passes,
)
from tests.trace.world import SECOND_NS, Passes, World, fake_world, updated

SATELLITES = ("sat-0", "sat-1", "sat-2")
Windows = dict[tuple[str, str], list[tuple[int, int]]]


def merged(found: Mapping[tuple[str, str], list[tuple[int, int]]]) -> Windows:
    """Windows of a plan: within its time, ascending, apart."""
    plain: Windows = {}
    for pair, windows in found.items():
        apart: list[tuple[int, int]] = []
        for start_s, end_s in sorted((max(a, 0), min(b, DURATION_S)) for a, b in windows):
            if start_s >= end_s:
                continue
            if apart and start_s <= apart[-1][1]:
                apart[-1] = (apart[-1][0], max(apart[-1][1], end_s))
            else:
                apart.append((start_s, end_s))
        if apart:
            plain[pair] = apart
    return plain


@st.composite
def truths(draw: st.DrawFn, believed: Passes) -> Passes:
    """What the believed passes turn out to be: as told, missing, late, early, cut, longer; and others."""
    found: Windows = {}
    for pair, windows in believed.items():
        for start_s, end_s in windows:
            change = draw(st.sampled_from(["kept", "kept", "dropped", "moved", "cut", "longer", "broken"]))
            amount_s = draw(st.integers(1, 60))
            window = {
                "kept": [(start_s, end_s)],
                "dropped": [],
                "moved": [(start_s + amount_s - 30, end_s + amount_s - 30)],
                "cut": [(start_s, end_s - amount_s % (end_s - start_s))],
                "longer": [(start_s - amount_s % 7, end_s + amount_s)],
                "broken": [(start_s, start_s + 6), (start_s + 8, end_s)],
            }[change]
            found.setdefault(pair, []).extend(window)
    for _ in range(draw(st.integers(0, 3))):
        pair = (draw(st.sampled_from(SATELLITES)), draw(st.sampled_from(REGIONS)).name)
        start_s = draw(st.integers(0, DURATION_S - 10))
        found.setdefault(pair, []).append((start_s, start_s + draw(st.integers(5, 40))))
    return merged(found)


def wrong_world(believed: Passes, truth: Passes, carry: str) -> World:
    # Every satellite is a node of both plans, seen or not.
    known = {(satellite, REGIONS[0].name): () for satellite in SATELLITES}
    return fake_world(
        REGIONS, {**known, **believed}, DURATION_S, rounds=6, carry=carry, truth={**known, **truth}
    )


def agree(one: World, other: World) -> None:
    """Regions that came as far have the same model: the plan decides when, never what."""
    rounds = []
    for world in (one, other):
        reached: dict[tuple[str, int], str] = {}
        for entry in world.simulation.entries():
            if entry.event.kind == "model_adopted":
                fields = entry.event.fields
                reached[fields["region"], fields["round"]] = fields["digest"]
        rounds.append(reached)
    for place in rounds[0].keys() & rounds[1].keys():
        assert rounds[0][place] == rounds[1][place]


@settings(max_examples=30, derandomize=True)
@given(st.data(), passes(), st.sampled_from(["pre", "post"]), crashes)
def test_wrong_beliefs_and_crashes_change_neither_the_books_nor_the_models(
    data: st.DataObject, believed: Passes, carry: str, faults: list[Crash]
) -> None:
    world = wrong_world(believed, data.draw(truths(believed)), carry)
    crash_at(world, faults)
    world.run()
    check(world)
    agree(world, build(believed, carry).run())


@settings(max_examples=20, derandomize=True)
@given(st.data(), passes(), st.sampled_from(["pre", "post"]), crashes, lost_disks)
def test_wrong_beliefs_and_lost_disks_change_neither_the_books_nor_the_models(
    data: st.DataObject, believed: Passes, carry: str, faults: list[Crash], lost: list[tuple[int, str]]
) -> None:
    world = wrong_world(believed, data.draw(truths(believed)), carry)
    crash_at(world, faults)
    for t_s, node in lost:
        world.kill_at(t_s, node, lose_disk=True)
    world.run()
    check(world)
    agree(world, build(believed, carry).run())


instants = st.lists(st.integers(1, DURATION_S - 1), min_size=1, max_size=3, unique=True)


@settings(max_examples=30, derandomize=True)
@given(st.data(), passes(), st.sampled_from(["pre", "post"]), crashes, instants, st.booleans())
def test_updates_of_the_plan_and_crashes_change_neither_the_books_nor_the_models(
    data: st.DataObject, believed: Passes, carry: str, faults: list[Crash], at_s: list[int], truthful: bool
) -> None:
    """Each update says something else; the last one of a truthful uplink is the truth."""
    truth = data.draw(truths(believed))
    world = wrong_world(believed, truth, carry)
    crash_at(world, faults)
    plan = world.plan
    instants_s = sorted(at_s)
    for n, instant_s in enumerate(instants_s):
        right = truthful and n == len(instants_s) - 1
        told = truth if right else data.draw(truths(believed))
        plan = updated(plan, REGIONS, told, instant_s)
        world.simulation.update(instant_s * SECOND_NS, plan)
    world.run()
    check(world, updates=True)
    agree(world, build(believed, carry).run())


@settings(max_examples=20, derandomize=True)
@given(st.data(), passes(), crashes, st.integers(1, DURATION_S - 1))
def test_links_that_follow_the_believed_plan_follow_its_updates(
    data: st.DataObject, believed: Passes, faults: list[Crash], at_s: int
) -> None:
    """Without a true plan, as on boards: nothing is announced that does not come."""
    world = build(believed, "post")
    crash_at(world, faults)
    plan = updated(world.plan, REGIONS, data.draw(truths(believed)), at_s)
    if {node.name for node in plan.nodes} <= {node.name for node in world.plan.nodes}:
        world.simulation.update(at_s * SECOND_NS, plan)
    world.run()
    check(world, updates=True)
    agree(world, build(believed, "post").run())


@settings(max_examples=20, derandomize=True)
@given(passes(), st.sampled_from(["pre", "post"]), crashes)
def test_a_true_plan_that_is_the_believed_one_changes_nothing(
    found: Passes, carry: str, faults: list[Crash]
) -> None:
    ways = []
    for truth in (None, found):
        world = fake_world(REGIONS, found, DURATION_S, rounds=6, carry=carry, truth=truth)
        crash_at(world, faults)
        ways.append(world.run().simulation.entries())
    assert ways[0] == ways[1]


def test_wrong_beliefs_do_not_keep_most_runs_from_getting_on() -> None:
    """Or the properties above would say little."""
    rounds: list[int] = []

    @settings(max_examples=30, derandomize=True, database=None)
    @given(st.data(), passes())
    def count(data: st.DataObject, believed: Passes) -> None:
        world = wrong_world(believed, data.draw(truths(believed)), "post").run()
        models = [e for e in world.simulation.entries() if e.event.kind == "aggregated"]
        rounds.append(len({(e.event.fields["region"], e.event.fields["round"]) for e in models}))

    count()
    assert sum(1 for n in rounds if n >= 3) >= len(rounds) // 2, rounds


def test_final_models_are_those_of_a_calm_run_once_beliefs_are_put_right() -> None:
    """Two rings of passes by turns; the believed ones are 20 s off until the update."""
    right: Windows = {}
    for slot in range(12):
        for n, region in enumerate(REGIONS):
            satellite = SATELLITES[(n + slot) % 3]
            right.setdefault((satellite, region.name), []).append((slot * 33, slot * 33 + 30))
    wrong = {pair: [(a + 20, min(b + 20, DURATION_S)) for a, b in windows] for pair, windows in right.items()}
    calm = fake_world(REGIONS, right, DURATION_S, rounds=6).run()
    world = fake_world(REGIONS, wrong, DURATION_S, rounds=6, truth=right)
    world.simulation.update(100 * SECOND_NS, updated(world.plan, REGIONS, right, 100))
    world.run()
    check(world, updates=True)
    assert calm.finished
    assert world.finished
    assert final_models(world) == final_models(calm)
