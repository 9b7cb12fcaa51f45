"""The simulator with real training equals a plain single-process implementation, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.digits import Digits
from orbitrain.learning.tensors import encode_tensors
from orbitrain.machine import Digest
from orbitrain.planning import build_plan
from orbitrain.protocols import fedmeld
from orbitrain.results import aggregates, lineage
from orbitrain.scenario import Scenario, load_scenario, parse_scenario
from orbitrain.setting import Setting
from orbitrain.virtual import Outcome, Workshop, workshop
from tests.reference.meld import Model, meld
from tests.trace.world import plan_of, rotation

ROUNDS, DELTA, ALPHA = 8, 2, 0.4
OPTIONS = {"hidden": 8, "epochs": 1, "batch": 64, "held_out_per_class": 5, "region_beta": 0.5}
DEMO = Path(__file__).parents[2] / "deploy" / "scenarios" / "fedmeld-demo.toml"
TEXT = """
name = "reference"
epoch = "2026-01-01T00:00:00Z"
seed = 7
rounds = {rounds}
duration_s = 400
constellation = [{{ altitude_km = 550, inclination_degrees = 5, satellites = {n} }}]
sites = [{{ name = "site", latitude_degrees = 0, longitude_degrees = 0 }}]
regions = [{regions}]
links = {{ acquisition_s = 1 }}
compute = {{ train_s = 2, aggregate_s = 1, message_s = 0.2 }}
protocol = {{ name = "fedmeld", delta = {delta}, alpha = {alpha}, carry = "{carry}" }}
[task]
task = "orbitrain.learning.digits:Digits"
"""


def scenario_of(names: tuple[str, ...], carry: str) -> Scenario:
    regions = ", ".join(f'{{ name = "{name}", site = "site", devices = 2 }}' for name in names)
    text = TEXT.format(
        rounds=ROUNDS, n=len(names), regions=regions, delta=DELTA, alpha=ALPHA, carry=carry
    ) + "".join(f"{name} = {value}\n" for name, value in OPTIONS.items())
    return parse_scenario(text, "reference.toml")


def plan_for(scenario: Scenario) -> ContactPlan:
    regions = [fedmeld.Region(region.name, region.device_names) for region in scenario.regions]
    names = [region.name for region in regions]
    return plan_of(regions, rotation(names, 10, 40), 400)


RING = ("east", "north", "west")


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    """One worker for all tests of this file; each puts its own setting in."""
    scenario = scenario_of(RING, "post")
    with workshop(Setting(scenario, "reference.toml", Path.cwd(), 7, plan_for(scenario))) as made:
        yield made


def simulated(shop: Workshop, scenario: Scenario, seed: int = 7, *, isolated: bool = False) -> Outcome:
    setting = Setting(scenario, "reference.toml", Path.cwd(), seed, plan_for(scenario))
    fresh = Workshop(setting, shop.engine)
    outcome = fresh.simulate(fresh.objects(), baseline=isolated)
    assert outcome.summary["rounds"] == {region.name: ROUNDS for region in scenario.regions}
    assert outcome.dead_letters == 0
    return outcome


def digests(outcome: Outcome) -> Mapping[tuple[str, int], Digest]:
    return lineage(outcome.entries).digests


def reference(
    scenario: Scenario, alpha: float, carry: str, seed: int = 7
) -> Mapping[tuple[str, int], Digest]:
    regions = {region.name: region.device_names for region in scenario.regions}
    task = Digits(OPTIONS, regions, seed)

    def train(device: str, model: Model, number: int) -> tuple[Model, int]:
        trained = task.train(device, model, number, seed)
        return trained.weights, trained.n_samples

    history = meld(regions, task.initial(), train, ROUNDS, DELTA, alpha, carry)
    return {
        (name, number): hashlib.sha256(encode_tensors(model)).hexdigest()
        for number, models in enumerate(history, 1)
        for name, model in zip(regions, models, strict=True)
    }


@pytest.mark.parametrize("carry", ["post", "pre"])
def test_every_model_of_every_region_is_that_of_the_reference(shop: Workshop, carry: str) -> None:
    scenario = scenario_of(RING, carry)
    assert digests(simulated(shop, scenario)) == reference(scenario, ALPHA, carry)


def test_what_is_carried_makes_a_difference() -> None:
    scenario = scenario_of(RING, "post")
    post, pre = (reference(scenario, ALPHA, carry) for carry in ("post", "pre"))
    same = [number for number in range(1, ROUNDS + 1) if post["east", number] == pre["east", number]]
    assert same == [1, 2, 3, 4, 5], "the first carried model that was mixed itself arrives in round 6"


def test_without_mixing_each_region_is_plain_federated_averaging(shop: Workshop) -> None:
    scenario = scenario_of(RING, "post")
    isolated = digests(simulated(shop, scenario, isolated=True))
    assert isolated == reference(scenario, 0.0, "post")
    # Each region for itself, with the data that it has in the ring of three.
    regions = {region.name: region.device_names for region in scenario.regions}
    task = Digits(OPTIONS, regions, 7)
    for name, devices in regions.items():
        alone = meld(
            {name: devices},
            task.initial(),
            lambda device, model, n: ((done := task.train(device, model, n, 7)).weights, done.n_samples),
            ROUNDS,
            DELTA,
            ALPHA,
        )
        assert isolated[name, ROUNDS] == hashlib.sha256(encode_tensors(alone[-1][0])).hexdigest()


def test_a_single_region_mixes_with_nobody(shop: Workshop) -> None:
    scenario = scenario_of(("alone",), "post")
    outcome = simulated(shop, scenario)
    assert digests(outcome) == reference(scenario, ALPHA, "post")
    assert outcome.summary["carries"] == {"picked_up": 0, "mixed": 0, "late": 0, "expired": 0}
    assert all(model == pre for model, pre, _ in aggregates(outcome.entries).values())


def test_the_same_seed_gives_the_same_models_and_another_seed_others(shop: Workshop) -> None:
    scenario = scenario_of(RING, "post")
    first, again, other = (digests(simulated(shop, scenario, seed)) for seed in (7, 7, 8))
    assert first == again
    assert not set(first.values()) & set(other.values())


@pytest.mark.full
@pytest.mark.timeout(600)
def test_mixing_gains_fifteen_points_over_isolated_regions_in_the_demonstration() -> None:
    scenario = load_scenario(DEMO)
    plan = build_plan(scenario)
    gains = []
    for seed in (1, 2, 3):
        with workshop(Setting(scenario, str(DEMO), DEMO.parent, seed, plan)) as made:
            objects = made.objects()
            mixed, isolated = (
                made.simulate(objects, baseline=alone).summary["accuracy"]["mean"] for alone in (False, True)
            )
        gains.append(mixed - isolated)
    assert sum(gains) / len(gains) >= 0.15, gains
