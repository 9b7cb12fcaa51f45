"""EMS-FL (arXiv 2602.19485): experts of a mixture owned by clusters of devices, trained out of contact.

One satellite keeps the model and passes over the clusters in turn. Each expert belongs to one cluster: its
devices train it between passes and upload it on the pass, so no cluster ever waits for another.

    satellite, per pass of a cluster                   device
    -------------------------------------------------------------------------------------------
    contact begins
                    <------------- Hello --------------  with counts of experts chosen, at first
    (split: experts are given out once all counts are here, and again from time to time)
                    <------------- Upload -------------  what it trained since the last model, if anything
    all have come, or it is time: merge, eq. (35); each expert's next version
                    -------------- Model ------------->  adopts it; one connected round
                    <------------- Shared -------------  gate (and backbone) of that round, where trained
    all have answered, or it is time: merge, eq. (36); the gate's next version
                    -------------- Gate -------------->
    contact ends                                         a round each slot: own experts alone

Experts and gate are committed in two separate steps. What this is of the paper, and what is ours:
docs/emsfl.md.
"""

from orbitrain.protocols.emsfl.device import Device
from orbitrain.protocols.emsfl.satellite import Satellite
from orbitrain.protocols.emsfl.terms import (
    DEVICE_ROLE,
    SATELLITE_ROLE,
    Cluster,
    Params,
    Splitter,
    Windows,
    expert,
)

__all__ = [
    "DEVICE_ROLE",
    "SATELLITE_ROLE",
    "Cluster",
    "Device",
    "Params",
    "Satellite",
    "Splitter",
    "Windows",
    "expert",
]
