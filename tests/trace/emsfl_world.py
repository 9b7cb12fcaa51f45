"""EMS-FL in the simulator: small clusters over hand-made passes, and an engine that reckons with floats.

An item is a vector of three numbers. All operations are single IEEE 754 ones in a fixed order, so that a run
and a reference of the equations agree to the last bit, on any machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest, Machine
from orbitrain.protocols import emsfl
from orbitrain.protocols.emsfl.terms import (
    Algorithm,
    Model,
    Pace,
    Params,
    Shared,
    Stale,
    Times,
    Work,
)
from orbitrain.results import Entry
from orbitrain.roles import PlanWindows
from orbitrain.sim import Simulation
from orbitrain.splitting.relevance import Relevance
from orbitrain.splitting.rules import SplitRules
from orbitrain.step import Event, Job, canonical_json
from tests.trace.world import OBJECT_BYTES, SECOND_NS, SETTINGS, Passes, plan_of, ring

SATELLITE = "sat"
WIDTH = 3
RATE, GATE_RATE = 0.25, 0.5
LAYERS, TOP_K, TRIAL_SAMPLES = 2, 1, 10
Vector = tuple[float, ...]


# --- arithmetic ---------------------------------------------------------------------------------------------


def target(device: str, item: str, round_number: int) -> Vector:
    """Where a device's data pull an item in a round."""
    digest = hashlib.sha256(f"{device} {item} {round_number}".encode()).digest()
    return tuple(digest[n] / 64 - 2 for n in range(WIDTH))


def start(item: str) -> Vector:
    return target("initial", item, 0)


def stepped(value: Vector, towards: Vector, gate: Vector, rate: float) -> Vector:
    """One step; how far depends on the gate that is loaded."""
    reach = rate * (1.0 + gate[0] / 16)
    return tuple(v - reach * (v - t) for v, t in zip(value, towards, strict=True))


def samples_of(device: str) -> int:
    return 100 + sum(device.encode()) % 7


def train(
    device: str, loaded: Mapping[str, Vector], items: Sequence[str], round_number: int
) -> dict[str, Vector]:
    """A round of these items, all at the point that is loaded."""
    gate = loaded["gate"]
    return {
        item: stepped(
            loaded[item],
            target(device, item, round_number),
            gate,
            RATE if item.startswith("expert/") else GATE_RATE,
        )
        for item in items
    }


def pack(base: Vector, now: Vector, residual: Vector | None, rank: int | None) -> tuple[Vector, Vector]:
    """The update, and what it leaves out."""
    return cut(tuple(n - b for n, b in zip(now, base, strict=True)), residual, rank)


def merge(
    base: Vector,
    updates: Sequence[Vector],
    weights: Sequence[float],
    clips: Sequence[float | None] | None = None,
) -> Vector:
    """Eq. (35) on deltas: base + sum of w u, in the order given."""
    return _plus(base, weighted(updates, weights, clips))


def merge_ranked(
    base: Vector,
    updates: Sequence[Vector],
    weights: Sequence[float],
    clips: Sequence[float | None] | None,
    residual: Vector | None,
    rank: int,
) -> tuple[Vector, Vector, Vector]:
    """As `merge`, by a step that is `cut`: the item, the step, what it leaves out."""
    step, left = cut(weighted(updates, weights, clips), residual, rank)
    return merge(base, [step], [1.0]), step, left


def weighted(
    updates: Sequence[Vector], weights: Sequence[float], clips: Sequence[float | None] | None = None
) -> Vector:
    """The sum of w u, in the order given."""
    total = (0.0,) * WIDTH
    for n, (update, weight) in enumerate(zip(updates, weights, strict=True)):
        clip = None if clips is None else clips[n]
        if clip is not None:
            norm = math.sqrt(math.fsum(u * u for u in update))
            weight = weight * (clip / norm) if norm > clip else weight
        total = tuple(t + weight * u for t, u in zip(total, update, strict=True))
    return total


def _plus(one: Vector, other: Vector) -> Vector:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def cut(wanted: Vector, residual: Vector | None, rank: int | None) -> tuple[Vector, Vector]:
    """What is sent of a change and an earlier residual, and what that leaves out.

    Of a rank so many binary digits after the point are sent.
    """
    if residual is not None:
        wanted = _plus(wanted, residual)
    sent = wanted if rank is None else tuple(round(w * 2**rank) / 2**rank for w in wanted)
    return sent, tuple(w - s for w, s in zip(wanted, sent, strict=True))


