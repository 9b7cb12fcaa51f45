"""From a scenario to its contact plans, believed and true, and to its protocol's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orbitrain.contacts import builder
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.isl import IslRules
from orbitrain.contacts.network import (
    Backhaul,
    CrossLinks,
    Duplex,
    Feeder,
    Network,
    Progress,
    Region,
    Station,
)
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.planes import Planes
from orbitrain.fleet import satellites, shell_of, true_satellites
from orbitrain.machine import Digest
from orbitrain.protocols import fedmeld
from orbitrain.scenario import SECOND_NS, Scenario
from orbitrain.scenario.links import InterLinks, IntraLinks, Radio
from orbitrain.scenario.space import Site as SiteTable


def build_plan(scenario: Scenario, progress: Progress = lambda what, done, total: None) -> ContactPlan:
    """The plan that the nodes are given. Raises ValueError with one line."""
    return _plan(scenario, satellites(scenario), progress)


def build_true_plan(
    scenario: Scenario, seed: int, progress: Progress = lambda what, done, total: None
) -> ContactPlan:
    """The plan that the links follow, of satellites as they truly fly. Raises ValueError with one line."""
    return _plan(scenario, true_satellites(scenario, seed), progress)


def site_of(table: SiteTable) -> Site:
    """A site or a station as geometry knows it."""
    return Site(
        table.name,
        table.latitude_degrees,
        table.longitude_degrees,
        table.altitude_m,
        table.mask_degrees,
        table.mask,
    )


def duplex_of(scenario: Scenario) -> Duplex:
    """The budgets of service links."""
    links = scenario.links
    return Duplex.constant(links.service_rate_bps) if links.service is None else _duplex(links.service)


def _plan(scenario: Scenario, flying: Sequence[Satellite], progress: Progress) -> ContactPlan:
    return builder.build_plan(
        network_of(scenario, flying),
        epoch=scenario.epoch,
        duration_ns=scenario.duration_ns,
        scenario_sha256=scenario.sha256,
        progress=progress,
    )


def network_of(scenario: Scenario, flying: Sequence[Satellite]) -> Network:
    """The scenario's network with these satellites, in the order of its nodes."""
    links = scenario.links
    crossing = links.intra_isl is not None or links.inter_isl is not None
    return Network(
        satellites=flying,
        sites=[site_of(site) for site in scenario.sites],
        regions=[Region(region.name, region.site, region.device_names) for region in scenario.regions],
        service=duplex_of(scenario),
        stations=[Station(site_of(station), station.antennas) for station in scenario.stations],
        ground=[scenario.ground.name],
        feeder=None
        if links.feeder is None
        else Feeder(
            _duplex(links.feeder),
            links.feeder.terminals,
            round(links.feeder.retarget_s * SECOND_NS),
            round(links.feeder.shortest_s * SECOND_NS),
        ),
        intra=None if links.intra_isl is None else _ring(links.intra_isl),
        inter=None if links.inter_isl is None else _across(links.inter_isl),
        planes=_planes(scenario, flying) if crossing else None,
        backhaul=None
        if links.backhaul is None
        else Backhaul(links.backhaul.rate_bps, round(links.backhaul.delay_ms * SECOND_NS / 1000)),
    )


def _duplex(table: Radio) -> Duplex:
    return Duplex(*table.budgets)


def _ring(table: IntraLinks) -> CrossLinks:
    return CrossLinks(_duplex(table), IslRules(table.clearance_km, table.longest_km), "ring")


def _across(table: InterLinks) -> CrossLinks:
    rules = IslRules(
        table.clearance_km,
        table.longest_km,
        table.range_rate_km_per_s,
        table.angular_rate_degrees_per_s,
        table.latitude_cut_degrees,
    )
    return CrossLinks(
        _duplex(table),
        rules,
        table.pairs,
        table.terminals,
        round(table.retarget_s * SECOND_NS),
        round(table.shortest_s * SECOND_NS),
    )


def _planes(scenario: Scenario, flying: Sequence[Satellite]) -> Planes:
    """Shells say their planes themselves, those of element files are told from the orbits at the epoch."""
    rings: list[tuple[int, ...]] = []
    adjacent: list[tuple[int, int]] = []
    first = 0
    for table in scenario.constellation:
        members = flying[first : first + len(table.members)]
        if table.elements is None:
            planes = Planes.of_shells([shell_of(table)])
        else:
            planes = Planes.of_satellites(members, scenario.epoch)
        adjacent += [(a + len(rings), b + len(rings)) for a, b in planes.adjacent]
        rings += [tuple(first + index for index in ring) for ring in planes.rings]
        first += len(members)
    return Planes(tuple(rings), tuple(adjacent))


def planes_of(scenario: Scenario) -> tuple[tuple[str, ...], ...]:
    """The satellites of each plane by name, in the order of flight."""
    flying = satellites(scenario)
    rings = _planes(scenario, flying).rings
    return tuple(tuple(flying[index].name for index in ring) for ring in rings)


def task_params(scenario: Scenario, seed: int, folder: Path) -> dict[str, object]:
    """What a worker needs to construct the scenario's task of regions."""
    return {**task_settings(scenario, seed, folder), "regions": devices_of(scenario)}


def task_settings(scenario: Scenario, seed: int, folder: Path) -> dict[str, object]:
    """What of that is the same for every kind of task; `folder` is first on its search path."""
    return {
        "spec": scenario.task.task,
        "options": scenario.task.options,
        "seed": seed,
        "search_path": str(folder.resolve()),
    }


def devices_of(scenario: Scenario) -> dict[str, list[str]]:
    """By region."""
    return {region.name: list(region.device_names) for region in scenario.regions}


def fedmeld_params(
    scenario: Scenario, seed: int, folder: Path, initial: Digest, alpha: float | None = None
) -> fedmeld.Params:
    """FedMeld's parameters; `alpha` overrides the scenario's (0: regions that never hear of each other)."""
    return fedmeld.Params(
        regions=tuple(fedmeld.Region(region.name, region.device_names) for region in scenario.regions),
        rounds=scenario.rounds,
        delta=scenario.fedmeld.delta,
        alpha=scenario.fedmeld.alpha if alpha is None else alpha,
        carry=scenario.fedmeld.carry,
        seed=seed,
        train_ns=round(scenario.compute.train_s * SECOND_NS),
        aggregate_ns=round(scenario.compute.aggregate_s * SECOND_NS),
        initial=initial,
        task=task_params(scenario, seed, folder),
    )
