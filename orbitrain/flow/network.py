"""The flow network of one slot or of many, and its maximum flow.

    source -> plane -> (satellite, slot) -> (station, slot) -> slot -> sink

An arc from the source carries what its plane still has to move, one from a plane what its satellite can move
in that slot, one from a satellite what the link can, one from a station what the station can. The plane feeds
every slot, so nothing is stored on the way. Nodes and arcs are in the order of slots and names: the same
instance gives the same network.

scipy solves it (Dinic's algorithm), in whole numbers; it is loaded by the first maximum flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orbitrain.flow.instance import Instance, Slot
from orbitrain.flow.schedule import Share

_SOURCE, _SINK, _FIRST_PLANE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Flow:
    """A maximum flow of some of a network's slots, and its size."""

    chunks: int
    network: Network
    links: int
    """How many of the network's links are in these slots."""
    graph: Any = None
    flows: Any = None
    """Capacities and flow as scipy's sparse arrays; None where there is no link."""

    def shares(self) -> tuple[Share, ...]:
        """What each link carries."""
        if self.graph is None:
            return ()
        links = self.network.links[: self.links]
        counts = self.flows[[arc.tail for arc in links], [arc.head for arc in links]].tolist()
        return tuple(
            Share(arc.slot, arc.plane, arc.satellite, arc.station, count)
            for arc, count in zip(links, counts, strict=True)
            if count
        )

    def starved(self) -> frozenset[str]:
        """Planes that could have sent more, had there been more room.

        With them on the source's side there is a minimum cut, and with no fewer.
        """
        if self.graph is None:
            return frozenset(plane for plane, chunks in self.network.left.items() if chunks)
        from scipy.sparse.csgraph import breadth_first_order

        residual = self.graph - self.flows  # against an arc there is as much room as flows over it
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, _SOURCE, return_predecessors=False)
        planes = list(self.network.left)
        return frozenset(
            planes[node - _FIRST_PLANE]
            for node in reached.tolist()
            if _FIRST_PLANE <= node < _FIRST_PLANE + len(planes)
        )


@dataclass(frozen=True, slots=True)
class LinkArc:
    """The arc of a satellite's link with a station in one slot, and the numbers of the nodes at its ends."""

    slot: int
    plane: str
    satellite: str
    station: str
    tail: int
    head: int


class Network:
    """Slots of an instance as a flow network. `left` has the chunks that each plane has still to move."""

    def __init__(self, instance: Instance, slots: Sequence[Slot], left: Mapping[str, int]) -> None:
        self._instance = instance
        self._slots = slots
        """Of these the first are in the network: as many as a maximum flow has been asked for."""
        self.left = {plane.name: left.get(plane.name, 0) for plane in instance.planes}
        self.links: list[LinkArc] = []
        self._total = sum(self.left.values())
        self._nodes = _FIRST_PLANE
        self._tails: list[int] = []
        self._heads: list[int] = []
        self._capacities: list[int] = []
        self._plane_nodes: dict[str, int] = {}
        for plane, chunks in self.left.items():
            self._plane_nodes[plane] = self._node()
            self._arc(_SOURCE, self._plane_nodes[plane], chunks)
        self._exits: list[int] = []  # the arc from each slot to the sink
        self._marks: list[tuple[int, int, int]] = [self._mark()]  # nodes, arcs and links after so many slots

    def maximum(self, slots: int | None = None, exits: Sequence[int] | None = None) -> Flow:
        """A maximum flow through the first `slots` slots (all of them); `exits` bounds what each lets out."""
        slots = len(self._slots) if slots is None else slots
        while len(self._exits) < slots:
            self._add(self._instance, self._slots[len(self._exits)])
            self._marks.append(self._mark())
        nodes, arcs, links = self._marks[slots]
        if not links:
            return Flow(0, self, 0)
        import numpy as np
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        capacities = np.array(self._capacities[:arcs], dtype=np.int32)
        if exits is not None:
            capacities[self._exits[: len(exits)]] = exits
        ends = self._tails[:arcs], self._heads[:arcs]
        graph = csr_array((capacities, ends), shape=(nodes, nodes))
        found = maximum_flow(graph, _SOURCE, _SINK, method="dinic")
        return Flow(int(found.flow_value), self, links, graph, found.flow)

    def _add(self, instance: Instance, slot: Slot) -> None:
        ready = instance.ready(slot)
        open_rooms = [
            room
            for room in slot.rooms
            if room.chunks and (plane := instance.plane_of[room.satellite]) in ready and self.left[plane]
        ]
        satellites: dict[str, int] = {}
        stations: dict[str, int] = {}
        for room in open_rooms:
            plane = instance.plane_of[room.satellite]
            if room.satellite not in satellites:
                satellites[room.satellite] = self._node()
                limit = slot.satellites.get(room.satellite, self._total)
                self._arc(self._plane_nodes[plane], satellites[room.satellite], limit)
            if room.station not in stations:
                stations[room.station] = self._node()
            tail, head = satellites[room.satellite], stations[room.station]
            self.links.append(LinkArc(slot.index, plane, room.satellite, room.station, tail, head))
            self._arc(tail, head, room.chunks)
        slot_node = self._node()
        for station, node in sorted(stations.items()):
            self._arc(node, slot_node, slot.stations.get(station, self._total))
        self._exits.append(self._arc(slot_node, _SINK, self._total))

    def _node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def _arc(self, tail: int, head: int, chunks: int) -> int:
        """The number of a new arc; it needs to carry no more than all there is."""
        self._tails.append(tail)
        self._heads.append(head)
        self._capacities.append(min(chunks, self._total))
        return len(self._tails) - 1

    def _mark(self) -> tuple[int, int, int]:
        return self._nodes, len(self._tails), len(self.links)
