"""Letters over links that are real: nothing about them is modelled.

A letter is there when it has come, and its sender knows when the answer has. The believed plan says which
letters still fit into a contact, and when a call has taken too long; one that the link takes away stays in
doubt, and is settled when the two meet again.

The objects of a letter go before it, as the ranges that the receiver lacks. Letters that can be answered
within the contact go first, by lane; then what is left of the contact is filled with objects of those that
cannot, and the next contact goes on from there. Whoever ought to go first gets the link at the border of a
chunk.

Small letters that follow one another in a mailbox go together, at most a chunk's bytes at once: one offer,
puts side by side, one call that hands them over. A link's round trips are not paid for each.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from orbitrain.contacts.plan import Window
from orbitrain.flights import is_begun, reconsidered_ns
from orbitrain.machine import NEVER_NS, Digest, Severity
from orbitrain.mailbox import (
    Identity,
    Letter,
    Outcome,
)
from orbitrain.runtime.clock import wall_s
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
from orbitrain.runtime.outlook import Outlook
from orbitrain.transport.objects import Meter, Pace, Range
from orbitrain.transport.rpc import (
    LETTERS_BYTES_MAX,
    LETTERS_MAX,
    OBJECTS_MAX,
    Flows,
    LinkClient,
    LinkDown,
    PeerRefused,
    Room,
)
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

PING_BYTES: Final = 2_000
"""Both ways, with what a new connection says before: bounds what a slow link takes for it."""

TRANSFER_FACTOR: Final = 3.0
TRANSFER_S: Final = 10.0
"""A call is given up after this many times what the plan's lowest rate takes, and wall seconds more for the
receiver's disk. A link that goes down is noticed by pings, long before."""

HOST_S: Final = 0.02
"""Wall seconds that the hosts add to a round trip of the link: two event loops under load."""

QUEUE_FACTOR: Final = 1.5
"""Of what a link's queue takes by the rate: it may have been measured or planned too high."""

UNKNOWN_BPS: Final = 256_000
"""Taken for the rate of a link that nobody has planned nor measured: its chunks are the smallest."""

TAIL_BYTES: Final = 16 * 1024
"""Towards the end of a contact chunks are cut shorter, so that little is lost with it, but not below this."""

PUTS_MAX: Final = 8
"""Objects of letters that go together that are under way at once: their round trips do not add up, and a
receiver syncs them side by side."""

LETTER_NAMES_BYTES: Final = 1024
"""Of a letter on the wire beside its body and objects, at most: names have 128 characters at most."""

OBJECT_NAME_BYTES: Final = 80
"""Of an object's name on the wire."""

REFUSED_S: Final = 2.0
"""Wall seconds until a peer that refused is asked again."""


@dataclass(slots=True)
class Peer:
    """A peer that answers."""

    name: str
    address: str
    pings: LinkClient
    """Pings have a connection of their own: they do not wait behind a model."""
    client: Flows
    incarnation: str
    announced: Window | None
    """The last window of the believed plan that it was in."""
    due_ns: int
    """When the machines are told."""
    proved_ns: int
    """When the last ping was sent that was answered."""
    meter: Meter = field(default_factory=Meter)
    met: bool = False
    """The machines have been told."""
    air: asyncio.Task[None] | None = None
    unfit: dict[Identity, Mapping[Digest, int]] = field(default_factory=dict)
    """Letters that do not fit the contact any more, with the bytes that the peer lacks for them."""
    again_ns: int = NEVER_NS
    """When to look again at those."""
    closed_bytes: int = 0
    counted: int = 0
    """Bytes of its clients that are in the journal already."""

    def fresh_bytes(self) -> int:
        moved = self.closed_bytes + sum(self.pings.bytes_moved) + sum(self.client.bytes_moved)
        fresh, self.counted = moved - self.counted, moved
        return fresh

    @property
    def heard_bytes(self) -> int:
        """Bytes that transfers have heard from it."""
        return self.client.bytes_moved[1]

    async def renew_pings(self, node: str) -> None:
        """Another connection for pings: no back-off is carried over, and no packet waits to be repeated."""
        old, self.pings = self.pings, LinkClient(self.address, node)
        self.closed_bytes += sum(old.bytes_moved)
        await old.close()

    async def renew_client(self, node: str) -> None:
        old, self.client = self.client, Flows(self.address, node, self.client.count)
        self.closed_bytes += sum(old.bytes_moved)
        await old.close()

    async def close(self) -> None:
        await self.pings.close()
        await self.client.close()


