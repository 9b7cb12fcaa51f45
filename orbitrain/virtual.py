"""A scenario in virtual time with real training: `orbitrain sim`, and the baselines of every run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orbitrain.machine import Digest
from orbitrain.results import Entry
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS
from orbitrain.setting import Setting
from orbitrain.sim import Settings, Simulation
from orbitrain.step import Event
from orbitrain.systems.choice import system_of
from orbitrain.systems.system import Objects, System, Watch
from orbitrain.transport.store.blobs import BlobStore

Seen = Callable[[str, Event, Watch, Mapping[Digest, float]], None]
"""Called with (node, event, how far the run is, what models scored)."""


@dataclass(slots=True)
class Outcome:
    """What a virtual run came to. `models` are files that live as long as the workshop."""

    entries: list[Entry]
    scores: dict[Digest, float]
    scenario_ns: int
    dead_letters: int
    summary: dict[str, Any]
    models: dict[str, Path] = field(default_factory=dict)


class Workshop:
    """A worker and a folder of objects: makes what a setting's nodes begin with, measures, simulates."""

    def __init__(self, setting: Setting, engine: WorkerEngine) -> None:
        self.setting = setting
        self.engine = engine
        self.system: System = system_of(setting)

    def objects(self) -> Objects:
        """What nodes begin with, in the store. Raises ScenarioError for what cannot be used."""
        return self.system.objects(self.engine)

    def score(self, objects: Objects, digest: Digest) -> float:
        """Accuracy of a model on samples that nobody trains on. Raises JobError."""
        how = self.system.evaluation(objects)
        result, _ = self.engine.work(how.kind, how.params, {**how.objects, how.subject: digest})
        return float(result["accuracy"])

    def simulate(
        self,
        objects: Objects,
        *,
        baseline: bool = False,
        watch: Seen = lambda node, event, progress, scores: None,
    ) -> Outcome:
        """Run the scenario, or the system's baseline for it, in virtual time. `watch` sees every event.

        Raises ValueError for updates that do not follow the plan.
        """
        setting, scenario, system = self.setting, self.setting.scenario, self.system
        cast = system.cast(objects, baseline=baseline)
        settings = Settings(
            acquisition_ns=round(scenario.links.acquisition_s * SECOND_NS),
            handling_ns=round(scenario.compute.message_s * SECOND_NS),
        )
        simulation = Simulation(setting.plan, settings, self.engine, setting.truth, cast.follow)
        for update in setting.updates:
            simulation.update(update.at_ns, update.plan)
        for name, kind in scenario.nodes():
            begins = system.preloaded(kind, name, baseline=baseline)
            simulation.add(name, partial(cast.machines, kind, name), [objects[one] for one in begins])
        progress = system.watch()
        scores: dict[Digest, float] = {}

        def until(fresh: list[tuple[str, Event]]) -> bool:
            for node, event in fresh:
                for digest in progress.see(event, node):
                    if digest not in scores:
                        scores[digest] = self.score(objects, digest)
                watch(node, event, progress, scores)
            return progress.finished

        simulation.run(until)
        entries = simulation.entries()
        summary = system.summarise(entries, scores, baseline=baseline)
        models = {name: self.engine.path(digest) for name, digest in system.models(summary).items()}
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
