"""FedMeld (arXiv 2412.17231): regional federated averaging, melded by satellites that store, carry and mix.

Each region's devices hold its model; a satellite overhead is its parameter server for the length of a
service. `serving(region, t)` is a pure function of the contact plan and names one satellite at a time: only
that one opens a round. A designated satellite stores the model of a mixing round (every `delta` rounds),
carries it along its orbit, and mixes it with ratio `alpha` into the next region's model `delta` rounds later.
No ground station and no inter-satellite link takes part.

    satellite, per region                              device
    -------------------------------------------------------------------------------------
    service begins --- Poll --------------------------> answers with what it holds
    POLLING  <-------- Status --------------------------
       | all answered: the highest round is the region's model (Fetch/Found if it is not on board)
       | next round mixes, and its carried model is not on board -> STARVED until the service ends
    OPEN  ------------ Model(opens_round) ------------> adopts it, trains (eq. (1))
       |  <----------- Update --------------------------
       | all updates accepted: aggregate (eq. (2)), mix if the round is one of mixing
    OPEN  ------------ Model(opens_round) ------------> adopts it, trains the next
    service ends: the round is abandoned; the next server collects the same updates again

Every device takes part in every round (full participation) and updates are summed in the order of device
names, so a round that two satellites close has one result, bit for bit, and a lineage never forks.

What the paper leaves open and is decided here (not the paper's): handover by polling; who is designated
(`rules.designated`); the first mixing round has nothing to mix and is skipped.
"""

from orbitrain.protocols.fedmeld.device import Device
from orbitrain.protocols.fedmeld.rules import Orbits, Params, Region, Service
from orbitrain.protocols.fedmeld.satellite import Satellite

__all__ = ["Device", "Orbits", "Params", "Region", "Satellite", "Service"]
