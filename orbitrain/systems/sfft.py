"""SFFT for a scenario: the pieces of its model, its machines over the plan, what a run of it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.learning.split.blocks import WIRE_BYTES, values_bytes
from orbitrain.learning.split.identity import Flops, Identity
from orbitrain.machine import Digest, Machine
from orbitrain.planning import planes_of, task_settings
from orbitrain.protocols.sfft.costs import Load, block_letters
from orbitrain.protocols.sfft.terms import Params
from orbitrain.results import Entry, count_bytes
from orbitrain.roles import SfftAsks, sfft_machines
from orbitrain.runtime.config import Preload, Sfft, SfftTimes, SfftWork, Task, sfft_params, sfft_way
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import SECOND_NS, ScenarioError
from orbitrain.setting import Setting
from orbitrain.systems.sfft_compute import Durations, durations, told
from orbitrain.systems.sfft_plan import why_no_round
from orbitrain.systems.sfft_results import flow, phases
from orbitrain.systems.sfft_traffic import traffic
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
        scenario = setting.scenario
        self._setting = setting
        self._scenario = scenario
        self._search_path = str(setting.folder.resolve())
        settings = task_settings(scenario, setting.seed, setting.folder)
        self._task = {"task": {**settings, "satellites": list(scenario.satellites)}}
        self._identity: Identity | None = None
        self._flops = Flops(0, 0)
        """Of the model, once it is cut."""
        self._device = "cpu"
        """Of the backbone on the ground, once it was tried."""
        self._configured: Sfft | None = None

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
            "search_path": self._search_path,
        }
        try:
            result, made = engine.work("sfft.cut", {"model": model}, {})
        except JobError as error:
            raise ScenarioError(f"{file}: model.model: {error}") from None
        self._identity, self._flops = Identity.from_json(result["identity"]), Flops(**result["flops"])
        try:
            self._durations()
        except ValueError as error:
            raise ScenarioError(f"{file}: {error}") from None
        try:
            engine.work("sfft.check", {**self._task, "samples": scenario.sfft.samples}, made)
        except JobError as error:
            raise ScenarioError(f"{file}: task.task: {error}") from None
        self._try_device(engine, made)
        self._check_plan()
        return made

    def _try_device(self, engine: WorkerEngine, made: Objects) -> None:
        """Raises ScenarioError for one that the backbone cannot be run on."""
        asked = self._scenario.sfft.backbone_device
        if asked == "cpu":
            return
        try:
            result, _ = engine.work("sfft.device", {"backbone_device": asked}, {"backbone": made["backbone"]})
        except JobError as error:
            raise ScenarioError(f"{self._setting.file}: protocol.backbone_device: {error}") from None
        self._device = str(result["device"])

    def _durations(self) -> Durations:
        assert self._identity is not None
        return durations(self._scenario.compute, self._scenario.sfft, self._identity.shapes, self._flops)

    def _check_plan(self) -> None:
        """Raises ScenarioError for a plan over which no round can ever end."""
        stations = [station.name for station in self._scenario.stations]
        why = why_no_round(self._setting.plan, planes_of(self._scenario), stations)
        if why is not None:
            raise ScenarioError(f"{self._setting.file}: {why}")

    def files(self) -> Mapping[str, str]:
        return FILES

    def preloaded(self, kind: str, name: str, *, baseline: bool = False) -> tuple[str, ...]:
        if kind == "satellite":
            on_board = baseline or self._scenario.sfft.on_board
            return ("embedding", "backbone") if on_board else ("embedding",)
        return PIECES if name == self._scenario.ground.name else ()

    def configured(self, objects: Objects, kind: str, name: str) -> Mapping[str, Any]:
        task = self._scenario.task
        return {
            "sfft": self._table(objects),
            "preload": [
                Preload(file=f"../{FILES[each]}", sha256=objects[each]) for each in self.preloaded(kind, name)
            ],
            "task": Task(spec=task.task, search_path=self._search_path, options=task.options),
        }

    def _table(self, objects: Objects) -> Sfft:
        """The same for all nodes; made once, as planes are told from orbits."""
        if self._configured is None:
            self._configured = self._made_table(objects)
        return self._configured

    def _made_table(self, objects: Objects) -> Sfft:
        scenario, protocol, taken = self._scenario, self._scenario.sfft, self._durations()
        assert self._identity is not None
        shapes, samples = self._identity.shapes, min(protocol.samples, protocol.chunk_samples)
        declared = {**scenario.compute.model_dump(), **asdict(taken), **protocol.model_dump()}
        declared["rounds"] = scenario.rounds
        if protocol.on_board:
            declared["embed_s"] = taken.on_board_s
        rate_bps, delay_s = self._ring_links()
        chunk_bytes = samples * shapes.embedded_bytes(WIRE_BYTES[protocol.wire]) + HEADER_BYTES
        block_s = 8 * chunk_bytes * -(-protocol.samples // samples) / rate_bps
        declared["block_letters"] = block_letters(block_s, scenario.compute.message_s)
        return Sfft(
            planes=[list(members) for members in planes_of(scenario)],
            stations=[station.name for station in scenario.stations],
            server=scenario.ground.name,
            **objects,
            head_bytes=shapes.head_bytes(8) + HEADER_BYTES,
            chunk_bytes=chunk_bytes,
            feature_bytes=samples * shapes.feature_bytes(WIRE_BYTES[protocol.wire]) + HEADER_BYTES,
            ring_bps=rate_bps,
            ring_delay_s=delay_s,
            work=SfftWork(**{name: declared[name] for name in SfftWork.model_fields}),
            times=SfftTimes(**{name: declared[name] for name in SfftTimes.model_fields}),
        )

    def _ring_links(self) -> tuple[int, float]:
        """The lowest rate and the longest delay with which links of rings begin."""
        links = [one for one in self._setting.plan.contacts if one.link_class == "intra_isl"]
        rates = [one.rate_bps_at(one.start_ns) for one in links]
        delays_ns = [one.delay_ns_at(one.start_ns) for one in links]
        return max(1, min(rates, default=1)), max(delays_ns, default=0) / SECOND_NS

    def cast(self, objects: Objects, *, baseline: bool = False) -> OrbitCast:
        table = self._table(objects)
        params = self._params(table, baseline=baseline)
        edge_s = self._scenario.links.acquisition_s + self._scenario.compute.message_s
        return OrbitCast(params, SfftAsks(self._setting.plan, params, sfft_way(table, edge_s)))

    def _params(self, table: Sfft, *, baseline: bool) -> Params:
        params = sfft_params(table, self._task["task"])
        if not baseline:
            return params
        times = replace(params.times, embed_ns=round(self._durations().on_board_s * SECOND_NS))
        return replace(params, work=replace(params.work, on_board=True), times=times)

    def watch(self) -> HeadWatch:
        return HeadWatch(self._scenario.rounds, self._scenario.satellites)

    def evaluation(self, objects: Objects) -> Evaluation:
        pieces = {name: objects[name] for name in ("embedding", "backbone")}
        return Evaluation("sfft.evaluate", self._task, "head", pieces)

    def trial(self, objects: Objects) -> Trial:
        protocol, satellites = self._scenario.sfft, self._scenario.satellites
        sizes = {"samples": protocol.samples, "chunk_samples": protocol.chunk_samples, "wire": protocol.wire}
        params = {**self._task, **sizes, "satellite": satellites[0], "round": 1}
        kind, taken = ("features", "on_board_s") if protocol.on_board else ("embed", "embed_s")
        field = taken if self._scenario.compute.on_board_flops is None else "on_board_flops"
        feeders = [one for one in self._setting.plan.contacts if one.link_class == "feeder"]
        return Trial(
            kind=f"sfft.{kind}",
            params=params,
            objects={name: objects[name] for name in self.preloaded("satellite", satellites[0])},
            declared_s=getattr(self._durations(), taken),
            field=f"compute.{field}",
            at_once=len(satellites),
            contacts_s=[(one.end_ns - one.start_ns) / SECOND_NS for one in feeders],
        )

    # ------------------------------------------------------------------------------ what it came to

    def summarise(
        self, entries: Sequence[Entry], scores: Mapping[Digest, float], *, baseline: bool = False
    ) -> dict[str, Any]:
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
            "flow": flow(entries, round(self._scenario.sfft.slot_s * SECOND_NS)),
            "traffic": self._traffic(entries, baseline=baseline),
            "compute": self._told(),
            "bytes": count_bytes(entries),
            "overruns": sum(1 for entry in entries if entry.event.kind == "overrun"),
            "model_sha256": {"head": heads[-1]} if heads else {},
        }

    def _told(self) -> dict[str, Any]:
        assert self._identity is not None
        reckoned = told(self._scenario.compute, self._identity.shapes, self._flops, self._durations())
        return {**reckoned, "backbone_device": self._device}

    def _traffic(self, entries: Sequence[Entry], *, baseline: bool) -> list[dict[str, Any]]:
        assert self._configured is not None and self._identity is not None
        shapes, protocol = self._identity.shapes, self._scenario.sfft
        load = Load(
            samples=protocol.samples,
            embedding_bytes=values_bytes(protocol.wire, shapes.embedded),
            feature_bytes=values_bytes(protocol.wire, shapes.features),
            head_bytes=shapes.head_bytes(8),
        )
        params = self._params(self._configured, baseline=baseline)
        return traffic(entries, params, load, self._setting.believed)

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
        scores = ("rounds", "accuracy", "accuracy_by_round", "on_board")
        return (*scores, "commits", "phases", "flow", "traffic", "compute", "bytes")


HEADER_BYTES: Final = 600
"""Of a small safetensors file beside its values, at most."""
