"""The builder: a network in, its contact plan out.

Service links: every satellite with every device whose site sees it. Feeder links: what the stations' antennas
and the satellites' terminals come to (`assignment`). Links between satellites: neighbours on a ring, and
across planes what geometry, motion and terminals allow (`isl`). Each is directed, and each direction has its
own budget: where that gives no rate there is no contact, and its samples are as close as `sampling` says. On
the ground, lines between stations and the ground nodes that are always there.

Edges are whole milliseconds inside the pass. A contact carries what the age of its satellites' elements makes
its edges uncertain by (`validity`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from orbitrain.contacts.assignment import LinkWindow, assign
from orbitrain.contacts.channel import ALONE, Sharers, Stretch, stretches
from orbitrain.contacts.contact import Contact, LinkClass, Sample
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.finder import LONGEST_STEP_S, find_all_passes
from orbitrain.contacts.geometry import Site, SiteFrame, Tracks, tracks
from orbitrain.contacts.isl import IslRules, find_isl, range_rate_of_doppler
from orbitrain.contacts.lines import NS_PER_S, GroundLine, SpaceLine
from orbitrain.contacts.network import CrossLinks, Duplex, Feeder, Network, Progress
from orbitrain.contacts.node import Place, PlanNode
from orbitrain.contacts.orbits import orbit_of
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan
from orbitrain.contacts.planes import Pairs
from orbitrain.contacts.sampling import EDGE_NS
from orbitrain.contacts.validity import confidence, edge_margin_s

# Memory of the tracks is 48 bytes a satellite and step; more satellites than this go in several rounds (about
# 200 MB for a day), but for links between satellites, which need them all at once.
_SATELLITES_AT_ONCE: Final = 1_000


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
    contacts = [*work.from_the_ground(), *work.between_satellites(), *work.on_the_ground()]
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
class _Ground:
    """A place on the ground, and the nodes there: devices, or with `antennas` the station itself."""

    site: Site
    nodes: tuple[str, ...]
    antennas: int | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """A satellite over a ground (their indices), in whole milliseconds."""

    satellite: int
    ground: int
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
        devices = [(site, network.devices_at(site.name)) for site in network.sites]
        grounds = [_Ground(site, nodes) for site, nodes in devices if nodes]
        if network.feeder is not None:
            grounds += [_Ground(one.site, (one.site.name,), one.antennas) for one in network.stations]
        over_stations: list[_Pass] = []
        flown: Tracks | None = None
        groups = range(0, len(network.satellites), _SATELLITES_AT_ONCE)
        for first in groups:
            flown = self._tracks(network.satellites[first : first + _SATELLITES_AT_ONCE])
            passes = self._passes(flown, first, grounds)
            over_sites = [one for one in passes if grounds[one.ground].antennas is None]
            over_stations += [one for one in passes if grounds[one.ground].antennas is not None]
            sharers = self._sharers(over_sites, grounds)
            yield from self._links(flown, first, over_sites, grounds, network.service, "service", sharers)
            self._tell("service links", first)
        if network.feeder is None or not over_stations:
            return
        chosen = self._antennas(over_stations, grounds, network.feeder)
        for first in groups:
            if flown is None or len(groups) > 1:  # of many groups only the last is still there
                flown = self._tracks(network.satellites[first : first + _SATELLITES_AT_ONCE])
            mine = [one for one in chosen if first <= one.satellite < first + _SATELLITES_AT_ONCE]
            yield from self._links(flown, first, mine, grounds, network.feeder.duplex, "feeder", {})
            self._tell("feeder links", first)

    def _tracks(self, satellites: Sequence[Satellite]) -> Tracks:
        return tracks(satellites, self.epoch, self.duration_ns / NS_PER_S, LONGEST_STEP_S)

    def _passes(self, flown: Tracks, first: int, grounds: Sequence[_Ground]) -> list[_Pass]:
        found: list[_Pass] = []
        for number, over in enumerate(find_all_passes(flown, [ground.site for ground in grounds])):
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

    def _sharers(self, passes: Sequence[_Pass], grounds: Sequence[_Ground]) -> dict[int, Sharers]:
        """By satellite, where a beam is shared."""
        service = self.network.service
        if service.up.sharing == service.down.sharing == "none":
            return {}
        loads: dict[int, list[tuple[int, int, int]]] = {}
        for one in passes:
            load = (one.start_ns, one.end_ns, len(grounds[one.ground].nodes))
            loads.setdefault(one.satellite, []).append(load)
        return {satellite: Sharers.of(mine) for satellite, mine in loads.items()}

    def _antennas(self, passes: Sequence[_Pass], grounds: Sequence[_Ground], feeder: Feeder) -> list[_Pass]:
        """Of the passes over stations, the parts in which both ends have a terminal for them."""
        satellites = self.network.satellites
        terminals: dict[str, int | None] = {one.name: feeder.terminals for one in satellites}
        terminals |= {ground.site.name: ground.antennas for ground in grounds if ground.antennas is not None}
        number = {ground.site.name: n for n, ground in enumerate(grounds) if ground.antennas is not None}
        index = {one.name: n for n, one in enumerate(satellites)}
        candidates = [
            LinkWindow(
                grounds[one.ground].site.name, satellites[one.satellite].name, one.start_ns, one.end_ns
            )
            for one in passes
        ]
        chosen = assign(
            candidates,
            terminals,
            retarget_ns=feeder.retarget_ns,
            shortest_ns=max(1, feeder.shortest_ns),
        )
        return [_Pass(index[one.b], number[one.a], one.start_ns, one.end_ns) for one in chosen]

    def _links(
        self,
        flown: Tracks,
        first: int,
        passes: Sequence[_Pass],
        grounds: Sequence[_Ground],
        duplex: Duplex,
        link_class: LinkClass,
        sharers: Mapping[int, Sharers],
    ) -> Iterator[Contact]:
        frames = [SiteFrame.of(ground.site) for ground in grounds]
        for one in passes:
            line = GroundLine(flown, one.satellite - first, frames[one.ground])
            shared = sharers.get(one.satellite, ALONE)
            name = self.network.satellites[one.satellite].name
            for downwards, stretch in _both_ways(duplex, line, one.start_ns, one.end_ns, shared):
                for node in grounds[one.ground].nodes:
                    ends = (name, node) if downwards else (node, name)
                    yield self._contact(*ends, link_class, stretch, (one.satellite,))

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
            for downwards, stretch in _both_ways(links.duplex, line, one.start_ns, one.end_ns):
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

    # --- on the ground --------------------------------------------------------------------------------------

    def on_the_ground(self) -> Iterator[Contact]:
        line = self.network.backhaul
        if line is None:
            return
        state = Sample(0, line.delay_ns, line.rate_bps, 0.0, 1.0)
        for station in self.network.stations:
            for name in self.network.ground:
                for ends in ((station.site.name, name), (name, station.site.name)):
                    yield Contact(*ends, "backhaul", 0, self.duration_ns, (state,))

    # --- contacts -------------------------------------------------------------------------------------------

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

    def _tell(self, what: str, first: int) -> None:
        satellites = len(self.network.satellites)
        self.progress(what, min(first + _SATELLITES_AT_ONCE, satellites), satellites)


def _both_ways(
    duplex: Duplex, line: GroundLine | SpaceLine, start_ns: int, end_ns: int, sharers: Sharers = ALONE
) -> Iterator[tuple[bool, Stretch]]:
    """(downwards, stretch) of each contact that the budgets leave of a window."""
    up = stretches(duplex.up, line, start_ns, end_ns, sharers)
    down = up if duplex.symmetric else stretches(duplex.down, line, start_ns, end_ns, sharers)
    yield from ((False, stretch) for stretch in up)
    yield from ((True, stretch) for stretch in down)


def _rules_of(links: CrossLinks) -> IslRules:
    """The rules, with the budgets' Doppler limits among them: they decide who is assigned a terminal."""
    rate = links.rules.range_rate_km_per_s
    for budget in (links.duplex.up, links.duplex.down):
        if budget.doppler_limit_hz and budget.frequency_hz:
            limit = range_rate_of_doppler(budget.doppler_limit_hz, budget.frequency_hz)
            rate = limit if rate is None else min(rate, limit)
    return replace(links.rules, range_rate_km_per_s=rate)
