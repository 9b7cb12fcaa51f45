"""gRPC: the link between nodes, and what the operator asks of one."""

from orbitrain.transport.rpc.address import AddressInUse, InsecureAddress, InvalidAddress
from orbitrain.transport.rpc.channel import (
    CHUNK_BYTES_DEFAULT,
    LinkDown,
    PeerRefused,
    Refusal,
    Traffic,
)
from orbitrain.transport.rpc.custody import LETTERS_BYTES_MAX, LETTERS_MAX
from orbitrain.transport.rpc.flows import Flows
from orbitrain.transport.rpc.knock import answers
from orbitrain.transport.rpc.link import OBJECTS_MAX, LinkHandler, LinkServer
from orbitrain.transport.rpc.link_client import LinkClient, Parcel, Room
from orbitrain.transport.rpc.operator import (
    PLAN_BYTES_MAX,
    OperatorClient,
    OperatorHandler,
    OperatorServer,
)

__all__ = [
    "CHUNK_BYTES_DEFAULT",
    "LETTERS_BYTES_MAX",
    "LETTERS_MAX",
    "OBJECTS_MAX",
    "PLAN_BYTES_MAX",
    "AddressInUse",
    "Flows",
    "InsecureAddress",
    "InvalidAddress",
    "LinkClient",
    "LinkDown",
    "LinkHandler",
    "LinkServer",
    "OperatorClient",
    "OperatorHandler",
    "OperatorServer",
    "Parcel",
    "PeerRefused",
    "Refusal",
    "Room",
    "Traffic",
    "answers",
]
