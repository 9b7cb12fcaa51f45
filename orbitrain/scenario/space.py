"""Who flies and who stands where: the tables of constellations, sites and stations."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, PrivateAttr, model_validator

from orbitrain.scenario.tables import Name, Table, shown

MASK_POINTS_MAX = 720
"""Points of a horizon mask: every half degree."""


class Constellation(Table):
    """Satellites of one kind: a Walker shell by its code or its numbers, or published elements.

    A shell's satellites are NAME-0 and on, plane after plane; those of an element file have the file's names
    in lower case.
    """

    name: Name = "sat"
    walker: str | None = None
    """PATTERN:ALTITUDE:INCLINATION:T/P/F, such as D:550:53.0:72/24/1."""
    altitude_km: float | None = Field(default=None, ge=160, le=40_000)
    inclination_degrees: float | None = Field(default=None, ge=0, le=180)
    satellites: int | None = Field(default=None, ge=1, le=10_000)
    planes: int = Field(default=1, ge=1)
    phasing: int = Field(default=0, ge=0)
    pattern: Literal["delta", "star"] = "delta"
    raan_degrees: float = Field(default=0.0, ge=-360, le=360)
    anomaly_degrees: float = Field(default=0.0, ge=-360, le=360)
    elements: str | None = None
    """An OMM (JSON, CSV, XML) or TLE file, from the scenario's folder."""
    only: list[str] | None = None
    """Satellites of the file by their names as nodes; all of them where absent."""
    skip_bad: bool = False
    """Leave out elements that cannot be used, and say which."""

    _members: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _one_kind(self) -> Constellation:
        given = self.model_fields_set
        shell = given & _SHELL_KEYS
        if self.elements is not None:
            _refuse_beside("elements", given & {"walker", "name", *_SHELL_KEYS, *_ANGLE_KEYS})
            if self.only is not None and not self.only:
                raise ValueError("only: must be a list of strings, at least one, not []")
            return self
        _refuse_beside("a Walker shell", given & {"only", "skip_bad"})
        if self.walker is not None:
            _refuse_beside("walker", shell)
            self._read_code(self.walker)
        for key in ("altitude_km", "inclination_degrees", "satellites"):
            if getattr(self, key) is None:
                raise ValueError(f"{key}: is missing, must be there where walker and elements are not")
        assert self.satellites is not None
        if self.satellites % self.planes:
            raise ValueError(f"planes: must divide satellites ({self.satellites}), not {self.planes}")
        if self.phasing >= self.planes:
            raise ValueError(f"phasing: must be less than planes ({self.planes}), not {self.phasing}")
        self._members = tuple(f"{self.name}-{n}" for n in range(self.satellites))
        return self

    def _read_code(self, code: str) -> None:
        # The elements module needs sgp4, which a daemon that reads its own configuration does without.
        from orbitrain.contacts.elements import Shell

        try:
            shell = Shell.from_code(code, self.name)
        except ValueError as error:
            raise ValueError(f"walker: {error}") from None
        for key in _SHELL_KEYS:
            object.__setattr__(self, key, getattr(shell, key))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the satellites, in order; of an element file once the scenario has read it."""
        return self._members

    def read(self, members: tuple[str, ...]) -> None:
        """Fix the names of an element file's satellites."""
        self._members = members

    def values(self) -> dict[str, Any]:
        """What says which shell it is, however it was written."""
        if self.elements is not None:
            return self.model_dump(mode="json", include={"elements", "only", "skip_bad"})
        return self.model_dump(mode="json", include={"name", *_SHELL_KEYS, *_ANGLE_KEYS})


_SHELL_KEYS = frozenset({"altitude_km", "inclination_degrees", "satellites", "planes", "phasing", "pattern"})
_ANGLE_KEYS = frozenset({"raan_degrees", "anomaly_degrees"})


def _refuse_beside(what: str, keys: frozenset[str] | set[str]) -> None:
    if keys:
        raise ValueError(f"{min(keys)}: must not be given with {what}")


def _mask(value: Any) -> Any:
    allowed = "must be a list of [azimuth, elevation] in degrees, azimuths rising from 0 to below 360"
    if not isinstance(value, list) or not 1 <= len(value) <= MASK_POINTS_MAX:
        raise ValueError(f"{allowed}, at most {MASK_POINTS_MAX}, not {shown(value)}")
    points = []
    for point in value:
        numbers = isinstance(point, list) and len(point) == 2 and all(type(x) in (int, float) for x in point)
        if not numbers or not (0 <= point[0] < 360 and 0 <= point[1] < 90):
            raise ValueError(f"{allowed}, elevations 0 to below 90, not {shown(point)}")
        points.append((float(point[0]), float(point[1])))
    if any(a[0] >= b[0] for a, b in pairwise(points)):
        raise ValueError(f"{allowed}, not {shown(value)}")
    return tuple(points)


Mask = Annotated[
    tuple[tuple[float, float], ...],
    PlainValidator(_mask),
    PlainSerializer(lambda points: [list(point) for point in points], return_type=list[list[float]]),
]


class Site(Table):
    name: Name
    latitude_degrees: float = Field(ge=-90, le=90)
    longitude_degrees: float = Field(ge=-180, le=180)
    altitude_m: float = Field(default=0.0, ge=-500, le=9_000)
    mask_degrees: float = Field(default=10.0, ge=0, lt=90)
    """Lowest elevation at which a satellite is in view."""
    mask: Mask = ()
    """The horizon, where it is higher: (azimuth, elevation), linear between, around the circle."""


class Station(Site):
    """A ground station: each antenna talks to one satellite at a time."""

    antennas: int = Field(default=1, ge=1, le=100)
