"""Letters over links that are real: nothing about them is modelled.

A letter is there when it has come, and its sender knows when the answer has. The believed plan says which
letters still fit into a contact, and when a call has taken too long; one that the link takes away stays in
doubt, and is settled when the two meet again.

The objects of a letter go before it, as the ranges that the receiver lacks. Letters that can be answered
within the contact go first, by lane; then what is left of the contact is filled with objects of those that
cannot, and the next contact goes on from there. Whoever ought to go first gets the link at the border of a
chunk.

Once all bytes of a letter have gone it is handed over, and the next one has the link: an answer takes a round
trip, and longer behind what comes from the peer, for which the link would lie idle. A letter that needs no
objects is handed over beside what has the link. Those of one mailbox are handed over one after another.

Small letters that follow one another in a mailbox go together, as many as a round trip carries: one offer,
puts side by side, one call that hands them over. A link's round trips are not paid for each.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orbitrain.machine import Digest, Severity
from orbitrain.mailbox import Letter, Outcome
from orbitrain.runtime.allowance import Allowance
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
from orbitrain.runtime.peer import Landing, Peer
from orbitrain.runtime.turns import HEAD_START_BYTES, Turns, are_news
from orbitrain.transport.objects import CHUNK_BYTES_MIN, Pace, Range
from orbitrain.transport.rpc import (
    LinkDown,
    PeerRefused,
    Room,
)
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

PING_BYTES: Final = 2_000
"""Both ways, with what a new connection says before: bounds what a slow link takes for it."""

PUTS_MAX: Final = 8
"""Objects of letters that go together that are under way at once: their round trips do not add up, and a
receiver syncs them side by side."""

REFUSED_S: Final = 2.0
"""Wall seconds until a peer that refused is asked again."""


Offer: TypeAlias = asyncio.Task[dict[Digest, list[Range]]]
"""What a peer lacks, once it has said so."""


class Transfers:
    """Sends a node's letters to the peers that it is in contact with."""

    def __init__(
        self, driver: Driver, outlook: Outlook, handling_ns: int, reborn: Callable[[str, str], None]
    ) -> None:
        """`handling_ns` is the declared time to take in a message; `reborn` hears which store a peer has."""
        self._driver = driver
        self._outlook = outlook
        self.allowance = Allowance(outlook, driver.clock, handling_ns)
        self._turns = Turns(driver, outlook, self.allowance)
        self._reborn = reborn

    def pump(self, here: Peer) -> None:
        """Start what can be started towards a peer in contact: letters without objects, and the next with
        some if the link is free."""
        driver = self._driver
        if not here.met or driver.draining or not driver.told(here.name):
            return
        if self._outlook.contact(here.name) is None and here.proved_ns < self._outlook.over_ns(here.name):
            return  # by the plan it has just ended: a ping will tell
        if driver.committing:
            return  # what the step has posted and ended is not on disk yet; it pumps once it is
        for letters in list(self._turns.plain(here)):
            self._begin_landing(here, letters, self._bring(here, letters))
        chosen = self._turns.next(here) if here.air is None else None
        if chosen is not None:
            letter, ahead = chosen
            letters = [letter] if ahead else self._turns.together(here, letter)
            here.air = driver.spawn(self._fly(here, letters, ahead))

    async def renew(self, here: Peer) -> None:
        """Take a fresh connection for transfers: what is under way is cut, and goes on over that."""
        if here.air is None and not here.landing:
            await here.renew_client(self._driver.core.node)
        else:
            await here.client.close()

    def _next_chunk(self, here: Peer, letter: Letter, *, ahead: bool = False) -> int:
        """The bytes that objects of a letter are given now: none once another ought to have the link."""
        in_air_bytes = here.client.in_air_bytes
        here.meter.heard(wall_s(), here.client.object_bytes - in_air_bytes)
        here.client.pace = self.allowance.pace(here)
        if letter not in self._turns.heads(here):
            return 0  # withdrawn, superseded or expired meanwhile
        chosen = self._turns.next(here)
        if chosen is not None and chosen[0].identity != letter.identity:
            first, first_ahead = chosen
            if first.lane < letter.lane or (ahead and not first_ahead):
                return 0
        return self.allowance.room_bytes(here, in_air_bytes)

    def _room(self, here: Peer, letter: Letter, digest: Digest, *, ahead: bool) -> Room:
        """The chunks of an object that goes alone."""
        driver, client = self._driver, here.client
        lacking_bytes, before_bytes = driver.lacking.get((here.name, digest), 0), client.object_bytes

        def room(in_air_bytes: int) -> int:
            arrived_bytes = client.object_bytes - before_bytes - in_air_bytes
            driver.lacking[here.name, digest] = max(0, lacking_bytes - arrived_bytes)
            return self._next_chunk(here, letter, ahead=ahead)

        return room

    def _started(
        self, here: Peer, letter: Letter, offer: Offer, missing: Mapping[Digest, list[Range]], room: Room
    ) -> Room:
        """As `room`, with a head start until the offer is answered; nothing more where it is not as expected.

        What follows on a head start is of one chunk with it: nobody goes between.
        """
        whole = False

        def started(in_air_bytes: int) -> int:
            nonlocal whole
            if not offer.done():
                others_bytes = here.client.in_air_bytes - in_air_bytes
                here.client.pace = Pace(CHUNK_BYTES_MIN, HEAD_START_BYTES + others_bytes)
                return CHUNK_BYTES_MIN
            if offer.cancelled() or offer.exception() is not None or not are_news(missing, offer.result()):
                return 0
            if whole:
                return room(in_air_bytes)
            whole = True
            here.client.pace = self.allowance.pace(here)
            stands = letter in self._turns.heads(here)
            return self.allowance.room_bytes(here, here.client.in_air_bytes) if stands else 0

        return started

    @contextlib.asynccontextmanager
    async def _flight(self, here: Peer, letter: Letter) -> AsyncIterator[None]:
        """What is said of a letter that does not come through."""
        driver, client = self._driver, here.client
        fields = {"peer": here.name, "key": letter.key}
        try:
            yield
        except LinkDown as error:
            driver.note("transfer_cut", Severity.ACTIVITY_LO, {**fields, "reason": str(error)})
            if here.client is client:  # another flight may have renewed it
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

    async def _move(self, here: Peer, letters: list[Letter], ahead: bool) -> None:
        if len(letters) == 1 and not ahead and self._turns.is_news(here, letters[0]):
            if await self._move_news(here, letters[0]):
                return
            letters = self._turns.standing(letters, here.landing_letters)
            if not letters:
                return
        try:
            lacking = await self._offer(here, letters)
        except PeerRefused:
            if len(letters) == 1:
                raise
            letters = letters[:1]  # what is refused may be of another one
            lacking = await self._offer(here, letters)
        letters = self._turns.standing(letters, here.landing_letters)
        if not letters:
            return  # withdrawn or expired meanwhile: this side has ended it
        if len(letters) == 1:
            await self._move_one(here, letters[0], lacking, ahead)
            return
        letters = await self._put_together(here, letters, lacking)
        await self._landed(here, letters[0])
        await self._hand(here, self._turns.standing(letters))

    async def _move_news(self, here: Peer, letter: Letter) -> bool:
        """Send a letter's objects while the peer is asked what it lacks of them; whether it lacked all."""
        news = {digest: [(0, size)] for digest, size in letter.objects}
        offer = asyncio.create_task(self._offer(here, [letter]))
        try:
            await self._move_one(here, letter, news, False, offer)
            return are_news(news, await offer)
        finally:
            await _ended(offer)

    def _begin_landing(self, here: Peer, letters: list[Letter], landing: Coroutine[Any, Any, None]) -> None:
        """From now on these letters are being handed over: of their mailbox no other is."""
        identities = frozenset(letter.identity for letter in letters)
        here.landing[letters[0].mailbox] = Landing(identities, self._driver.spawn(landing))

    async def _landed(self, here: Peer, letter: Letter) -> None:
        """Wait for what is landing of a letter's mailbox: its letters are handed over one after another."""
        if letter.mailbox in here.landing:
            await asyncio.wait({here.landing[letter.mailbox].flight})

    async def _move_one(
        self,
        here: Peer,
        letter: Letter,
        missing: Mapping[Digest, list[Range]],
        ahead: bool,
        offer: Offer | None = None,
    ) -> None:
        """Send a letter's objects and hand it over. Once they have gone, that is a flight of its own.

        `offer` is under way, and expected to be answered with what is `missing`.
        """
        gone = asyncio.Event()
        put = asyncio.create_task(self._put_one(here, letter, missing, ahead, gone.set, offer))
        put.add_done_callback(lambda _: gone.set())
        try:
            await gone.wait()
            if offer is not None:
                await asyncio.wait({offer})
            if not put.done() and not ahead:
                await self._landed(here, letter)
            if not put.done() and not ahead and self._turns.lands(here, letter):
                self._begin_landing(here, [letter], self._land(here, letter, put))
                return
            whole = await put
        finally:
            if letter.identity not in here.landing_letters:
                await _ended(put)
        if whole:
            await self._landed(here, letter)
            await self._hand(here, self._turns.standing([letter]))

    async def _land(self, here: Peer, letter: Letter, put: asyncio.Task[bool]) -> None:
        """Hand a letter over while the last bytes of its objects are on their way."""
        hand = asyncio.create_task(self._hand(here, [letter]))
        try:
            async with self._flight(here, letter):
                await self._hand_landing(here, letter, put, hand)
        finally:
            await _ended(put)
            await _ended(hand)
            del here.landing[letter.mailbox]
        self.pump(here)

    async def _hand_landing(
        self, here: Peer, letter: Letter, put: asyncio.Task[bool], hand: asyncio.Task[None]
    ) -> None:
        """`hand` is under way beside `put`; it is done again if the letter came before its last bytes."""
        try:
            whole = await put
        except KeyError:
            with contextlib.suppress(PeerRefused, LinkDown):
                await hand  # another may have brought what is lost here
                return
            raise
        with contextlib.suppress(PeerRefused):
            await hand
            return
        if whole:
            await self._hand(here, self._turns.standing([letter]))

    async def _bring(self, here: Peer, letters: list[Letter]) -> None:
        """Hand over letters of a mailbox that need no objects, and bring the receiver's word."""
        try:
            async with self._flight(here, letters[0]):
                await self._hand(here, self._turns.standing(letters))
        finally:
            del here.landing[letters[0].mailbox]
        self.pump(here)

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
        offer_s = self.allowance.patience_s(here, PING_BYTES + 128 * len(objects))
        missing = await here.client.missing(objects.items(), offer_s, parcel(letters, driver.core))
        for digest in objects:
            driver.lacking[here.name, digest] = _bytes(missing.get(digest, []))
        return missing

    async def _put_one(
        self,
        here: Peer,
        letter: Letter,
        missing: Mapping[Digest, list[Range]],
        ahead: bool,
        sent: Callable[[], object],
        offer: Offer | None,
    ) -> bool:
        """Send what is missing of a letter's objects, one after another. Whether all are there.

        `sent` is called when the last of them has gone.
        """
        lacking = {digest: _bytes(gaps) for digest, gaps in missing.items()}
        if ahead:
            here.unfit[letter.identity] = lacking
        elif not self._turns.fits(here, letter, lacking):
            return False
        else:
            here.unfit.pop(letter.identity, None)
        here.client.pace = self.allowance.pace(here)
        for digest, nbytes in letter.objects:
            if digest in lacking:
                room = self._room(here, letter, digest, ahead=ahead)
                if offer is not None:
                    room = self._started(here, letter, offer, missing, room)
                lacking.pop(digest)
                last = (lambda: None) if lacking else sent
                if not await self._put(here, digest, nbytes, missing[digest], room, last):
                    return False  # another goes first, or the contact is full
        return True

    async def _put(
        self,
        here: Peer,
        digest: Digest,
        nbytes: int,
        gaps: list[Range],
        room: Room,
        sent: Callable[[], object] = lambda: None,
    ) -> bool:
        """Send what is missing of an object; whether it is whole there. Raises KeyError if it is lost."""
        driver, path = self._driver, self._driver.blobs.path(digest)
        patience_s = self.allowance.patience_s(here, here.client.pace.window_bytes)
        try:
            if not await here.client.put(digest, nbytes, path, patience_s, gaps, room, sent):
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
        here.client.pace = self.allowance.pace(here)
        waiting = iter(sizes.items())

        def room(in_air_bytes: int) -> int:
            return self._next_chunk(here, letters[0])

        async def some() -> None:
            for digest, nbytes in waiting:
                try:
                    if not await self._put(here, digest, nbytes, missing[digest], room):
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

    async def _hand(self, here: Peer, letters: list[Letter]) -> None:
        """Hand over letters whose objects are there, as many as are answered in time, and end those that the
        receiver tells of."""
        driver = self._driver
        while len(letters) > 1 and not self.allowance.is_begun(here, sum(map(letter_bytes, letters)), 0):
            letters.pop()
        if not letters or not self._turns.fits(here, letters[0], {}):
            return
        for letter in letters:
            here.unfit.pop(letter.identity, None)
            driver.core.outbox.attempted(letter.identity)
        nbytes = sum(map(letter_bytes, letters)) + here.client.in_air_bytes
        timeout_s, now_ns = self.allowance.patience_s(here, nbytes), self._outlook.now_ns()
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


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task, if it still runs; what it raised is of no use any more."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _bytes(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)
