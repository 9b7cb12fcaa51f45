"""EMS-FL for a scenario: the parts of its mixture of experts, its machines, what a run of it came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.moe.parts import file_name
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest, Machine
from orbitrain.planning import devices_of, task_settings
from orbitrain.protocols.emsfl import Params
from orbitrain.protocols.emsfl.terms import BACKBONE, GATE, Algorithm, expert
from orbitrain.results import Entry, count_bytes
from orbitrain.roles import PlanWindows, emsfl_machines
from orbitrain.runtime.config import Preload, Task
from orbitrain.runtime.emsfl_config import (
    EXPERTS_MAX,
    Emsfl,
    EmsflCluster,
    EmsflModel,
    EmsflPace,
    EmsflSplit,
    EmsflStale,
    EmsflTimes,
    EmsflWork,
    emsfl_params,
)
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, ScenarioError
from orbitrain.setting import Setting
from orbitrain.splitting.epochs import lacking
from orbitrain.systems.emsfl_results import (
    assembled,
    cycles,
    device_bytes,
    device_compute,
    device_memory,
    gamma,
    owners,
    updates,
)
from orbitrain.systems.system import Evaluation, Objects, Row, Trial
from orbitrain.systems.watches import ExpertWatch

MODEL = "model"


@dataclass(slots=True)
class ExpertCast:
    """Machines of all nodes, which ask the plan believed when their contacts end."""

    params: Params
    plan: ContactPlan
    _windows: dict[str, PlanWindows] = field(default_factory=dict)

    def machines(self, kind: str, name: str) -> Mapping[str, Machine]:
        windows = self._windows.setdefault(name, PlanWindows(self.plan, name))
        return emsfl_machines(name, self.params, windows)

    def follow(self, plan: ContactPlan) -> None:
        self.plan = plan
        for windows in self._windows.values():
            windows.prepare(plan)()


class EmsflSystem:
    """`systems.system.System`; its baseline is the paper's: the connected cluster trains everything."""

    baseline = "with the synchronous baseline"
    row = "cluster"

    def __init__(self, setting: Setting) -> None:
        scenario = setting.scenario
        self._setting = setting
        self._scenario = scenario
        (self._satellite,) = scenario.satellites
        self._clusters = devices_of(scenario)
        settings = task_settings(scenario, setting.seed, setting.folder)
        self._task = {"task": {**settings, "clusters": self._clusters}}
        self._described: Mapping[str, Any] = {}
        """The mixture, once a worker has made it."""

    @property
    def rows(self) -> Sequence[str]:
        return list(self._clusters)

    @property
    def _devices(self) -> list[str]:
        return [device for devices in self._clusters.values() for device in devices]

    # --------------------------------------------------------------------------------- what it needs

    def objects(self, engine: WorkerEngine) -> Objects:
        """The mixture's parts, as warmed up."""
        self._check_plan()
        file, protocol = self._setting.file, self._scenario.emsfl
        if protocol.algorithm == "ems_fl" and (what := lacking()):
            raise ScenarioError(f"{file}: protocol.name: {what}")
        try:
            described, _ = engine.work("moe.describe", self._task, {})
            _, made = engine.work("moe.initial", self._task, {})
        except JobError as error:
            raise ScenarioError(f"{file}: task.task: {error}") from None
        self._described = described
        experts = int(described["experts"])
        if max(experts, len(self._clusters)) > EXPERTS_MAX:
            what = f"{len(self._clusters)} regions and a task of {experts} experts"
            raise ScenarioError(f"{file}: regions: must be at most {EXPERTS_MAX}, as experts; not {what}")
        if protocol.capacity is not None and protocol.capacity * len(self._clusters) < experts:
            raise ScenarioError(
                f"{file}: protocol.capacity: must give {len(self._clusters)} clusters room for "
                f"{experts} experts, not {protocol.capacity} each"
            )
        return made

    def _check_plan(self) -> None:
        """Raises ScenarioError for a plan in which a device never sees the satellite."""
        plan = self._setting.plan
        for n, region in enumerate(self._scenario.regions):
            if not any(plan.windows(device, self._satellite) for device in region.device_names):
                raise ScenarioError(
                    f"{self._setting.file}: regions[{n}].site: must see {self._satellite} at some time; "
                    f"{region.name} never does"
                )

    def files(self) -> Mapping[str, str]:
        return {item: file_name(item) for item in self._items}

    @property
    def _items(self) -> list[str]:
        return self._items_with(range(self._described["experts"]))

    @staticmethod
    def _items_with(experts: Iterable[int]) -> list[str]:
        return [BACKBONE, GATE, *map(expert, experts)]

    def preloaded(self, kind: str, name: str, *, baseline: bool = False) -> tuple[str, ...]:
        return () if kind == "ground" else tuple(self._items)

    def configured(self, objects: Objects, kind: str, name: str) -> Mapping[str, Any]:
        files = self.files()
        return {
            "emsfl": self._table(objects),
            "preload": [
                Preload(file=f"../{files[item]}", sha256=objects[item]) for item in self.preloaded(kind, name)
            ],
            "task": Task(
                spec=self._scenario.task.task,
                search_path=str(self._setting.folder.resolve()),
                options=self._scenario.task.options,
            ),
        }

    def _table(self, objects: Objects) -> Emsfl:
        scenario, described = self._scenario, self._described
        declared = {
            **scenario.compute.model_dump(),
            **scenario.emsfl.model_dump(),
            "cycles": scenario.rounds,
        }

        def chosen(table: Any) -> Any:
            return table(**{name: declared[name] for name in table.model_fields})

        return Emsfl(
            satellite=self._satellite,
            clusters=[EmsflCluster(name=name, devices=devices) for name, devices in self._clusters.items()],
            work=chosen(EmsflWork),
            pace=chosen(EmsflPace),
            stale=chosen(EmsflStale),
            times=chosen(EmsflTimes),
            split=chosen(EmsflSplit),
            model=EmsflModel(
                layers=described["layers"],
                experts=described["experts"],
                top_k=described["top_k"],
                items={item: objects[item] for item in self._items},
            ),
        )

    def cast(self, objects: Objects, *, baseline: bool = False) -> ExpertCast:
        params = emsfl_params(self._table(objects), self._setting.seed, self._task["task"])
        if baseline:
            work = replace(params.work, algorithm=Algorithm.SYNCHRONOUS, masked=False)
            params = replace(params, work=work, pace=replace(params.pace, rounds_max=1, resplit_cycles=0))
        return ExpertCast(params, self._setting.plan)

    def watch(self) -> ExpertWatch:
        return ExpertWatch(list(self._clusters))

    def evaluation(self, objects: Objects) -> Evaluation:
        return Evaluation("moe.evaluate", self._task, MODEL, {})

    def trial(self, objects: Objects) -> Trial:
        """A round of one expert, or of all; the devices of a cluster train at once."""
        protocol = self._scenario.emsfl
        partly = protocol.masked and protocol.algorithm == "ems_fl"
        experts = [0] if partly else list(range(self._described["experts"]))
        items = self._items_with(experts)
        first = self._devices[0]
        params = {
            **self._task,
            "device": first,
            "round": 1,
            "seed": self._setting.seed,
            "experts": experts,
            "gate": False,
            "backbone": False,
            "masked": partly,
        }
        passes = [
            window
            for device in self._devices
            for window in self._setting.plan.windows(device, self._satellite)
        ]
        # The first and the last pass may be cut by the ends of the plan.
        whole = [(a, b) for a, b in passes if a > 0 and b < self._setting.plan.duration_ns]
        return Trial(
            kind="moe.train",
            params=params,
            objects={item: objects[item] for item in items},
            declared_s=self._scenario.compute.train_s,
            field="compute.train_s",
            at_once=max(len(devices) for devices in self._clusters.values()),
            contacts_s=[(end_ns - start_ns) / SECOND_NS for start_ns, end_ns in whole],
        )

    # ------------------------------------------------------------------------------ what it came to

    def summarise(
        self, entries: Sequence[Entry], scores: Mapping[Digest, float], *, baseline: bool = False
    ) -> dict[str, Any]:
        passes = cycles(entries, scores)
        models = [digest for _, _, _, digest in assembled(entries)]
        known = [scores[digest] for digest in models if digest in scores]
        end_ns = max((entry.event.t_ns for entry in entries), default=0)
        return {
            "rounds": {
                name: max((one["cycle"] for one in passes if one["cluster"] == name), default=0)
                for name in self._clusters
            },
            "accuracy": known[-1] if known else None,
            "cycles": passes,
            "gamma": gamma(entries),
            "owners": owners(entries),
            "updates": updates(entries),
            "peak_bytes": device_memory(entries, self._devices),
            "device_bytes": device_bytes(entries, self._devices),
            "compute": device_compute(entries, self._devices, end_ns),
            "bytes": count_bytes(entries),
            "overruns": sum(1 for entry in entries if entry.event.kind == "overrun"),
            "model_sha256": {MODEL: models[-1]} if models else {},
        }

    def metrics(self, entries: Sequence[Entry], scores: Mapping[Digest, float]) -> list[Row]:
        """The model's accuracy as it was put together."""
        node = self._scenario.ground.name
        return [
            (t_ns, node, "accuracy.model", scores[digest])
            for t_ns, _, _, digest in assembled(entries)
            if digest in scores
        ]

    def models(self, summary: Mapping[str, Any]) -> Mapping[str, Digest]:
        found: dict[str, Digest] = summary["model_sha256"]
        return found

    def compared(self, summary: Mapping[str, Any] | None, scenario_ns: int) -> dict[str, Any]:
        """`synchronous`: the baseline beside the run, by the measures that the paper compares them by."""
        if summary is None:
            return {"synchronous": None}
        kept = ("rounds", "accuracy", "cycles", "peak_bytes", "device_bytes", "compute", "bytes")
        seconds = {"scenario_seconds": round(scenario_ns / SECOND_NS, 3)}
        return {"synchronous": {**seconds, **{key: summary[key] for key in kept}}}

    def order(self) -> Sequence[str]:
        learned = ("rounds", "accuracy", "cycles", "synchronous", "gamma", "owners", "updates")
        return (*learned, "peak_bytes", "device_bytes", "compute", "bytes")
