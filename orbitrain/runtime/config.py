"""A node's own configuration file, all that a daemon is started with: `python -m satellite_node --config F`.

Paths are relative to the file, so that a folder can be copied to a board as it is.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orbitrain.protocols.emsfl import Params as EmsflParams
from orbitrain.protocols.fedmeld import Params, Region
from orbitrain.protocols.sfft.between import Between
from orbitrain.protocols.sfft.ring import Gather as GatherWay
from orbitrain.protocols.sfft.ring import Reduce
from orbitrain.protocols.sfft.terms import Links, Pieces, Times, Work
from orbitrain.protocols.sfft.terms import Params as SfftParams
from orbitrain.roles import Way
from orbitrain.runtime.emsfl_config import Emsfl, emsfl_params
from orbitrain.scenario import SECOND_NS, Name, NodeName, Sha256, first_error
from orbitrain.transport.rpc.address import (
    InvalidAddress,
    emulated_network,
    is_emulated,
    split_host,
    unix_path,
)
from orbitrain.transport.store.blobs import QUOTA_BYTES
from orbitrain.transport.stripes import FLOWS_MAX


def _address(text: str) -> str:
    """Its form only: whether it can be bound or reached is known when that is tried."""
    try:
        if unix_path(text) is None:
            split_host(text)
    except InvalidAddress:
        raise ValueError(
            f"must be host:port or unix:/PATH of at most 100 bytes, not {text[:120]!r}"
        ) from None
    return text


Address = Annotated[str, AfterValidator(_address)]


class ConfigError(ValueError):
    """A configuration that cannot be used; one line: file, field, what is allowed."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Link(_Table):
    """The learning plane: where this node listens, and its peers by name."""

    listen: Address
    peers: dict[NodeName, Address] = {}
    shaped: str | None = None
    """The network of emulated links that `listen` and `peers` are of."""
    real: bool = False
    """Links carry or do not, whatever a plan says: a contact is with whom answers. So it is where they are
    `shaped`, and without a plan; otherwise the plan alone gates contacts."""
    clock_error_s: float = Field(default=1.0, ge=0, le=3600)
    """How far this node's clock may be off: over real links nothing is counted on so close to a contact's
    edges."""
    acquisition_s: float = Field(default=5.0, ge=0, le=600)
    message_s: float = Field(default=2.0, gt=0)
    """Modelled times, as in the scenario's [links] and [compute]."""
    flows: int = Field(default=0, ge=0, le=FLOWS_MAX)
    """Connections that an object goes over to one peer across emulated links; 0: as this node's TCP needs."""

    @model_validator(mode="after")
    def _of_one_network(self) -> Link:
        """Nothing is encrypted yet: only the emulated network must be listened on and dialled."""
        if self.shaped is None:
            return self
        try:
            network = emulated_network(self.shaped)
        except InvalidAddress as error:
            raise ValueError(f"shaped: {error}") from None
        named = [("listen", self.listen), *((f"peers.{name}", at) for name, at in self.peers.items())]
        for field, address in named:
            if not is_emulated(address, network):
                raise ValueError(
                    f"{field}: must be an address and port of the emulated network {network}, "
                    f"not {address[:120]!r}"
                )
        return self


class Operator(_Table):
    """The management plane of this node: host:port on loopback, or unix:/PATH."""

    listen: Address


class Bus(_Table):
    """Where telemetry for a live display is published (ZeroMQ)."""

    endpoint: str


class Journal(_Table):
    sync: Literal["full", "normal"] = "full"
    """full: a commit survives loss of power. normal: it survives a killed process only."""


class Store(_Table):
    """How much of objects is kept. What does not fit is refused, and its sender keeps it."""

    quota_bytes: int = Field(default=QUOTA_BYTES, ge=1)
    """Whole and partial objects together."""
    partial_quota_bytes: int | None = Field(default=None, ge=1)
    """What partial objects come to once they are whole; half of the other if it is not set."""


