"""What all roles of SFFT agree on: the constellation, how a round goes, and what they ask the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from orbitrain.flow.board import Board
from orbitrain.flow.capacity import Direction
from orbitrain.flow.instance import Link
from orbitrain.flow.schedule import Share
from orbitrain.machine import NEVER_NS, Digest, Lane, RemoteProtocolError, Send
from orbitrain.protocols.sfft.between import Between
from orbitrain.protocols.sfft.costs import resolved
from orbitrain.protocols.sfft.planes import Crossings
from orbitrain.protocols.sfft.ring import Gather, Reduce, Ring
from orbitrain.protocols.sfft.tree import Tree
from orbitrain.v1 import sfft_pb2 as wire

SATELLITE_ROLE: Final = "sfft.satellite"
STATION_ROLE: Final = "sfft.station"
SERVER_ROLE: Final = "sfft.server"

LETTER_CHUNKS: Final = 8
"""Chunks that cross a link to the ground in one letter, so that an answer is not waited for after each, and a
cut costs few."""

EARLY_MAX: Final = 1024
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
    neighbour that the plan has in contact is absent after `patience_ns` without it, and a crossing between
    planes has failed so long after its end, for its answer and word of it around a ring.
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
    between: Between = Between.AUTO
    """How planes' sums come together."""
    on_board: bool = False
    """The baseline: each satellite runs the backbone itself, and nothing of samples is sent."""
    block_letters: int = 1
    """Letters by which a block goes around its ring, at least one chunk in each. With more than one a
    neighbour sends the first on while others come, and what delays a link a little delays no other."""
    cache: bool = False
    """Every round is of the same samples, and features once received are kept."""

    @property
    def chunks(self) -> int:
        """Chunks of a satellite's block."""
        return -(-self.samples // self.chunk_samples)

    @property
    def ring_chunks(self) -> int:
        """Chunks that go around a ring in one letter, at most."""
        return -(-self.chunks // self.block_letters)


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
    _plane_of: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {name: number for number, members in enumerate(self.planes) for name in members}
        object.__setattr__(self, "_plane_of", numbers)

    @property
    def satellites(self) -> tuple[str, ...]:
        return tuple(sorted(name for plane in self.planes for name in plane))

    def plane_of(self, satellite: str) -> int:
        """RemoteProtocolError for a name that is no satellite's."""
        if satellite not in self._plane_of:
            raise RemoteProtocolError(f"there is no satellite {satellite[:64]!r}")
        return self._plane_of[satellite]

    def role_of(self, node: str) -> str:
        if node == self.server:
            return SERVER_ROLE
        return STATION_ROLE if node in self.stations else SATELLITE_ROLE

    def reduction(self, ring: Ring) -> Reduce:
        """How heads are summed on this ring."""
        links = self.links
        return resolved(ring, self.work.reduce, links.head_bytes, links.rate_byte_per_s, links.delay_s)

    def taking_part(self, participants: Iterable[str]) -> tuple[int, ...]:
        """Planes that some participant is of, ascending."""
        return tuple(sorted({self.plane_of(name) for name in participants}))


class Space(Protocol):
    """What satellites ask the plan that they believe."""

    def neighbours(self, one: str, other: str, since_ns: int) -> bool:
        """Whether two satellites of a plane have a link, at any time after an instant."""
        ...

    def in_contact(self, one: str, other: str, t_ns: int) -> bool:
        """Whether they have it at this time."""
        ...

    def crossings(self, participants: Collection[str]) -> Crossings:
        """Windows between planes, for heads, from and to these satellites."""
        ...


class Ground(Protocol):
    """What the server asks the plan. The same arguments give the same answer."""

    def shares(
        self, now_ns: int, board: Board, live: Collection[Link], direction: Direction
    ) -> tuple[Share, ...]:
        """How many chunks go over the links that are there now, each for the rest of its contact: of
        embeddings down, of features up. Planes go by their numbers as text."""
        ...

    def tree(self, ready_ns: Mapping[int, int], participants: Collection[str]) -> Tree | None:
        """Along which sums of planes go that have theirs then, by these satellites; None: all to all."""
        ...


class Serial(Protocol):
    """The state of a role, which numbers its letters."""

    serial: int


def letter(
    params: Params,
    state: Serial,
    to: str,
    message: Message,
    lane: Lane,
    objects: tuple[Digest, ...] = (),
    expires_at_ns: int = NEVER_NS,
) -> Send:
    """A message to whichever role the node has, under a key of its own."""
    state.serial += 1
    key = f"{message.DESCRIPTOR.name.lower()}/{state.serial}"
    return Send(to, params.role_of(to), key, message, lane, objects, expires_at_ns)


def order(message: wire.Round) -> tuple[int, int]:
    """Later rounds, and later attempts of a round, are greater."""
    return message.round, message.attempt


def ring_of(
    params: Params, space: Space, plane: int, participants: Collection[str], since_ns: int
) -> Ring | None:
    """The ring or longest chain of a plane's participants, of links after an instant; None without any."""
    members = [name for name in params.planes[plane] if name in participants]
    rings = Ring.formed(members, lambda one, other: space.neighbours(one, other, since_ns))
    return rings[0] if rings else None


def tree_of(params: Params, message: wire.Round) -> Tree | None:
    """Along which the planes' sums go in this attempt; None: all to all. RemoteProtocolError for no tree."""
    if not message.parents:
        return None
    try:
        return Tree.read(message.parents, params.taking_part(message.participants))
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from None


def head_of(status: wire.Status) -> tuple[Digest, ...]:
    """The object that goes with a satellite's word."""
    return (status.head,) if status.with_head else ()


def is_news(status: wire.Status, known: Mapping[str, wire.Status]) -> bool:
    """Whether a word is later than what is known of the satellite, or the same with the head itself."""
    if status.satellite not in known:
        return True
    before = known[status.satellite]
    return (before.serial, before.with_head) < (status.serial, status.with_head)
