"""Letters over links that are real: nothing about them is modelled.

A letter is there when it has come, and its sender knows when the answer has. The believed plan says which
letters still fit into a contact, and when a call has taken too long; one that the link takes away stays in
doubt, and is settled when the two meet again.

The objects of a letter go before it, as the ranges that the receiver lacks. Letters that can be answered
within the contact go first, by lane; then what is left of the contact is filled with objects of those that
cannot, and the next contact goes on from there. Whoever ought to go first gets the link at the border of a
chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
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
from orbitrain.transport.rpc import Flows, LinkClient, LinkDown, PeerRefused, Room
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

UNKNOWN_BPS: Final = 256_000
"""Taken for the rate of a link that nobody has planned nor measured: its chunks are the smallest."""

TAIL_BYTES: Final = 16 * 1024
"""Towards the end of a contact chunks are cut shorter, so that little is lost with it, but not below this."""

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
    trip_s: float = 0.0
    """The shortest wall seconds there and back that were measured."""
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
        chosen = self._next(here)
        if chosen is not None:
            here.air = driver.spawn(self._fly(here, *chosen))

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

    def _fits(self, here: Peer, letter: Letter, lacking: Mapping[Digest, int]) -> bool:
        """Whether a letter can be answered in time; if not, it is written down, and when to look again."""
        believed = self._outlook.contact(here.name)
        size = letter_bytes(letter) + sum(lacking.values())
        # A letter whose objects are there costs nothing if the contact ends sooner than this clock says.
        spare_ns = self._outlook.clock_error_ns if any(lacking.values()) else 0
        if is_begun(believed, self._outlook.now_ns(), size, self._handling_ns, spare_ns):
            return True
        here.unfit[letter.identity] = lacking
        again_ns = reconsidered_ns(believed, NEVER_NS)
        if again_ns is not None:
            here.again_ns = again_ns
            self._driver.wake()
        return False

    def _pace(self, here: Peer) -> Pace:
        """How objects are cut for this link as it is now."""
        if not self._outlook.is_planned:
            return Pace.of(here.meter.rate_bps or UNKNOWN_BPS, here.trip_s + HOST_S)
        road = self._outlook.road(here.name)
        believed = self._outlook.contact(here.name)
        rate_bps = road.rate_bps if believed is None else believed.rate_bps_at(self._outlook.now_ns())
        return Pace.of(rate_bps, 2 * road.delay_s + HOST_S * self._driver.clock.rate)

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

    def _room(self, here: Peer, letter: Letter, digest: Digest, *, ahead: bool) -> Room:
        """The chunks that an object of a letter is given: none once another ought to have the link."""
        driver, client = self._driver, here.client
        lacking_bytes, before_bytes = driver.lacking.get((here.name, digest), 0), client.object_bytes

        def room(in_air_bytes: int) -> int:
            arrived_bytes = client.object_bytes - before_bytes - in_air_bytes
            driver.lacking[here.name, digest] = lacking_bytes - arrived_bytes
            here.meter.heard(wall_s(), client.object_bytes - in_air_bytes)
            client.pace = self._pace(here)
            if letter not in self._driver.core.outbox.heads(here.name):
                return 0  # withdrawn, superseded or expired meanwhile
            chosen = self._next(here)
            if chosen is not None and chosen[0].identity != letter.identity:
                first, first_ahead = chosen
                if first.lane < letter.lane or (ahead and not first_ahead):
                    return 0
            return self._room_bytes(here, in_air_bytes)

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

    async def _fly(self, here: Peer, letter: Letter, ahead: bool) -> None:
        """Move one letter, its objects first, and bring the receiver's word; or, `ahead`, its objects
        only."""
        try:
            async with self._flight(here, letter):
                await self._move(here, letter, ahead)
        finally:
            here.air = None
        self.pump(here)

    def _patience_s(self, here: Peer, nbytes: int) -> float:
        """Wall seconds after which a call that moves so many bytes is given up."""
        return TRANSFER_S + TRANSFER_FACTOR * self._outlook.trip_wall_s(here.name, nbytes)

    async def _move(self, here: Peer, letter: Letter, ahead: bool) -> None:
        driver, name = self._driver, here.name
        objects = [] if is_settled_only(letter, self._outlook.now_ns()) else list(letter.objects)
        missing: dict[Digest, list[Range]] = {}
        if objects:
            offer_s = self._patience_s(here, PING_BYTES + 128 * len(objects))
            missing = await here.client.missing(objects, offer_s, parcel(letter, driver.core))
        if letter not in driver.core.outbox.heads(name):
            return  # withdrawn or expired meanwhile: this side has ended it
        lacking = {digest: sum(end - start for start, end in gaps) for digest, gaps in missing.items()}
        for digest, _ in objects:
            driver.lacking[name, digest] = lacking.get(digest, 0)
        if ahead:
            here.unfit[letter.identity] = lacking
        elif not self._fits(here, letter, lacking):
            return
        else:
            here.unfit.pop(letter.identity, None)
        here.client.pace = self._pace(here)
        patience_s = self._patience_s(here, here.client.pace.window_bytes)
        for digest, nbytes in objects:
            if digest in missing:
                room = self._room(here, letter, digest, ahead=ahead)
                path = driver.blobs.path(digest)
                try:
                    if not await here.client.put(digest, nbytes, path, patience_s, missing[digest], room):
                        return  # another goes first, or the contact is full
                except PeerRefused as error:
                    if error.code == DAMAGED and not await driver.examine(digest):
                        raise KeyError(digest) from None  # it was damaged here
                    raise
                except OSError:
                    if not await driver.examine(digest):
                        raise KeyError(digest) from None  # its file has vanished
                    raise
                lacking.pop(digest)
                driver.lacking[name, digest] = 0
        if letter not in driver.core.outbox.heads(name) or not self._fits(here, letter, lacking):
            return
        here.unfit.pop(letter.identity, None)
        driver.core.outbox.attempted(letter.identity)
        timeout_s = self._patience_s(here, letter_bytes(letter))
        receipt = await here.client.deliver(written(letter, driver.core, self._outlook.now_ns()), timeout_s)
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
