"""The scenario file: one TOML that says who flies, who stands where, and what is learned.

It is validated as a whole before anything starts; every error is one line that names the field and what is
allowed. README and `deploy/scenarios/` show it by example.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

SECOND_NS = 1_000_000_000

NODES_MAX = 20_000
"""Nodes in one scenario: beyond it a plan no longer fits in the memory that we plan with."""

Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$"),
]


class ScenarioError(ValueError):
    """A scenario that cannot be used; the text is one line: file, field, what is allowed."""


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be an ISO 8601 instant such as 2026-01-01T00:00:00Z") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("must say its offset from UTC, such as 2026-01-01T00:00:00Z")
        return value.astimezone(UTC)
    raise ValueError("must be an ISO 8601 instant such as 2026-01-01T00:00:00Z")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Clock(_Table):
    rate: float = Field(default=1.0, gt=0, le=100_000)
    """Scenario seconds per wall second."""


class Shell(_Table):
    """A Walker shell: `satellites` in `planes`, named NAME-0 and on."""

    name: Name = "sat"
    altitude_km: float = Field(ge=160, le=50_000)
    inclination_degrees: float = Field(ge=0, le=180)
    satellites: int = Field(ge=1, le=10_000)
    planes: int = Field(default=1, ge=1)
    phasing: int = Field(default=0, ge=0)
    pattern: Literal["delta", "star"] = "delta"
    raan_degrees: float = Field(default=0.0, ge=-360, le=360)
    anomaly_degrees: float = Field(default=0.0, ge=-360, le=360)

    @model_validator(mode="after")
    def _whole_planes(self) -> Shell:
        if self.satellites % self.planes:
            raise ValueError(f"planes must divide satellites ({self.satellites})")
        if self.phasing >= self.planes:
            raise ValueError(f"phasing must be less than planes ({self.planes})")
        return self


class Site(_Table):
    name: Name
    latitude_degrees: float = Field(ge=-90, le=90)
    longitude_degrees: float = Field(ge=-180, le=180)
    altitude_m: float = Field(default=0.0, ge=-500, le=9_000)
    mask_degrees: float = Field(default=10.0, ge=0, lt=90)
    """Lowest elevation at which a satellite is in view."""


class Region(_Table):
    """Devices that learn together. They stand at the region's site; a number names them NAME-dev-0 and on."""

    name: Name
    site: Name
    devices: Annotated[int, Field(ge=1, le=1_000)] | Annotated[list[Name], Field(min_length=1)]

    @property
    def device_names(self) -> tuple[str, ...]:
        if isinstance(self.devices, int):
            return tuple(f"{self.name}-dev-{n}" for n in range(self.devices))
        return tuple(self.devices)


class Ground(_Table):
    """The operator's seat."""

    name: Name = "ground"


class Links(_Table):
    """The service links, while link budgets are constant."""

    service_rate_bps: int = Field(default=2_000_000, ge=1_000, le=1_000_000_000_000)
    acquisition_s: float = Field(default=5.0, ge=0, le=600)
    """From the plan's start of a contact until it is confirmed at the earliest."""


class Compute(_Table):
    """Declared durations in scenario time."""

    train_s: float = Field(default=20.0, ge=0)
    aggregate_s: float = Field(default=5.0, ge=0)
    message_s: float = Field(default=2.0, ge=0.001)
    """For a node to take in one message, or the answer to one, beside what the link takes."""


class Protocol(_Table):
    name: Literal["fedmeld"]
    delta: int = Field(ge=1, le=100_000)
    alpha: float = Field(ge=0, le=1)
    carry: Literal["pre", "post"] = "post"
    late: Literal["wait"] = "wait"