class FloatEngine:
    """Jobs of EMS-FL on vectors. Every object has `object_bytes`, whatever it holds."""

    object_bytes = OBJECT_BYTES

    def __init__(self) -> None:
        self.values: dict[Digest, Any] = {}
        self.jobs: list[tuple[str, Job]] = []
        self.trained: set[Digest] = set()
        """Outputs of rounds."""
        self.fails: Callable[[str, Job], str] = lambda node, job: ""
        """The reason for which a job fails, if it does."""

    def put(self, value: Any) -> Digest:
        digest = hashlib.sha256(canonical_json(value)).hexdigest()
        self.values[digest] = value
        return digest

    def get(self, digest: Digest) -> Any:
        return self.values[digest]

    def size_of(self, digest: Digest) -> int:
        assert digest in self.values
        return self.object_bytes

    def keep(self, digests: set[Digest]) -> None:
        pass

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        self.jobs.append((node, job))
        reason = self.fails(node, job)
        if reason:
            raise JobError(reason)
        params, given = job.params, {name: self.get(digest) for name, digest in job.objects.items()}
        match job.kind:
            case "moe.counts":
                experts = len(given) - 2
                row = [0] * experts
                row[sum(params["device"].encode()) % experts] = TRIAL_SAMPLES
                return {"counts": [row] * LAYERS, "samples": TRIAL_SAMPLES}, {}
            case "moe.train":
                return self._train(params, given)
            case "moe.pack":
                outputs = {}
                for item in params["items"]:
                    parts = given[f"base/{item}"], given[f"now/{item}"], given.get(f"residual/{item}")
                    update, residual = pack(*parts, params["rank"])
                    outputs[f"update/{item}"] = self.put(update)
                    if params["rank"] is not None:
                        outputs[f"residual/{item}"] = self.put(residual)
                return {"update_bytes": dict.fromkeys(params["items"], self.object_bytes)}, outputs
            case "moe.merge":
                return {}, self._merge(params["items"], given)
            case "moe.assemble":
                return {}, {"model": self.put(given)}
        raise JobError(f"there is no job {job.kind}")

    def _merge(self, items: Mapping[str, Any], given: Mapping[str, Vector]) -> Mapping[str, Digest]:
        merged = {}
        for item, how in items.items():
            assert how.keys() == {"weights", "clips", "rank"}
            base = given[f"base/{item}"]
            updates = [given[f"update/{item}/{n}"] for n in range(len(how["weights"]))]
            if how["rank"] is None:
                merged[item] = self.put(merge(base, updates, how["weights"], how["clips"]))
                continue
            residual = given.get(f"residual/{item}")
            made = merge_ranked(base, updates, how["weights"], how["clips"], residual, how["rank"])
            for name, value in zip((item, f"step/{item}", f"residual/{item}"), made, strict=True):
                merged[name] = self.put(value)
        return merged

    def _train(
        self, params: Mapping[str, Any], given: Mapping[str, Vector]
    ) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        items = [f"expert/{number}" for number in params["experts"]]
        items += [name for name in ("gate", "backbone") if params[name]]
        made = train(params["device"], given, items, params["round"])
        loaded = len(given) * self.object_bytes
        result = {
            "n_samples": samples_of(params["device"]),
            "metrics": {},
            "loaded_bytes": loaded,
            "peak_bytes": 2 * loaded,
        }
        outputs = {item: self.put(value) for item, value in made.items()}
        self.trained.update(outputs.values())
        return result, outputs


# --- splitting ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turns:
    """A split for tests: experts go round the clusters that have counts, one further in each epoch."""

    owners: tuple[str, ...]
    relevance: tuple[tuple[float, ...], ...]
    gamma: Mapping[str, float]
    unserved: tuple[str, ...]
    revived: tuple[int, ...]


def in_turns(
    relevance: Relevance, rules: SplitRules, memory: bytes, seed: int, epoch: int
) -> tuple[Turns, bytes]:
    assert memory == (b"" if epoch == 1 else str(epoch - 1).encode())
    served = [
        name for name, total in zip(relevance.clusters, relevance.totals, strict=True) if total
    ] or list(relevance.clusters)
    owners = tuple(served[(n + epoch - 1) % len(served)] for n in range(len(relevance.counts[0])))
    rows = tuple(
        tuple(count / total if total else 0.0 for count in row)
        for row, total in zip(relevance.counts, relevance.totals, strict=True)
    )
    unserved = tuple(name for name in relevance.clusters if name not in owners)
    return Turns(owners, rows, dict.fromkeys(served, 1.0), unserved, ()), str(epoch).encode()


# --- worlds -------------------------------------------------------------------------------------------------


def params_of(
    clusters: Sequence[str], engine: FloatEngine, *, experts: int = 0, devices: int = 2, **changes: Any
) -> Params:
    """Clusters of so many devices, with an expert each; `changes` of any part."""
    experts = experts or len(clusters)
    items = {
        item: engine.put(start(item)) for item in ("backbone", "gate", *map(emsfl.expert, range(experts)))
    }
    parts: dict[str, Any] = {
        "work": Work(Algorithm.EMS_FL, 3, True, Shared.NONE, 0, None),
        "pace": Pace(20 * SECOND_NS, 3, 15 * SECOND_NS, 5 * SECOND_NS, 10_000 * SECOND_NS, 0),
        "stale": Stale(0.5, 4, None),
        "times": Times(2 * SECOND_NS, SECOND_NS, SECOND_NS, SECOND_NS),
    }
    for name, part in parts.items():
        own = {key: value for key, value in changes.items() if key in part.__dataclass_fields__}
        parts[name] = replace(part, **own)
    known = {key for part in parts.values() for key in part.__dataclass_fields__}
    assert known.issuperset(changes), changes
    return Params(
        satellite=SATELLITE,
        clusters=tuple(emsfl.Cluster(one.name, one.devices) for one in ring(*clusters, devices=devices)),
        model=Model(LAYERS, experts, TOP_K, items),
        split=SplitRules(0.05, TOP_K),
        seed=1,
        task={},
        **parts,
    )


