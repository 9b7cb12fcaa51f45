"""The builder: a network in, its contact plan out.

Service links: every satellite with every device whose site sees it. Feeder links: what the stations' antennas
and the satellites' terminals come to (`assignment`). Links between satellites: neighbours on a ring, and
across planes what geometry, motion and terminals allow (`isl`). Each is directed, and each direction has its
own budget: where that gives no rate there is no contact, and its samples are as close as `sampling` says.

Edges are whole milliseconds inside the pass. A contact carries what the age of its satellites' elements makes
its edges uncertain by (`validity`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from orbitrain.contacts.assignment import LinkWindow, assign
from orbitrain.contacts.channel import ALONE, Sharers, Stretch, stretches
from orbitrain.contacts.contact import Contact, LinkClass
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.finder import LONGEST_STEP_S, find_all_passes
from orbitrain.contacts.geometry import Site, SiteFrame, Tracks, tracks
from orbitrain.contacts.isl import IslRules, find_isl, range_rate_of_doppler
from orbitrain.contacts.lines import NS_PER_S, GroundLine, SpaceLine
from orbitrain.contacts.network import CrossLinks, Duplex, Network
from orbitrain.contacts.node import Place, PlanNode
from orbitrain.contacts.orbits import orbit_of
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan
from orbitrain.contacts.planes import Pairs
from orbitrain.contacts.sampling import EDGE_NS
from orbitrain.contacts.validity import confidence, edge_margin_s

# Memory of the tracks is 48 bytes a satellite and step; more satellites than this go in several rounds (about
# 200 MB for a day), but for links between satellites, which need them all at once.
_SATELLITES_AT_ONCE: Final = 1_000

Progress = Callable[[str, int, int], None]
"""Told (what, how many are done, how many there are)."""


def build_plan(
    network: Network,
    *,
    epoch: datetime,
    duration_ns: int,
    scenario_sha256: str,
    progress: Progress = lambda what, done, total: None,
) -> ContactPlan:
    """The plan from `epoch` (aware, whole microseconds) over `duration_ns`.

    Nodes are the satellites, then the stations and `ground`, then the devices region by region. ValueError
    (also PlanError) names what is wrong.
    """
    if epoch.utcoffset() is None:
        raise ValueError(f"epoch: must be a datetime with a time zone, not {epoch.isoformat()}")
    if duration_ns < 1:
        raise ValueError(f"duration_ns: must be 1 or more, not {duration_ns}")
    work = _Work(network, epoch, duration_ns, progress)
    contacts = [*work.from_the_ground(), *work.between_satellites()]
    return ContactPlan(
        version=PLAN_VERSION,
        scenario_sha256=scenario_sha256,
        epoch=epoch.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
        duration_ns=duration_ns,
        nodes=tuple(_nodes(network)),
        contacts=tuple(contacts),
    )


def _nodes(network: Network) -> Iterator[PlanNode]:
    places = {site.name: _place(site) for site in network.sites}
    for satellite in network.satellites:
        yield PlanNode(satellite.name, "satellite", orbit=orbit_of(satellite))
    for station in network.stations:
        yield PlanNode(station.site.name, "ground", place=_place(station.site))
    for name in network.ground:
        yield PlanNode(name, "ground")
    for region in network.regions:
        for device in region.devices:
            yield PlanNode(device, "device", place=places[region.site])


def _place(site: Site) -> Place:
    return Place(site.latitude_degrees, site.longitude_degrees, site.altitude_m)


@dataclass(frozen=True, slots=True)
class _Pass:
    """A satellite (its index) over a site of the ground, in whole milliseconds."""

    satellite: int
    site: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class _Work:
    network: Network
    epoch: datetime
    duration_ns: int
    progress: Progress

    # --- the ground ---------------------------------------------------------------------------------------

    def from_the_ground(self) -> Iterator[Contact]:
        network = self.network
        sites = [site for site in network.sites if network.devices_at(site.name)]
        stations = [station.site for station in network.stations] if network.feeder is not None else []
        groups = range(0, len(network.satellites), _SATELLITES_AT_ONCE)
        seen: list[_Pass] = []
        flown: Tracks | None = None
        for first in groups:
            flown = self._tracks(network.satellites[first : first + _SATELLITES_AT_ONCE])
            passes = self._passes(flown, first, [*sites, *stations])
            yield from self._service(flown, first, [one for one in passes if one.site < len(sites)], sites)
            seen += [one for one in passes if one.site >= len(sites)]
            self._tell("service links", min(first + _SATELLITES_AT_ONCE, len(network.satellites)))
        if stations:
            chosen = self._antennas(seen, len(sites))
            for first in groups:
                if flown is None or len(groups) > 1:  # of many groups only the last is still there
                    flown = self._tracks(network.satellites[first : first + _SATELLITES_AT_ONCE])
                mine = [one for one in chosen if first <= one.satellite < first + _SATELLITES_AT_ONCE]
                yield from self._feeder(flown, first, mine, stations, len(sites))
                self._tell("feeder links", min(first + _SATELLITES_AT_ONCE, len(network.satellites)))

    def _tracks(self, satellites: Sequence[Satellite]) -> Tracks:
        return tracks(satellites, self.epoch, self.duration_ns / NS_PER_S, LONGEST_STEP_S)

    def _passes(self, flown: Tracks, first: int, sites: Sequence[Site]) -> list[_Pass]:
        found: list[_Pass] = []
        for number, over in enumerate(find_all_passes(flown, sites)):
            columns = (over.satellite.tolist(), over.start_s.tolist(), over.end_s.tolist())
            for satellite, start_s, end_s in zip(*columns, strict=True):
                window = self._edges(start_s, end_s)
                if window is not None:
                    found.append(_Pass(first + satellite, number, *window))
        return found

    def _edges(self, start_s: float, end_s: float) -> tuple[int, int] | None:
        # Rounded inwards to whole milliseconds, so that a contact never outlives its pass and the last bits
        # of a cosine on another machine do not change the plan; the ends of the scenario are exact.
        start_ns = math.ceil(start_s * 1e3) * EDGE_NS
        end_ns = math.floor(end_s * 1e3) * EDGE_NS
        if end_s * NS_PER_S >= self.duration_ns - 1:
            end_ns = self.duration_ns
        return (start_ns, end_ns) if start_ns < end_ns else None

    def _service(
        self, flown: Tracks, first: int, passes: Sequence[_Pass], sites: Sequence[Site]
    ) -> Iterator[Contact]:
        network = self.network
        frames = [SiteFrame.of(site) for site in sites]
        devices = [network.devices_at(site.name) for site in sites]
        loads: dict[int, list[tuple[int, int, int]]] = {}
        if any(budget.sharing != "none" for budget in (network.service.up, network.service.down)):
            for one in passes:
                load = (one.start_ns, one.end_ns, len(devices[one.site]))
                loads.setdefault(one.satellite, []).append(load)
        sharers = {satellite: Sharers.of(mine) for satellite, mine in loads.items()}
        for one in passes:
            line = GroundLine(flown, one.satellite - first, frames[one.site])
            shared = sharers.get(one.satellite, ALONE)
            name = network.satellites[one.satellite].name
            for downwards, stretch in self._both_ways(network.service, line, one, shared):
                for device in devices[one.site]:
                    ends = (name, device) if downwards else (device, name)
                    yield self._contact(*ends, "service", stretch, (one.satellite,))

    def _antennas(self, seen: Sequence[_Pass], sites: int) -> list[_Pass]:
        """Of the passes over stations, the parts in which both ends have a terminal for them."""
        network = self.network
        assert network.feeder is not None
        terminals: dict[str, int | None] = {s.site.name: s.antennas for s in network.stations}
        number = {station.site.name: sites + n for n, station in enumerate(network.stations)}
        index = {satellite.name: n for n, satellite in enumerate(network.satellites)}
        for satellite in network.satellites:
            terminals[satellite.name] = network.feeder.terminals
        candidates = [
            LinkWindow(
                network.stations[one.site - sites].site.name,
                network.satellites[one.satellite].name,
                one.start_ns,
                one.end_ns,
            )
            for one in seen
        ]
        chosen = assign(
            candidates,
            terminals,
            retarget_ns=network.feeder.retarget_ns,
            shortest_ns=max(1, network.feeder.shortest_ns),
        )
        return [_Pass(index[one.b], number[one.a], one.start_ns, one.end_ns) for one in chosen]

    def _feeder(
        self, flown: Tracks, first: int, passes: Sequence[_Pass], stations: Sequence[Site], sites: int
    ) -> Iterator[Contact]:
        network = self.network
        assert network.feeder is not None
        frames = [SiteFrame.of(site) for site in stations]
        for one in passes:
            line = GroundLine(flown, one.satellite - first, frames[one.site - sites])
            name, station = network.satellites[one.satellite].name, stations[one.site - sites].name
            for downwards, stretch in self._both_ways(network.feeder.duplex, line, one):
                ends = (name, station) if downwards else (station, name)
                yield self._contact(*ends, "feeder", stretch, (one.satellite,))

    # --- between satellites ---------------------------------------------------------------------------------

    def between_satellites(self) -> Iterator[Contact]:
        network = self.network
        if network.intra is None and network.inter is None:
            return
        flown = self._tracks(network.satellites)
        if network.intra is not None:
            yield from self._cross(flown, network.intra, "intra_isl")
        if network.inter is not None:
            yield from self._cross(flown, network.inter, "inter_isl")

    def _cross(self, flown: Tracks, links: CrossLinks, link_class: LinkClass) -> Iterator[Contact]:
        satellites = self.network.satellites
        windows = find_isl(flown, self._pairs(links), _rules_of(links))
        columns = (windows.first, windows.second, windows.start_s, windows.end_s)
        candidates = []
        index = {satellite.name: n for n, satellite in enumerate(satellites)}
        for a, b, start_s, end_s in zip(*(column.tolist() for column in columns), strict=True):
            window = self._edges(start_s, end_s)
            if window is not None:
                candidates.append(LinkWindow(satellites[a].name, satellites[b].name, *window))
        chosen: Sequence[LinkWindow] = candidates
        if links.terminals is not None:
            chosen = assign(
                candidates,
                dict.fromkeys(index, links.terminals),
                retarget_ns=links.retarget_ns,
                shortest_ns=max(1, links.shortest_ns),
            )
        what = f"{link_class.partition('_')[0]}-plane links"
        for done, one in enumerate(chosen):
            first, second = index[one.a], index[one.b]
            line = SpaceLine(flown, first, second)
            whole = _Pass(first, second, one.start_ns, one.end_ns)
            for downwards, stretch in self._both_ways(links.duplex, line, whole):
                ends = (one.b, one.a) if downwards else (one.a, one.b)
                yield self._contact(*ends, link_class, stretch, (first, second))
            if done % 100 == 0:
                self.progress(what, done, len(chosen))
        self.progress(what, len(chosen), len(chosen))

    def _pairs(self, links: CrossLinks) -> Pairs:
        planes = self.network.planes
        assert planes is not None
        if links.pairs == "ring":
            return planes.ring_pairs()
        return planes.adjacent_pairs() if links.pairs == "adjacent" else planes.cross_pairs()

    # --- contacts -------------------------------------------------------------------------------------------

    def _both_ways(
        self, duplex: Duplex, line: GroundLine | SpaceLine, one: _Pass, sharers: Sharers = ALONE
    ) -> Iterator[tuple[bool, Stretch]]:
        """(downwards, stretch) of each contact that the budgets leave of a window."""
        found: list[Stretch] = []
        for downwards, budget in ((False, duplex.up), (True, duplex.down)):
            if not (downwards and duplex.up == duplex.down):
                found = stretches(budget, line, one.start_ns, one.end_ns, sharers)
            for stretch in found:
                yield downwards, stretch

    def _contact(
        self,
        source: str,
        destination: str,
        link_class: LinkClass,
        stretch: Stretch,
        flying: tuple[int, ...],
    ) -> Contact:
        start_ns, end_ns, taken = stretch.start_ns, stretch.end_ns, stretch.samples
        satellites = [self.network.satellites[index] for index in flying]
        if all(satellite.source == "walker" for satellite in satellites):
            return Contact(source, destination, link_class, start_ns, end_ns, taken)
        middle = self.epoch + timedelta(microseconds=(start_ns + end_ns) // 2000)
        margin_s = sum(edge_margin_s(satellite, middle) for satellite in satellites)
        # A window that the scenario clips has no edge of its own there, but is as uncertain for the rest.
        sure = confidence((end_ns - start_ns) / NS_PER_S, margin_s)
        return Contact(
            source,
            destination,
            link_class,
            start_ns,
            end_ns,
            taken,
            margin_ns=round(margin_s * NS_PER_S),
            confidence=round(sure, 6),
        )

    def _tell(self, what: str, done: int) -> None:
        self.progress(what, done, len(self.network.satellites))


def _rules_of(links: CrossLinks) -> IslRules:
    """The rules, with the budgets' Doppler limits among them: they decide who is assigned a terminal."""
    rules, rate = links.rules, links.rules.range_rate_km_per_s
    for budget in (links.duplex.up, links.duplex.down):
        if budget.doppler_limit_hz and budget.frequency_hz:
            limit = range_rate_of_doppler(budget.doppler_limit_hz, budget.frequency_hz)
            rate = limit if rate is None else min(rate, limit)
    return IslRules(
        rules.clearance_km,
        rules.longest_km,
        rate,
        rules.angular_rate_degrees_per_s,
        rules.latitude_cut_degrees,
    )
