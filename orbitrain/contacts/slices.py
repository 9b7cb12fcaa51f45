"""Slices: the part of a plan that one node needs, so that a board need not hold the whole constellation.

A node needs its own contacts. A node that has to know which satellite serves a region (its own, or one that
it serves) also needs every contact of that region's devices with satellites, as `contacts.serving` computes
that from all of them. Both parts are what the whole plan says, to the last sample; about other nodes a slice
knows nothing, and a query for them answers that there is nothing. Routing needs the whole plan.

A slice is a plan with a digest of its own. It names its node (`for_node`) and the whole plan (`of_sha256`),
so that nodes with different slices can see that they follow the same plan: compare `whole_sha256`.
"""

from __future__ import annotations

from collections.abc import Sequence

from orbitrain.contacts.compact import CompactPlan
from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan


def slice_for(plan: ContactPlan | CompactPlan, node: str, devices: Sequence[str] = ()) -> ContactPlan:
    """What `node` needs of a whole plan, `devices` being those of the regions whose services it follows.

    For the slice, `contacts_of(node)` and everything about pairs with `node`, and `ServiceTimeline` for any
    of the regions, answer as for the whole plan. Its nodes are those that its contacts speak of, `node` and
    `devices`, in the plan's order. ValueError for a name that the plan does not know, or when the plan is a
    slice itself.
    """
    if plan.for_node is not None:
        raise ValueError(f"plan: must be a whole plan, not the slice for {plan.for_node}")
    kinds = {one.name: one.kind for one in plan.nodes}
    for field, name in (("node", node), *(("devices", device) for device in devices)):
        if name not in kinds:
            raise ValueError(f"{field}: {name!r} is not a node of the plan")
    kept: dict[tuple[str, str, int], Contact] = {}
    for name in dict.fromkeys((node, *devices)):
        for contact in plan.contacts_of(name):
            other = contact.destination if contact.source == name else contact.source
            if name == node or kinds[other] == "satellite":
                kept[contact.source, contact.destination, contact.start_ns] = contact
    named = {node, *devices}
    named.update(source for source, _, _ in kept)
    named.update(destination for _, destination, _ in kept)
    return ContactPlan(
        version=plan.version,
        scenario_sha256=plan.scenario_sha256,
        epoch=plan.epoch,
        duration_ns=plan.duration_ns,
        nodes=tuple(one for one in plan.nodes if one.name in named),
        contacts=tuple(kept.values()),
        revision=plan.revision,
        for_node=node,
        of_sha256=plan.sha256,
    )
