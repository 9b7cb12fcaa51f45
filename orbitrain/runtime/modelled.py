"""Letters over links that the plan models: when what arrives follows from it, as in `orbitrain.sim`.

What goes next is chosen at modelled instants (`orbitrain.flights.choose`). The bytes themselves move as fast
as this host can, in the order chosen: those that by the true links arrive, and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from orbitrain.flights import (
    Load,
    Passage,
    Piece,
    arrived_bytes,
    choose,
    chunk_of,
    chunk_passage,
    first_bytes,
    passage,
    reconsidered_ns,
    sent_bytes,
    total_bytes,
)
from orbitrain.machine import NEVER_NS, Digest, Severity
from orbitrain.mailbox import Identity, Letter, Outcome
from orbitrain.runtime.letters import (
    DAMAGED,
    FROM_WIRE,
    RETRY_S,
    ended,
    is_settled_only,
    letter_bytes,
    parcel,
    written,
)
from orbitrain.transport.objects import Range, split
from orbitrain.transport.rpc import LinkClient, LinkDown, PeerRefused
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

ANSWER_MARGIN_S: Final = 10.0
"""Wall seconds beyond its modelled end that a call may take before it is given up."""

REFUSED_S: Final = 2.0
"""Wall seconds until a peer that refused is asked again."""

Work = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Peer:
    """A peer in a true window."""

    name: str
    end_ns: int
    client: LinkClient
    incarnation: str = ""
    confirmed: bool = False
    met: bool = False
    """The machines have been told."""
    work: asyncio.Queue[Work] = field(default_factory=asyncio.Queue)
    """What is to be done for this host's own part, in order: as many as there are chunks under way."""
    worker: asyncio.Task[None] | None = None
    waiting: bool = False
    """An answer is awaited before anything else can be chosen."""
    owed: bool = False
    """Something is to arrive, and has not been seen to."""
    busy_ns: int = 0
    """Until when the link is kept, scenario time."""
    gaps: dict[Digest, list[Range]] = field(default_factory=dict)
    """What the peer lacks of objects, without what is under way; none of one that it has."""
    cut: tuple[Identity, int, int] | None = None
    """A letter that this contact's end takes away: its name, when it was begun, what its objects take."""
    again_ns: int = NEVER_NS
    """When to look again at what is to go."""
    counted: int = 0
    """Bytes of `client` that are in the journal already."""

    @property
    def is_owed(self) -> bool:
        """Whether something is still to be done that the simulator has done."""
        return self.owed or not self.work.empty()

    def fresh_bytes(self) -> int:
        moved = sum(self.client.bytes_moved)
        fresh, self.counted = moved - self.counted, moved
        return fresh