class Task(_Table):
    spec: str
    search_path: str = "."
    options: dict[str, Any] = {}


class RingRegion(_Table):
    name: Name
    devices: list[NodeName] = Field(min_length=1)


class FedMeld(_Table):
    rounds: int = Field(ge=1)
    delta: int = Field(ge=1)
    alpha: float = Field(ge=0, le=1)
    carry: Literal["pre", "post"] = "post"
    train_s: float = Field(ge=0)
    aggregate_s: float = Field(ge=0)
    regions: list[RingRegion] = Field(min_length=1)


class SfftWork(_Table):
    """A round's work, as in the scenario's [protocol]."""

    rounds: int = Field(ge=1)
    samples: int = Field(ge=1)
    chunk_samples: int = Field(ge=1)
    gather: Annotated[GatherWay, Field(strict=False)] = GatherWay.TWO_WAY
    head_reduce: Annotated[Reduce, Field(strict=False)] = Reduce.AUTO
    between_planes: Annotated[Between, Field(strict=False)] = Between.AUTO
    scheduler: Literal["teg", "maxflow_slot", "first_visible"] = "teg"
    slot_s: float = Field(default=10.0, gt=0)
    wire: Literal["float64", "float32", "float16", "int8"] = "float32"
    steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0)
    cache: bool = False
    on_board: bool = False
    backbone_device: Literal["auto", "cpu", "cuda"] = "cpu"
    block_letters: int = Field(default=1, ge=1, le=64)
    """By which a block goes around a ring, where it has as many chunks."""


class SfftTimes(_Table):
    """Declared durations and patience, as in the scenario's [compute] and [protocol]."""

    embed_s: float = Field(ge=0)
    backbone_s: float = Field(ge=0)
    head_s: float = Field(ge=0)
    add_s: float = Field(ge=0)
    step_s: float = Field(gt=0)
    commit_s: float = Field(gt=0)
    patience_s: float = Field(gt=0)


class Sfft(_Table):
    """`planes` have their satellites in the order of flight. A ground node is the server if it is named so,
    else a station."""

    planes: list[list[NodeName]] = Field(min_length=1)
    stations: list[NodeName] = Field(min_length=1)
    server: NodeName
    embedding: Sha256
    backbone: Sha256
    head: Sha256
    head_bytes: int = Field(ge=1)
    """Of a weighted head, in float64."""
    chunk_bytes: int = Field(ge=1)
    """Of embeddings."""
    feature_bytes: int = Field(ge=1)
    """Of a chunk's features."""
    ring_bps: int = Field(ge=1)
    ring_delay_s: float = Field(ge=0)
    """Of links between neighbours on a ring."""
    work: SfftWork
    times: SfftTimes

    @property
    def names(self) -> list[str]:
        """Of all nodes that it speaks of."""
        return [*(name for members in self.planes for name in members), *self.stations, self.server]


class Preload(_Table):
    """A file that is put into the store at start."""

    file: str
    sha256: Sha256


class Gather(_Table):
    """Ground nodes: the management addresses of the nodes whose journals are gathered, by name."""

    nodes: dict[NodeName, Address] = {}


