"""One run: the demonstration's clusters and orbit, by one protocol, with one step size, from one seed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orbitrain.learning.model_file import ModelFile
from orbitrain.learning.tensors import MAX_MODEL_BYTES
from orbitrain.planning import build_plan
from orbitrain.results import Entry
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, Scenario
from orbitrain.setting import Setting
from orbitrain.step import Event
from orbitrain.virtual import Workshop

DEMO: Final = Path(__file__).parents[2] / "deploy" / "scenarios" / "emsfl-demo.toml"

PROTOCOLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "EMS-FL": {"algorithm": "ems_fl", "masked": True},
    "synchronous": {"algorithm": "synchronous", "masked": False, "rounds_max": 1},
    "FedAvg": {"algorithm": "synchronous", "masked": False},
}
"""What differs in the scenario's table. `rounds_max` is elsewhere the demonstration's: FedAvg takes as many
rounds in a contact as EMS-FL takes from contact to contact."""

CASES: Final[Mapping[str, Mapping[str, Any]]] = {
    "specialised": {},
    "unspecialised": {"specialised": False},
}
"""Options of the task."""

PASSES_WITHOUT_END: Final = 1_000_000
"""Passes of each cluster, so that all runs end with the plan."""


@dataclass(frozen=True, slots=True)
class Trial:
    case: str
    protocol: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.case} {self.protocol} {self.rate:g} {self.seed}"


def scenario_of(trial: Trial, duration_s: int) -> Scenario:
    """The demonstration, longer, with these."""
    tables = tomllib.loads(DEMO.read_text(encoding="utf-8"))
    tables["rounds"], tables["duration_s"], tables["seed"] = PASSES_WITHOUT_END, duration_s, trial.seed
    tables["protocol"].update(PROTOCOLS[trial.protocol])
    tables["task"].update({"learning_rate": trial.rate, **CASES[trial.case]})
    return Scenario.model_validate(tables)


def course(trial: Trial, duration_s: int, engine: WorkerEngine) -> dict[str, Any]:
    """What happened in the run, by time in seconds; plain lists and numbers."""
    scenario = scenario_of(trial, duration_s)
    plan = build_plan(scenario)
    shop = Workshop(Setting(scenario, str(DEMO), DEMO.parent, trial.seed, plan), engine)
    objects = shop.objects()
    _, whole = engine.work("moe.assemble", {}, objects)
    initial = shop.score(objects, whole["model"])
    expert = ModelFile(engine.path(objects["expert/0"]), MAX_MODEL_BYTES)
    sizes: dict[str, int] = {}

    def watch(node: str, event: Event, progress: Any, scores: Any) -> None:
        if event.kind == "update_sent":
            for _, _, digest in event.fields["items"]:
                sizes[digest] = engine.size_of(digest)

    done = shop.simulate(objects, watch=watch)
    devices = [name for region in scenario.regions for name in region.device_names]
    starts = [
        start_ns / SECOND_NS
        for region in scenario.regions
        for start_ns, _ in plan.windows(region.device_names[0], scenario.satellites[0])
    ]
    return {
        "initial": initial,
        "clusters": len(scenario.regions),
        "devices": len(devices),
        "passes": sorted(starts),
        "models": [
            [_seconds(one), done.scores[one.event.fields["digest"]]]
            for one in done.entries
            if one.event.kind == "model_assembled"
        ],
        "announced": [
            [_seconds(one), sum(sizes[digest] for _, _, digest in one.event.fields["items"])]
            for one in done.entries
            if one.event.kind == "update_sent"
        ],
        "repeated": _repeated(done.entries),
        "moved": [
            [_seconds(one), int(one.event.fields["bytes"])]
            for one in done.entries
            if one.node in devices
            and one.event.fields.get("class") == "service"
            and "bytes" in one.event.fields
        ],
        "trained": [
            [_seconds(one), float(one.event.fields["seconds"]), bool(one.event.fields["connected"])]
            for one in done.entries
            if one.event.kind == "trained"
        ],
        "loaded_bytes": max(one["loaded"] for one in done.summary["peak_bytes"].values()),
        "expert_bytes": sum(spec.dtype.itemsize * spec.count for spec in expert.specs.values()),
        "experts": sum(1 for item in objects if item.startswith("expert/")),
        "gamma": done.summary["gamma"],
        "owned": [one["owners"] for one in done.summary["owners"]],
        "refused": done.summary["updates"]["refused"],
    }


def _repeated(entries: list[Entry]) -> list[int]:
    """[n, m]: of m updates announced, n are the very object of one before, as are changes of nothing."""
    seen: set[str] = set()
    found = again = 0
    for one in entries:
        if one.event.kind == "update_sent":
            for _, _, digest in one.event.fields["items"]:
                found += 1
                again += digest in seen
                seen.add(digest)
    return [again, found]


def _seconds(entry: Entry) -> float:
    return round(entry.event.t_ns / SECOND_NS, 3)
