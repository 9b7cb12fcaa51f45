"""What all roles of SFFT agree on: the constellation, how a round goes, and what they ask the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from orbitrain.machine import Digest, RemoteProtocolError
from orbitrain.protocols.sfft.costs import resolved
from orbitrain.protocols.sfft.planes import Crossings
from orbitrain.protocols.sfft.ring import Chunk, Gather, Reduce, Ring, block
from orbitrain.v1 import sfft_pb2 as wire

SATELLITE_ROLE: Final = "sfft.satellite"
STATION_ROLE: Final = "sfft.station"
SERVER_ROLE: Final = "sfft.server"

OF_ROUND: Final = "round"
"""What a letter is about that a new attempt of the same round leaves valid."""

EARLY_MAX: Final = 256
"""Messages that a satellite keeps until it hears of their round: its neighbours' few, many times over."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Digests of the model's pieces; `head` is the one that the first round starts from."""

    embedding: Digest
    backbone: Digest
    head: Digest


@dataclass(frozen=True, slots=True)
class Times:
    """Declared durations of jobs, and how long one waits for others, in scenario ns.

    `embed_ns` is of a satellite's whole batch (where features are computed on board, of these), `backbone_ns`
    of one chunk on the server, `head_ns` of all local steps, `add_ns` of any sum of heads. After `step_ns` of
    an attempt those without features are not waited for; after `commit_ns` whoever has a head is enough. A
    neighbour that the plan has in contact is absent after `patience_ns` without it.
    """

    embed_ns: int
    backbone_ns: int
    head_ns: int
    add_ns: int
    step_ns: int
    commit_ns: int
    patience_ns: int


@dataclass(frozen=True, slots=True)
class Links:
    """What of links a choice of collective rests on: bytes of a head, and an intra-orbit link's rate and
    delay."""

    head_bytes: int
    rate_byte_per_s: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """A round: each satellite brings `samples` in chunks of `chunk_samples`, the last maybe smaller."""

    rounds: int
    samples: int
    chunk_samples: int
    gather: Gather = Gather.TWO_WAY
    reduce: Reduce = Reduce.AUTO
    on_board: bool = False
    """The baseline: each satellite runs the backbone itself, and nothing of samples is sent."""
    cache: bool = False
    """Every round is of the same samples, and features once received are kept."""

    @property
    def chunks(self) -> int:
        """Chunks of a satellite's block."""
        return -(-self.samples // self.chunk_samples)


@dataclass(frozen=True, slots=True)
class Params:
    """`planes` have their satellites in the order of flight. `settings` go with every job: the task, the form
    of values on the wire, local steps and their rate."""

    planes: tuple[tuple[str, ...], ...]
    stations: tuple[str, ...]
    server: str
    work: Work
    pieces: Pieces
    times: Times
    links: Links
    settings: Mapping[str, Any]

    @property
    def satellites(self) -> tuple[str, ...]:
        return tuple(sorted(name for plane in self.planes for name in plane))

    def plane_of(self, satellite: str) -> int:
        """RemoteProtocolError for a name that is no satellite's."""
        for number, members in enumerate(self.planes):
            if satellite in members:
                return number
        raise RemoteProtocolError(f"there is no satellite {satellite[:64]!r}")

    def block(self, owner: str) -> tuple[Chunk, ...]:
        return block(owner, self.work.chunks)

    def reduction(self, ring: Ring) -> Reduce:
        """How heads are summed on this ring."""
        links = self.links
        return resolved(ring, self.work.reduce, links.head_bytes, links.rate_byte_per_s, links.delay_s)

    def taking_part(self, participants: Iterable[str]) -> tuple[int, ...]:
        """Planes that some participant is of, ascending."""
        return tuple(sorted({self.plane_of(name) for name in participants}))


class Space(Protocol):
    """What satellites ask the plan that they believe."""

    def neighbours(self, one: str, other: str) -> bool:
        """Whether two satellites of a plane have a link, at any time."""
        ...

    def in_contact(self, one: str, other: str, t_ns: int) -> bool:
        """Whether they have it at this time."""
        ...

    def crossings(self) -> Crossings:
        """Windows between planes, for heads."""
        ...


class Downlink(Protocol):
    """What the server asks the plan: which chunks go down over which of the links that are there now."""

    def handouts(
        self,
        now_ns: int,
        free: Mapping[int, Sequence[int]],
        outstanding: Mapping[tuple[str, str], int],
        live: Collection[tuple[str, str]],
    ) -> Mapping[tuple[str, str], tuple[int, ...]]:
        """Chunks (numbers) for live links (satellite, station), each out of the free ones of its plane.

        `outstanding` is how many a link has been handed and has not brought. The same arguments give the same
        answer.
        """
        ...


def order(message: wire.Round) -> tuple[int, int]:
    """Later rounds, and later attempts of a round, are greater."""
    return message.round, message.attempt


def ring_of(params: Params, space: Space, plane: int, participants: Collection[str]) -> Ring | None:
    """The ring or longest chain of a plane's participants; None without any."""
    members = [name for name in params.planes[plane] if name in participants]
    rings = Ring.formed(members, space.neighbours)
    return rings[0] if rings else None


def check_round(params: Params, message: wire.Round) -> None:
    """Raises RemoteProtocolError for a round that no honest server of this job begins."""
    for what, theirs, ours in (
        ("embedding", message.embedding, params.pieces.embedding),
        ("backbone", message.backbone, params.pieces.backbone),
    ):
        if theirs != ours:
            raise RemoteProtocolError(f"{what}: is {ours[:12]} here, not {theirs[:12]}: another model")
    if not 1 <= message.round <= params.work.rounds + 1 or message.attempt < 1:
        raise RemoteProtocolError(f"there is no round {message.round}, attempt {message.attempt}")
    known = set(params.satellites)
    for name in message.participants:
        if name not in known:
            raise RemoteProtocolError(f"participants: there is no satellite {name[:64]!r}")


def check_block(params: Params, message: wire.Block, objects: int) -> None:
    """Raises RemoteProtocolError for chunks that are none."""
    params.plane_of(message.owner)
    if len(set(message.indices)) != len(message.indices) or objects != len(message.indices):
        raise RemoteProtocolError(f"block: {objects} objects do not match its indices")
    for index in message.indices:
        if not 0 <= index < params.work.chunks:
            raise RemoteProtocolError(f"block: chunks are 0 to {params.work.chunks - 1}, not {index}")


def head_of(status: wire.Status) -> tuple[Digest, ...]:
    """The object that goes with a satellite's word."""
    return (status.head,) if status.head else ()


def check_status(params: Params, message: wire.Status, objects: tuple[Digest, ...]) -> None:
    """Raises RemoteProtocolError for what no satellite says of itself."""
    if objects != head_of(message):
        raise RemoteProtocolError("status: its one object must be its head")
    known = set(params.satellites)
    for name in (message.satellite, *message.names, *message.absent):
        if name not in known:
            raise RemoteProtocolError(f"status: there is no satellite {name[:64]!r}")
    if message.weight < len(message.names):
        raise RemoteProtocolError(f"weight: must be 1 or more for each name, not {message.weight}")
