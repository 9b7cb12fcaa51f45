"""Many nodes, long runs: results stay right and stores stay small. No times are asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbitrain.core import REPORTED_OBJECTS_MAX
from orbitrain.planning import build_plan, fedmeld_params
from orbitrain.results import count_carries, lineage
from orbitrain.scenario import SECOND_NS, parse_scenario
from orbitrain.sim import Settings
from tests.property.checks import check
from tests.trace.world import FakeEngine, fake_world, ring, rotation, world

SITES = {
    "quito": (-0.18, -78.47),
    "nairobi": (-1.29, 36.82),
    "singapore": (1.35, 103.82),
    "lisbon": (38.7, -9.1),
    "tokyo": (35.7, 139.7),
}
WALKER = """
name = "walker"
epoch = "2026-01-01T00:00:00Z"
seed = 1
rounds = 200
duration_s = 86400
constellation = [
    {{ altitude_km = 550, inclination_degrees = 53, satellites = 60, planes = 6, phasing = 1 }},
]
sites = [{sites}]
regions = [{regions}]
links = {{ acquisition_s = 10 }}
compute = {{ train_s = 30, aggregate_s = 10, message_s = 1 }}
protocol = {{ name = "fedmeld", delta = 2, alpha = 0.5 }}
task = {{ task = "orbitrain.learning.digits:Digits" }}
"""

HELD_BETWEEN_COLLECTIONS = 64
"""A node collects every 64 steps; a step brings in an object at the most, counted over a round's steps."""


@pytest.mark.full
def test_sixty_satellites_and_fifty_devices_live_through_a_day() -> None:
    sites = ", ".join(
        f'{{ name = "{name}", latitude_degrees = {lat}, longitude_degrees = {lon} }}'
        for name, (lat, lon) in SITES.items()
    )
    regions = ", ".join(f'{{ name = "{name}", site = "{name}", devices = 10 }}' for name in SITES)
    scenario = parse_scenario(WALKER.format(sites=sites, regions=regions), "walker.toml")
    engine = FakeEngine()
    params = fedmeld_params(scenario, scenario.seed, Path(), engine.make("initial"))
    settings = Settings(acquisition_ns=10 * SECOND_NS, handling_ns=SECOND_NS)
    run = world(build_plan(scenario), params, engine, settings).run()
    assert run.simulation.now_ns == scenario.duration_ns
    check(run)
    entries = run.simulation.entries()
    rounds = lineage(entries).rounds
    assert set(rounds) == set(SITES)
    assert min(rounds.values()) >= 12
    # A region needs the one before it, so nobody runs away: one cycle for each step round the ring.
    assert max(rounds.values()) - min(rounds.values()) <= params.delta * len(SITES)
    carries = count_carries(entries)
    assert carries["mixed"] >= 5 * len(SITES)
    assert carries["picked_up"] >= carries["mixed"]


def test_stores_stay_small_over_two_hundred_rounds() -> None:
    """What is kept: the newest reported objects, and a few models; it does not grow with the rounds."""
    names = ["east", "north", "west"]
    held: dict[int, int] = {}
    for rounds in (100, 200):
        slots = rounds // 2 + 2
        run = fake_world(ring(*names), rotation(names, slots, 30), slots * 30, rounds=rounds).run()
        assert run.finished
        check(run)
        held[rounds] = max(len(run.simulation.holds(node.name)) for node in run.plan.nodes)
    assert held[200] <= REPORTED_OBJECTS_MAX + HELD_BETWEEN_COLLECTIONS
    assert held[200] <= held[100] + HELD_BETWEEN_COLLECTIONS
