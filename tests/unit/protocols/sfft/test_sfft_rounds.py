"""Whole rounds of SFFT, all roles together in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from orbitrain.protocols.sfft.ring import Gather, Reduce
from tests.trace.sfft_world import NumpyEngine, World, backhaul, params_of, plan_of, reference, rings, world

END_S = 3_000.0


def passes(*spells: tuple[str, str, float, float]) -> list[tuple[str, tuple[str, str, float, float]]]:
    return [("feeder", spell) for spell in spells]


def crossings(*spells: tuple[str, str, float, float]) -> list[tuple[str, tuple[str, str, float, float]]]:
    return [("inter_isl", spell) for spell in spells]


def in_turn(members: tuple[str, ...], first_s: float = 10.0, each_s: float = 60.0, gap_s: float = 30.0):
    """Every satellite over the station, one after the other, again and again."""
    spells, t_s, n = [], first_s, 0
    while t_s < END_S:
        spells.append((members[n % len(members)], "gs", t_s, t_s + each_s))
        t_s, n = t_s + each_s + gap_s, n + 1
    return passes(*spells)


def without(spells, name: str, from_s: float):
    """What is left of contacts when a node is gone."""
    cut = [(kind, (a, b, start, min(end, from_s) if name in (a, b) else end)) for kind, (a, b, start, end) in spells]
    return [(kind, spell) for kind, spell in cut if spell[2] < spell[3]]


def two_planes(scheduler: str = "teg", gone: tuple[str, float] | None = None, **changes: object) -> World:
    engine = NumpyEngine()
    params = params_of([4, 4], engine, **changes)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += in_turn(("a-0", "b-2", "a-1", "b-3"))
    spells += crossings(("a-1", "b-1", 50, 70), ("a-2", "b-0", 300, 400), ("a-3", "b-3", 700, 2_900))
    truth = None if gone is None else plan_of(params, without(spells, *gone), END_S)
    return world(plan_of(params, spells, END_S), params, engine, scheduler, truth)


@pytest.mark.parametrize("gather", list(Gather))
@pytest.mark.parametrize("reduce", list(Reduce))
def test_heads_equal_gradient_descent_on_the_union_of_all_samples(gather: Gather, reduce: Reduce) -> None:
    ran = two_planes(gather=gather, reduce=reduce).run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    np.testing.assert_allclose(
        ran.head(), reference(ran.participants(), ran.params.work.samples), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("sizes", [[1], [2], [3], [2, 1], [5, 3, 4]])
@pytest.mark.parametrize("reduce", [Reduce.RING, Reduce.GATHER])
def test_planes_of_any_size_come_to_the_same(sizes: list[int], reduce: Reduce) -> None:
    engine = NumpyEngine()
    params = params_of(sizes, engine, reduce=reduce)
    spells = rings(params, END_S) + backhaul(params, END_S) + in_turn(params.satellites, each_s=25, gap_s=5)
    spells += crossings(
        *((a[0], b[-1], 200, END_S) for a, b in zip(params.planes, params.planes[1:], strict=False))
    )
    ran = world(plan_of(params, spells, END_S), params, engine).run()
    assert ran.participants() == [list(params.satellites)] * 2
    np.testing.assert_allclose(
        ran.head(), reference(ran.participants(), params.work.samples), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("scheduler", ["first_visible", "maxflow_slot", "teg"])
def test_every_chunk_goes_down_once_whoever_schedules(scheduler: str) -> None:
    ran = two_planes(scheduler=scheduler).run()
    blocks = [
        (job.objects and sorted(name for name in job.objects if name.startswith("chunk/")))
        for node, job in ran.engine.jobs
        if job.kind == "sfft.backbone"
    ]
    names = [name for some in blocks for name in some]
    chunks = len(ran.params.satellites) * ran.params.work.chunks
    assert len(names) == 2 * chunks
    down = [e for e in ran.events("letter_delivered") if e.event.fields["key"].startswith("block/") and e.event.fields["to"] == "gs"]
    assert len(down) == 2 * chunks


@pytest.mark.parametrize("t_s", range(5, 200, 13))
@pytest.mark.parametrize("node", ["a-1", "b-3", "gs", "server"])
def test_a_node_that_is_killed_at_any_time_costs_no_sample(node: str, t_s: int) -> None:
    ran = two_planes()
    ran.simulation.at(t_s * 10**9, lambda: ran.simulation.kill(node))
    ran.run()
    assert ran.simulation.dead_letters == 0
    assert ran.participants() == [list(ran.params.satellites)] * 2
    np.testing.assert_allclose(
        ran.head(), reference(ran.participants(), ran.params.work.samples), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("gather", list(Gather))
@pytest.mark.parametrize("reduce", [Reduce.RING, Reduce.CHAIN, Reduce.GATHER])
@pytest.mark.parametrize("t_s", [3, 60, 150])
def test_without_a_satellite_that_is_gone_the_ring_goes_on_as_a_chain(gather: Gather, reduce: Reduce, t_s: int) -> None:
    ran = two_planes(gone=("b-1", t_s), gather=gather, reduce=reduce).run()
    rest = [name for name in ran.params.satellites if name != "b-1"]
    assert ran.participants()[-1] == rest
    assert all(set(rest) <= set(names) for names in ran.participants())
    np.testing.assert_allclose(
        ran.head(), reference(ran.participants(), ran.params.work.samples), rtol=0, atol=1e-12
    )
