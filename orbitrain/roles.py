"""Which machines a node runs: the one table from protocol and kind of node to roles.

Composition roots (`satellite_node`, `device_node`) and the simulator take their machines from here, so that
both run the same ones over the same plan.
"""

from __future__ import annotations

from collections.abc import Callable

from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.serving import Carriage, Service, ServiceTimeline, earliest_carrier
from orbitrain.machine import Machine
from orbitrain.protocols import fedmeld
from orbitrain.protocols.fedmeld.rules import DEVICE_ROLE, SATELLITE_ROLE


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
