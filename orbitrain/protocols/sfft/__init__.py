"""SFFT (arXiv 2504.10403): satellites tune the head of a foundation model whose backbone is on the ground.

Reconstructed from the abstract and public summaries. That an orbit's satellites form a ring, and that a
ring all-reduce speeds up both the broadcast of embeddings and the sum of heads, is the paper's; the
algorithms as they stand here, their times, the way between the planes and all rules for failures are our
derivation.
"""

from orbitrain.protocols.sfft.satellite import Satellite
from orbitrain.protocols.sfft.server import Server
from orbitrain.protocols.sfft.station import Station
from orbitrain.protocols.sfft.terms import SATELLITE_ROLE, SERVER_ROLE, STATION_ROLE, Params

__all__ = ["SATELLITE_ROLE", "SERVER_ROLE", "STATION_ROLE", "Params", "Satellite", "Server", "Station"]
