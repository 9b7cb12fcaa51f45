"""How nodes talk: the tables of links, each class with its budget and its rules of visibility."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from orbitrain.scenario.tables import CONGESTION, Table


class Radio(BaseModel):
    """A class of links: keys of a link budget for both directions, and of `up` and `down` for one of them.

    The keys are those of `contacts.linkbudget.Budget`, and `preset`. `rate_bps` alone is a constant rate.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    up: dict[str, Any] = Field(default={})
    """From the device, the station, the satellite that comes first."""
    down: dict[str, Any] = Field(default={})

    _budgets: tuple[Any, Any] = PrivateAttr()

    @model_validator(mode="after")
    def _whole(self) -> Radio:
        from orbitrain.contacts.presets import budget_of  # needs numpy, which reading names does not

        shared = dict(self.__pydantic_extra__ or {})
        budgets = []
        for direction, own in (("up", self.up), ("down", self.down)):
            keys = {**shared, **own}
            if "rate_bps" in keys and not keys.keys() & {"capacity", "preset"}:
                keys["capacity"] = "constant"
            try:
                budgets.append(budget_of(keys, direction))  # type: ignore[arg-type]
            except ValueError as error:
                key = str(error).partition(":")[0]
                raise ValueError(f"{direction}.{error}" if key in own else str(error)) from None
        self._budgets = (budgets[0], budgets[1])
        return self

    @property
    def budgets(self) -> tuple[Any, Any]:
        """Up and down, each a `contacts.linkbudget.Budget`."""
        return self._budgets


class ServiceLinks(Radio):
    """Between devices and satellites."""


class FeederLinks(Radio):
    """Between stations and satellites."""

    terminals: int | None = Field(default=1, ge=1, le=1_000)
    """Stations that a satellite talks to at a time."""
    retarget_s: float = Field(default=0.0, ge=0, le=600)
    shortest_s: float = Field(default=0.0, ge=0, le=3600)


class IntraLinks(Radio):
    """Between neighbours on the ring of a plane."""

    clearance_km: float = Field(default=80.0, ge=0, le=10_000)
    """Of the line of sight above the WGS84 ellipsoid."""
    longest_km: float | None = Field(default=None, gt=0, le=200_000)


class InterLinks(IntraLinks):
    """Between satellites of different planes."""

    pairs: Literal["adjacent", "all"] = "adjacent"
    """Of planes next to each other, or of any two."""
    range_rate_km_per_s: float | None = Field(default=None, gt=0, le=100)
    angular_rate_degrees_per_s: float | None = Field(default=None, gt=0, le=360)
    latitude_cut_degrees: float | None = Field(default=None, gt=0, le=90)
    terminals: int | None = Field(default=2, ge=1, le=1_000)
    """Such links that a satellite has at a time."""
    retarget_s: float = Field(default=0.0, ge=0, le=600)
    shortest_s: float = Field(default=0.0, ge=0, le=3600)


class BackhaulLinks(Table):
    """Lines between stations and the ground node, always there, alike both ways."""

    rate_bps: int = Field(default=1_000_000_000, ge=1_000, le=1_000_000_000_000)
    delay_ms: float = Field(default=10.0, ge=0, le=10_000)
    """One way."""


class Links(Table):
    """A class without a table has no links, but service links, which then have a constant rate."""

    service_rate_bps: int = Field(default=2_000_000, ge=1_000, le=1_000_000_000_000)
    """Of service links that have no budget."""
    acquisition_s: float = Field(default=5.0, ge=0, le=600)
    """From the plan's start of a contact until it is confirmed at the earliest."""
    congestion: str = Field(default="auto", pattern=CONGESTION)
    """TCP's congestion control of the nodes, where links are emulated; auto: bbr where the host lets its
    namespaces have it, else what they have."""
    service: ServiceLinks | None = None
    feeder: FeederLinks | None = None
    intra_isl: IntraLinks | None = None
    inter_isl: InterLinks | None = None
    backhaul: BackhaulLinks | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> Links:
        if self.service is not None and "service_rate_bps" in self.model_fields_set:
            raise ValueError("service_rate_bps: must not be given with a table service")
        return self
