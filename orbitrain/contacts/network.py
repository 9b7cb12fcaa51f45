"""The network that a plan is computed for: who flies, who stands where, and by which rules they talk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.isl import IslRules
from orbitrain.contacts.linkbudget import Budget
from orbitrain.contacts.planes import Planes

Progress = Callable[[str, int, int], None]
"""Told (what, how many are done, how many there are)."""


@dataclass(frozen=True, slots=True)
class Region:
    """Devices that stand together at a site (named) and are served together."""

    name: str
    site: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Station:
    """A ground station at `site`, whose name it has; each antenna talks to one satellite at a time."""

    site: Site
    antennas: int = 1


@dataclass(frozen=True, slots=True)
class Duplex:
    """The budgets of both directions: `up` from the device, the station, the satellite that comes first."""

    up: Budget
    down: Budget

    @property
    def symmetric(self) -> bool:
        """Whether both directions are alike; `direction` itself matters only where a band is shared."""
        return self.up.sharing != "ofdma" and replace(self.down, direction=self.up.direction) == self.up

    @staticmethod
    def constant(rate_bps: int, loss_mean: float = 0.0, loss_burst: float = 1.0) -> Duplex:
        """One rate both ways, whatever the range."""
        budget = Budget(
            capacity="constant", rate_bps=rate_bps, fixed_loss_mean=loss_mean, fixed_loss_burst=loss_burst
        )
        return Duplex(budget, budget)


@dataclass(frozen=True, slots=True)
class Feeder:
    """Links of stations; a satellite has `terminals` at a time (None: any number)."""

    duplex: Duplex
    terminals: int | None = 1
    retarget_ns: int = 0
    shortest_ns: int = 0


@dataclass(frozen=True, slots=True)
class Backhaul:
    """Lines on the ground between every station and every node of `ground`, always there, alike both ways."""

    rate_bps: int
    delay_ns: int


@dataclass(frozen=True, slots=True)
class CrossLinks:
    """Links between satellites; `terminals` a satellite has at a time (None: any number)."""

    duplex: Duplex
    rules: IslRules
    pairs: Literal["ring", "adjacent", "all"]
    terminals: int | None = None
    retarget_ns: int = 0
    shortest_ns: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """Everything that decides who sees whom. `planes` are of the satellites by index; needed for cross-links.

    A class of links that is None is not there. ValueError where names clash or a region has no such site.
    """

    satellites: Sequence[Satellite]
    sites: Sequence[Site]
    regions: Sequence[Region]
    service: Duplex
    stations: Sequence[Station] = ()
    ground: Sequence[str] = ()
    feeder: Feeder | None = None
    intra: CrossLinks | None = None
    inter: CrossLinks | None = None
    planes: Planes | None = None
    backhaul: Backhaul | None = None

    def __post_init__(self) -> None:
        sites: set[str] = set()
        for site in self.sites:
            if site.name in sites:
                raise ValueError(f"site {site.name!r}: must have a name of its own")
            sites.add(site.name)
        regions: set[str] = set()
        for region in self.regions:
            if region.name in regions:
                raise ValueError(f"region {region.name!r}: must have a name of its own")
            regions.add(region.name)
            if region.site not in sites:
                raise ValueError(
                    f"region {region.name!r}: site must be one of {sorted(sites)}, not {region.site!r}"
                )
            if not region.devices:
                raise ValueError(f"region {region.name!r}: must have at least one device")
        if self.planes is None and (self.intra is not None or self.inter is not None):
            raise ValueError("planes: must be given where there are links between satellites")

    def devices_at(self, site: str) -> tuple[str, ...]:
        """Devices of all regions at a site, region by region."""
        return tuple(device for region in self.regions if region.site == site for device in region.devices)
