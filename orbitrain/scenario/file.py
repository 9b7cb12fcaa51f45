"""The scenario file: one TOML that says who flies, who stands where, and what is learned.

It is validated as a whole before anything starts; every error is one line that names the field and what is
allowed. README and `deploy/scenarios/` show it by example.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orbitrain.scenario.links import Links
from orbitrain.scenario.protocols import Compute, EmsflProtocol, FedMeldProtocol, Model, SfftProtocol, Task
from orbitrain.scenario.space import Constellation, Site, Station
from orbitrain.scenario.tables import (
    NAME,
    PATTERNS,
    Name,
    Table,
    check_distinct,
    first_error,
    shown,
)

SECOND_NS = 1_000_000_000

NODES_MAX = 20_000
"""Nodes in one scenario: beyond it a plan no longer fits in the memory that we plan with."""

DEVICES_MAX = 1_000
"""Devices of one region: each has to be polled and to answer within one pass."""


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
        bad = [name for name in value if not isinstance(name, str) or not re.fullmatch(NAME, name)]
        if not bad:
            return value
        raise ValueError(f"must be a list of names, each {PATTERNS[NAME]}, not {shown(bad[0])}")
    raise ValueError(f"must be a number from 1 to {DEVICES_MAX} or a list of names, not {shown(value)}")


class Clock(Table):
    rate: float = Field(default=1.0, gt=0, le=100_000)
    """Scenario seconds per wall second."""


class Region(Table):
    """Devices that learn together. They stand at the region's site; a number names them NAME-dev-0 and on."""

    name: Name
    site: Name
    devices: Annotated[int | list[str], PlainValidator(_devices)]

    @property
    def device_names(self) -> tuple[str, ...]:
        if isinstance(self.devices, int):
            return tuple(f"{self.name}-dev-{n}" for n in range(self.devices))
        return tuple(self.devices)


class Ground(Table):
    """The operator's seat."""

    name: Name = "ground"


class Truth(Table):
    """What the links follow, where that is not what the nodes were told.

    Another plan; or the plan of other elements, or of the scenario's own, disturbed: each satellite by normal
    errors of its own with these standard deviations.
    """

    plan: str | None = None
    """A plan file of this scenario, from its folder."""
    constellation: list[Constellation] | None = None
    """Other elements of the same satellites."""
    along_track_km: float = Field(default=0.0, ge=0, le=1_000)
    """At the elements' epoch."""
    drift_km_per_day: float = Field(default=0.0, ge=0, le=1_000)
    """Of the mean motion."""
    drag_bstar: float = Field(default=0.0, ge=0, le=1)
    """Of SGP4's drag term, in inverse Earth radii."""
    seed: int | None = Field(default=None, ge=0, lt=1 << 63)
    """Of the errors; the scenario's own where absent."""

    @model_validator(mode="after")
    def _one_kind(self) -> Truth:
        if self.constellation is not None and not self.constellation:
            raise ValueError("constellation: must be a list of tables, at least one, not []")
        if self.plan is not None and (others := self.model_fields_set - {"plan"}):
            raise ValueError(f"{min(others)}: must not be given with plan")
        return self


class Update(Table):
    """A newer plan that all nodes go on with."""

    at_s: float = Field(gt=0, le=366 * 86_400)
    plan: str
    """A plan file of this scenario, from its folder; or truth: what the links follow."""


