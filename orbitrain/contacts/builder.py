"""The builder: shells, sites and regions in, contact plan out.

Every satellite has service contacts, in both directions, with every device whose site sees it above the mask.
Passes are found once per site and shared by the devices there. Edges are whole milliseconds inside the pass;
samples are placed so that the delay between them, run linearly, is within `DELAY_TOLERANCE_NS` of range / c.

Ground nodes are named in the plan; who links them is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.elements import FIRST_CATALOGUE_NUMBER, Satellite, Shell, satellites_of
from orbitrain.contacts.finder import LONGEST_STEP_S, Pass, find_passes
from orbitrain.contacts.geometry import (
    LIGHT_SPEED_KM_PER_S,
    Floats,
    Site,
    SiteFrame,
    Tracks,
    range_km,
    tracks,
)
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan, PlanNode

# A fortieth of the shortest delay from 550 km, and what the timers of a link shaper can follow.
DELAY_TOLERANCE_NS: Final = 50_000

_NS_PER_S: Final = 1_000_000_000
_EDGE_NS: Final = 1_000_000
# Memory of the tracks is 48 bytes a satellite and step; more satellites than this go in several rounds (about
# 200 MB for a day).
_SATELLITES_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Region:
    """Devices that stand together at a site (named) and are served together."""

    name: str
    site: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceLink:
    """What every service contact offers: a constant rate, and loss as in `plan.Sample`."""

    rate_bps: int
    loss_mean: float = 0.0
    loss_burst: float = 1.0


def build_plan(
    *,
    shells: Sequence[Shell],
    sites: Sequence[Site],
    regions: Sequence[Region],
    link: ServiceLink,
    epoch: datetime,
    duration_ns: int,
    scenario_sha256: str,
    ground: Sequence[str] = (),
) -> ContactPlan:
    """The plan from `epoch` (aware, whole microseconds) over `duration_ns`, version 1.

    Nodes are the satellites shell by shell, then `ground`, then the devices region by region. ValueError
    (also PlanError) names what is wrong: a region's unknown site, a name twice, an epoch without a time zone.
    """
    if epoch.utcoffset() is None:
        raise ValueError(f"epoch: must be a datetime with a time zone, not {epoch.isoformat()}")
    if duration_ns < 1:
        raise ValueError(f"duration_ns: must be 1 or more, not {duration_ns}")
    devices_at = _devices_by_site(sites, regions)
    satellites = _all_satellites(shells, epoch)
    contacts: list[Contact] = []
    for first in range(0, len(satellites), _SATELLITES_AT_ONCE):
        group = satellites[first : first + _SATELLITES_AT_ONCE]
        flown = tracks(group, epoch, duration_ns / _NS_PER_S, LONGEST_STEP_S)
        for site in sites:
            if not devices_at[site.name]:
                continue
            frame = SiteFrame.of(site)
            for one in find_passes(flown, site):
                window = _edges(one, duration_ns)
                if window is None:
                    continue
                samples = _samples(flown, frame, one.satellite, window, link)
                for device in devices_at[site.name]:
                    contacts.extend(_both_ways(group[one.satellite].name, device, window, samples))
    nodes = [PlanNode(s.name, "satellite") for s in satellites]
    nodes += [PlanNode(name, "ground") for name in ground]
    nodes += [PlanNode(device, "device") for region in regions for device in region.devices]
    return ContactPlan(
        version=PLAN_VERSION,
        scenario_sha256=scenario_sha256,
        epoch=epoch.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
        duration_ns=duration_ns,
        nodes=tuple(nodes),
        contacts=tuple(contacts),
    )


def _devices_by_site(sites: Sequence[Site], regions: Sequence[Region]) -> dict[str, list[str]]:
    devices_at: dict[str, list[str]] = {}
    for site in sites:
        if site.name in devices_at:
            raise ValueError(f"site {site.name!r}: must have a name of its own")
        devices_at[site.name] = []
    for index, region in enumerate(regions):
        if region.name in {earlier.name for earlier in regions[:index]}:
            raise ValueError(f"region {region.name!r}: must have a name of its own")
        if region.site not in devices_at:
            raise ValueError(
                f"region {region.name!r}: site must be one of {sorted(devices_at)}, not {region.site!r}"
            )
        if not region.devices:
            raise ValueError(f"region {region.name!r}: must have at least one device")
        devices_at[region.site].extend(region.devices)
    return devices_at


def _all_satellites(shells: Sequence[Shell], epoch: datetime) -> list[Satellite]:
    satellites: list[Satellite] = []
    for shell in shells:
        satellites.extend(satellites_of(shell, epoch, FIRST_CATALOGUE_NUMBER + len(satellites)))
    return satellites


def _edges(one: Pass, duration_ns: int) -> tuple[int, int] | None:
    # Rounded inwards to whole milliseconds, so that a contact never outlives its pass and the last bits of a
    # cosine on another machine do not change the plan; the ends of the scenario are exact.
    start_ns = math.ceil(one.start_s * 1e3) * _EDGE_NS
    end_ns = math.floor(one.end_s * 1e3) * _EDGE_NS
    if one.end_s * _NS_PER_S >= duration_ns - 1:
        end_ns = duration_ns
    return (start_ns, end_ns) if start_ns < end_ns else None


def _samples(
    flown: Tracks, frame: SiteFrame, satellite: int, window: tuple[int, int], link: ServiceLink
) -> tuple[Sample, ...]:
    t_ns = _knots(flown, frame, satellite, window)
    delay_ns = _delay_ns(flown, frame, satellite, np.array(t_ns) / _NS_PER_S)
    return tuple(
        Sample(t, round(delay), link.rate_bps, link.loss_mean, link.loss_burst)
        for t, delay in zip(t_ns, delay_ns.tolist(), strict=True)
    )


def _knots(flown: Tracks, frame: SiteFrame, satellite: int, window: tuple[int, int]) -> list[int]:
    # A chord over h seconds is off by h^2 / 8 times the second derivative: knots at equal steps of the
    # integral of its root share the error evenly, which is nearly the fewest knots for a tolerance. The dense
    # grid then proves it, and a knot is added until it holds.
    start_ns, end_ns = window
    dense_ns = np.linspace(start_ns, end_ns, max(9, math.ceil((end_ns - start_ns) / _NS_PER_S) + 1))
    delay_ns = _delay_ns(flown, frame, satellite, dense_ns / _NS_PER_S)
    bend = np.abs(np.diff(delay_ns, 2)) / (dense_ns[1] - dense_ns[0]) ** 2
    density = np.sqrt(np.concatenate(([bend[0]], bend, [bend[-1]])) / (8 * DELAY_TOLERANCE_NS))
    pieces = (density[1:] + density[:-1]) / 2 * np.diff(dense_ns)
    spent = np.concatenate(([0.0], np.cumsum(pieces)))
    intervals = max(1, math.ceil(float(spent[-1])))
    while True:
        inner = np.interp(np.linspace(0, float(spent[-1]), intervals + 1)[1:-1], spent, dense_ns)
        middle_ns = np.unique(np.round(inner / _EDGE_NS).astype(np.int64) * _EDGE_NS)
        middle_ns = middle_ns[(middle_ns > start_ns) & (middle_ns < end_ns)]
        knots = np.concatenate(([start_ns], middle_ns, [end_ns]))
        linear_ns = np.interp(dense_ns, knots, _delay_ns(flown, frame, satellite, knots / _NS_PER_S))
        # The 1 % leaves room for what lies between two dense points and for rounding to whole ns.
        if np.max(np.abs(linear_ns - delay_ns)) <= 0.99 * DELAY_TOLERANCE_NS or intervals >= len(dense_ns):
            return [int(knot) for knot in knots.tolist()]
        intervals += 1


def _delay_ns(flown: Tracks, frame: SiteFrame, satellite: int, t_s: Floats) -> Floats:
    delay_ns: Floats = range_km(frame, flown.at(satellite, t_s)) * (_NS_PER_S / LIGHT_SPEED_KM_PER_S)
    return delay_ns


def _both_ways(
    satellite: str, device: str, window: tuple[int, int], samples: tuple[Sample, ...]
) -> tuple[Contact, Contact]:
    start_ns, end_ns = window
    return (
        Contact(satellite, device, "service", start_ns, end_ns, samples),
        Contact(device, satellite, "service", start_ns, end_ns, samples),
    )
