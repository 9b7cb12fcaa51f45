"""The part of a node's configuration that is EMS-FL's, and the protocol's parameters from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from orbitrain.protocols.emsfl import Params
from orbitrain.protocols.emsfl.terms import (
    BACKBONE,
    GATE,
    Algorithm,
    Cluster,
    Model,
    Pace,
    Shared,
    Stale,
    Times,
    Work,
    expert,
)
from orbitrain.scenario import SECOND_NS, Name, NodeName, Sha256
from orbitrain.scenario.tables import Table
from orbitrain.splitting.relevance import LARGEST
from orbitrain.splitting.rules import SplitRules

EXPERTS_MAX: Final = LARGEST
"""Experts, and clusters: for more their split is not exact."""


class EmsflCluster(Table):
    name: Name
    devices: list[NodeName] = Field(min_length=1)


class EmsflWork(Table):
    """What is trained, as in the scenario's [protocol]."""

    algorithm: Literal["ems_fl", "synchronous"] = "ems_fl"
    cycles: int = Field(ge=1)
    masked: bool = True
    shared: Literal["none", "gate", "gate_and_backbone"] = "none"
    gate_cycles: int = Field(default=0, ge=0)
    rank: int | None = Field(default=None, ge=1, le=256)


class EmsflPace(Table):
    """When, as in the scenario's [protocol]."""

    slot_s: float = Field(gt=0)
    rounds_max: int = Field(ge=1)
    wait_s: float = Field(ge=0)
    margin_s: float = Field(ge=0)
    lease_s: float = Field(gt=0)
    resplit_cycles: int = Field(default=0, ge=0)


class EmsflStale(Table):
    """What becomes of updates of an old base, as in the scenario's [protocol]."""

    decay: float = Field(ge=0, le=1)
    stale_most: int = Field(ge=0)
    clip: float | None = Field(default=None, gt=0)


class EmsflTimes(Table):
    """Declared durations, as in the scenario's [compute]."""

    train_s: float = Field(ge=0)
    pack_s: float = Field(ge=0)
    aggregate_s: float = Field(ge=0)
    survey_s: float = Field(ge=0)


class EmsflSplit(Table):
    """How experts are given to clusters, as in the scenario's [protocol]."""

    threshold: float = Field(ge=0, lt=1)
    capacity: int | None = Field(default=None, ge=1)
    greedy: bool = False


class EmsflModel(Table):
    """The mixture of experts, and its parts at the beginning: backbone, gate, expert/0 and on."""

    layers: int = Field(ge=1)
    experts: int = Field(ge=1, le=EXPERTS_MAX)
    top_k: int = Field(ge=1)
    items: dict[str, Sha256]

    @model_validator(mode="after")
    def _whole(self) -> EmsflModel:
        if self.top_k > self.experts:
            raise ValueError(f"top_k: must be at most experts ({self.experts}), not {self.top_k}")
        wanted = {BACKBONE, GATE, *map(expert, range(self.experts))}
        if wrong := sorted(wanted ^ self.items.keys()):
            raise ValueError(
                f"items: must be backbone, gate and expert/0 to expert/{self.experts - 1}; "
                f"{wrong[0]!r} is {'missing' if wrong[0] in wanted else 'none of them'}"
            )
        return self


class Emsfl(Table):
    """Clusters with their devices, the satellite that visits them, and what they do."""

    satellite: NodeName
    clusters: list[EmsflCluster] = Field(min_length=1, max_length=EXPERTS_MAX)
    work: EmsflWork
    pace: EmsflPace
    stale: EmsflStale
    times: EmsflTimes
    split: EmsflSplit
    model: EmsflModel

    @property
    def devices(self) -> list[str]:
        return [device for cluster in self.clusters for device in cluster.devices]


def emsfl_params(table: Emsfl, seed: int, task: Mapping[str, Any]) -> Params:
    """The protocol's parameters; `task` goes with its jobs."""
    work, pace, stale = table.work, table.pace, table.stale
    times, split, model = table.times, table.split, table.model
    return Params(
        satellite=table.satellite,
        clusters=tuple(Cluster(cluster.name, tuple(cluster.devices)) for cluster in table.clusters),
        work=Work(
            algorithm=Algorithm(work.algorithm),
            cycles=work.cycles,
            masked=work.masked,
            shared=Shared(work.shared),
            gate_cycles=work.gate_cycles,
            rank=work.rank,
        ),
        pace=Pace(
            slot_ns=_ns(pace.slot_s),
            rounds_max=pace.rounds_max,
            wait_ns=_ns(pace.wait_s),
            margin_ns=_ns(pace.margin_s),
            lease_ns=_ns(pace.lease_s),
            resplit_cycles=pace.resplit_cycles,
        ),
        stale=Stale(decay=stale.decay, most=stale.stale_most, clip=stale.clip),
        times=Times(
            train_ns=_ns(times.train_s),
            pack_ns=_ns(times.pack_s),
            merge_ns=_ns(times.aggregate_s),
            survey_ns=_ns(times.survey_s),
        ),
        model=Model(layers=model.layers, experts=model.experts, top_k=model.top_k, items=dict(model.items)),
        split=SplitRules(split.threshold, model.top_k, split.capacity, split.greedy),
        seed=seed,
        task=dict(task),
    )


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
