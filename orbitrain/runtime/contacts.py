"""A node's contacts as they come, and the letters that leave over them.

Links follow the true plan where the node has been given one, which is part of an emulated world; otherwise
the plan that it believes. Which letters are begun is decided by what it believes, and what becomes of them by
the true plan (`orbitrain.mailbox`): bytes move for those that arrive, and only an answer that is back before
the contact ends is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import Window
from orbitrain.core import Arrival, Core
from orbitrain.machine import NEVER_NS, ContactEnded, ContactStarted, Digest, Severity
from orbitrain.mailbox import (
    ENVELOPE_BYTES,
    Identity,
    Letter,
    Outcome,
    is_begun,
    passage,
    reconsidered_ns,
    settle,
    window_at,
)
from orbitrain.runtime.reception import OUTCOMES
from orbitrain.transport.rpc import LinkClient, LinkDown, Parcel, PeerRefused
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

PING_TIMEOUT_S = 2.0
"""Wall seconds for a ping's answer: long for any link of ours, short against a pass."""

RETRY_S = 0.2
"""Wall seconds between tries within a contact."""

ANSWER_MARGIN_S = 10.0
"""Wall seconds beyond its modelled end that a delivery may take before the call is given up."""

FROM_WIRE = {value: outcome for outcome, value in OUTCOMES.items()}


@dataclass(frozen=True, slots=True)
class Times:
    """Modelled times of the links, scenario time."""

    acquisition_ns: int
    handling_ns: int


@dataclass(slots=True)
class _Peer:
    """A peer in a true window."""

    name: str
    end_ns: int
    client: LinkClient
    incarnation: str = ""
    confirmed: bool = False
    met: bool = False
    """The machines have been told."""
    air: asyncio.Task[None] | None = None
    owed: bool = False
    """The letter in the air is to arrive, and has not been seen to."""
    busy_ns: int = 0
    """Until when the last letter keeps the link, scenario time."""
    unfit: dict[Identity, frozenset[Digest]] = field(default_factory=dict)
    """Letters that were not begun, with the objects that the peer lacks for them."""
    again_ns: int = NEVER_NS
    """When to look again at those."""
    counted: int = 0
    """Bytes of `client` that are in the journal already."""

    def fresh_bytes(self) -> int:
        moved = sum(self.client.bytes_moved)
        fresh, self.counted = moved - self.counted, moved
        return fresh


