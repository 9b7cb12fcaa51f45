"""Which machines a node runs: the one table from protocol and kind of node to roles.

Composition roots (`satellite_node`, `device_node`) and the simulator take their machines from here, so that
both run the same ones over the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from orbitrain.contacts.gateways import Gateways, Transfer
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.serving import Carriage, Service, ServiceTimeline, earliest_carrier
from orbitrain.flights import believed_end_ns
from orbitrain.flow.board import Board
from orbitrain.flow.capacity import Direction, Terms
from orbitrain.flow.instance import Link
from orbitrain.flow.schedule import Share
from orbitrain.flow.scheduler import SCHEDULERS
from orbitrain.flow.shares import PlanShares
from orbitrain.machine import Machine
from orbitrain.protocols import emsfl, fedmeld, sfft
from orbitrain.protocols.fedmeld.rules import DEVICE_ROLE, SATELLITE_ROLE
from orbitrain.protocols.sfft.between import tree_of
from orbitrain.protocols.sfft.tree import Tree


class RegionServices:
    """What FedMeld asks the believed plan, for all regions of the ring, or those that a node has to do with.

    Machines keep it for good; an update of the plan changes what it answers.
    """

    def __init__(self, plan: ContactPlan, regions: tuple[fedmeld.Region, ...]) -> None:
        """Raises ValueError for a plan that does not know one of the regions' devices."""
        self._regions = regions
        self._timelines = self._timelines_of(plan)

    def _timelines_of(self, plan: ContactPlan) -> dict[str, ServiceTimeline]:
        return {region.name: ServiceTimeline(plan, region.devices) for region in self._regions}

    def prepare(self, plan: ContactPlan) -> Callable[[], None]:
        """Compute the services of an updated plan now; calling what is returned makes them the answer.

        Raises ValueError for a plan that does not know one of the regions' devices.
        """
        timelines = self._timelines_of(plan)

        def follow() -> None:
            self._timelines = timelines

        return follow

    def follow(self, plan: ContactPlan) -> None:
        """From now on answer from an updated plan. Raises ValueError as `prepare` does."""
        self.prepare(plan)()

    def serving(self, region: str, t_ns: int) -> Service | None:
        return self._timelines[region].serving(t_ns)

    def next_change_ns(self, region: str, t_ns: int) -> int | None:
        return self._timelines[region].next_change_ns(t_ns)

    def next_service(self, region: str, satellite: str, t_ns: int) -> Service | None:
        return self._timelines[region].next_service(satellite, t_ns)

    def carrier(self, source: str, target: str, ready_ns: int) -> Carriage | None:
        return earliest_carrier(self._timelines[source], self._timelines[target], ready_ns)

    def services(self, region: str) -> tuple[Service, ...]:
        return self._timelines[region].services


def fedmeld_machines(
    kind: str, name: str, params: fedmeld.Params, orbits: fedmeld.Orbits
) -> dict[str, Machine]:
    """The FedMeld roles of a node: none for a ground node, which carries no learning traffic."""
    if kind == "satellite":
        return {SATELLITE_ROLE: fedmeld.Satellite(params, orbits, name)}
    if kind == "device":
        region = next(region.name for region in params.regions if name in region.devices)
        return {DEVICE_ROLE: fedmeld.Device(params, orbits, name, region)}
    return {}


@dataclass(frozen=True, slots=True)
class Way:
    """How chunks of embeddings go down and of features up: by which scheduler, in slots, and how long the
    edges of contacts are of no use."""

    scheduler: str
    embedded_bytes: int
    feature_bytes: int
    slot_ns: int
    edge_ns: int


