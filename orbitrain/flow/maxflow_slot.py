"""A maximum flow in each slot, one after the other.

Reconstructed from the abstract and public summaries of arXiv 2504.10403: at each time the satellite-ground
network is a static flow network, of which a maximum flow is taken. Which nodes and capacities it has there we
do not know; `flow.network` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from orbitrain.flow.instance import Instance
from orbitrain.flow.network import Network
from orbitrain.flow.schedule import Schedule, Share


def maxflow_slot(instance: Instance, left: Mapping[str, int]) -> Schedule:
    """Each slot moves as much as it can of what the slots before it have left.

    A slot may have many maximum flows, which drain different planes. There is no rule between them: it is the
    one that the solver comes upon first, the same each time with the same scipy.
    """
    left = dict(left)
    shares: list[Share] = []
    for slot in instance.slots:
        if not any(left.values()):
            break
        for share in Network(instance, (slot,), left).maximum().shares():
            left[share.plane] -= share.chunks
            shares.append(share)
    return Schedule(tuple(shares), {plane: chunks for plane, chunks in sorted(left.items()) if chunks})
