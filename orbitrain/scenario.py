"""The scenario file: one TOML that says who flies, who stands where, and what is learned.

It is validated as a whole before anything starts; every error is one line that names the field and what is
allowed. README and `deploy/scenarios/` show it by example.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

SECOND_NS = 1_000_000_000

NODES_MAX = 20_000
"""Nodes in one scenario: beyond it a plan no longer fits in the memory that we plan with."""

DEVICES_MAX = 1_000
"""Devices of one region: each has to be polled and to answer within one pass."""

_NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
_NODE = r"^[a-z0-9][a-z0-9-]{0,63}$"
_SHA256 = r"^[0-9a-f]{64}$"
_TASK = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

_FIELD = r"[\w.-]*(\[\d+\])*[\w.-]*: "
"""How a complaint begins that names a field below the table it is about."""

_PATTERNS = {
    _NAME: "1 to 40 lower-case letters, digits and hyphens, the first no hyphen",
    _NODE: "1 to 64 lower-case letters, digits and hyphens, the first no hyphen",
    _SHA256: "64 lower-case hexadecimal digits",
    _TASK: "of the form package.module:Name",
}
"""What a pattern allows, in words."""

Name = Annotated[str, Field(pattern=_NAME)]

NodeName = Annotated[str, Field(pattern=_NODE)]
"""A name of a scenario, with what is appended to it: NAME-dev-0."""

Sha256 = Annotated[str, Field(pattern=_SHA256)]


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


def _devices(value: Any) -> Any:
    if type(value) is int and 1 <= value <= DEVICES_MAX:
        return value
    if isinstance(value, list) and 1 <= len(value) <= DEVICES_MAX:
        bad = [name for name in value if not isinstance(name, str) or not re.fullmatch(_NAME, name)]
        if not bad:
            return value
        raise ValueError(f"must be a list of names, each {_PATTERNS[_NAME]}, not {_shown(bad[0])}")
    raise ValueError(f"must be a number from 1 to {DEVICES_MAX} or a list of names, not {_shown(value)}")


def _shown(value: Any) -> str:
    """A value on one line, bounded."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _key(name: str) -> str:
    """A key as it is, or quoted, on one line."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _shown(name)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Clock(_Table):
    rate: float = Field(default=1.0, gt=0, le=100_000)
    """Scenario seconds per wall second."""


class Shell(_Table):
    """A Walker shell: `satellites` in `planes`, named NAME-0 and on."""

    name: Name = "sat"
    altitude_km: float = Field(ge=160, le=40_000)
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
            raise ValueError(f"planes: must divide satellites ({self.satellites}), not {self.planes}")
        if self.phasing >= self.planes:
            raise ValueError(f"phasing: must be less than planes ({self.planes}), not {self.phasing}")
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
    devices: Annotated[int | list[str], PlainValidator(_devices)]

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

    task: str = Field(pattern=_TASK)
    init: str | None = None
    """Initial weights, a safetensors file beside the scenario; from the seed when absent."""

    @model_validator(mode="after")
    def _plain(self) -> Task:
        for name, value in self.options.items():
            _check_option(_key(name), value)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def _check_option(where: str, value: Any) -> None:
    """Options travel to the workers as JSON, which has no dates and no infinities."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_option(f"{where}.{_key(name)}", inner)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            _check_option(f"{where}[{n}]", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: must be a finite number, not {value}")
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{where}: must be a string, number, boolean, list or table, not {value}")


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
        _check_distinct([(region.name, f"[{n}].name") for n, region in enumerate(regions)], "regions")
        return regions

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        _check_distinct([(site.name, f"sites[{n}].name") for n, site in enumerate(self.sites)], "sites")
        sites = [site.name for site in self.sites]
        for n, region in enumerate(self.regions):
            if region.site not in sites:
                allowed = ", ".join(sites)
                raise ValueError(
                    f"regions[{n}].site: must be one of the sites ({allowed}), not {region.site!r}"
                )
        satellites = sum(shell.satellites for shell in self.constellation)
        if satellites > NODES_MAX:
            raise ValueError(f"constellation: must have at most {NODES_MAX} satellites, not {satellites}")
        _check_distinct(self._places(), "nodes")
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

    def _places(self) -> list[tuple[str, str]]:
        """(name, field that gives it) of every node."""
        found = []
        for n, shell in enumerate(self.constellation):
            found += [(f"{shell.name}-{i}", f"constellation[{n}].name") for i in range(shell.satellites)]
        for n, region in enumerate(self.regions):
            field = "name" if isinstance(region.devices, int) else "devices"
            found += [(device, f"regions[{n}].{field}") for device in region.device_names]
        return [*found, (self.ground.name, "ground.name")]

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of everything but `seed` and `clock`, which the command line may override."""
        values = self.model_dump(mode="json", exclude={"seed", "clock"})
        return hashlib.sha256(
            json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")
        ).hexdigest()


def _check_distinct(places: Sequence[tuple[str, str]], what: str) -> None:
    """`places` are (name, field). Raises ValueError that names the field of the second of two."""
    times = Counter(name for name, _ in places)
    seen = set()
    for name, field in places:
        if name in seen:
            raise ValueError(f"{field}: must differ, {name!r} is the name of {times[name]} {what}")
        seen.add(name)


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a validation, as `field: what is allowed`."""
    complaint = error.errors()[0]
    loc, kind = complaint["loc"], complaint["type"]
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":  # pydantic's own mark of a key of a dict
            path += f".{_key(part)}" if path else _key(part)
    message = complaint["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"unknown key, allowed are {', '.join(sorted(_table_at(model, loc[:-1]).model_fields))}"
    elif kind == "missing":
        message = ", ".join(filter(None, ("is missing", _allowed(_field_at(model, loc)))))
    elif kind == "value_error":
        if path and re.match(_FIELD, message):  # it names a field of this table
            return path + ("" if message.startswith("[") else ".") + message
    elif kind == "string_pattern_mismatch":
        pattern = complaint["ctx"]["pattern"]
        message = f"must be {_PATTERNS.get(pattern, f'like {pattern}')}, not {_shown(complaint['input'])}"
    else:
        message = f"{_allowed(_field_at(model, loc)) or message}, not {_shown(complaint['input'])}"
    return f"{path}: {message}" if path else message


def _table_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The table that a path of keys leads to."""
    owner = model
    for part in loc:
        if isinstance(part, str):
            inner: Any = _without_none(owner.model_fields[part].annotation)
            owner = get_args(inner)[0] if get_origin(inner) is list else inner
    return owner


def _without_none(annotation: Any) -> Any:
    """T of `T | None`, or what it is."""
    inner = [arg for arg in get_args(annotation) if arg is not type(None)]
    return inner[0] if type(None) in get_args(annotation) and len(inner) == 1 else annotation


def _field_at(model: type[BaseModel], loc: Sequence[int | str]) -> FieldInfo | None:
    """The field that a path of keys leads to; None for one inside a list or dict of plain values."""
    owner: Any = model
    field = None
    for part in loc:
        if isinstance(part, int):
            if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
                return None
            continue
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or part not in owner.model_fields:
            return None
        field = owner.model_fields[part]
        owner = _without_none(field.annotation)
        if get_origin(owner) is list:
            owner = get_args(owner)[0]
    return None if loc and isinstance(loc[-1], int) else field


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _allowed(field: FieldInfo | None) -> str:
    """`must be ...`, from a field's type and bounds; empty where they do not say."""
    if field is None:
        return ""
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return f"must be {' or '.join(repr(value) for value in get_args(annotation))}"
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "must be a table"
    if get_origin(annotation) is list:
        inner = get_args(annotation)[0]
        tables = isinstance(inner, type) and issubclass(inner, BaseModel)
        return f"must be a list of {'tables' if tables else 'strings'}, at least one"
    if annotation not in _KINDS:
        return ""
    bounds = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(part, name)
    }
    text = f"must be {_KINDS[annotation]}"
    if bounds.keys() == {"ge", "le"}:
        return f"{text} from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = " and ".join(f"{words[name]} {bounds[name]}" for name in words if name in bounds)
    return f"{text} {limits}" if limits else text


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
