"""How far a run is, for whoever reads its events: the simulator, and the ground node over the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orbitrain.machine import Digest
from orbitrain.results import Progress
from orbitrain.runtime.config import NodeConfig
from orbitrain.step import Event
from orbitrain.systems.system import Evaluation, Watch

WATCHED: Final = frozenset(
    {
        "aggregated",
        "model_adopted",
        "committed",
        "head_adopted",
        "pass_ended",
        "model_assembled",
        "finished",
    }
)
"""Kinds of events that any watch takes in."""


@dataclass(slots=True)
class RegionWatch:
    """Rounds that devices adopted, and the newest model of each region."""

    progress: Progress
    _models: dict[str, tuple[int, Digest]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.progress.finished

    def see(self, event: Event, node: str) -> tuple[Digest, ...]:
        self.progress.see(event, node)
        if event.kind != "aggregated":
            return ()
        region, number = str(event.fields["region"]), int(event.fields["round"])
        digest, before = str(event.fields["digest"]), str(event.fields["pre"])
        if number >= self._models.get(region, (0, ""))[0]:
            self._models[region] = (number, digest)
        return digest, before

    def shown(self, scores: Mapping[Digest, float]) -> Mapping[str, Any]:
        newest = {region: digest for region, (_, digest) in self._models.items()}
        accuracy = {region: scores[digest] for region, digest in newest.items() if digest in scores}
        return {"rounds": self.progress.rounds(), "accuracy": accuracy}

    def newest(self) -> tuple[Digest, ...]:
        return tuple(digest for _, digest in self._models.values())


@dataclass(slots=True)
class HeadWatch:
    """Heads that were committed, and who has adopted the last one."""

    rounds_wanted: int
    satellites: Sequence[str]
    _heads: list[Digest] = field(default_factory=list)
    _adopted: set[str] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        return len(self._adopted) == len(self.satellites)

    def see(self, event: Event, node: str) -> tuple[Digest, ...]:
        if event.kind == "head_adopted":
            self._adopted.add(node)
        if event.kind != "committed":
            return ()
        self._heads.append(str(event.fields["digest"]))
        return (self._heads[-1],)

    def shown(self, scores: Mapping[Digest, float]) -> Mapping[str, Any]:
        known = [scores[digest] for digest in self._heads if digest in scores]
        accuracy = {"head": known[-1]} if known else {}
        return {"rounds": {"head": len(self._heads)}, "accuracy": accuracy}

    def newest(self) -> tuple[Digest, ...]:
        return tuple(self._heads[-1:])


@dataclass(slots=True)
class ExpertWatch:
    """Passes of each cluster, and the whole models that were put together from its commits."""

    clusters: Sequence[str]
    _passes: dict[str, int] = field(default_factory=dict)
    _models: dict[str, Digest] = field(default_factory=dict)
    """The newest of each cluster."""
    _last: Digest | None = None
    _ended: bool = False

    @property
    def finished(self) -> bool:
        return self._ended

    def see(self, event: Event, node: str) -> tuple[Digest, ...]:
        if event.kind == "finished":
            self._ended = True
        elif event.kind == "pass_ended":
            self._passes[str(event.fields["cluster"])] = int(event.fields["cycle"])
        elif event.kind == "model_assembled":
            self._last = self._models[str(event.fields["cluster"])] = str(event.fields["digest"])
            return (self._last,)
        return ()

    def shown(self, scores: Mapping[Digest, float]) -> Mapping[str, Any]:
        rounds = {name: self._passes.get(name, 0) for name in self.clusters}
        accuracy = {name: scores[digest] for name, digest in self._models.items() if digest in scores}
        return {"rounds": rounds, "accuracy": accuracy}

    def newest(self) -> tuple[Digest, ...]:
        return () if self._last is None else (self._last,)


def watched(config: NodeConfig, folder: Path) -> tuple[Watch, Evaluation]:
    """The watch of a ground node, and how it measures models, by the configuration that lies in `folder`."""
    if config.sfft is not None:
        satellites = [name for members in config.sfft.planes for name in members]
        pieces = {"embedding": config.sfft.embedding, "backbone": config.sfft.backbone}
        task = {"task": config.sfft_task(folder)}
        return HeadWatch(config.sfft.work.rounds, satellites), Evaluation(
            "sfft.evaluate", task, "head", pieces
        )
    if config.emsfl is not None:
        watch_experts = ExpertWatch([cluster.name for cluster in config.emsfl.clusters])
        return watch_experts, Evaluation("moe.evaluate", {"task": config.emsfl_task(folder)}, "model", {})
    assert config.fedmeld is not None
    devices = {device: region.name for region in config.fedmeld.regions for device in region.devices}
    watch = RegionWatch(Progress(config.fedmeld.rounds, devices))
    return watch, Evaluation("evaluate", {"task": config.task_params(folder)}, "model", {})