class Contacts:
    """Keeps every contact with every peer, and sends what waits for them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._peers: dict[str, _Peer] = {}
        self._changed = asyncio.Event()
        self._relinked_ns = 0

    def begin(self, addresses: Mapping[str, str], times: Times) -> None:
        self._times = times
        for peer, address in sorted(addresses.items()):
            self._driver.spawn(self._meet(peer, address))

    # ------------------------------------------------------------------------------------ contacts

    async def _meet(self, peer: str, address: str) -> None:
        """Keep every contact with one peer, from acquisition to loss of signal."""
        driver, past_ns = self._driver, 0
        while True:
            window = self._next_window(peer, past_ns)
            if window is None:
                if driver.truth is not None:
                    return
                await self._changed.wait()
                continue
            start_ns, end_ns = window
            if not await self._until(start_ns):
                continue
            # A node that comes up within a contact needs as long to acquire the signal as at its start.
            due_ns = max(start_ns, driver.boot_ns) + self._times.acquisition_ns
            if due_ns < self._relinked_ns:  # nor does one that hears of it only now
                due_ns = self._relinked_ns + self._times.acquisition_ns
            past_ns = end_ns
            if due_ns < end_ns:  # else over before it could be confirmed
                past_ns = await self._keep(_Peer(peer, end_ns, LinkClient(address, driver.core.node)), due_ns)

    def _next_window(self, peer: str, past_ns: int) -> Window | None:
        past_ns = max(past_ns, self._driver.clock.now_ns())
        windows = self._driver.links.windows(self._driver.core.node, peer)
        return next((window for window in windows if window[1] > past_ns), None)

    async def _until(self, t_ns: int) -> bool:
        """Wait for scenario time `t_ns`; False if the links follow another plan before."""
        try:
            await asyncio.wait_for(self._changed.wait(), self._driver.clock.wall_s_until(t_ns))
        except TimeoutError:
            return True
        return False

    async def _keep(self, here: _Peer, due_ns: int) -> int:
        """One contact, from its first ping to its end, which is returned."""
        driver, peer = self._driver, here.name
        link_class = self._link_class(peer, due_ns)
        self._peers[peer] = here
        try:
            acquire = asyncio.create_task(self._acquire(here, due_ns))
            try:
                while not await self._until(here.end_ns):
                    pass  # `relink` has moved the end
            finally:
                acquire.cancel()
                await asyncio.gather(acquire, return_exceptions=True)
                if here.air is not None:
                    here.air.cancel()
                    await asyncio.gather(here.air, return_exceptions=True)
                del self._peers[peer]
            if here.owed:
                # Bytes were slower than the times declared: the simulator has this letter delivered.
                late = {"what": "transfer", "late_s": 0.0, "peer": peer}
                driver.note("overrun", Severity.ACTIVITY_LO, late)
            if here.met:
                fields = {"class": link_class, "bytes": here.fresh_bytes()}
                driver.take(Arrival(here.end_ns, peer, -1, 0, None, ContactEnded(peer), fields=fields))
            else:
                driver.wake()  # it may wait for this contact to end
        finally:
            driver.blobs.unexpect(peer)  # its letters will not come in this contact any more
            with contextlib.suppress(LinkDown):
                await here.client.close()
        return here.end_ns

    def relink(self, at_ns: int) -> None:
        """The links follow an updated plan: contacts in progress go on for as long as it has them."""
        for here in self._peers.values():
            window = window_at(self._driver.links, self._driver.core.node, here.name, at_ns)
            here.end_ns = at_ns if window is None else window[1]
        self._relinked_ns = at_ns
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _link_class(self, peer: str, t_ns: int) -> str:
        contact = self._driver.links.active(self._driver.core.node, peer, t_ns)
        return contact.link_class if contact is not None else ""

    async def _acquire(self, here: _Peer, due_ns: int) -> None:
        """Ping until the peer answers; tell the machines at `due_ns`, or later if it took longer."""
        driver = self._driver
        while not here.confirmed:
            request = wire.PingRequest(
                source=driver.core.node,
                incarnation=driver.core.incarnation,
                plan_sha256=driver.plan.sha256,
                now_ns=driver.clock.now_ns(),
            )
            try:
                reply = await here.client.ping(request, PING_TIMEOUT_S)
                if reply.node != here.name:
                    raise PeerRefused(f"it answers as {reply.node[:64]!r}")
                self._confirm(here, reply.incarnation, due_ns)
            except LinkDown:
                await asyncio.sleep(RETRY_S)
            except PeerRefused as error:
                driver.note("contact_refused", Severity.WARNING_LO, {"peer": here.name, "reason": str(error)})
                await asyncio.sleep(PING_TIMEOUT_S)

    def _confirm(self, here: _Peer, incarnation: str, due_ns: int) -> None:
        here.confirmed, here.incarnation, here.met = True, incarnation, True
        self._driver.telemetry.contact(here.name, True)
        # What the plan believed then says of its end is looked up when the step is taken.
        item = ContactStarted(here.name, self._link_class(here.name, due_ns), None)
        fields = {"bytes": here.fresh_bytes()}
        self._driver.arrive(Arrival(due_ns, here.name, -1, 1, None, item, fields=fields), "contact")

    def reborn(self, peer: str, incarnation: str) -> None:
        """A peer answers with another store than the one this contact began with: begin it again."""
        here, driver = self._peers.get(peer), self._driver
        if here is None or not here.confirmed or here.incarnation == incarnation:
            return
        driver.note("peer_reborn", Severity.WARNING_LO, {"peer": peer, "incarnation": incarnation})
        now_ns = max(driver.clock.now_ns(), driver.latest_ns)
        here.unfit.clear()
        here.busy_ns = 0
        driver.take(Arrival(now_ns, peer, -1, 0, None, ContactEnded(peer)))
        self._confirm(here, incarnation, now_ns)

    def ending_ns(self) -> int:
        """When the first of the contacts in progress ends: no step is taken then without its end."""
        return min((here.end_ns for here in self._peers.values()), default=NEVER_NS)

    # ------------------------------------------------------------------------------------- letters

    def again_ns(self) -> int:
        """The next instant at which letters that were not begun are looked at again."""
        return min((here.again_ns for here in self._peers.values()), default=NEVER_NS)

    def pump(self) -> None:
        """Start what can be started, as of the last step."""
        for here in list(self._peers.values()):
            if here.again_ns <= self._driver.latest_ns:
                here.again_ns = NEVER_NS
            self._pump(here)

    def _pump(self, here: _Peer) -> None:
        """Start the next letter towards a peer in contact, if the link is free and it seems to fit."""
        driver, start_ns = self._driver, self._driver.latest_ns
        if not here.confirmed or here.air is not None or driver.draining:
            return
        if start_ns < here.busy_ns or start_ns >= here.end_ns:
            return
        ends = (driver.core.node, here.name)
        if driver.links.active(*ends, start_ns) is None or not driver.told(here.name):
            return
        believed = driver.plan.active(*ends, start_ns)
        for letter in driver.core.outbox.heads(here.name):
            lacking = here.unfit.get(letter.identity)
            if lacking is not None and not self._fits(here, believed, letter, lacking, start_ns):
                continue
            here.unfit.pop(letter.identity, None)
            here.air = driver.spawn(self._fly(here, believed, letter, start_ns))
            return

    def _fits(
        self,
        here: _Peer,
        believed: Contact | None,
        letter: Letter,
        lacking: frozenset[Digest],
        start_ns: int,
    ) -> bool:
        """Whether a letter is begun; if not, it is written down, and when to look again."""
        if is_begun(believed, start_ns, size_of(letter, lacking), self._times.handling_ns):
            return True
        here.unfit[letter.identity] = lacking
        again_ns = reconsidered_ns(believed, here.end_ns)
        if again_ns is not None:
            here.again_ns = again_ns
            self._driver.wake()
        return False

    async def _fly(self, here: _Peer, believed: Contact | None, letter: Letter, start_ns: int) -> None:
        """Move one letter, its objects first, and bring the receiver's word."""
        driver = self._driver
        try:
            await self._move(here, believed, letter, start_ns)
        except LinkDown:
            here.owed = False
            await asyncio.sleep(RETRY_S)
        except PeerRefused as error:
            here.owed = False
            fields = {"peer": here.name, "key": letter.key, "reason": str(error)}
            driver.note("transfer_refused", Severity.WARNING_LO, fields)
            await asyncio.sleep(PING_TIMEOUT_S)
        except KeyError:
            # An object of the letter is gone from this store: nothing will bring it back to this letter.
            here.owed = False
            now_ns = max(driver.latest_ns, driver.clock.now_ns())
            nothing = {"to": letter.destination, "bytes": 0}
            self._end(letter, Outcome.REFUSED, "an object of it is lost", now_ns, nothing)
        finally:
            here.air = None
        self._pump(here)

    async def _move(self, here: _Peer, believed: Contact | None, letter: Letter, start_ns: int) -> None:
        driver = self._driver
        objects = [] if letter.cancelled is not None else list(letter.objects)
        ranges = await here.client.missing(objects, parcel=parcel(letter, driver.core)) if objects else {}
        missing = frozenset(ranges)
        if letter not in driver.core.outbox.heads(here.name):
            return  # withdrawn or expired meanwhile: this side has ended it
        if not self._fits(here, believed, letter, missing, start_ns):
            return
        ends, size = (driver.core.node, here.name), size_of(letter, missing)
        course = passage(driver.links, ends, start_ns, size, self._times.handling_ns, here.end_ns)
        driver.core.outbox.attempted(letter.identity)
        if course.answered_ns is None:
            here.busy_ns = NEVER_NS  # nobody can tell before the contact is lost
        if course.arrives_ns is None:
            return
        here.owed, link_class = True, self._link_class(here.name, start_ns)
        timeout_s = driver.clock.wall_s_until(course.answered_ns or here.end_ns) + ANSWER_MARGIN_S
        for digest, nbytes in objects:
            if digest in ranges:
                await here.client.put(digest, nbytes, driver.blobs.path(digest), timeout_s, ranges[digest])
        # The answer to one that is not heard may well be under way when the contact ends.
        here.owed = course.answered_ns is not None
        receipt = await here.client.deliver(written(letter, driver.core, course.arrives_ns), timeout_s)
        here.owed = False
        if course.answered_ns is not None:
            self._settle(here, letter, receipt, course.answered_ns, link_class)

    def _settle(
        self, here: _Peer, letter: Letter, receipt: wire.Receipt, answered_ns: int, link_class: str
    ) -> None:
        driver = self._driver
        outcome = FROM_WIRE.get(receipt.outcome)
        if outcome is None or driver.core.outbox.find(letter.sender_role, letter.key) is None:
            return
        self.reborn(here.name, receipt.incarnation)
        here.busy_ns = answered_ns
        for identity, lacking in here.unfit.items():
            here.unfit[identity] = lacking - {digest for digest, _ in letter.objects}
        fields = {"to": here.name, "class": link_class, "bytes": here.fresh_bytes()}
        self._end(letter, outcome, receipt.reason[:500], answered_ns, fields)

    def _end(
        self, letter: Letter, outcome: Outcome, reason: str, due_ns: int, fields: Mapping[str, Any]
    ) -> None:
        arrival = ended(letter, self._driver.core, outcome, reason, due_ns, fields)
        self._driver.arrive(arrival, "answer")


