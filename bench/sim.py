"""Scenario seconds per wall second of the simulator, with training that costs nothing.

FedMeld over 60 satellites, 5 regions of 50 devices and 24 hours. The plan is computed first and not counted.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orbitrain.contacts.builder import build_plan
from orbitrain.contacts.elements import Shell, satellites_of
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.network import Duplex, Network, Region
from orbitrain.protocols import fedmeld
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.sim import Settings, Simulation
from orbitrain.step import Job

SECOND_NS = 1_000_000_000
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 24
DEVICES = 50
MODEL_BYTES = 100_000
PLACES = {
    "quito": (-0.18, -78.47),
    "nairobi": (-1.29, 36.82),
    "singapore": (1.35, 103.82),
    "lima": (-12.05, -77.04),
    "manila": (14.6, 120.98),
}


class Engine:
    """Names for objects, and no objects."""

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        names = ["update"] if job.kind == "train" else ["model"]
        if "carried" in job.objects:
            names.append("pre")
        text = f"{node if job.kind == 'train' else ''} {job.kind} {job.params} {sorted(job.objects.items())}"
        digests = {name: hashlib.sha256(f"{name} {text}".encode()).hexdigest() for name in names}
        return {"n_samples": 1}, digests

    def size_of(self, digest: str) -> int:
        return MODEL_BYTES

    def keep(self, digests: set[str]) -> None:
        pass


def main() -> None:
    regions = tuple(Region(n, n, tuple(f"{n}-dev-{i}" for i in range(DEVICES))) for n in PLACES)
    begun_s = time.perf_counter()
    plan = build_plan(
        Network(
            satellites=satellites_of(Shell("sat", 550, 30, 60, planes=6, phasing=1), EPOCH),
            sites=[Site(name, *place, 0.0, 10.0) for name, place in PLACES.items()],
            regions=regions,
            service=Duplex.constant(20_000_000),
        ),
        epoch=EPOCH,
        duration_ns=HOURS * 3600 * SECOND_NS,
        scenario_sha256="0" * 64,
    )
    plan_s = time.perf_counter() - begun_s
    initial = hashlib.sha256(b"initial").hexdigest()
    params = fedmeld.Params(
        regions=tuple(fedmeld.Region(region.name, region.devices) for region in regions),
        rounds=1_000_000,
        delta=2,
        alpha=0.5,
        carry="post",
        seed=1,
        train_ns=30 * SECOND_NS,
        aggregate_ns=10 * SECOND_NS,
        initial=initial,
        task={},
    )
    orbits = RegionServices(plan, params.regions)
    simulation = Simulation(plan, Settings(5 * SECOND_NS, SECOND_NS // 2), Engine())
    for node in plan.nodes:
        preloaded = [initial] if node.kind == "device" else []
        simulation.add(node.name, partial(fedmeld_machines, node.kind, node.name, params, orbits), preloaded)
    begun_s = time.perf_counter()
    simulation.run()
    wall_s = time.perf_counter() - begun_s
    events = sum(len(simulation.journal(node.name).events) for node in plan.nodes)
    rounds = sum(entry.event.kind == "aggregated" for entry in simulation.entries())
    print(f"plan of {len(plan.contacts)} contacts in {plan_s:.1f} s")
    print(
        f"simulator: {HOURS * 3600 / wall_s:.0f} scenario seconds per wall second ({len(plan.nodes)} nodes, "
        f"{HOURS} h in {wall_s:.1f} s, {rounds} aggregations, {events} events, "
        f"{simulation.dead_letters} dead letters)"
    )


if __name__ == "__main__":
    main()
