"""From a scenario to its contact plan and its protocol's parameters."""

from __future__ import annotations

from pathlib import Path

from orbitrain.contacts import builder
from orbitrain.contacts.elements import Shell
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.plan import ContactPlan
from orbitrain.machine import Digest
from orbitrain.protocols import fedmeld
from orbitrain.scenario import SECOND_NS, Scenario


def build_plan(scenario: Scenario) -> ContactPlan:
    """Propagate the scenario's satellites over its duration. Raises ValueError with one line."""
    return builder.build_plan(
        shells=[Shell(**shell.model_dump()) for shell in scenario.constellation],
        sites=[Site(**site.model_dump()) for site in scenario.sites],
        regions=[
            builder.Region(region.name, region.site, region.device_names) for region in scenario.regions
        ],
        link=builder.ServiceLink(scenario.links.service_rate_bps),
        epoch=scenario.epoch,
        duration_ns=scenario.duration_ns,
        scenario_sha256=scenario.sha256,
        ground=[scenario.ground.name],
    )


def task_params(scenario: Scenario, seed: int, folder: Path) -> dict[str, object]:
    """What a worker needs to construct the scenario's task; `folder` is first on its search path."""
    return {
        "spec": scenario.task.task,
        "options": scenario.task.options,
        "regions": {region.name: list(region.device_names) for region in scenario.regions},
        "seed": seed,
        "search_path": str(folder.resolve()),
    }


def fedmeld_params(
    scenario: Scenario, seed: int, folder: Path, initial: Digest, alpha: float | None = None
) -> fedmeld.Params:
    """FedMeld's parameters; `alpha` overrides the scenario's (0: regions that never hear of each other)."""
    return fedmeld.Params(
        regions=tuple(fedmeld.Region(region.name, region.device_names) for region in scenario.regions),
        rounds=scenario.rounds,
        delta=scenario.protocol.delta,
        alpha=scenario.protocol.alpha if alpha is None else alpha,
        carry=scenario.protocol.carry,
        seed=seed,
        train_ns=round(scenario.compute.train_s * SECOND_NS),
        aggregate_ns=round(scenario.compute.aggregate_s * SECOND_NS),
        initial=initial,
        task=task_params(scenario, seed, folder),
    )