class Scenario(Table):
    name: Name
    epoch: Annotated[datetime, BeforeValidator(_moment)]
    seed: int = Field(ge=0, lt=1 << 63)
    rounds: int = Field(ge=1, le=1_000_000)
    duration_s: float = Field(gt=0, le=366 * 86_400)
    clock: Clock = Clock()
    constellation: list[Constellation] = Field(min_length=1)
    sites: list[Site] = Field(default=[])
    stations: list[Station] = Field(default=[])
    regions: list[Region] = Field(default=[])
    ground: Ground = Ground()
    links: Links = Links()
    truth: Truth | None = None
    updates: list[Update] = Field(default=[])
    compute: Compute = Compute()
    protocol: Annotated[FedMeldProtocol | SfftProtocol | EmsflProtocol, Field(discriminator="name")]
    model: Model | None = None
    task: Task

    _files: dict[str, bytes] = PrivateAttr(default_factory=dict)
    _left_out: list[str] = PrivateAttr(default_factory=list)

    @field_validator("regions")
    @classmethod
    def _ring(cls, regions: list[Region]) -> list[Region]:
        check_distinct([(region.name, f"[{n}].name") for n, region in enumerate(regions)], "regions")
        return regions

    @field_validator("updates")
    @classmethod
    def _in_time(cls, updates: list[Update]) -> list[Update]:
        for n, (before, after) in enumerate(pairwise(updates)):
            if after.at_s <= before.at_s:
                raise ValueError(f"[{n + 1}].at_s: must be after the update before ({before.at_s:g})")
        return updates

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Scenario:
        self._suits_protocol()
        check_distinct([(site.name, f"sites[{n}].name") for n, site in enumerate(self.sites)], "sites")
        sites = [site.name for site in self.sites]
        for n, region in enumerate(self.regions):
            if region.site not in sites:
                allowed = ", ".join(sites)
                raise ValueError(
                    f"regions[{n}].site: must be one of the sites ({allowed}), not {region.site!r}"
                )
        self._read_elements(self.constellation, "constellation", info)
        satellites = sum(len(some.members) for some in self.constellation)
        if isinstance(self.protocol, EmsflProtocol) and satellites != 1:
            raise ValueError(f"constellation: must have one satellite for emsfl, not {satellites}")
        if satellites > NODES_MAX:
            raise ValueError(f"constellation: must have at most {NODES_MAX} satellites, not {satellites}")
        check_distinct(self._places(), "nodes")
        if self.truth is not None and self.truth.constellation is not None:
            self._read_elements(self.truth.constellation, "truth.constellation", info)
            own = {name for some in self.constellation for name in some.members}
            other = {name for some in self.truth.constellation for name in some.members}
            if own != other:
                raise ValueError(
                    f"truth.constellation: must be of the scenario's own satellites, "
                    f"not differ by {min(own ^ other)!r}"
                )
        for n, update in enumerate(self.updates):
            if update.at_s >= self.duration_s:
                raise ValueError(f"updates[{n}].at_s: must be below duration_s ({self.duration_s:g})")
            if update.plan == "truth" and self.truth is None:
                raise ValueError(f"updates[{n}].plan: must be a file where there is no [truth]")
        return self

    def _suits_protocol(self) -> None:
        """Raises ValueError for what the protocol needs and lacks, or has no use for."""
        if isinstance(self.protocol, SfftProtocol):
            self._suits_sfft()
            return
        name = self.protocol.name
        for field in ("sites", "regions"):
            if not getattr(self, field):
                raise ValueError(f"{field}: must be a list of tables, at least one, for {name}")
        if self.model is not None:
            raise ValueError(f"model: must not be given for {name}, whose task has its model")
        if isinstance(self.protocol, EmsflProtocol):
            if self.task.init is not None:
                raise ValueError("task.init: must not be given for emsfl, whose experts come with its task")
            if self.protocol.gate_cycles > self.rounds:
                raise ValueError(
                    f"protocol.gate_cycles: must be at most rounds ({self.rounds}), "
                    f"not {self.protocol.gate_cycles}"
                )

    def _suits_sfft(self) -> None:
        for field in ("sites", "regions"):
            if getattr(self, field):
                raise ValueError(f"{field}: must not be given for sfft, whose samples are on satellites")
        if not self.stations:
            raise ValueError("stations: must be a list of tables, at least one, for sfft")
        for field in ("feeder", "intra_isl", "backhaul"):
            if getattr(self.links, field) is None:
                raise ValueError(f"links.{field}: must be a table for sfft")
        if self.model is None:
            raise ValueError("model: must be a table for sfft")
        if self.task.init is not None:
            raise ValueError("task.init: must not be given for sfft, whose head comes with its model")

    @property
    def fedmeld(self) -> FedMeldProtocol:
        """Its table; for scenarios of FedMeld only."""
        assert isinstance(self.protocol, FedMeldProtocol)
        return self.protocol

    @property
    def sfft(self) -> SfftProtocol:
        """Its table; for scenarios of SFFT only."""
        assert isinstance(self.protocol, SfftProtocol)
        return self.protocol

    @property
    def emsfl(self) -> EmsflProtocol:
        """Its table; for scenarios of EMS-FL only."""
        assert isinstance(self.protocol, EmsflProtocol)
        return self.protocol

    def _read_elements(self, tables: list[Constellation], where: str, info: ValidationInfo) -> None:
        folder = (info.context or {}).get("folder", Path())
        for n, table in enumerate(tables):
            if table.elements is None:
                continue
            from orbitrain.fleet import fleet_of  # needs sgp4, which a daemon does without

            field = f"{where}[{n}].elements"
            try:
                data = self._files[table.elements] = (folder / table.elements).read_bytes()
            except OSError as error:
                raise ValueError(f"{field}: {table.elements} cannot be read: {error.strerror}") from None
            try:
                fleet = fleet_of(table, data, self.epoch, timedelta(seconds=self.duration_s))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from None
            table.read(tuple(satellite.name for satellite in fleet.satellites))
            self._left_out += fleet.left_out

    @property
    def duration_ns(self) -> int:
        return round(self.duration_s * SECOND_NS)

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each element set that `skip_bad` left out."""
        return tuple(self._left_out)

    def element_file(self, name: str) -> bytes:
        """An element file's bytes, as they were when the scenario was read."""
        return self._files[name]

    @property
    def satellites(self) -> tuple[str, ...]:
        """Their names, in the order of the constellations."""
        return tuple(name for some in self.constellation for name in some.members)

    def nodes(self) -> list[tuple[str, Literal["satellite", "ground", "device"]]]:
        """(name, kind) of every node that runs: satellites, stations, devices by region, the ground node.

        FedMeld has no role for stations: they are nodes of the plan only.
        """
        found: list[tuple[str, Literal["satellite", "ground", "device"]]] = []
        for some in self.constellation:
            found += [(name, "satellite") for name in some.members]
        if isinstance(self.protocol, SfftProtocol):
            found += [(station.name, "ground") for station in self.stations]
        for region in self.regions:
            found += [(device, "device") for device in region.device_names]
        return [*found, (self.ground.name, "ground")]

    def _places(self) -> list[tuple[str, str]]:
        """(name, field that gives it) of every node."""
        found = []
        for n, some in enumerate(self.constellation):
            field = "name" if some.elements is None else "elements"
            found += [(name, f"constellation[{n}].{field}") for name in some.members]
        found += [(station.name, f"stations[{n}].name") for n, station in enumerate(self.stations)]
        for n, region in enumerate(self.regions):
            field = "name" if isinstance(region.devices, int) else "devices"
            found += [(device, f"regions[{n}].{field}") for device in region.device_names]
        return [*found, (self.ground.name, "ground.name")]

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of everything but `seed` and `clock`, which the command line may override,
        and `links.congestion`, which no plan depends on.

        Element files count by their content, a shell by its numbers, however they are written.
        """
        values = self.model_dump(mode="json", exclude={"seed": True, "clock": True, "links": {"congestion"}})
        values["constellation"] = [self._identity(some) for some in self.constellation]
        if self.truth is not None and self.truth.constellation is not None:
            values["truth"]["constellation"] = [self._identity(some) for some in self.truth.constellation]
        return hashlib.sha256(
            json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")
        ).hexdigest()

    def _identity(self, some: Constellation) -> dict[str, Any]:
        values = some.values()
        if some.elements is not None:
            values["elements"] = hashlib.sha256(self._files[some.elements]).hexdigest()
        return values


def parse_scenario(text: str, file: str, folder: Path | None = None) -> Scenario:
    """The scenario in `text`; `file` is its name in errors. Raises ScenarioError.

    `folder` is where the files are that it names.
    """
    try:
        return Scenario.model_validate(tomllib.loads(text), context={"folder": folder or Path()})
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ScenarioError(f"{file}: {first_error(error, Scenario)}") from None


def load_scenario(path: Path) -> Scenario:
    """Read and validate a scenario file, and the element files it names. Raises ScenarioError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ScenarioError(f"{path}: cannot be read: {why}") from None
    return parse_scenario(text, str(path), path.parent)