class Transfers:
    """Sends a node's letters to the peers that it is in contact with."""

    def __init__(
        self, driver: Driver, outlook: Outlook, handling_ns: int, reborn: Callable[[str, str], None]
    ) -> None:
        """`handling_ns` is the declared time to take in a message; `reborn` hears which store a peer has."""
        self._driver = driver
        self._outlook = outlook
        self._handling_ns = handling_ns
        self._reborn = reborn

    def pump(self, here: Peer) -> None:
        """Start the next letter towards a peer in contact, if the link is free and there is one to start."""
        driver = self._driver
        if not here.met or here.air is not None or driver.draining or not driver.told(here.name):
            return
        if self._outlook.contact(here.name) is None and here.proved_ns < self._outlook.over_ns(here.name):
            return  # by the plan it has just ended: a ping will tell
        if driver.committing:
            return  # what the step has posted and ended is not on disk yet; it pumps once it is
        chosen = self._next(here)
        if chosen is not None:
            letter, ahead = chosen
            letters = [letter] if ahead else self._together(here, letter)
            here.air = driver.spawn(self._fly(here, letters, ahead))

    def _next(self, here: Peer) -> tuple[Letter, bool] | None:
        """The letter that is to have the link, and whether only its objects go, ahead of it."""
        heads = self._driver.core.outbox.heads(here.name)
        for letter in heads:
            lacking = here.unfit.get(letter.identity)
            if lacking is None or self._fits(here, letter, lacking):
                return letter, False
        for letter in heads:
            if any(here.unfit[letter.identity].values()) and self._room_bytes(here, 0):
                return letter, True
        return None

    def _is_begun(self, here: Peer, own_bytes: int, lacking_bytes: int) -> bool:
        """Whether letters of so many bytes can be answered in time, with what is lacking of their objects."""
        believed, now_ns = self._outlook.contact(here.name), self._outlook.now_ns()
        # Letters whose objects are there cost nothing if the contact ends sooner than this clock says.
        spare_ns = self._outlook.real.clock_error_ns if lacking_bytes else 0
        return is_begun(believed, now_ns, own_bytes + lacking_bytes, self._handling_ns, spare_ns)

    def _fits(self, here: Peer, letter: Letter, lacking: Mapping[Digest, int]) -> bool:
        """Whether a letter can be answered in time; if not, it is written down, and when to look again."""
        if self._is_begun(here, letter_bytes(letter), sum(lacking.values())):
            return True
        believed = self._outlook.contact(here.name)
        here.unfit[letter.identity] = lacking
        again_ns = reconsidered_ns(believed, NEVER_NS)
        if again_ns is not None:
            here.again_ns = again_ns
            self._driver.wake()
        return False

    def _together(self, here: Peer, head: Letter) -> list[Letter]:
        """The head of a mailbox, and those after it that go with it: all small, and in time."""
        chunk_bytes = min(self.pace(here).chunk_bytes, self._room_bytes(here, 0))
        now_ns, together = self._outlook.now_ns(), list[Letter]()
        lacking, own_bytes, wire_bytes = dict[Digest, int](), 0, 0
        for letter in self._driver.core.outbox.queue(head.mailbox):
            objects = {digest: self._lacking(here, digest, size) for digest, size in letter.objects}
            lacking |= objects
            own_bytes += letter_bytes(letter)
            wire_bytes += LETTER_NAMES_BYTES + len(letter.body) + OBJECT_NAME_BYTES * len(letter.objects)
            if (
                len(together) >= LETTERS_MAX
                or is_settled_only(letter, now_ns)
                or own_bytes + sum(lacking.values()) > chunk_bytes
                or wire_bytes > LETTERS_BYTES_MAX
                or sum(len(each.objects) for each in together) + len(letter.objects) > OBJECTS_MAX
                or not self._is_begun(here, own_bytes, sum(lacking.values()))
            ):
                break
            together.append(letter)
        return together or [head]

    def _lacking(self, here: Peer, digest: Digest, size: int) -> int:
        """Bytes of an object that a peer lacks, as far as is known."""
        return self._driver.lacking.get((here.name, digest), size)

    def _standing(self, letters: list[Letter]) -> list[Letter]:
        """Those that are still the first of their mailbox, up to one that has been withdrawn or has ended."""
        found = zip(letters, self._driver.core.outbox.queue(letters[0].mailbox), strict=False)
        return [letter for letter, _ in takewhile(lambda both: both[0] == both[1], found)]

    def _rate_bps(self, here: Peer) -> float | None:
        """Of this link as it is now: as planned, or without a plan as measured, once it was."""
        if not self._outlook.real.planned:
            return here.meter.rate_bps
        believed = self._outlook.contact(here.name)
        if believed is None:
            return self._outlook.road(here.name).rate_bps
        return believed.rate_bps_at(self._outlook.now_ns())

    def pace(self, here: Peer) -> Pace:
        """How objects are cut for this link as it is now."""
        host_s = HOST_S * self._driver.clock.rate
        if not self._outlook.real.planned:
            trip_s = self._outlook.expected_trip_s(here.name, 0) * self._driver.clock.rate
            return Pace.of(self._rate_bps(here) or UNKNOWN_BPS, trip_s + host_s)
        rate_bps = self._rate_bps(here)
        assert rate_bps is not None
        return Pace.of(rate_bps, 2 * self._outlook.road(here.name).delay_s + host_s)

    def queue_s(self, here: Peer) -> float:
        """Wall seconds for which an answer may wait behind a transfer, ours or the peer's.

        TCP puts all that it is given on the link at first, and a slow one takes that long for it.
        """
        rate_bps = self._rate_bps(here) or self._outlook.road(here.name).rate_bps
        return QUEUE_FACTOR * 8 * self.pace(here).window_bytes / rate_bps / self._driver.clock.rate

    async def renew(self, here: Peer) -> None:
        """Take a fresh connection for transfers: what is under way is cut, and goes on over that."""
        if here.air is None:
            await here.renew_client(self._driver.core.node)
        else:
            await here.client.close()

    def _room_bytes(self, here: Peer, in_air_bytes: int) -> int:
        """How large the next chunk may be so that it arrives before the contact ends; 0 for none."""
        chunk_bytes = here.client.pace.chunk_bytes
        believed = self._outlook.contact(here.name)
        if believed is None:
            return chunk_bytes
        now_ns = self._outlook.now_ns()
        until_ns = believed.end_ns - believed.delay_ns_at(now_ns)
        left_bytes = believed.volume_bytes(now_ns, until_ns) - in_air_bytes
        return 0 if left_bytes < TAIL_BYTES else min(chunk_bytes, max(left_bytes // 2, TAIL_BYTES))

    def _next_chunk(self, here: Peer, letter: Letter, in_air_bytes: int, *, ahead: bool = False) -> int:
        """The bytes that objects of a letter are given now: none once another ought to have the link."""
        here.meter.heard(wall_s(), here.client.object_bytes - in_air_bytes)
        here.client.pace = self.pace(here)
        if letter not in self._driver.core.outbox.heads(here.name):
            return 0  # withdrawn, superseded or expired meanwhile
        chosen = self._next(here)
        if chosen is not None and chosen[0].identity != letter.identity:
            first, first_ahead = chosen
            if first.lane < letter.lane or (ahead and not first_ahead):
                return 0
        return self._room_bytes(here, in_air_bytes)

    def _room(self, here: Peer, letter: Letter, digest: Digest, *, ahead: bool) -> Room:
        """The chunks of an object that goes alone."""
        driver, client = self._driver, here.client
        lacking_bytes, before_bytes = driver.lacking.get((here.name, digest), 0), client.object_bytes

        def room(in_air_bytes: int) -> int:
            arrived_bytes = client.object_bytes - before_bytes - in_air_bytes
            driver.lacking[here.name, digest] = lacking_bytes - arrived_bytes
            return self._next_chunk(here, letter, in_air_bytes, ahead=ahead)

        return room

    @contextlib.asynccontextmanager
    async def _flight(self, here: Peer, letter: Letter) -> AsyncIterator[None]:
        """What is said of a letter that does not come through."""
        driver = self._driver
        fields = {"peer": here.name, "key": letter.key}
        try:
            yield
        except LinkDown as error:
            driver.note("transfer_cut", Severity.ACTIVITY_LO, {**fields, "reason": str(error)})
            await here.renew_client(driver.core.node)
            await asyncio.sleep(RETRY_S)
        except PeerRefused as error:
            driver.note("transfer_refused", Severity.WARNING_LO, {**fields, "reason": str(error)})
            await asyncio.sleep(REFUSED_S)
        except KeyError:
            # An object of the letter is gone from this store: nothing will bring it back to this letter.
            why, nothing = "an object of it is lost", {"to": letter.destination, "bytes": 0}
            driver.take(ended(letter, driver.core, Outcome.REFUSED, why, self._outlook.now_ns(), nothing))
        except asyncio.CancelledError:
            if not driver.draining:
                driver.note("transfer_cut", Severity.ACTIVITY_LO, {**fields, "reason": "the contact ended"})
            raise

    async def _fly(self, here: Peer, letters: list[Letter], ahead: bool) -> None:
        """Move letters of a mailbox, their objects first, and bring the receiver's word; or, `ahead`, the
        objects of one only."""
        try:
            async with self._flight(here, letters[0]):
                await self._move(here, letters, ahead)
        finally:
            here.air = None
        self.pump(here)

    def _patience_s(self, here: Peer, nbytes: int) -> float:
        """Wall seconds after which a call that moves so many bytes is given up."""
        return TRANSFER_S + TRANSFER_FACTOR * self._outlook.trip_wall_s(here.name, nbytes)

    async def _move(self, here: Peer, letters: list[Letter], ahead: bool) -> None:
        try:
            lacking = await self._offer(here, letters)
        except PeerRefused:
            if len(letters) == 1:
                raise
            letters = letters[:1]  # what is refused may be of another one
            lacking = await self._offer(here, letters)
        letters = self._standing(letters)
        if not letters:
            return  # withdrawn or expired meanwhile: this side has ended it
        if len(letters) > 1:
            letters = await self._put_together(here, letters, lacking)
        elif not await self._put_one(here, letters[0], lacking, ahead):
            return
        await self._hand(here, self._standing(letters) if letters else [])

    async def _offer(self, here: Peer, letters: Sequence[Letter]) -> dict[Digest, list[Range]]:
        """What the peer lacks of the objects of letters."""
        driver, now_ns = self._driver, self._outlook.now_ns()
        objects = {
            digest: size
            for letter in letters
            if not is_settled_only(letter, now_ns)
            for digest, size in letter.objects
        }
        if not objects:
            return {}
        offer_s = self._patience_s(here, PING_BYTES + 128 * len(objects))
        missing = await here.client.missing(objects.items(), offer_s, parcel(letters, driver.core))
        for digest in objects:
            driver.lacking[here.name, digest] = _bytes(missing.get(digest, []))
        return missing

    async def _put_one(
        self, here: Peer, letter: Letter, missing: Mapping[Digest, list[Range]], ahead: bool
    ) -> bool:
        """Send what is missing of a letter's objects, one after another. Whether all are there."""
        lacking = {digest: _bytes(gaps) for digest, gaps in missing.items()}
        if ahead:
            here.unfit[letter.identity] = lacking
        elif not self._fits(here, letter, lacking):
            return False
        else:
            here.unfit.pop(letter.identity, None)
        here.client.pace = self.pace(here)
        for digest, nbytes in letter.objects:
            if digest in lacking:
                room = self._room(here, letter, digest, ahead=ahead)
                if not await self._put(here, digest, nbytes, missing[digest], room):
                    return False  # another goes first, or the contact is full
                lacking.pop(digest)
        return True

    async def _put(self, here: Peer, digest: Digest, nbytes: int, gaps: list[Range], room: Room) -> bool:
        """Send what is missing of an object; whether it is whole there. Raises KeyError if it is lost."""
        driver, path = self._driver, self._driver.blobs.path(digest)
        patience_s = self._patience_s(here, here.client.pace.window_bytes)
        try:
            if not await here.client.put(digest, nbytes, path, patience_s, gaps, room):
                return False
        except PeerRefused as error:
            if error.code == DAMAGED and not await driver.examine(digest):
                raise KeyError(digest) from None  # it was damaged here
            raise
        except OSError:
            if not await driver.examine(digest):
                raise KeyError(digest) from None  # its file has vanished
            raise
        driver.lacking[here.name, digest] = 0
        return True

    async def _put_together(
        self, here: Peer, letters: list[Letter], missing: Mapping[Digest, list[Range]]
    ) -> list[Letter]:
        """Send what is missing of the objects of letters, side by side.

        Returns the first of the letters, up to one of which an object could not be sent; raises what kept an
        object of the very first from it.
        """
        sizes = {digest: size for letter in letters for digest, size in letter.objects if digest in missing}
        unsent, failed = set(sizes), dict[Digest, Exception]()
        here.client.pace = self.pace(here)
        room, waiting = self._room_together(here, letters[0]), iter(sizes.items())

        async def some() -> None:
            for digest, nbytes in waiting:
                try:
                    if not await self._put(here, digest, nbytes, missing[digest], partial(room, digest)):
                        return  # another goes first, or the contact is full
                    unsent.discard(digest)
                except (LinkDown, PeerRefused, KeyError) as error:
                    failed[digest] = error
                    if isinstance(error, LinkDown):
                        return

        async with asyncio.TaskGroup() as puts:
            for _ in range(min(PUTS_MAX, len(sizes))):
                puts.create_task(some())
        whole = list(takewhile(lambda letter: not unsent.intersection(dict(letter.objects)), letters))
        if not whole:
            for error in (failed[digest] for digest, _ in letters[0].objects if digest in failed):
                raise error
        return whole

    def _room_together(self, here: Peer, head: Letter) -> Callable[[Digest, int], int]:
        """The chunks of objects that are under way side by side: what all have in the air counts."""
        in_air = dict[Digest, int]()

        def room(digest: Digest, in_air_bytes: int) -> int:
            in_air[digest] = in_air_bytes
            return self._next_chunk(here, head, sum(in_air.values()))

        return room

    async def _hand(self, here: Peer, letters: list[Letter]) -> None:
        """Hand over letters whose objects are there, as many as are answered in time, and end those that the
        receiver tells of."""
        driver = self._driver
        while len(letters) > 1 and not self._is_begun(here, sum(map(letter_bytes, letters)), 0):
            letters.pop()
        if not letters or not self._fits(here, letters[0], {}):
            return
        for letter in letters:
            here.unfit.pop(letter.identity, None)
            driver.core.outbox.attempted(letter.identity)
        timeout_s, now_ns = self._patience_s(here, sum(map(letter_bytes, letters))), self._outlook.now_ns()
        wires = [written(letter, driver.core, now_ns) for letter in letters]
        receipts = list[wire.Receipt]()
        if len(wires) > 1:
            with contextlib.suppress(PeerRefused):  # what is refused may be another one
                receipts = await here.client.hand(wires, timeout_s)
        receipts = receipts or [await here.client.deliver(wires[0], timeout_s)]
        for letter, receipt in zip(letters, receipts, strict=False):
            self._settle(here, letter, receipt)

    def _settle(self, here: Peer, letter: Letter, receipt: wire.Receipt) -> None:
        driver = self._driver
        outcome = FROM_WIRE.get(receipt.outcome)
        if outcome is None or driver.core.outbox.find(letter.sender_role, letter.key) is None:
            return
        self._reborn(here.name, receipt.incarnation)
        known = {digest for digest, _ in letter.objects}
        for identity, lacking in here.unfit.items():
            here.unfit[identity] = {digest: size for digest, size in lacking.items() if digest not in known}
        link_class = self._outlook.road(here.name).link_class
        fields = {"to": here.name, "class": link_class, "bytes": here.fresh_bytes()}
        driver.take(ended(letter, driver.core, outcome, receipt.reason[:500], self._outlook.now_ns(), fields))


def _bytes(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)
