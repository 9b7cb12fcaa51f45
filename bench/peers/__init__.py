"""What else moves a file over a link that comes and goes, behind one small interface (`system.System`).

`SYSTEMS` names them all; a further one is a class of its own module and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.peers.daemons import Daemons
from bench.peers.files import Curl, Rsync
from bench.peers.flower import FlowerRound
from bench.peers.grpc_stream import GrpcStream
from bench.peers.system import System

SYSTEMS: Final[dict[str, Callable[[], System]]] = {
    "orbitrain": Daemons,
    "orbitrain-1-flow": lambda: Daemons(flows=1),
    "orbitrain-8-flows": lambda: Daemons(flows=8),
    "grpc": GrpcStream,
    "curl": Curl,
    "rsync": Rsync,
    "flower": lambda: FlowerRound(False),
    "flower-tuned": lambda: FlowerRound(True),
}
"""What makes one, by the name that options and tables have for it."""
