"""SFFT for a scenario: the pieces of its model, its machines over the plan, what a run of it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.learning.split.identity import Identity
from orbitrain.machine import Digest, Machine
from orbitrain.planning import planes_of
from orbitrain.protocols.sfft.ring import Gather, Reduce
from orbitrain.protocols.sfft.terms import Params
from orbitrain.results import Entry, count_bytes
from orbitrain.roles import SfftAsks, sfft_machines
from orbitrain.runtime.config import Preload, Sfft, SfftTimes, SfftWork, Task, sfft_params, sfft_way
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, ScenarioError
from orbitrain.scenario.protocols import Compute
from orbitrain.setting import Setting
from orbitrain.systems.sfft_plan import why_no_round
from orbitrain.systems.sfft_results import flow, phases
from orbitrain.systems.system import Evaluation, Objects, Row, Trial
from orbitrain.systems.watches import HeadWatch

PIECES: Final = ("embedding", "backbone", "head")
FILES: Final = {"embedding": "embedding.onnx", "backbone": "backbone.onnx", "head": "head.safetensors"}


@dataclass(frozen=True, slots=True)
class OrbitCast:
    """Machines of all nodes, which ask the plan believed."""

    params: Params
    asks: SfftAsks

    def machines(self, kind: str, name: str) -> Mapping[str, Machine]:
        return sfft_machines(name, self.params, self.asks)

    def follow(self, plan: ContactPlan) -> None:
        self.asks.prepare(plan)()


class SfftSystem:
    """`systems.system.System`; its baseline is satellites that run the backbone themselves."""

    baseline = "with the backbone on board"
    row = "model"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._scenario = setting.scenario
        self._identity: Identity | None = None

    @property
    def rows(self) -> Sequence[str]:
        return ("head",)

    # --------------------------------------------------------------------------------- what it needs

    def objects(self, engine: WorkerEngine) -> Objects:
        """The model's pieces: made, cut and exported."""
        scenario, file = self._scenario, self._setting.file
        assert scenario.model is not None
        model = {
            "spec": scenario.model.model,
            "options": scenario.model.options,
            "seed": self._setting.seed,
            "search_path": str(self._setting.folder.resolve()),
        }
        try:
            result, made = engine.work("sfft.cut", {"model": model}, {})
            self._identity = Identity.from_json(result["identity"])
        except JobError as error:
            raise ScenarioError(f"{file}: model.model: {error}") from None
        try:
            engine.work("sfft.check", self._settings_with({"samples": scenario.sfft.samples}), dict(made))
        except JobError as error:
            raise ScenarioError(f"{file}: task.task: {error}") from None
        self._check_plan()
        return made

    def _check_plan(self) -> None:
        """Raises ScenarioError for a plan over which no round can ever end."""
        stations = [station.name for station in self._scenario.stations]
        why = why_no_round(self._setting.plan, planes_of(self._scenario), stations)
        if why is not None:
            raise ScenarioError(f"{self._setting.file}: {why}")

    def files(self) -> Mapping[str, str]:
        return FILES

    def preloaded(self, kind: str, name: str) -> tuple[str, ...]:
        if kind == "satellite":
            return ("embedding", "backbone") if self._scenario.sfft.on_board else ("embedding",)
        return PIECES if name == self._scenario.ground.name else ()

    def configured(self, objects: Objects, kind: str, name: str) -> Mapping[str, Any]:
        task = self._scenario.task
        return {
            "sfft": self._table(objects),
            "preload": [
                Preload(file=f"../{FILES[each]}", sha256=objects[each]) for each in self.preloaded(kind, name)
            ],
            "task": Task(
                spec=task.task, search_path=str(self._setting.folder.resolve()), options=task.options
            ),
        }

    def _table(self, objects: Objects) -> Sfft:
        scenario, protocol = self._scenario, self._scenario.sfft
        assert scenario.links.intra_isl is not None
        compute: Compute = scenario.compute
        planes = planes_of(scenario)
        return Sfft(
            planes=[list(members) for members in planes],
            stations=[station.name for station in scenario.stations],
            server=scenario.ground.name,
            embedding=objects["embedding"],
            backbone=objects["backbone"],
            head=objects["head"],
            head_bytes=self._bytes("head"),
            chunk_bytes=self._bytes("chunk"),
            ring_bps=self._ring_bps(),
            ring_delay_s=self._ring_delay_s(),
            work=SfftWork(
                rounds=scenario.rounds,
                samples=protocol.samples,
                chunk_samples=protocol.chunk_samples,
                gather=Gather(protocol.gather),
                head_reduce=Reduce(protocol.head_reduce),
                scheduler=protocol.scheduler,
                slot_s=protocol.slot_s,
                wire=protocol.wire,
                steps=protocol.steps,
                learning_rate=protocol.learning_rate,
                cache=protocol.cache,
                on_board=protocol.on_board,
            ),
            times=SfftTimes(
                embed_s=compute.on_board_s if protocol.on_board else compute.embed_s,
                backbone_s=compute.backbone_s,
                head_s=compute.head_s,
                add_s=compute.add_s,
                step_s=protocol.step_s,
                commit_s=protocol.commit_s,
                patience_s=protocol.patience_s,
            ),
        )

    def _bytes(self, what: str) -> int:
        """Of a weighted head in float64, of a chunk on the wire, with a file's header; before the cut, 1."""
        if self._identity is None:
            return 1
        shapes, protocol = self._identity.shapes, self._scenario.sfft
        if what == "head":
            return shapes.head_bytes(8) + HEADER_BYTES
        value_bytes = {"float64": 8, "float32": 4, "float16": 2, "int8": 1}[protocol.wire]
        return (
            min(protocol.samples, protocol.chunk_samples) * shapes.embedded_bytes(value_bytes) + HEADER_BYTES
        )

    def _ring_bps(self) -> int:
        rates = [contact.rate_bps_at(contact.start_ns) for contact in self._ring_contacts()]
        return max(1, min(rates, default=1))

    def _ring_delay_s(self) -> float:
        delays = [contact.delay_ns_at(contact.start_ns) for contact in self._ring_contacts()]
        return max(delays, default=0) / SECOND_NS

    def _ring_contacts(self) -> list[Any]:
        return [one for one in self._setting.plan.contacts if one.link_class == "intra_isl"]

    def _settings_with(self, more: Mapping[str, Any]) -> dict[str, Any]:
        scenario = self._scenario
        names = [name for some in scenario.constellation for name in some.members]
        task = {
            "spec": scenario.task.task,
            "options": scenario.task.options,
            "satellites": names,
            "seed": self._setting.seed,
            "search_path": str(self._setting.folder.resolve()),
        }
        return {"task": task, **more}

    def cast(self, objects: Objects, *, baseline: bool = False) -> OrbitCast:
        task = self._settings_with({})["task"]
        table = self._table(objects)
        params = sfft_params(table, task)
        if baseline:
            times = replace(params.times, embed_ns=round(self._scenario.compute.on_board_s * SECOND_NS))
            params = replace(params, work=replace(params.work, on_board=True), times=times)
        edge_s = self._scenario.links.acquisition_s + self._scenario.compute.message_s
        return OrbitCast(params, SfftAsks(self._setting.plan, params, sfft_way(table, edge_s)))

    def watch(self) -> HeadWatch:
        names = [name for some in self._scenario.constellation for name in some.members]
        return HeadWatch(self._scenario.rounds, names)

    def evaluation(self, objects: Objects) -> Evaluation:
        pieces = {name: objects[name] for name in ("embedding", "backbone")}
        return Evaluation("sfft.evaluate", self._settings_with({}), "head", pieces)

    def trial(self, objects: Objects) -> Trial:
        protocol, compute = self._scenario.sfft, self._scenario.compute
        names = [name for some in self._scenario.constellation for name in some.members]
        sizes = {"samples": protocol.samples, "chunk_samples": protocol.chunk_samples, "wire": protocol.wire}
        params = self._settings_with({**sizes, "satellite": names[0], "round": 1})
        if protocol.on_board:
            kind, taken = "sfft.features", {name: objects[name] for name in ("embedding", "backbone")}
        else:
            kind, taken = "sfft.embed", {"piece": objects["embedding"]}
        feeders = [one for one in self._setting.plan.contacts if one.link_class == "feeder"]
        return Trial(
            kind=kind,
            params=params,
            objects=taken,
            declared_s=compute.on_board_s if protocol.on_board else compute.embed_s,
            field="compute.on_board_s" if protocol.on_board else "compute.embed_s",
            at_once=len(names),
            contacts_s=[(one.end_ns - one.start_ns) / SECOND_NS for one in feeders],
        )

    # ------------------------------------------------------------------------------ what it came to

    def summarise(self, entries: Sequence[Entry], scores: Mapping[Digest, float]) -> dict[str, Any]:
        commits = [
            {**dict(entry.event.fields), "t_s": round(entry.event.t_ns / SECOND_NS, 3)}
            for entry in entries
            if entry.event.kind == "committed"
        ]
        heads = [str(commit["digest"]) for commit in commits]
        by_round = [scores.get(digest) for digest in heads]
        known = [score for score in by_round if score is not None]
        return {
            "rounds": len(commits),
            "accuracy": known[-1] if known else None,
            "accuracy_by_round": by_round,
            "commits": commits,
            "phases": phases(entries),
            "flow": flow(entries),
            "bytes": count_bytes(entries),
            "overruns": sum(1 for entry in entries if entry.event.kind == "overrun"),
            "model_sha256": {"head": heads[-1]} if heads else {},
        }

    def metrics(self, entries: Sequence[Entry], scores: Mapping[Digest, float]) -> list[Row]:
        node = self._scenario.ground.name
        return [
            (entry.event.t_ns, node, "accuracy.head", scores[str(entry.event.fields["digest"])])
            for entry in entries
            if entry.event.kind == "committed" and entry.event.fields["digest"] in scores
        ]

    def models(self, summary: Mapping[str, Any]) -> Mapping[str, Digest]:
        found: dict[str, Digest] = summary["model_sha256"]
        return found

    def compared(self, summary: Mapping[str, Any] | None, scenario_ns: int) -> dict[str, Any]:
        if summary is None:
            return {"on_board": None}
        return {
            "on_board": {
                "rounds": summary["rounds"],
                "scenario_seconds": round(scenario_ns / SECOND_NS, 3),
                "accuracy": summary["accuracy"],
                "bytes": summary["bytes"],
            }
        }

    def order(self) -> Sequence[str]:
        own = ("rounds", "accuracy", "accuracy_by_round", "on_board", "commits", "phases", "flow", "bytes")
        return own


HEADER_BYTES: Final = 600
"""Of a small safetensors file beside its values, at most."""