def written(letter: Letter, core: Core, due_ns: int) -> wire.Letter:
    """A letter of this node as it travels, due at its receiver at `due_ns`."""
    return wire.Letter(
        source=core.node,
        incarnation=core.incarnation,
        destination=letter.destination,
        role=letter.role,
        lane=letter.lane,
        sequence=letter.sequence,
        kind=letter.kind,
        body=letter.body,
        objects=[wire.ObjectName(digest=digest, size=size) for digest, size in letter.objects],
        due_ns=due_ns,
        expires_at_ns=letter.expires_at_ns,
        cancelled=letter.cancelled.value if letter.cancelled is not None else "",
    )


def parcel(letter: Letter, core: Core) -> Parcel:
    """What a letter's objects are offered for."""
    return Parcel(core.incarnation, letter.role, letter.lane, letter.sequence, letter.expires_at_ns)


def ended(
    letter: Letter, core: Core, outcome: Outcome, reason: str, due_ns: int, fields: Mapping[str, Any]
) -> Arrival:
    """The input that ends a letter of this node; it is not tried again meanwhile."""
    core.outbox.settling(letter.identity)
    current = core.outbox.find(letter.sender_role, letter.key) or letter
    return Arrival(
        due_ns,
        letter.destination,
        letter.lane,
        letter.sequence,
        letter.sender_role,
        settle(current, outcome, reason),
        settles=letter.identity,
        fields=fields,
    )


def size_of(letter: Letter, missing: frozenset[Digest]) -> int:
    """Modelled bytes of a letter with the objects that its receiver lacks."""
    return letter_bytes(letter, sum(nbytes for digest, nbytes in letter.objects if digest in missing))


def letter_bytes(letter: Letter, lacking_bytes: int) -> int:
    """Modelled bytes of a letter with those of its objects that its receiver lacks."""
    size = ENVELOPE_BYTES + len(letter.body)
    return size if letter.cancelled is not None else size + lacking_bytes  # else it is settled, not delivered
