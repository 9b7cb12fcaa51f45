"""What the roles of EMS-FL agree on: clusters, the model's items, the pace, and what is handed in to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from orbitrain.machine import NEVER_NS, Digest, RemoteProtocolError
from orbitrain.splitting.relevance import Relevance
from orbitrain.splitting.rules import SplitRules

SATELLITE_ROLE: Final = "emsfl.satellite"
DEVICE_ROLE: Final = "emsfl.device"

BACKBONE: Final = "backbone"
GATE: Final = "gate"
_EXPERT: Final = "expert/"


class Algorithm(StrEnum):
    EMS_FL = "ems_fl"
    SYNCHRONOUS = "synchronous"
    """The baseline: the connected cluster trains everything, in contact alone."""


class Shared(StrEnum):
    """What the connected cluster trains beside its experts."""

    NONE = "none"
    GATE = "gate"
    GATE_AND_BACKBONE = "gate_and_backbone"


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What is trained, for `cycles` passes of each cluster.

    `masked`: devices load their own experts alone, and route to them alone (Algorithm 3). In the last
    `gate_cycles` passes of a cluster they load all, and train the gate in contact. `rank`: of updates of
    experts, and of the steps that they are merged to; None: whole.
    """

    algorithm: Algorithm
    cycles: int
    masked: bool
    shared: Shared
    gate_cycles: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """Scenario ns, but for two counts.

    A device trains a round `slot_ns` after the beginning of the last one, at most `rounds_max` from one
    model (synchronous: exactly so many, one after the other, in contact). A pass waits for updates until
    `wait_ns` after the first, and until `margin_ns` before it ends. A cluster that owns experts and commits
    none for `lease_ns` loses them. After `resplit_cycles` commits of every owner experts are given out anew;
    0: never.
    """

    slot_ns: int
    rounds_max: int
    wait_ns: int
    margin_ns: int
    lease_ns: int
    resplit_cycles: int


@dataclass(frozen=True, slots=True)
class Stale:
    """An update whose base is s versions behind counts `decay` ** s; none counts that is more than `most`
    behind. `clip` is the norm that one with s > 0 may have; None: any."""

    decay: float
    most: int
    clip: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """Declared durations of jobs, in scenario ns: of a round, of packing an update, of merging updates or
    putting a model together, of counting which experts a device's trial samples choose."""

    train_ns: int
    pack_ns: int
    merge_ns: int
    survey_ns: int


@dataclass(frozen=True, slots=True)
class Model:
    """The mixture; `items` are the digests that all start from."""

    layers: int
    experts: int
    top_k: int
    items: Mapping[str, Digest]


@dataclass(frozen=True, slots=True)
class Params:
    """`task` is handed to jobs as it is."""

    satellite: str
    clusters: tuple[Cluster, ...]
    work: Work
    pace: Pace
    stale: Stale
    times: Times
    model: Model
    split: SplitRules
    seed: int
    task: Mapping[str, Any]

    @property
    def synchronous(self) -> bool:
        return self.work.algorithm is Algorithm.SYNCHRONOUS

    @property
    def experts(self) -> tuple[str, ...]:
        """Their items, by number."""
        return tuple(expert(number) for number in range(self.model.experts))

    @property
    def shared_items(self) -> tuple[str, ...]:
        """Items beside experts that are ever trained."""
        if self.work.shared is Shared.GATE_AND_BACKBONE:
            return BACKBONE, GATE
        trained = self.synchronous or self.work.shared is Shared.GATE or self.work.gate_cycles
        return (GATE,) if trained else ()

    def cluster_of(self, device: str) -> Cluster:
        """Raises RemoteProtocolError for a name that is no device's."""
        for cluster in self.clusters:
            if device in cluster.devices:
                return cluster
        raise RemoteProtocolError(f"{device[:64]!r} is no device of a cluster")

    def cluster_of_name(self, name: str) -> Cluster:
        """Raises KeyError for a name that is no cluster's."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise KeyError(name)

    def is_tuned(self, cycle: int) -> bool:
        """Whether this pass of a cluster is one of the last, which train the gate."""
        return self.work.gate_cycles > 0 and cycle > self.work.cycles - self.work.gate_cycles


def expert(number: int) -> str:
    """The item."""
    return f"{_EXPERT}{number}"


def numbers(items: Iterable[str]) -> list[int]:
    """Of those items that are experts, in their order."""
    return [int(item.removeprefix(_EXPERT)) for item in items if item.startswith(_EXPERT)]


def owned(owners: Sequence[str], cluster: str) -> tuple[str, ...]:
    """A cluster's experts, by number, of the owners of all."""
    return tuple(expert(number) for number, owner in enumerate(owners) if owner == cluster)


def expiry_ns(end_ns: int, now_ns: int) -> int:
    """Of a message that goes with its contact; a link that outlasts what is believed of it has no end that is
    known."""
    return end_ns if end_ns > now_ns else NEVER_NS


def once(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """In their order, each once: how a message names its objects."""
    return tuple(dict.fromkeys(digests))


class Split(Protocol):
    """Who owns what, and why."""

    @property
    def owners(self) -> Sequence[str]:
        """By expert: a cluster's name; empty where nobody has it."""
        ...

    @property
    def relevance(self) -> Sequence[Sequence[float]]:
        """By cluster and expert, eq. (29)."""
        ...

    @property
    def gamma(self) -> Mapping[str, float]:
        """By cluster: how much more its experts are for it than for all."""
        ...

    @property
    def unserved(self) -> Sequence[str]:
        """Clusters that got none."""
        ...

    @property
    def revived(self) -> Sequence[int]:
        """Experts that were given to a cluster though they are relevant to none."""
        ...


class Splitter(Protocol):
    """Algorithm 1. Pure: the same arguments give the same split."""

    def __call__(
        self, relevance: Relevance, rules: SplitRules, memory: bytes, seed: int, epoch: int
    ) -> tuple[Split, bytes]:
        """The split, and what the next one is told: whose turn it is. `memory` is of the split before, empty
        at the first. `epoch` counts from 1."""
        ...


class Windows(Protocol):
    """What machines may ask the plan that they believe. Without it they go by what contacts say at their
    beginning."""

    def end_ns(self, peer: str, t_ns: int) -> int | None:
        """When it ends the contact with a peer in progress at t; None where it has none."""
        ...
