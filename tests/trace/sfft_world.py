"""SFFT in the simulator: small planes over hand-made plans, and an engine that reckons in numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.updates import spliced
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest
from orbitrain.protocols.sfft.terms import (
    Links,
    Params,
    Pieces,
    Times,
    Work,
)
from orbitrain.results import Entry
from orbitrain.roles import SfftAsks, Way, sfft_machines
from orbitrain.sim import Engine, Settings, Simulation
from orbitrain.step import Event, Job
from tests.trace.world import FakeEngine

SECOND_NS = 1_000_000_000
SETTINGS = Settings(acquisition_ns=SECOND_NS, handling_ns=SECOND_NS // 5, down_ns=3 * SECOND_NS)
INPUTS, WIDTH, CLASSES, TOKENS = 5, 4, 3, 2
RATE = 0.5

Spell = tuple[str, str, float, float]
"""Two nodes, and from when to when they are in contact, in seconds."""


# --- arithmetic ---------------------------------------------------------------------------------------------


def drawn(*seed: object, shape: tuple[int, ...]) -> np.ndarray:
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:8], "big")
    return np.random.default_rng(number).normal(size=shape)


EMBEDDING = drawn("embedding", shape=(INPUTS, TOKENS * WIDTH))
BACKBONE = drawn("backbone", shape=(TOKENS * WIDTH, WIDTH))
HEAD = drawn("head", shape=(CLASSES, WIDTH + 1)) * 0.1


def samples_of(satellite: str, number: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A satellite's inputs and labels of a round."""
    inputs = drawn("inputs", satellite, number, shape=(count, INPUTS))
    labels = drawn("labels", satellite, number, shape=(count,))
    return inputs, np.digitize(labels, [-0.5, 0.5])


def features_of(embedded: np.ndarray) -> np.ndarray:
    return np.stack([np.tanh(row @ BACKBONE) for row in embedded])


