"""Tiny worlds for the simulator: hand-made plans, and an engine whose objects are only names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.updates import spliced
from orbitrain.machine import Digest
from orbitrain.protocols import fedmeld
from orbitrain.results import Progress
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.sim import Engine, Settings, Simulation
from orbitrain.step import Event, Job, canonical_json

SECOND_NS = 1_000_000_000
SETTINGS = Settings(acquisition_ns=1 * SECOND_NS, handling_ns=SECOND_NS // 5, down_ns=3 * SECOND_NS)
OBJECT_BYTES = 10_000
FAST_BPS = 1_000_000
"""An object crosses in 80 ms."""

Passes = Mapping[tuple[str, str], Sequence[tuple[int, int]]]
"""Seconds in which a satellite is in view of all devices of a region."""


class FakeEngine:
    """Results follow from inputs alone, as with real training; nothing is computed."""

    object_bytes = OBJECT_BYTES

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}
        self.jobs: list[tuple[str, Job]] = []

    def make(self, *origin: object) -> Digest:
        digest = hashlib.sha256(canonical_json(list(origin))).hexdigest()
        self.sizes[digest] = self.object_bytes
        return digest

    def size_of(self, digest: Digest) -> int:
        return self.sizes[digest]

    def keep(self, digests: set[Digest]) -> None:
        self.sizes = {digest: size for digest, size in self.sizes.items() if digest in digests}

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        self.jobs.append((node, job))
        inputs, params = sorted(job.objects.items()), job.params
        if job.kind == "train":
            origin = ("update", params["device"], params["round"], params["seed"], inputs)
            samples = 100 + sum(params["device"].encode()) % 7
            return {"n_samples": samples, "metrics": {}}, {"update": self.make(*origin)}
        own = [item for item in inputs if item[0] != "carried"]
        pre = self.make("mean", own, params["n_samples"])
        if "carried" not in job.objects:
            return {}, {"model": pre}
        return {}, {"model": self.make("mix", inputs, params["n_samples"], params["alpha"]), "pre": pre}


def ring(*names: str, devices: int = 2) -> tuple[fedmeld.Region, ...]:
    return tuple(fedmeld.Region(name, tuple(f"{name}-{n}" for n in range(devices))) for name in names)


def plan_of(
    regions: Sequence[fedmeld.Region],
    passes: Passes,
    duration_s: int,
    rates_bps: Mapping[tuple[str, str], int] | None = None,
) -> ContactPlan:
    """`rates_bps` by (satellite, device) where not FAST_BPS."""
    devices = {region.name: region.devices for region in regions}
    contacts = []
    for (satellite, region), windows in passes.items():
        for device in devices[region]:
            rate_bps = (rates_bps or {}).get((satellite, device), FAST_BPS)
            for start_s, end_s in windows:
                start_ns, end_ns = start_s * SECOND_NS, min(end_s, duration_s) * SECOND_NS
                samples = (Sample(start_ns, 4_000_000, rate_bps, 0.0, 1.0),)
                contacts.append(Contact(satellite, device, "service", start_ns, end_ns, samples))
                contacts.append(Contact(device, satellite, "service", start_ns, end_ns, samples))
    nodes = [PlanNode(name, "satellite") for name in sorted({satellite for satellite, _ in passes})]
    nodes += [PlanNode(device, "device") for region in regions for device in region.devices]
    return ContactPlan(
        1, "0" * 64, "2026-01-01T00:00:00Z", duration_s * SECOND_NS, tuple(nodes), tuple(contacts)
    )


def rotation(names: Sequence[str], slots: int, slot_s: int, gap_s: int = 1) -> Passes:
    """As many satellites as regions, each over one region for a slot and over the next one in the next."""
    passes: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for slot in range(slots):
        for n in range(len(names)):
            window = (slot * slot_s, (slot + 1) * slot_s - gap_s)
            passes.setdefault((f"sat-{n}", names[(n + slot) % len(names)]), []).append(window)
    return passes


@dataclass
class World:
    """A scenario in the simulator. `simulation` may be given faults before `run`."""

    params: fedmeld.Params
    plan: ContactPlan
    engine: Engine
    simulation: Simulation
    finished: bool = False
    watch: Callable[[str, Event], None] = field(default=lambda node, event: None)

    def run(self) -> World:
        """Until every device has the model of the last round, or the plan ends."""
        devices = {device: region.name for region in self.params.regions for device in region.devices}
        progress = Progress(self.params.rounds, devices)

        def until(fresh: list[tuple[str, Event]]) -> bool:
            for node, event in fresh:
                progress.see(event, node)
                self.watch(node, event)
            return progress.finished

        self.simulation.run(until)
        self.finished = progress.finished
        return self

    def kill_at(self, t_s: float, node: str, lose_disk: bool = False) -> None:
        kill = partial(self.simulation.kill, node, lose_disk)
        self.simulation.at(round(t_s * SECOND_NS), kill)


def params_of(regions: tuple[fedmeld.Region, ...], initial: Digest, **changes: Any) -> fedmeld.Params:
    values: dict[str, Any] = {
        "rounds": 4,
        "delta": 2,
        "alpha": 0.5,
        "carry": "post",
        "seed": 1,
        "train_ns": 2 * SECOND_NS,
        "aggregate_ns": SECOND_NS,
        "task": {},
    }
    return fedmeld.Params(regions=regions, initial=initial, **{**values, **changes})


def world(
    plan: ContactPlan,
    params: fedmeld.Params,
    engine: Engine,
    settings: Settings = SETTINGS,
    truth: ContactPlan | None = None,
) -> World:
    orbits = RegionServices(plan, params.regions)
    simulation = Simulation(plan, settings, engine, truth, orbits.follow)
    for node in plan.nodes:
        preloaded = [params.initial] if node.kind == "device" else []
        simulation.add(node.name, partial(fedmeld_machines, node.kind, node.name, params, orbits), preloaded)
    return World(params, plan, engine, simulation)


def fake_world(
    regions: tuple[fedmeld.Region, ...],
    passes: Passes,
    duration_s: int,
    rates_bps: Mapping[tuple[str, str], int] | None = None,
    *,
    truth: Passes | None = None,
    **changes: Any,
) -> World:
    """`passes` are believed; links follow `truth`, where it is given."""
    engine = FakeEngine()
    params = params_of(regions, engine.make("initial"), **changes)
    believed = plan_of(regions, passes, duration_s, rates_bps)
    true = None if truth is None else plan_of(regions, truth, duration_s, rates_bps)
    return world(believed, params, engine, truth=true)


def updated(
    current: ContactPlan, regions: Sequence[fedmeld.Region], passes: Passes, at_s: int, **changes: Any
) -> ContactPlan:
    """The next revision of a plan: what it says until `at_s`, and `passes` from then on."""
    fresh = plan_of(regions, passes, current.duration_ns // SECOND_NS, **changes)
    return spliced(current, fresh, at_s * SECOND_NS)


def _short(value: object) -> str:
    if isinstance(value, str):
        return value[:6] if len(value) == 64 and set(value) <= set("0123456789abcdef") else value
    if isinstance(value, list | tuple):
        return "[" + " ".join(_short(item) for item in value) + "]"
    return str(value)


def trace_of(simulation: Simulation) -> list[str]:
    """A line for each event: seconds, node, kind, fields; digests by their first six digits."""
    lines = []
    for entry in simulation.entries():
        event = entry.event
        fields = {name: value for name, value in event.fields.items() if name not in ("class", "bytes")}
        shown = " ".join(f"{name}={_short(value)}" for name, value in fields.items() if value != "")
        lines.append(f"{event.t_ns / SECOND_NS:8.3f} {entry.node:9} {event.kind:18} {shown}")
    return [line.rstrip() for line in lines]


def check_trace(
    simulation: Simulation, file: Path, about: str | None, rewrite: bool, without: str = "\n"
) -> None:
    """It is the one on file, whose first line says what it is about; lines `without` something."""
    lines = [f"# {about}", *(line for line in trace_of(simulation) if without not in line)]
    if rewrite:
        file.write_text("\n".join(lines) + "\n", encoding="ascii")
    assert lines == file.read_text(encoding="ascii").splitlines()