class Task(BaseModel):
    """`task` is package.module:Name; every other key is an option of the task, which checks it itself."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    task: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    init: str | None = None
    """Initial weights, a safetensors file beside the scenario; from the seed when absent."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Scenario(_Table):
    name: Name
    epoch: Annotated[datetime, BeforeValidator(_moment)]
    seed: int = Field(ge=0, lt=1 << 63)
    rounds: int = Field(ge=1, le=1_000_000)
    duration_s: float = Field(gt=0, le=366 * 86_400)
    clock: Clock = Clock()
    constellation: list[Shell] = Field(min_length=1)
    sites: list[Site] = Field(min_length=1)
    regions: list[Region] = Field(min_length=1)
    ground: Ground = Ground()
    links: Links = Links()
    compute: Compute = Compute()
    protocol: Protocol
    task: Task

    @field_validator("regions")
    @classmethod
    def _ring(cls, regions: list[Region]) -> list[Region]:
        for n, region in enumerate(regions):
            if region.name in [earlier.name for earlier in regions[:n]]:
                raise ValueError(f"{region.name!r} is the name of two regions, names must differ")
        return regions

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        sites = Counter(site.name for site in self.sites)
        for name, times in sites.items():
            if times > 1:
                raise ValueError(f"sites: {name!r} is the name of two sites, names must differ")
        for n, region in enumerate(self.regions):
            if region.site not in sites:
                allowed = ", ".join(sites)
                raise ValueError(
                    f"regions[{n}].site: must be one of the sites ({allowed}), not {region.site!r}"
                )
        if sum(shell.satellites for shell in self.constellation) > NODES_MAX:
            raise ValueError(f"constellation: more than {NODES_MAX} satellites")
        names = Counter(name for name, _ in self.nodes())
        for name, times in names.items():
            if times > 1:
                raise ValueError(f"{name!r} is the name of two nodes, names must differ")
        return self

    @property
    def duration_ns(self) -> int:
        return round(self.duration_s * SECOND_NS)

    def nodes(self) -> list[tuple[str, Literal["satellite", "ground", "device"]]]:
        """(name, kind) of every node: satellites, devices by region, the ground node."""
        found: list[tuple[str, Literal["satellite", "ground", "device"]]] = []
        for shell in self.constellation:
            found += [(f"{shell.name}-{n}", "satellite") for n in range(shell.satellites)]
        for region in self.regions:
            found += [(device, "device") for device in region.device_names]
        return [*found, (self.ground.name, "ground")]

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of everything but `seed` and `clock`, which the command line may override."""
        values = self.model_dump(mode="json", exclude={"seed", "clock"})
        return hashlib.sha256(
            json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")
        ).hexdigest()


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a validation, as `field: what is allowed`."""
    complaint = error.errors()[0]
    path = ""
    owner: Any = model
    for part in complaint["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("int", "list[", "constrained", "function", "float", "str")):
            path += f".{part}" if path else part
    message = complaint["msg"].removeprefix("Value error, ")
    if complaint["type"] == "extra_forbidden":
        owner = _table_at(model, complaint["loc"][:-1])
        message = f"unknown key, allowed are {', '.join(sorted(owner.model_fields))}"
    elif complaint["type"] == "missing":
        message = "is missing"
    elif complaint["type"] == "string_pattern_mismatch":
        message = f"must match {complaint['ctx']['pattern']}, not {str(complaint['input'])[:80]!r}"
    elif not message.startswith("must"):
        shown = repr(complaint["input"])
        if len(shown) <= 80 and complaint["type"] != "value_error":
            message = f"{message}, not {shown}"
    return f"{path}: {message}" if path else message


def _table_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The table type that a path of keys leads to."""
    owner = model
    for part in loc:
        if isinstance(part, int):
            continue
        annotation: Any = owner.model_fields[part].annotation
        owner = next(
            (arg for arg in getattr(annotation, "__args__", ()) if isinstance(arg, type)), annotation
        )
    return owner


def parse_scenario(text: str, file: str) -> Scenario:
    """The scenario in `text`; `file` is its name in errors. Raises ScenarioError."""
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ScenarioError(f"{file}: {first_error(error, Scenario)}") from None


def load_scenario(path: Path) -> Scenario:
    """Read and validate a scenario file. Raises ScenarioError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ScenarioError(f"{path}: cannot be read: {why}") from None
    return parse_scenario(text, str(path))