def gradient(head: np.ndarray, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the mean cross entropy."""
    with_bias = np.hstack([features, np.ones((len(features), 1))])
    logits = with_bias @ head.T
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    return chances.T @ with_bias / len(labels)


class NumpyEngine:
    """Float64 all over; each job once, however often it is run."""

    def __init__(self) -> None:
        self.data: dict[Digest, bytes] = {}
        self.jobs: list[tuple[str, Job]] = []
        self.fails: Callable[[str, Job], bool] = lambda node, job: False

    def put(self, array: np.ndarray) -> Digest:
        data = np.ascontiguousarray(array, dtype=np.float64).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        self.data[digest] = data
        return digest

    def get(self, digest: Digest, *shape: int) -> np.ndarray:
        return np.frombuffer(self.data[digest], dtype=np.float64).reshape(*shape)

    def size_of(self, digest: Digest) -> int:
        return len(self.data[digest])

    def keep(self, digests: set[Digest]) -> None:
        pass

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        self.jobs.append((node, job))
        if self.fails(node, job):
            raise JobError("it was made to fail")
        params, objects = job.params, job.objects
        match job.kind:
            case "sfft.embed":
                inputs, _ = samples_of(params["satellite"], params["round"], params["samples"])
                size = params["chunk_samples"]
                chunks = [inputs[n : n + size] @ EMBEDDING for n in range(0, len(inputs), size)]
                return {}, {f"chunk/{n}": self.put(chunk) for n, chunk in enumerate(chunks)}
            case "sfft.features":
                inputs, _ = samples_of(params["satellite"], params["round"], params["samples"])
                size = params["chunk_samples"]
                made = [features_of(inputs[n : n + size] @ EMBEDDING) for n in range(0, len(inputs), size)]
                return {}, {f"features/{n}": self.put(chunk) for n, chunk in enumerate(made)}
            case "sfft.backbone":
                found = {}
                for name, digest in objects.items():
                    if name != "backbone":
                        embedded = self.get(digest, -1, TOKENS * WIDTH)
                        found[name.replace("chunk/", "features/", 1)] = self.put(features_of(embedded))
                return {}, found
            case "sfft.head":
                count = sum(name.startswith("features/") for name in objects)
                features = np.vstack([self.get(objects[f"features/{n}"], -1, WIDTH) for n in range(count)])
                _, labels = samples_of(params["satellite"], params["round"], params["samples"])
                head = self.get(objects["head"], CLASSES, WIDTH + 1)
                stepped = (head - RATE * gradient(head, features, labels)) * len(labels)
                parts = np.array_split(stepped.ravel(), params["parts"])
                return {"loss": 0.0}, {f"part/{n}": self.put(part) for n, part in enumerate(parts)}
            case "sfft.add":
                total = self.get(objects["sum/0"], -1)
                for n in range(1, len(objects)):
                    total = total + self.get(objects[f"sum/{n}"], -1)
                return {}, {"sum": self.put(total)}
            case "sfft.join":
                return {}, {
                    "sum": self.put(
                        np.concatenate([self.get(objects[f"part/{n}"], -1) for n in range(len(objects))])
                    )
                }
            case "sfft.mean":
                total = self.get(objects["sum/0"], -1)
                for n in range(1, len(objects) - 1):
                    total = total + self.get(objects[f"sum/{n}"], -1)
                return {}, {"head": self.put(total / params["weight"])}
        raise JobError(f"there is no job {job.kind}")


class NamesEngine(FakeEngine):
    """For traces: objects are only names, the same on every machine."""

    object_bytes = 400

    def put(self, array: np.ndarray) -> Digest:
        return self.make("array", array.shape)

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        self.jobs.append((node, job))
        params, inputs = job.params, sorted(job.objects.items())
        match job.kind:
            case "sfft.embed" | "sfft.features":
                name = "chunk" if job.kind == "sfft.embed" else "features"
                count = -(-params["samples"] // params["chunk_samples"])
                whose = params["satellite"], params["round"]
                return {}, {f"{name}/{n}": self.make(name, *whose, n) for n in range(count)}
            case "sfft.backbone":
                chunks = [(name, digest) for name, digest in inputs if name != "backbone"]
                made = {name.replace("chunk/", "features/", 1): self.make(digest) for name, digest in chunks}
                return {}, made
            case "sfft.head":
                origin = params["satellite"], params["round"], inputs
                return {}, {f"part/{n}": self.make("head", *origin, n) for n in range(params["parts"])}
        return {}, {"head" if job.kind == "sfft.mean" else "sum": self.make(job.kind, inputs)}


def reference(rounds: Sequence[Sequence[str]], count: int, *, cached: bool = False) -> np.ndarray:
    """Gradient descent on the union of the samples of those who took part in each round.

    `cached`: every round is of the samples of the first.
    """
    head = HEAD
    for number, names in enumerate(rounds, 1):
        number = 1 if cached else number
        pairs = [samples_of(name, number, count) for name in names]
        features = features_of(np.vstack([inputs for inputs, _ in pairs]) @ EMBEDDING)
        head = head - RATE * gradient(head, features, np.concatenate([labels for _, labels in pairs]))
    return head


# --- worlds -------------------------------------------------------------------------------------------------


def plan_of(
    params: Params, spells: Sequence[tuple[str, Spell]], duration_s: float, rate_bps: int = 1_000_000
) -> ContactPlan:
    """`spells` with the class of link; each both ways."""
    contacts = []
    for link_class, (a, b, start_s, end_s) in spells:
        start_ns, end_ns = round(start_s * SECOND_NS), round(min(end_s, duration_s) * SECOND_NS)
        state = (Sample(start_ns, 5_000_000, rate_bps, 0.0, 1.0),)
        for ends in ((a, b), (b, a)):
            contacts.append(Contact(*ends, link_class, start_ns, end_ns, state))  # type: ignore[arg-type]
    nodes = [PlanNode(name, "satellite") for plane in params.planes for name in plane]
    nodes += [PlanNode(name, "ground") for name in (*params.stations, params.server)]
    contacts.sort(key=lambda c: (c.start_ns, c.end_ns, c.source, c.destination))
    return ContactPlan(
        1, "0" * 64, "2026-01-01T00:00:00Z", round(duration_s * SECOND_NS), tuple(nodes), tuple(contacts)
    )


def rings(params: Params, until_s: float) -> list[tuple[str, Spell]]:
    """Neighbours of each plane, all the time."""
    pairs = set()
    for plane in params.planes:
        for place, name in enumerate(plane):
            other = plane[(place + 1) % len(plane)]
            if other != name:
                pairs.add((min(name, other), max(name, other)))
    return [("intra_isl", (a, b, 0.0, until_s)) for a, b in sorted(pairs)]


def backhaul(params: Params, until_s: float) -> list[tuple[str, Spell]]:
    return [("backhaul", (station, params.server, 0.0, until_s)) for station in params.stations]


def params_of(planes: Sequence[int], engine: NumpyEngine | NamesEngine, **changes: Any) -> Params:
    """Planes of so many satellites, a-0 and on, b-0 and on, ..."""
    names = tuple(tuple(f"{'abcdefg'[p]}-{n}" for n in range(count)) for p, count in enumerate(planes))
    work = Work(rounds=2, samples=6, chunk_samples=2)
    times = Times(
        embed_ns=SECOND_NS,
        backbone_ns=SECOND_NS // 10,
        head_ns=SECOND_NS,
        add_ns=SECOND_NS // 10,
        step_ns=600 * SECOND_NS,
        commit_ns=1200 * SECOND_NS,
        patience_ns=20 * SECOND_NS,
    )
    pieces = Pieces(engine.put(EMBEDDING), engine.put(BACKBONE), engine.put(HEAD))
    links = Links(head_bytes=HEAD.nbytes, rate_byte_per_s=125_000, delay_s=0.005)
    params = Params(names, ("gs",), "server", work, pieces, times, links, {})
    values = {key: value for key, value in changes.items() if key in Params.__dataclass_fields__}
    works = {key: value for key, value in changes.items() if key in Work.__dataclass_fields__}
    waits = {key: value for key, value in changes.items() if key in Times.__dataclass_fields__}
    return replace(params, work=replace(work, **works), times=replace(times, **waits), **values)


@dataclass
class World:
    params: Params
    engine: Engine
    simulation: Simulation
    plan: ContactPlan
    """Believed; the newest update of it."""
    watch: Callable[[str, Event], None] = field(default=lambda node, event: None)

    def run(self) -> World:
        """Until every satellite has the last head, or the plan ends."""
        adopted: set[str] = set()

        def until(fresh: list[tuple[str, Event]]) -> bool:
            for node, event in fresh:
                self.watch(node, event)
                if event.kind == "head_adopted":
                    adopted.add(node)
            return len(adopted) == len(self.params.satellites)

        self.simulation.run(until)
        return self

    def kill_at(self, t_s: float, node: str, lose_disk: bool = False) -> None:
        kill = partial(self.simulation.kill, node, lose_disk)
        self.simulation.at(round(t_s * SECOND_NS), kill)

    def update_at(self, t_s: float, spells: Sequence[tuple[str, Spell]]) -> None:
        """From then on `spells` are believed, not those before."""
        fresh = plan_of(self.params, spells, self.plan.duration_ns / SECOND_NS)
        at_ns = round(t_s * SECOND_NS)
        self.plan = spliced(self.plan, fresh, at_ns)
        self.simulation.update(at_ns, self.plan)

    def events(self, kind: str) -> list[Entry]:
        return [entry for entry in self.simulation.entries() if entry.event.kind == kind]

    def heads(self) -> list[Digest]:
        """Committed, in order."""
        return [entry.event.fields["digest"] for entry in self.events("committed")]

    def participants(self) -> list[list[str]]:
        return [entry.event.fields["participants"] for entry in self.events("committed")]

    def head(self) -> np.ndarray:
        """The last one committed."""
        assert isinstance(self.engine, NumpyEngine)
        return self.engine.get(self.heads()[-1], CLASSES, WIDTH + 1)


def world(
    plan: ContactPlan,
    params: Params,
    engine: Engine,
    scheduler: str = "teg",
    truth: ContactPlan | None = None,
) -> World:
    chunk_bytes = params.work.chunk_samples * TOKENS * WIDTH * 8 + 300
    feature_bytes = params.work.chunk_samples * WIDTH * 8 + 300
    way = Way(scheduler, chunk_bytes, feature_bytes, slot_ns=5 * SECOND_NS, edge_ns=SECOND_NS)
    asks = SfftAsks(plan, params, way)
    simulation = Simulation(plan, SETTINGS, engine, truth, lambda updated: asks.prepare(updated)())

    pieces = params.pieces
    for name in params.satellites:
        simulation.add(name, partial(sfft_machines, name, params, asks), [pieces.embedding])
    for name in params.stations:
        simulation.add(name, partial(sfft_machines, name, params, asks))
    server = partial(sfft_machines, params.server, params, asks)
    simulation.add(params.server, server, [pieces.backbone, pieces.head])
    return World(params, engine, simulation, plan)


def check_head(ran: World) -> None:
    """It is gradient descent on the samples of those whom the commits list."""
    assert ran.simulation.dead_letters == 0
    work = ran.params.work
    wanted = reference(ran.participants(), work.samples, cached=work.cache)
    np.testing.assert_allclose(ran.head(), wanted, rtol=0, atol=1e-12)
