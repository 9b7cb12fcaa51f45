"""What is learned and how: the tables of the systems' protocols, of their compute, their tasks and models."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orbitrain.scenario.tables import TASK, Table, key_shown


class Compute(Table):
    """Declared durations in scenario time. A protocol reads those of its own jobs."""

    train_s: float = Field(default=20.0, ge=0)
    aggregate_s: float = Field(default=5.0, ge=0)
    message_s: float = Field(default=2.0, ge=0.001)
    """For a node to take in one message, or the answer to one, beside what the link takes."""
    embed_s: float = Field(default=5.0, ge=0)
    """Of a satellite's batch."""
    backbone_s: float = Field(default=0.5, ge=0)
    """Of one chunk, on the ground server."""
    on_board_s: float = Field(default=60.0, ge=0)
    """Of a satellite's batch through embedding and backbone on board."""
    head_s: float = Field(default=2.0, ge=0)
    add_s: float = Field(default=1.0, ge=0)
    pack_s: float = Field(default=2.0, ge=0)
    """Of what a device has trained, into an upload."""
    survey_s: float = Field(default=5.0, ge=0)
    """Of a device's trial samples through the whole model, to count which experts they are for."""
    on_board_flops: float | None = Field(default=None, gt=0, le=1e21)
    """FLOP/s of a satellite, from which `embed_s`, `on_board_s` and `head_s` follow."""
    ground_flops: float | None = Field(default=None, gt=0, le=1e21)
    """Of the ground server, from which `backbone_s` follows."""

    @model_validator(mode="after")
    def _declared_or_derived(self) -> Compute:
        for speed, follow in FOLLOW.items():
            for name in follow:
                if getattr(self, speed) is not None and name in self.model_fields_set:
                    raise ValueError(f"{name}: must not be given with {speed}, from which it follows")
        return self


FOLLOW: Final = {"on_board_flops": ("embed_s", "on_board_s", "head_s"), "ground_flops": ("backbone_s",)}
"""Durations that follow from a speed."""


class FedMeldProtocol(Table):
    name: Literal["fedmeld"]
    delta: int = Field(ge=1, le=100_000)
    alpha: float = Field(ge=0, le=1)
    carry: Literal["pre", "post"] = "post"
    late: Literal["wait"] = "wait"


class SfftProtocol(Table):
    """Satellite federated fine-tuning; sizes are of a satellite and a round."""

    name: Literal["sfft"]
    samples: int = Field(ge=1, le=1_000_000)
    chunk_samples: int = Field(default=8, ge=1, le=4_096)
    gather: Literal["two_way", "one_way", "sequential"] = "two_way"
    head_reduce: Literal["auto", "ring", "chain", "gather"] = "auto"
    between_planes: Literal["auto", "flood", "merge_tree", "spanning_tree", "chain"] = "auto"
    scheduler: Literal["teg", "maxflow_slot", "first_visible"] = "teg"
    slot_s: float = Field(default=10.0, gt=0, le=3_600)
    wire: Literal["float64", "float32", "float16", "int8"] = "float32"
    steps: int = Field(default=1, ge=1, le=10_000)
    learning_rate: float = Field(default=0.5, gt=0, le=1_000)
    cache: bool = False
    """Every round is of the same samples, whose features are kept on board."""
    on_board: bool = False
    """The baseline: satellites run the backbone themselves."""
    backbone_device: Literal["auto", "cpu", "cuda"] = "cpu"
    """What the ground server runs the backbone on."""
    step_s: float = Field(default=6_000.0, gt=0, le=366 * 86_400)
    """After this long of an attempt those without features are not waited for."""
    commit_s: float = Field(default=12_000.0, gt=0, le=366 * 86_400)
    """After this long whoever has a head is enough."""
    patience_s: float = Field(default=60.0, gt=0, le=86_400)
    """After this long without a neighbour that the plan has in contact it is absent; so long after its end a
    crossing between planes has failed."""

    @model_validator(mode="after")
    def _countable(self) -> SfftProtocol:
        if -(-self.samples // self.chunk_samples) > CHUNKS_MAX:
            raise ValueError(
                f"chunk_samples: must cut {self.samples} samples into {CHUNKS_MAX} chunks at most"
            )
        return self


class EmsflProtocol(Table):
    """EMS-FL: experts that clusters of devices own, train out of contact and upload on the pass."""

    name: Literal["emsfl"]
    algorithm: Literal["ems_fl", "synchronous"] = "ems_fl"
    """synchronous, the paper's baseline: everybody trains everything, in contact alone."""
    masked: bool = True
    """A device loads its cluster's experts alone, and routes to them alone."""
    shared: Literal["none", "gate", "gate_and_backbone"] = "none"
    """What the connected cluster trains beside its experts."""
    gate_cycles: int = Field(default=0, ge=0, le=1_000_000)
    """So many cycles at the end tune the gate, with all experts loaded."""
    rank: int | None = Field(default=None, ge=1, le=256)
    """Of the factors that updates travel as; without it they travel whole."""
    threshold: float = Field(default=0.05, ge=0, lt=1)
    """A cluster for which an expert is less relevant than this does not own it."""
    capacity: int | None = Field(default=None, ge=1, le=256)
    """Experts that a cluster owns at most."""
    greedy: bool = False
    """Experts are given out in their order, to clusters that have none first, as the paper has it."""
    resplit_cycles: int = Field(default=0, ge=0, le=1_000_000)
    """After so many commits of every owner experts are given out anew; 0: never."""
    slot_s: float = Field(default=600.0, gt=0, le=366 * 86_400)
    """From one round out of contact to the next."""
    rounds_max: int = Field(default=1, ge=1, le=100_000)
    """Rounds that a device trains between two downloads at most."""
    wait_s: float = Field(default=60.0, ge=0, le=86_400)
    """From the first upload of a pass: so long those that have not come are waited for."""
    margin_s: float = Field(default=30.0, ge=0, le=86_400)
    """Before the believed end of a pass: what has come by then counts."""
    lease_s: float = Field(default=86_400.0, gt=0, le=366 * 86_400)
    """A cluster that commits nothing for so long is left out of the next split."""
    decay: float = Field(default=0.5, ge=0, le=1)
    """Weight of an update for each version that its base is behind."""
    stale_most: int = Field(default=4, ge=0, le=1_000)
    """Versions that an update's base may be behind."""
    clip: float | None = Field(default=None, gt=0, le=1e9)
    """Norm that a stale update has at most."""


CHUNKS_MAX = 256
"""Of one satellite's block: the objects that one letter may name."""


class Open(BaseModel):
    """A table in which every other key is an option of what it names, which checks it itself."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _plain(self) -> Open:
        for name, value in self.options.items():
            _check_option(key_shown(name), value)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Task(Open):
    """`task` is package.module:Name."""

    task: str = Field(pattern=TASK)
    init: str | None = None
    """Initial weights, a safetensors file beside the scenario; from the seed when absent."""


class Model(Open):
    """What is cut: `model` is package.module:name, a function that gives a `SplitModel`."""

    model: str = Field(pattern=TASK)


def _check_option(where: str, value: Any) -> None:
    """Options travel to the workers as JSON, which has no dates and no infinities."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_option(f"{where}.{key_shown(name)}", inner)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            _check_option(f"{where}[{n}]", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: must be a finite number, not {value}")
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{where}: must be a string, number, boolean, list or table, not {value}")
