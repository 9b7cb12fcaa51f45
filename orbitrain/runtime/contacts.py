"""A node's contacts as they come, and the letters that leave over them.

Links follow the true plan where the node has been given one, which is part of an emulated world; otherwise
the plan that it believes. Which letters are begun is decided by what it believes, and what becomes of them by
the true plan (`orbitrain.flights`): bytes move for those that arrive, and only an answer that is back before
the contact ends is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orbitrain.contacts.plan import Window
from orbitrain.flights import window_at
from orbitrain.machine import NEVER_NS, ContactEnded, ContactStarted, Severity
from orbitrain.runtime.letters import RETRY_S
from orbitrain.runtime.modelled import ModelledTransfers, Peer
from orbitrain.step import Arrival
from orbitrain.transport.rpc import LinkClient, LinkDown, PeerRefused
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

PING_TIMEOUT_S = 2.0
"""Wall seconds for a ping's answer: long for any link of ours, short against a pass."""


@dataclass(frozen=True, slots=True)
class Times:
    """Modelled times of the links, scenario time."""

    acquisition_ns: int
    handling_ns: int


class Contacts:
    """Keeps every contact with every peer, and sends what waits for them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._peers: dict[str, Peer] = {}
        self._changed = asyncio.Event()
        self._relinked_ns = 0

    def begin(self, addresses: Mapping[str, str], times: Times) -> None:
        self._times = times
        self._transfers = ModelledTransfers(self._driver, times.handling_ns, self.reborn)
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
                past_ns = await self._keep(Peer(peer, end_ns, LinkClient(address, driver.core.node)), due_ns)

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

    async def _keep(self, here: Peer, due_ns: int) -> int:
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
                await self._transfers.close(here)
                del self._peers[peer]
            if here.is_owed:
                # Bytes were slower than the times declared: the simulator has this letter delivered.
                late = {"what": "transfer", "late_s": 0.0, "peer": peer}
                driver.note("overrun", Severity.ACTIVITY_LO, late)
            if here.met:
                fields = {"class": link_class, "bytes": here.fresh_bytes()}
                driver.take(Arrival(here.end_ns, peer, -1, 0, None, ContactEnded(peer), fields=fields))
            else:
                driver.wake()  # it may wait for this contact to end
        finally:
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

    async def _acquire(self, here: Peer, due_ns: int) -> None:
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

    def _confirm(self, here: Peer, incarnation: str, due_ns: int) -> None:
        here.confirmed, here.incarnation, here.met = True, incarnation, True
        self._transfers.open(here)
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
        self._transfers.reset(here)
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
            self._transfers.pump(here)
