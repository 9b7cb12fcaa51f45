"""FedMeld for a scenario: its parameters, its machines over the plan, what a run of it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest, Machine
from orbitrain.planning import fedmeld_params, task_params
from orbitrain.protocols.fedmeld import Params, Region
from orbitrain.results import Entry, Progress, aggregates, summarise
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.runtime.config import FedMeld, RingRegion, Task
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, ScenarioError
from orbitrain.setting import Setting
from orbitrain.systems.system import Evaluation, Objects, Row, Trial
from orbitrain.systems.watches import RegionWatch

INITIAL = "initial"


@dataclass(frozen=True, slots=True)
class RegionCast:
    """Machines of all nodes, over the services of the plan believed."""

    params: Params
    services: RegionServices

    def machines(self, kind: str, name: str) -> Mapping[str, Machine]:
        return fedmeld_machines(kind, name, self.params, self.services)

    def follow(self, plan: ContactPlan) -> None:
        self.services.follow(plan)


class FedMeldSystem:
    """`systems.system.System`; its baseline is regions that never hear of each other (alpha = 0)."""

    baseline = "with alpha = 0"
    row = "region"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._scenario = setting.scenario
        self._task = {"task": task_params(setting.scenario, setting.seed, setting.folder)}

    @property
    def rows(self) -> Sequence[str]:
        return [region.name for region in self._scenario.regions]

    # --------------------------------------------------------------------------------- what it needs

    def objects(self, engine: WorkerEngine) -> Objects:
        """The initial weights, the scenario's or the task's own."""
        task, file = self._scenario.task, self._setting.file
        try:
            engine.work("describe", self._task, {})
            if task.init is None:
                return {INITIAL: engine.work("initial", self._task, {})[1]["model"]}
            digest = engine.put_file(self._setting.folder / task.init)
        except JobError as error:
            raise ScenarioError(f"{file}: task.task: {error}") from None
        except OSError as error:
            raise ScenarioError(f"{file}: task.init: {task.init} cannot be read: {error.strerror}") from None
        try:
            engine.work("check", self._task, {"model": digest})
            return {INITIAL: digest}
        except JobError as error:
            raise ScenarioError(f"{file}: task.init: {task.init}: {error}") from None

    def files(self) -> Mapping[str, str]:
        return {INITIAL: "initial.safetensors"}

    def preloaded(self, kind: str, name: str, *, baseline: bool = False) -> tuple[str, ...]:
        return (INITIAL,) if kind == "device" else ()

    def configured(self, objects: Objects, kind: str, name: str) -> Mapping[str, Any]:
        scenario, protocol = self._scenario, self._scenario.fedmeld
        return {
            "initial": "../initial.safetensors" if kind == "device" else None,
            "initial_sha256": objects[INITIAL],
            "fedmeld": FedMeld(
                rounds=scenario.rounds,
                delta=protocol.delta,
                alpha=protocol.alpha,
                carry=protocol.carry,
                train_s=scenario.compute.train_s,
                aggregate_s=scenario.compute.aggregate_s,
                regions=[
                    RingRegion(name=region.name, devices=list(region.device_names))
                    for region in scenario.regions
                ],
            ),
            "task": Task(
                spec=scenario.task.task,
                search_path=str(self._setting.folder.resolve()),
                options=scenario.task.options,
            ),
        }

    def cast(self, objects: Objects, *, baseline: bool = False) -> RegionCast:
        setting = self._setting
        alpha = 0.0 if baseline else None
        params = fedmeld_params(self._scenario, setting.seed, setting.folder, objects[INITIAL], alpha)
        return RegionCast(params, RegionServices(setting.plan, params.regions))

    def watch(self) -> RegionWatch:
        devices = {device: region.name for region in self._scenario.regions for device in region.device_names}
        return RegionWatch(Progress(self._scenario.rounds, devices))

    def evaluation(self, objects: Objects) -> Evaluation:
        return Evaluation("evaluate", self._task, "model", {})

    def trial(self, objects: Objects) -> Trial:
        """Everything of one instant shares the cores: all devices train at once."""
        scenario, seed = self._scenario, self._setting.seed
        regions = tuple(Region(region.name, region.device_names) for region in scenario.regions)
        services = RegionServices(self._setting.plan, regions)
        first = regions[0].devices[0]
        return Trial(
            kind="train",
            params={**self._task, "device": first, "round": 1, "seed": seed},
            objects={"model": objects[INITIAL]},
            declared_s=scenario.compute.train_s,
            field="compute.train_s",
            at_once=max(len(region.devices) for region in regions) * len(regions),
            # The first and the last service of a region may be cut by the ends of the plan.
            contacts_s=[
                (one.end_ns - one.start_ns) / SECOND_NS
                for region in regions
                for one in services.services(region.name)[1:-1]
            ],
        )

    # ------------------------------------------------------------------------------ what it came to

    def summarise(
        self, entries: Sequence[Entry], scores: Mapping[Digest, float], *, baseline: bool = False
    ) -> dict[str, Any]:
        return summarise(entries, scores, self.rows, self._scenario.fedmeld.delta)

    def metrics(self, entries: Sequence[Entry], scores: Mapping[Digest, float]) -> list[Row]:
        """Each region's accuracy as its models were aggregated."""
        node = self._scenario.ground.name
        return [
            (t_ns, node, f"accuracy.{region}", scores[digest])
            for (region, _), (digest, _, t_ns) in aggregates(entries).items()
            if digest in scores
        ]

    def models(self, summary: Mapping[str, Any]) -> Mapping[str, Digest]:
        found: dict[str, Digest] = summary["model_sha256"]
        return found

    def compared(self, summary: Mapping[str, Any] | None, scenario_ns: int) -> dict[str, Any]:
        return {"isolated_accuracy": None if summary is None else summary["accuracy"]}

    def order(self) -> Sequence[str]:
        return ("rounds", "accuracy", "isolated_accuracy", "updates", "carries", "bytes")