class NodeConfig(_Table):
    name: NodeName
    kind: Literal["satellite", "ground", "device"]
    seed: int = Field(ge=0, lt=1 << 63)
    plan: str = "plan.json"
    """What the node believes, of either form; a slice must be this node's own."""
    no_plan: bool = False
    """It believes to be always in contact with its peers, and has no plan."""
    truth: str | None = None
    """The plan that links follow, where they are emulated by the nodes themselves; else the one believed."""
    scenario_sha256: Sha256 | None = None
    """The plans must be of this scenario; without it any plan will do."""
    inbox: str = "inbox"
    """Folder of the files that have come for this node."""
    state: str = "state"
    """Folder of the journal and the objects."""
    clock: str | None = None
    """A run's clock.json; without it the node takes UTC from the plan's epoch at rate 1."""
    initial: str | None = None
    """Initial weights, put into the store at start; devices need them."""
    initial_sha256: Sha256 | None = None
    link: Link
    operator: Operator
    bus: Bus | None = None
    journal: Journal = Journal()
    store: Store = Store()
    preload: list[Preload] = []
    fedmeld: FedMeld | None = None
    sfft: Sfft | None = None
    emsfl: Emsfl | None = None
    """Without any of the three the node trains nothing: it sends, carries and receives files."""
    task: Task | None = None
    gather: Gather = Gather()

    @model_validator(mode="after")
    def _whole(self) -> NodeConfig:
        """What belongs together is there together."""
        if self.fedmeld is not None:
            if self.task is None or self.initial_sha256 is None:
                raise ValueError("task, initial_sha256: must be set where there is [fedmeld]")
            if self.no_plan:
                raise ValueError("no_plan: must be false where there is [fedmeld], which serves by the plan")
        if self.sfft is not None:
            if self.fedmeld is not None or self.task is None or self.no_plan:
                raise ValueError("sfft: must stand beside a [task], without [fedmeld] and no_plan")
            if self.name not in self.sfft.names:
                raise ValueError(f"name: must be one that [sfft] speaks of, not {self.name!r}")
        if self.emsfl is not None:
            self._whole_emsfl(self.emsfl)
        return self

    def _whole_emsfl(self, table: Emsfl) -> None:
        if self.fedmeld is not None or self.sfft is not None or self.task is None or self.no_plan:
            raise ValueError("emsfl: must stand beside a [task], without [fedmeld], [sfft] and no_plan")
        known = {"satellite": [table.satellite], "device": table.devices}
        if self.name not in known.get(self.kind, [self.name]):
            raise ValueError(f"name: must be a {self.kind} that [emsfl] speaks of, not {self.name!r}")

    @property
    def is_learning(self) -> bool:
        """Whether it takes part in one of the systems."""
        return self.fedmeld is not None or self.sfft is not None or self.emsfl is not None

    @property
    def backbone_device(self) -> str:
        """What its jobs run the backbone on."""
        is_server = self.sfft is not None and self.name == self.sfft.server
        return self.sfft.work.backbone_device if self.sfft is not None and is_server else "cpu"

    @property
    def has_real_links(self) -> bool:
        """Whether links carry or do not, whatever a plan says."""
        return self.link.real or self.link.shaped is not None or self.no_plan

    def task_params(self, folder: Path) -> dict[str, Any]:
        """What a worker needs to construct the task; `folder` is where the configuration lies."""
        assert self.fedmeld is not None
        regions = {region.name: list(region.devices) for region in self.fedmeld.regions}
        return {**self._task_settings(folder), "regions": regions}

    def sfft_task(self, folder: Path) -> dict[str, Any]:
        """What a worker needs to construct the samples, as `task_params`."""
        assert self.sfft is not None
        satellites = [name for members in self.sfft.planes for name in members]
        return {**self._task_settings(folder), "satellites": satellites}

    def emsfl_task(self, folder: Path) -> dict[str, Any]:
        """What a worker needs to construct the mixture of experts, as `task_params`."""
        assert self.emsfl is not None
        clusters = {cluster.name: list(cluster.devices) for cluster in self.emsfl.clusters}
        return {**self._task_settings(folder), "clusters": clusters}

    def _task_settings(self, folder: Path) -> dict[str, Any]:
        assert self.task is not None
        return {
            "spec": self.task.spec,
            "options": self.task.options,
            "seed": self.seed,
            "search_path": str((folder / self.task.search_path).resolve()),
        }

    def emsfl_params(self, folder: Path) -> EmsflParams:
        assert self.emsfl is not None
        return emsfl_params(self.emsfl, self.seed, self.emsfl_task(folder))

    def regions(self) -> tuple[Region, ...]:
        """Those whose services the node has to know: a device its own, every other node all."""
        return tuple(
            Region(region.name, tuple(region.devices))
            for region in (self.fedmeld.regions if self.fedmeld is not None else ())
            if self.kind != "device" or self.name in region.devices
        )

    def fedmeld_params(self, folder: Path) -> Params:
        table = self.fedmeld
        assert table is not None and self.initial_sha256 is not None
        return Params(
            regions=tuple(Region(region.name, tuple(region.devices)) for region in table.regions),
            rounds=table.rounds,
            delta=table.delta,
            alpha=table.alpha,
            carry=table.carry,
            seed=self.seed,
            train_ns=round(table.train_s * SECOND_NS),
            aggregate_ns=round(table.aggregate_s * SECOND_NS),
            initial=self.initial_sha256,
            task=self.task_params(folder),
        )


