"""SFFT under plans that lie, as updates may, and crashes in any step: no sample twice, none invented."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.protocols.sfft.between import Between
from orbitrain.protocols.sfft.ring import Gather, Reduce
from orbitrain.sim import CrashPoint
from tests.trace.sfft_world import (
    NumpyEngine,
    Spell,
    World,
    backhaul,
    params_of,
    plan_of,
    reference,
    rings,
    world,
)

END_S = 4_000.0


def a_world(draw: random.Random) -> World:
    engine = NumpyEngine()
    params = params_of(
        [draw.randint(1, 4) for _ in range(draw.randint(1, 3))],
        engine,
        gather=draw.choice(list(Gather)),
        reduce=draw.choice(list(Reduce)),
        between=draw.choice(list(Between)),
        samples=draw.randint(1, 6),
        chunk_samples=draw.randint(1, 3),
        step_ns=400 * 10**9,
        commit_ns=700 * 10**9,
    )
    believed = rings(params, END_S)
    t_s = 5.0
    while t_s < END_S:
        length_s = draw.uniform(5, 60)
        believed.append(("feeder", (draw.choice(params.satellites), "gs", t_s, t_s + length_s)))
        t_s += length_s + draw.uniform(1, 30)
    for _ in range(12 if len(params.planes) > 1 else 0):
        one, other = draw.sample(range(len(params.planes)), 2)
        start_s = draw.uniform(0, END_S)
        ends = draw.choice(params.planes[one]), draw.choice(params.planes[other])
        if not any({*spell[:2]} == {*ends} for _, spell in believed):
            believed.append(("inter_isl", (*ends, start_s, start_s + draw.uniform(10, 400))))
    true: list[tuple[str, Spell] | None] = []
    for kind, (a, b, start_s, end_s) in believed:
        fate = draw.random()
        ends_s = start_s + (end_s - start_s) * draw.uniform(0.1, 0.9)
        if kind == "intra_isl":
            ends_s = end_s if fate < 0.9 else draw.uniform(0, 600)
        elif fate < 0.6:
            ends_s = end_s
        gone = kind != "intra_isl" and fate >= 0.8
        true.append(None if gone else (kind, (a, b, start_s, ends_s)))
    spells = backhaul(params, END_S)
    truth = plan_of(params, [*filter(None, true), *spells], END_S)
    scheduler = draw.choice(["teg", "maxflow_slot"])
    ran = world(plan_of(params, believed + spells, END_S), params, engine, scheduler, truth)
    for at_s in sorted(draw.sample(range(1, 1_500), draw.randint(0, 2))):
        knows = draw.choice([0.3, 0.7, 1.0])
        told = [
            right if draw.random() < knows else wrong for wrong, right in zip(believed, true, strict=True)
        ]
        ran.update_at(at_s, [*filter(None, told), *spells])
    return ran


@pytest.mark.full
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_commit_is_the_descent_on_the_samples_it_lists(seed: int) -> None:
    draw = random.Random(seed)
    ran = a_world(draw)
    crashes = random.Random(seed)

    def crash(node: str, step: int, point: CrashPoint) -> bool:
        return crashes.random() < 0.01

    ran.simulation.crash = crash
    ran.run()
    assert ran.simulation.dead_letters == 0
    for names in ran.participants():
        assert names and set(names) <= set(ran.params.satellites) and len(set(names)) == len(names)
    if ran.heads():
        np.testing.assert_allclose(
            ran.head(), reference(ran.participants(), ran.params.work.samples), rtol=0, atol=1e-12
        )