class SfftAsks:
    """What SFFT's roles ask the believed plan: `sfft.terms.Space` and `sfft.terms.Ground` in one.

    Machines keep it for good; an update of the plan changes what it answers.
    """

    def __init__(self, plan: ContactPlan, params: sfft.Params, way: Way) -> None:
        self._params = params
        self._way = way
        self._plan, self._gateways = plan, self._gateways_of(plan, heads=1)
        self._shares: dict[Direction, PlanShares] = {}
        """Once they are asked for, which is at the server."""

    def _shares_of(self, plan: ContactPlan, direction: Direction) -> PlanShares:
        way, params = self._way, self._params
        chunk_bytes = way.embedded_bytes if direction == "down" else way.feature_bytes
        terms = Terms(chunk_bytes, way.slot_ns, way.edge_ns, way.edge_ns)
        return PlanShares(plan, params.planes, params.stations, terms, SCHEDULERS[way.scheduler], direction)

    def _gateways_of(self, plan: ContactPlan, heads: int) -> Gateways:
        """For so many heads at once."""
        planes, edge_ns = self._params.planes, self._way.edge_ns
        transfer = Transfer(heads * self._params.links.head_bytes, edge_ns, edge_ns)
        return Gateways(plan, dict(enumerate(planes)), transfer)

    def prepare(self, plan: ContactPlan) -> Callable[[], None]:
        """Calling what is returned makes an updated plan the one that is asked."""
        gateways = self._gateways_of(plan, heads=1)
        shares = {direction: self._shares_of(plan, direction) for direction in self._shares}

        def follow() -> None:
            self._plan, self._gateways, self._shares = plan, gateways, shares

        return follow

    def neighbours(self, one: str, other: str, since_ns: int) -> bool:
        ways = (one, other), (other, one)
        return all(self._plan.next_contact(*way, since_ns) is not None for way in ways)

    def in_contact(self, one: str, other: str, t_ns: int) -> bool:
        return self._plan.active(one, other, t_ns) is not None

    def crossings(self, participants: Collection[str]) -> Gateways:
        return self._gateways.among(participants)

    def tree(self, ready_ns: Mapping[int, int], participants: Collection[str]) -> Tree | None:
        def of_heads(count: int) -> Gateways:
            gateways = self._gateways if count == 1 else self._gateways_of(self._plan, count)
            return gateways.among(participants)

        # Transits that are to be typical are not those at the plan's end.
        instants_ns = range(0, self._plan.duration_ns // 2, max(1, self._plan.duration_ns // 48))
        return tree_of(self._params.work.between, of_heads, ready_ns, instants_ns)

    def shares(
        self, now_ns: int, board: Board, live: Collection[Link], direction: Direction
    ) -> tuple[Share, ...]:
        if direction not in self._shares:
            self._shares[direction] = self._shares_of(self._plan, direction)
        return self._shares[direction].shares(now_ns, board, live)


def sfft_machines(name: str, params: sfft.Params, asks: SfftAsks) -> dict[str, Machine]:
    """The SFFT role of a node."""
    if name == params.server:
        return {sfft.SERVER_ROLE: sfft.Server(params, asks)}
    if name in params.stations:
        return {sfft.STATION_ROLE: sfft.Station(params)}
    return {sfft.SATELLITE_ROLE: sfft.Satellite(params, asks, name)}


class PlanWindows:
    """When a node's contacts end by the believed plan: what EMS-FL's roles ask.

    Machines keep it for good; an update of the plan changes what it answers.
    """

    def __init__(self, plan: ContactPlan, node: str) -> None:
        self._plan = plan
        self._node = node

    def prepare(self, plan: ContactPlan) -> Callable[[], None]:
        """Calling what is returned makes an updated plan the one that is asked."""

        def follow() -> None:
            self._plan = plan

        return follow

    def end_ns(self, peer: str, t_ns: int) -> int | None:
        return believed_end_ns(self._plan, self._node, peer, t_ns)


def emsfl_machines(name: str, params: emsfl.Params, windows: PlanWindows) -> dict[str, Machine]:
    """The EMS-FL role of a node: none for one that is neither the satellite nor a device of a cluster."""
    if name == params.satellite:
        from orbitrain.splitting.epochs import split_epoch  # devices do without

        return {emsfl.SATELLITE_ROLE: emsfl.Satellite(params, split_epoch, windows)}
    if any(name in cluster.devices for cluster in params.clusters):
        return {emsfl.DEVICE_ROLE: emsfl.Device(params, name, windows)}
    return {}