class ModelledTransfers:
    """Sends a node's letters to the peers that it is in contact with."""

    def __init__(self, driver: Driver, handling_ns: int, reborn: Callable[[str, str], None]) -> None:
        """`handling_ns` is the declared time to take in a message; `reborn` hears which store a peer has."""
        self._driver = driver
        self._handling_ns = handling_ns
        self._reborn = reborn

    def open(self, here: Peer) -> None:
        """The peer has answered."""
        if here.worker is None:
            here.worker = self._driver.spawn(self._work(here))

    async def close(self, here: Peer) -> None:
        """The contact is over."""
        if here.worker is not None:
            here.worker.cancel()
            await asyncio.gather(here.worker, return_exceptions=True)
        if here.cut is not None:
            identity, begun_ns, lacking_bytes = here.cut
            ends = (self._driver.core.node, here.name)
            if sent_bytes(self._driver.links, ends, begun_ns, here.end_ns) < lacking_bytes:
                self._driver.core.outbox.never_sent(identity)

    def reset(self, here: Peer) -> None:
        """Nothing is known any more of what the peer has."""
        here.gaps.clear()
        here.busy_ns, here.waiting, here.cut = 0, False, None
        while not here.work.empty():
            here.work.get_nowait()

    # ------------------------------------------------------------------------------- what goes next

    def pump(self, here: Peer) -> None:
        """Start what is to have the link, if that is free as of the last step."""
        driver, start_ns = self._driver, self._driver.latest_ns
        if not here.confirmed or here.waiting or driver.draining or driver.committing:
            return
        if start_ns < here.busy_ns or start_ns >= here.end_ns:
            return
        if driver.links.active(driver.core.node, here.name, start_ns) is None or not driver.told(here.name):
            return
        self._start(here, start_ns)

    def _start(self, here: Peer, start_ns: int) -> None:
        """Choose as of `start_ns`, once it is known what the peer lacks."""
        driver, ends = self._driver, (self._driver.core.node, here.name)
        heads = driver.core.outbox.heads(here.name)
        unknown = [
            letter
            for letter in heads
            if not is_settled_only(letter, start_ns)
            and any(digest not in here.gaps for digest, _ in letter.objects)
        ]
        if unknown:
            here.waiting = True
            here.work.put_nowait(partial(self._ask, here, unknown, start_ns))
            return
        link, believed = driver.links.active(*ends, start_ns), driver.plan.active(*ends, start_ns)
        if link is None:
            return
        lacking = [self._lacking(here, letter, start_ns) for letter in heads]
        loads = [
            Load(letter_bytes(letter), total_bytes(pieces))
            for letter, pieces in zip(heads, lacking, strict=True)
        ]
        chosen = choose(loads, believed, start_ns, self._handling_ns, chunk_of(link, start_ns))
        if heads and (chosen is None or chosen.index or not chosen.fits):
            self._look_again(here, reconsidered_ns(believed, here.end_ns))
        if chosen is None:
            return
        letter, pieces = heads[chosen.index], lacking[chosen.index]
        if chosen.ahead_bytes:
            self._send_ahead(here, letter, first_bytes(pieces, chosen.ahead_bytes), start_ns)
        else:
            size = loads[chosen.index].total_bytes
            course = passage(driver.links, ends, start_ns, size, self._handling_ns, here.end_ns)
            self._send(here, letter, pieces, start_ns, course)

    def _look_again(self, here: Peer, t_ns: int | None) -> None:
        if t_ns is not None:
            here.again_ns = min(here.again_ns, t_ns)
            self._driver.wake()

    @staticmethod
    def _lacking(here: Peer, letter: Letter, start_ns: int) -> tuple[Piece, ...]:
        if is_settled_only(letter, start_ns):
            return ()
        return tuple(
            Piece(digest, size - sum(end - start for start, end in here.gaps[digest]), size, size)
            for digest, size in letter.objects
            if here.gaps[digest]
        )

    def _send_ahead(self, here: Peer, letter: Letter, pieces: tuple[Piece, ...], start_ns: int) -> None:
        """Objects go ahead of their letter; the link is free again once they are out."""
        ends = (self._driver.core.node, here.name)
        course = chunk_passage(self._driver.links, ends, start_ns, total_bytes(pieces), here.end_ns)
        if course is None:
            here.busy_ns = NEVER_NS  # nobody can tell before the contact is lost
            pieces = self._cut(here, pieces, start_ns)
        else:
            here.busy_ns = course[0]
            self._look_again(here, course[0])
        parts = self._take(here, pieces)
        here.work.put_nowait(partial(self._put, here, letter, parts))

    def _send(
        self, here: Peer, letter: Letter, pieces: tuple[Piece, ...], start_ns: int, course: Passage
    ) -> None:
        outbox = self._driver.core.outbox
        if course.answered_ns is None:
            here.busy_ns = NEVER_NS  # nobody can tell before the contact is lost
            if not outbox.is_in_doubt(letter.identity):
                here.cut = (letter.identity, start_ns, total_bytes(pieces))
        outbox.attempted(letter.identity)
        if course.arrives_ns is None:
            parts = self._take(here, self._cut(here, pieces, start_ns))
            here.work.put_nowait(partial(self._put, here, letter, parts))
            return
        here.waiting = True
        link = self._driver.links.active(self._driver.core.node, here.name, start_ns)
        link_class = "" if link is None else link.link_class
        parts = self._take(here, pieces)
        here.work.put_nowait(partial(self._deliver, here, letter, parts, course, link_class))

    def _cut(self, here: Peer, pieces: tuple[Piece, ...], start_ns: int) -> tuple[Piece, ...]:
        """What of it arrives before the link is gone."""
        ends = (self._driver.core.node, here.name)
        return first_bytes(pieces, arrived_bytes(self._driver.links, ends, start_ns, here.end_ns))

    def _take(self, here: Peer, pieces: Iterable[Piece]) -> list[tuple[Piece, list[Range]]]:
        """The pieces with the ranges that they are for the peer; it is not said to lack them any more."""
        parts = []
        for piece in pieces:
            ranges, here.gaps[piece.digest] = split(here.gaps[piece.digest], piece.end - piece.start)
            parts.append((piece, ranges))
            left = sum(end - start for start, end in here.gaps[piece.digest])
            self._driver.lacking[here.name, piece.digest] = left
        return parts

    # -------------------------------------------------------------------------- what this host does

    async def _work(self, here: Peer) -> None:
        driver = self._driver
        while True:
            work = await here.work.get()
            try:
                await work()
            except LinkDown:
                self.reset(here)
                here.owed = False
                await asyncio.sleep(RETRY_S)
            except PeerRefused as error:
                self.reset(here)
                here.owed = False
                fields = {"peer": here.name, "reason": str(error)}
                driver.note("transfer_refused", Severity.WARNING_LO, fields)
                await asyncio.sleep(REFUSED_S)
            if not here.waiting:
                self.pump(here)

    async def _ask(self, here: Peer, letters: Sequence[Letter], start_ns: int) -> None:
        """What the peer lacks of the objects of these letters; then choose."""
        for letter in letters:
            objects = list(letter.objects)
            missing = await here.client.missing(objects, parcel=parcel([letter], self._driver.core))
            for digest, _ in objects:
                gaps = here.gaps.setdefault(digest, missing.get(digest, []))
                self._driver.lacking[here.name, digest] = sum(end - start for start, end in gaps)
        await self._driver.committed()
        here.waiting = False
        self._start(here, start_ns)

    async def _put(self, here: Peer, letter: Letter, parts: list[tuple[Piece, list[Range]]]) -> bool:
        """Move bytes of objects. False if one of them is gone from this store."""
        here.owed = True
        for piece, ranges in parts:
            try:
                path = self._driver.blobs.path(piece.digest)
            except KeyError:
                self._lost(here, letter)
                return False
            try:
                await here.client.put(piece.digest, piece.size, path, ANSWER_MARGIN_S, ranges)
            except PeerRefused as error:
                if error.code == DAMAGED and not await self._driver.examine(piece.digest):
                    self._lost(here, letter)  # it was damaged here
                    return False
                raise
            except OSError:
                if not await self._driver.examine(piece.digest):
                    self._lost(here, letter)  # its file has vanished
                    return False
                raise
        here.owed = False
        return True

    def _lost(self, here: Peer, letter: Letter) -> None:
        """An object of a letter is gone from this store: nothing will bring it back to this letter."""
        driver = self._driver
        self.reset(here)
        here.owed = False
        if driver.core.outbox.find(letter.sender_role, letter.key) is not None:
            now_ns = max(driver.latest_ns, driver.clock.now_ns())
            nothing = {"to": letter.destination, "bytes": 0}
            self._end(letter, Outcome.REFUSED, "an object of it is lost", now_ns, nothing)

    async def _deliver(
        self,
        here: Peer,
        letter: Letter,
        parts: list[tuple[Piece, list[Range]]],
        course: Passage,
        link_class: str,
    ) -> None:
        """Move the rest of a letter's objects, then the letter, and bring the receiver's word."""
        driver = self._driver
        assert course.arrives_ns is not None
        if not await self._put(here, letter, parts):
            return
        # The answer to one that is not heard may well be under way when the contact ends.
        here.owed = course.answered_ns is not None
        timeout_s = driver.clock.wall_s_until(course.answered_ns or here.end_ns) + ANSWER_MARGIN_S
        receipt = await here.client.deliver(written(letter, driver.core, course.arrives_ns), timeout_s)
        here.owed = False
        here.waiting = False
        if course.answered_ns is not None:
            self._settle(here, letter, receipt, course.answered_ns, link_class)

    def _settle(
        self, here: Peer, letter: Letter, receipt: wire.Receipt, answered_ns: int, link_class: str
    ) -> None:
        driver = self._driver
        outcome = FROM_WIRE.get(receipt.outcome)
        if outcome is None or driver.core.outbox.find(letter.sender_role, letter.key) is None:
            return
        self._reborn(here.name, receipt.incarnation)
        here.busy_ns = answered_ns
        fields = {"to": here.name, "class": link_class, "bytes": here.fresh_bytes()}
        self._end(letter, outcome, receipt.reason[:500], answered_ns, fields)

    def _end(
        self, letter: Letter, outcome: Outcome, reason: str, due_ns: int, fields: Mapping[str, Any]
    ) -> None:
        arrival = ended(letter, self._driver.core, outcome, reason, due_ns, fields)
        self._driver.arrive(arrival, "answer")
