"""A scenario in virtual time with real training: `orbitrain sim`, and the isolated regions of every run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest
from orbitrain.planning import fedmeld_params, task_params
from orbitrain.results import Entry, Progress, summarise
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, Scenario, ScenarioError
from orbitrain.sim import Settings, Simulation
from orbitrain.step import Event
from orbitrain.transport.store.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class Update:
    """A later issue of the plan, which every node believes from scenario time `at_ns` (1 or more) on."""

    at_ns: int
    plan: ContactPlan


@dataclass(slots=True)
class Setting:
    """What a run works on: the scenario, its seed, its folder, its plan.

    Nodes believe `plan`, and in their turn `updates`, each of which replaces the one before it
    (`contacts.updates`). Links follow `truth`; without one they follow what is believed.
    """

    scenario: Scenario
    file: str
    folder: Path
    seed: int
    plan: ContactPlan
    truth: ContactPlan | None = None
    updates: tuple[Update, ...] = ()

    @property
    def task(self) -> dict[str, Any]:
        return {"task": task_params(self.scenario, self.seed, self.folder)}

    @property
    def devices(self) -> dict[str, str]:
        """Region by device."""
        return {device: region.name for region in self.scenario.regions for device in region.device_names}

    def progress(self) -> Progress:
        return Progress(self.scenario.rounds, self.devices)


@dataclass(slots=True)
class Outcome:
    """What a virtual run came to. `models` are files that live as long as the workshop."""

    entries: list[Entry]
    evaluations: dict[Digest, float]
    scenario_ns: int
    dead_letters: int
    summary: dict[str, Any]
    models: dict[str, Path] = field(default_factory=dict)


class Workshop:
    """A worker and a folder of objects: checks a setting's task, makes its initial weights, simulates."""

    def __init__(self, setting: Setting, engine: WorkerEngine) -> None:
        self.setting = setting
        self.engine = engine

    def initial(self) -> Digest:
        """The initial weights, in the store. Raises ScenarioError for a task that cannot be used."""
        task = self.setting.scenario.task
        try:
            self.engine.work("describe", self.setting.task, {})
            if task.init is None:
                return self.engine.work("initial", self.setting.task, {})[1]["model"]
            digest = self.engine.put_file(self.setting.folder / task.init)
        except JobError as error:
            raise ScenarioError(f"{self.setting.file}: task.task: {error}") from None
        except OSError as error:
            raise ScenarioError(
                f"{self.setting.file}: task.init: {task.init} cannot be read: {error.strerror}"
            ) from None
        try:
            self.engine.work("check", self.setting.task, {"model": digest})
            return digest
        except JobError as error:
            raise ScenarioError(f"{self.setting.file}: task.init: {task.init}: {error}") from None

    def evaluate(self, digest: Digest) -> float:
        """Accuracy of a model on the task's held-out set. Raises JobError."""
        result, _ = self.engine.work("evaluate", self.setting.task, {"model": digest})
        return float(result["accuracy"])

    def simulate(
        self,
        initial: Digest,
        alpha: float | None = None,
        watch: Callable[[str, Event, Mapping[Digest, float]], None] = lambda node, event, scores: None,
    ) -> Outcome:
        """Run the scenario in virtual time; `alpha` overrides its mixing ratio. `watch` sees every event.

        Raises ValueError for updates that do not follow the plan.
        """
        setting, scenario = self.setting, self.setting.scenario
        params = fedmeld_params(scenario, setting.seed, setting.folder, initial, alpha)
        orbits = RegionServices(setting.plan, params.regions)
        settings = Settings(
            acquisition_ns=round(scenario.links.acquisition_s * SECOND_NS),
            handling_ns=round(scenario.compute.message_s * SECOND_NS),
        )
        simulation = Simulation(setting.plan, settings, self.engine, setting.truth, orbits.follow)
        for update in setting.updates:
            simulation.update(update.at_ns, update.plan)
        for name, kind in scenario.nodes():
            preloaded = [initial] if kind == "device" else []
            simulation.add(name, partial(fedmeld_machines, kind, name, params, orbits), preloaded)
        progress = setting.progress()
        scores: dict[Digest, float] = {}

        def until(fresh: list[tuple[str, Event]]) -> bool:
            for node, event in fresh:
                progress.see(event, node)
                if event.kind == "aggregated":
                    for digest in (event.fields["digest"], event.fields["pre"]):
                        if digest not in scores:
                            scores[digest] = self.evaluate(digest)
                watch(node, event, scores)
            return progress.finished

        simulation.run(until)
        entries = simulation.entries()
        regions = [region.name for region in scenario.regions]
        summary = summarise(entries, scores, regions, scenario.protocol.delta)
        models = {region: self.engine.path(digest) for region, digest in summary["model_sha256"].items()}
        return Outcome(entries, scores, simulation.now_ns, simulation.dead_letters, summary, models)


@contextmanager
def workshop(setting: Setting) -> Iterator[Workshop]:
    """A workshop with a worker process and a temporary store, both gone at the end."""
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder, BlockingCompute() as compute:
        blobs = BlobStore(Path(folder))
        try:
            yield Workshop(setting, WorkerEngine(compute, blobs))
        finally:
            blobs.close()
