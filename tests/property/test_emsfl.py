"""Random passes, faults and settings of EMS-FL: nothing is lost or counted twice, and the equations hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.protocols.emsfl.terms import Algorithm, Shared
from orbitrain.sim import CrashPoint
from orbitrain.step import Job
from tests.property.emsfl_checks import check, device_state, satellite_state
from tests.reference.emsfl import Reference
from tests.trace.emsfl_world import SATELLITE, FloatEngine, World, in_turn, params_of, world

NAMES = ("east", "north", "west")
DURATION_S = 500
Windows = Mapping[str, Sequence[tuple[int, int]]]


def calm(clusters: int, cycles: int, **changes: Any) -> World:
    """Every cluster in turn, all devices there, all rounds in time."""
    engine = FloatEngine()
    names = NAMES[:clusters]
    params = params_of(names, engine, cycles=cycles, **changes)
    passes = in_turn(names, cycles + 2, period_s=max(80, 40 * clusters))
    return world(params, engine, passes, (cycles + 2) * max(80, 40 * clusters))


def order_of(ran: World) -> list[str]:
    """Clusters as their passes ended."""
    return [fields["cluster"] for fields in ran.fields("pass_ended")]


choices = st.fixed_dictionaries(
    {
        "masked": st.booleans(),
        "shared": st.sampled_from(Shared),
        "gate_cycles": st.integers(0, 2),
        "rank": st.none() | st.integers(1, 12),
        "rounds_max": st.integers(1, 3),
        "algorithm": st.sampled_from(Algorithm),
        "experts": st.integers(2, 5),
        "devices": st.integers(1, 3),
    }
)


@settings(max_examples=20, derandomize=True)
@given(st.integers(1, 3), choices)
def test_a_run_without_faults_is_the_equations_to_the_last_bit(clusters: int, chosen: dict[str, Any]) -> None:
    ran = calm(clusters, 3, **chosen).run()
    check(ran)
    assert ran.finished
    splits = ran.fields("split")
    owners = splits[0]["owners"] if splits else []
    reference = Reference(ran.params, owners).run(order_of(ran))
    assert [(fields["item"], ran.engine.get(fields["digest"])) for fields in ran.committed()] == [
        (item, value) for item, value in reference.commits
    ]


# --- faults -------------------------------------------------------------------------------------------------


@st.composite
def windows(draw: st.DrawFn) -> dict[str, list[tuple[int, int]]]:
    """Passes of each cluster, of any length, some of them at once."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name in NAMES[: draw(st.integers(1, 3))]:
        t_s = draw(st.integers(0, 60))
        while t_s < DURATION_S - 20:
            end_s = t_s + draw(st.integers(4, 45))
            found.setdefault(name, []).append((t_s, end_s))
            t_s = end_s + draw(st.integers(2, 70))
    return found


@st.composite
def truths(draw: st.DrawFn, believed: Windows) -> dict[str, list[tuple[int, int]]]:
    """Some of these passes are cut short, some do not appear."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in believed}
    for name, passes in believed.items():
        for start_s, end_s in passes:
            fate = draw(st.integers(0, 5))
            if fate == 0:
                continue
            end_s = draw(st.integers(start_s + 2, end_s)) if fate == 1 else end_s
            found[name].append((start_s, end_s))
    return found


crashes = st.lists(
    st.tuples(
        st.sampled_from([SATELLITE, "east-0", "east-1", "north-0", "west-1"]),
        st.integers(1, 90),
        st.sampled_from(CrashPoint),
    ),
    max_size=6,
)
variants = st.sampled_from(
    [
        {},
        {"shared": Shared.GATE, "masked": False},
        {"gate_cycles": 2, "resplit_cycles": 1},
        {"resplit_cycles": 1, "lease_ns": 90_000_000_000, "experts": 4, "rank": 4},
        {"algorithm": Algorithm.SYNCHRONOUS, "rounds_max": 2, "most": 9},
        {"shared": Shared.GATE_AND_BACKBONE, "clip": 0.5, "most": 1},
    ]
)
rates = st.dictionaries(st.sampled_from(["east-0", "north-1", "west-0"]), st.sampled_from([3_000, 12_000]))


def holds(
    data: st.DataObject,
    variant: dict[str, Any],
    faults: list[tuple[str, int, CrashPoint]],
    slow: dict[str, int],
) -> None:
    believed = data.draw(windows())
    engine = FloatEngine()
    params = params_of(list(believed), engine, cycles=20, **variant)
    ran = world(params, engine, believed, DURATION_S, truth=data.draw(truths(believed)), rates_bps=slow)
    ran.simulation.crash = lambda node, step, point: (node, step, point) in faults
    ran.run()
    check(ran)


@settings(max_examples=12, derandomize=True)
@given(st.data(), variants, crashes, rates)
def test_whatever_is_cut_missed_or_crashes_nothing_is_lost_or_counted_twice(
    data: st.DataObject,
    variant: dict[str, Any],
    faults: list[tuple[str, int, CrashPoint]],
    slow: dict[str, int],
) -> None:
    holds(data, variant, faults, slow)


@pytest.mark.full
@settings(max_examples=150)
@given(st.data(), variants, crashes, rates)
def test_of_many_random_runs_none_loses_or_counts_anything_twice(
    data: st.DataObject,
    variant: dict[str, Any],
    faults: list[tuple[str, int, CrashPoint]],
    slow: dict[str, int],
) -> None:
    holds(data, variant, faults, slow)


# --- steps --------------------------------------------------------------------------------------------------

ranked = st.sampled_from(
    [
        {"rank": 4},
        {"rank": 2, "masked": False, "shared": Shared.GATE},
        {"rank": 3, "gate_cycles": 2, "resplit_cycles": 1},
        {"rank": 4, "resplit_cycles": 1, "lease_ns": 90_000_000_000, "experts": 4, "masked": False},
        {"rank": 5, "algorithm": Algorithm.SYNCHRONOUS, "rounds_max": 2, "most": 9},
    ]
)
losses = st.dictionaries(
    st.tuples(st.sampled_from([SATELLITE, "east-0", "east-1", "north-0", "west-1"]), st.integers(1, 90)),
    st.integers(0, 9),
    max_size=6,
)
"""By node and step, after which it is started again and lacks one of those objects that steps are about."""
merge_seconds = st.sampled_from([1, 1, 4, 12])
failing = st.sets(st.integers(0, 12), max_size=4)


def objects_of(ran: World, node: str) -> list[str]:
    """At the satellite steps and residuals; at a device what is arriving, and experts that are here."""
    if node == SATELLITE:
        items = [item for _, item in sorted(satellite_state(ran).items.items())]
        return [digest for item in items for digest in (item.step, item.residual) if digest]
    state = device_state(ran, node)
    experts = [state.adopted.items[item].digest for item in sorted(state.adopted.items) if "/" in item]
    return [*(digest for _, digest in sorted(state.arriving.steps.items())), *experts]


def holds_without_objects(
    data: st.DataObject,
    variant: dict[str, Any],
    lost: dict[tuple[str, int], int],
    merge_s: int,
    fails: set[int],
    faults: list[tuple[str, int, CrashPoint]],
) -> World:
    """`fails`: which of the devices' jobs that apply steps."""
    believed = data.draw(windows())
    engine = FloatEngine()
    params = params_of(list(believed), engine, cycles=20, merge_ns=merge_s * 1_000_000_000, **variant)
    ran = world(params, engine, believed, DURATION_S, truth=data.draw(truths(believed)))

    def crashes_and_loses(node: str, step: int, point: CrashPoint) -> bool:
        if (node, step) in lost and point is CrashPoint.AFTER_COMMIT:
            found = objects_of(ran, node)
            if found:
                ran.simulation.nodes[node].shelf.holds.discard(found[lost[node, step] % len(found)])
            return True
        return (node, step, point) in faults

    ran.simulation.crash = crashes_and_loses
    applied: list[str] = []

    def spoilt(node: str, job: Job) -> str:
        if job.kind != "moe.merge" or node == SATELLITE:
            return ""
        applied.append(node)
        return "no space" if len(applied) in fails else ""

    engine.fails = spoilt
    ran.run()
    check(ran, faithful=False)
    return ran


