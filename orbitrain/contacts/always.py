"""The plan of a node that has none: always in contact with its peers, and the links decide. Standard library
only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.node import NodeKind, PlanNode
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan

EPOCH: Final = "2000-01-01T00:00:00Z"
"""Of the time of nodes without a plan: expiries are told in it, so it is the same for all."""

DURATION_NS: Final = 1 << 62
"""146 years."""

RATE_BPS: Final = 64_000
DELAY_NS: Final = 300_000_000
"""The slowest link that anything is waited for on, and the delay of a geostationary one: they bound patience.
How much is under way at once follows from what is measured."""


def always_in_contact(node: str, kind: NodeKind, peers: Iterable[str]) -> ContactPlan:
    """A contact each way with every peer, for good."""
    names = sorted(set(peers) - {node})
    contacts = tuple(
        Contact(*ends, "service", 0, DURATION_NS, (Sample(0, DELAY_NS, RATE_BPS, 0.0, 1.0),))
        for peer in names
        for ends in ((node, peer), (peer, node))
    )
    # Of what kind a peer is nobody here asks.
    nodes = (PlanNode(node, kind), *(PlanNode(name, "satellite") for name in names))
    return ContactPlan(PLAN_VERSION, "0" * 64, EPOCH, DURATION_NS, nodes, contacts)