@dataclass
class World:
    params: Params
    engine: FloatEngine
    simulation: Simulation
    plan: ContactPlan
    watch: Callable[[str, Event], None] = field(default=lambda node, event: None)

    def run(self) -> World:
        """Until every cluster has had its passes, or the plan ends."""

        def until(fresh: list[tuple[str, Event]]) -> bool:
            for node, event in fresh:
                self.watch(node, event)
            return any(event.kind == "finished" for _, event in fresh)

        self.simulation.run(until)
        return self

    def kill_at(self, t_s: float, node: str, lose_disk: bool = False) -> None:
        self.simulation.at(round(t_s * SECOND_NS), partial(self.simulation.kill, node, lose_disk))

    def lose_at(self, t_s: float, node: str, which: Callable[[], Digest]) -> None:
        """An object is gone from a node's store, which is found out when the node is started again."""

        def lose() -> None:
            self.simulation.nodes[node].shelf.holds.discard(which())
            self.simulation.kill(node)

        self.simulation.at(round(t_s * SECOND_NS), lose)

    def events(self, kind: str) -> list[Entry]:
        return [entry for entry in self.simulation.entries() if entry.event.kind == kind]

    def fields(self, kind: str) -> list[Mapping[str, Any]]:
        return [entry.event.fields for entry in self.events(kind)]

    def committed(self) -> list[Mapping[str, Any]]:
        """Every commit of an item, in order."""
        return [
            entry.event.fields
            for entry in self.simulation.entries()
            if entry.event.kind in ("expert_committed", "gate_committed", "backbone_committed")
        ]

    def items(self) -> dict[str, Vector]:
        """As committed last."""
        values = {item: self.engine.get(digest) for item, digest in self.params.model.items.items()}
        for fields in self.committed():
            values[fields["item"]] = self.engine.get(fields["digest"])
        return values

    def applied(self) -> list[tuple[str, list[str]]]:
        """By device, of every job that applied steps: the experts."""
        jobs = [one for one in self.engine.jobs if one[1].kind == "moe.merge" and one[0] != SATELLITE]
        return [(node, sorted(job.params["items"])) for node, job in jobs]

    @property
    def finished(self) -> bool:
        return bool(self.events("finished"))


def world(
    params: Params,
    engine: FloatEngine,
    passes: Mapping[str, Sequence[tuple[int, int]]],
    duration_s: int,
    *,
    truth: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    rates_bps: Mapping[str, int] | None = None,
    away: Mapping[str, Sequence[int]] | None = None,
    splitter: emsfl.Splitter = in_turns,
) -> World:
    """`passes` by cluster are believed; links follow `truth`, where it is given. `rates_bps` by device.

    `away`: passes, by their beginnings in seconds, in which a device has no link though it was believed to.
    """
    clusters = ring(*(one.name for one in params.clusters), devices=len(params.clusters[0].devices))
    rates = {(SATELLITE, device): rate for device, rate in (rates_bps or {}).items()}

    def planned(given: Mapping[str, Sequence[tuple[int, int]]]) -> ContactPlan:
        by_pair: Passes = {(SATELLITE, name): windows for name, windows in given.items()}
        return plan_of(clusters, by_pair, duration_s, rates)

    plan = planned(passes)
    windows = {node.name: PlanWindows(plan, node.name) for node in plan.nodes}
    true = None if truth is None and away is None else planned(passes if truth is None else truth)
    if true is not None:
        gone = {(device, t_s * SECOND_NS) for device, begins in (away or {}).items() for t_s in begins}
        there = (
            one
            for one in true.contacts
            if not {(one.source, one.start_ns), (one.destination, one.start_ns)} & gone
        )
        true = replace(true, contacts=tuple(there))

    def follow(updated: ContactPlan) -> None:
        for asked in windows.values():
            asked.prepare(updated)()

    simulation = Simulation(plan, SETTINGS, engine, true, follow)

    def machines(name: str) -> dict[str, Machine]:
        if name == SATELLITE:
            return {emsfl.SATELLITE_ROLE: emsfl.Satellite(params, splitter, windows[name])}
        return {emsfl.DEVICE_ROLE: emsfl.Device(params, name, windows[name])}

    for node in plan.nodes:
        simulation.add(node.name, partial(machines, node.name), params.model.items.values())
    return World(params, engine, simulation, plan)


def in_turn(
    clusters: Sequence[str], cycles: int, pass_s: int = 40, period_s: int = 0
) -> dict[str, list[tuple[int, int]]]:
    """Cluster after cluster, pass after pass; `period_s` from pass to pass of one cluster."""
    period_s = period_s or len(clusters) * pass_s
    return {
        name: [(n * period_s + k * pass_s, n * period_s + (k + 1) * pass_s - 1) for n in range(cycles)]
        for k, name in enumerate(clusters)
    }