@settings(max_examples=12, derandomize=True)
@given(st.data(), ranked, losses, merge_seconds, failing, crashes)
def test_whatever_is_lost_of_steps_an_expert_is_the_one_that_was_committed(
    data: st.DataObject,
    variant: dict[str, Any],
    lost: dict[tuple[str, int], int],
    merge_s: int,
    fails: set[int],
    faults: list[tuple[str, int, CrashPoint]],
) -> None:
    holds_without_objects(data, variant, lost, merge_s, fails, faults)


@pytest.mark.full
@settings(max_examples=150)
@given(st.data(), ranked, losses, merge_seconds, failing, crashes)
def test_in_many_random_runs_whatever_is_lost_of_steps_an_expert_is_the_one_that_was_committed(
    data: st.DataObject,
    variant: dict[str, Any],
    lost: dict[tuple[str, int], int],
    merge_s: int,
    fails: set[int],
    faults: list[tuple[str, int, CrashPoint]],
) -> None:
    holds_without_objects(data, variant, lost, merge_s, fails, faults)


# --- crashes where no contact is lost -----------------------------------------------------------------------

SWEPT: dict[str, dict[str, Any]] = {
    "gate": {"shared": Shared.GATE, "masked": False},
    "masked": {"rank": 6},
    "synchronous": {"algorithm": Algorithm.SYNCHRONOUS, "rounds_max": 2},
}


def outcome(ran: World) -> list[tuple[str, int, str]]:
    return [(fields["item"], fields["version"], fields["digest"]) for fields in ran.committed()]


def steps_of(made: World, node: str) -> int:
    taken = [0]

    def count(name: str, step: int, point: CrashPoint) -> bool:
        taken[0] = max(taken[0], step if name == node else 0)
        return False

    made.simulation.crash = count
    made.run()
    return taken[0]


def survives(kind: str, node: str, step: int, point: CrashPoint, wanted: list[tuple[str, int, str]]) -> None:
    shaken = calm(2, 2, **SWEPT[kind])
    shaken.simulation.crash = lambda name, number, where: (name, number, where) == (node, step, point)
    shaken.run()
    check(shaken)
    assert shaken.finished
    assert outcome(shaken) == wanted, (kind, node, step, point)


@pytest.mark.parametrize("node", [SATELLITE, "east-0", "north-1"])
@pytest.mark.parametrize("kind", SWEPT)
def test_a_crash_in_which_no_contact_is_lost_changes_no_expert(kind: str, node: str) -> None:
    first = calm(2, 2, **SWEPT[kind])
    steps = steps_of(first, node)
    for number, step in enumerate(range(1, steps + 1, 4)):
        survives(kind, node, step, list(CrashPoint)[number % 3], outcome(first))


@pytest.mark.full
@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("node", [SATELLITE, "east-0", "east-1", "north-0", "north-1"])
@pytest.mark.parametrize("kind", SWEPT)
def test_a_crash_at_any_step_changes_no_expert(kind: str, node: str, point: CrashPoint) -> None:
    first = calm(2, 2, **SWEPT[kind])
    steps = steps_of(first, node)
    for step in range(1, steps + 1):
        survives(kind, node, step, point, outcome(first))
