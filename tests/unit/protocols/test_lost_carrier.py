"""A carrier that is lost with what it carries, in the geometry of the end-to-end scenario."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orbitrain.planning import build_plan, fedmeld_params
from orbitrain.results import count_updates, lineage
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.scenario import SECOND_NS, load_scenario
from orbitrain.setting import Setting
from orbitrain.sim import Settings, Simulation
from orbitrain.step import Event
from orbitrain.systems.fedmeld import FedMeldSystem
from tests.trace.world import FakeEngine

FILE = Path(__file__).parents[2] / "e2e" / "scenario.toml"


def lived_through(lost_at_s: int | None) -> Simulation:
    """The scenario with sat-2's disk lost at that time."""
    scenario = load_scenario(FILE)
    plan = build_plan(scenario)
    engine = FakeEngine()
    initial = engine.make("initial")
    params = fedmeld_params(scenario, scenario.seed, FILE.parent, initial)
    orbits = RegionServices(plan, params.regions)
    settings = Settings(
        acquisition_ns=round(scenario.links.acquisition_s * SECOND_NS),
        handling_ns=round(scenario.compute.message_s * SECOND_NS),
    )
    simulation = Simulation(plan, settings, engine)
    for name, kind in scenario.nodes():
        preloaded = [initial] if kind == "device" else []
        simulation.add(name, partial(fedmeld_machines, kind, name, params, orbits), preloaded)
    if lost_at_s is not None:
        simulation.at(lost_at_s * SECOND_NS, lambda: simulation.kill("sat-2", lose_disk=True))
    progress = FedMeldSystem(Setting(scenario, str(FILE), FILE.parent, scenario.seed, plan)).watch()

    def until(fresh: list[tuple[str, Event]]) -> bool:
        for node, event in fresh:
            progress.see(event, node)
        return progress.finished

    simulation.run(until)
    assert progress.finished, f"rounds {progress.shown({})}"
    return simulation


@pytest.mark.parametrize("lost_at_s", range(1500, 9500, 500))
def test_a_region_whose_carrier_is_lost_gets_a_copy_by_a_later_pass(lost_at_s: int) -> None:
    calm, hit = lived_through(None), lived_through(lost_at_s)
    assert lineage(hit.entries()).digests == lineage(calm.entries()).digests
    assert count_updates(hit.entries())["lost"] == 0