def sfft_way(table: Sfft, edge_s: float) -> Way:
    """How chunks go down, where contacts are of no use so long at their edges."""
    slot_ns, edge_ns = round(table.work.slot_s * SECOND_NS), round(edge_s * SECOND_NS)
    return Way(table.work.scheduler, table.chunk_bytes, table.feature_bytes, slot_ns, edge_ns)


def sfft_params(table: Sfft, task: Mapping[str, Any]) -> SfftParams:
    """The protocol's parameters; `task` goes with its jobs."""
    work, times = table.work, table.times
    settings = {
        "task": dict(task),
        "wire": work.wire,
        "steps": work.steps,
        "learning_rate": work.learning_rate,
        "backbone_device": work.backbone_device,
    }
    return SfftParams(
        planes=tuple(tuple(members) for members in table.planes),
        stations=tuple(table.stations),
        server=table.server,
        work=Work(
            rounds=work.rounds,
            samples=work.samples,
            chunk_samples=work.chunk_samples,
            gather=work.gather,
            reduce=work.head_reduce,
            between=work.between_planes,
            on_board=work.on_board,
            cache=work.cache,
            block_letters=work.block_letters,
        ),
        pieces=Pieces(table.embedding, table.backbone, table.head),
        times=Times(
            *(
                round(seconds * SECOND_NS)
                for seconds in (
                    times.embed_s,
                    times.backbone_s,
                    times.head_s,
                    times.add_s,
                    times.step_s,
                    times.commit_s,
                    times.patience_s,
                )
            )
        ),
        links=Links(table.head_bytes, table.ring_bps / 8, table.ring_delay_s),
        settings=settings,
    )


def load_config(path: Path, kind: str | None = None, *, no_plan: bool = False) -> NodeConfig:
    """Read and validate the configuration of a node, of `kind` if one is named. Raises ConfigError.

    `no_plan` says so instead of the file.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        if no_plan:
            values["no_plan"] = True
        config = NodeConfig.model_validate(values)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, NodeConfig)}") from None
    if kind is not None and config.kind != kind:
        raise ConfigError(f"{path}: kind: must be {kind!r} for this program, not {config.kind!r}")
    regions = config.fedmeld.regions if config.fedmeld is not None else []
    if regions and config.kind == "device" and config.name not in [d for r in regions for d in r.devices]:
        raise ConfigError(f"{path}: name: must be one of the devices in fedmeld.regions, not {config.name!r}")
    return config


def dump_toml(values: Mapping[str, Any]) -> str:
    """A TOML document of a configuration's values (`model_dump`); None is left out."""
    lines: list[str] = []
    _dump_table(values, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _dump_table(values: Mapping[str, Any], path: str, lines: list[str]) -> None:
    tables = []
    for key, value in values.items():
        rows = isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value)
        if isinstance(value, Mapping) or rows:
            tables.append((key, value))
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tables:
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]"]
            _dump_table(value, name, lines)
        else:
            for row in value:
                lines += ["", f"[[{name}]]"]
                _dump_table(row, name, lines)


def _key(key: str) -> str:
    plain = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if plain else _text(key)


def _text(text: str) -> str:
    """A basic string. JSON's, but for what lies beyond 16 bits, which TOML writes as it is, and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    return repr(value)
