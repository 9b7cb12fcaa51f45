"""A node's contacts over links that are real.

Links that are real (emulated packet by packet, or radios) carry or do not, whatever a plan says. So a contact
is what a peer's answer to a ping proves. The plan that the node believes says when to ask, since when an
answer counts (`acquisition_s` after the announced start) and when silence is the end; it does not end a
contact that goes on, nor begin one that does not come. What leaves over them is in `transfers`.

All waiting is of wall time, as the host's TCP is; what belongs to the links themselves (their delay, their
rate) is divided by the clock's rate first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from orbitrain.contacts.plan import Window
from orbitrain.machine import NEVER_NS, ContactEnded, ContactStarted, Severity
from orbitrain.runtime.clock import SECOND_NS, wall_s
from orbitrain.runtime.clock_watch import ClockWatch
from orbitrain.runtime.contacts import Times
from orbitrain.runtime.letters import RETRY_S
from orbitrain.runtime.outlook import Outlook, RealLinks
from orbitrain.runtime.peer import Peer
from orbitrain.runtime.pulse import Pulse
from orbitrain.runtime.transfers import PING_BYTES, REFUSED_S, Transfers
from orbitrain.step import Arrival
from orbitrain.transport.rpc import Flows, LinkClient, LinkDown, PeerRefused, answers
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

KNOCK_S: Final = 0.1
"""Wall seconds between two questions to a peer that the plan announces and that is silent yet; a scenario's
half second where that is longer. One SYN each, as the kernel's second one would come after a second."""

PATIENT_S: Final = 0.8
PATIENT_EVERY: Final = 4
"""Of these questions every fourth waits longer: on a host that is too busy for KNOCK_S none would do."""

PROBE_S: Final = 10.0
"""Scenario seconds between two questions to a peer that the plan does not announce now."""

PROBE_WALL_S: Final = 0.5
PROBES_PER_S: Final = 20.0
"""... at least so many wall seconds, and of all such peers together at most so many questions a wall second:
with N peers each is asked every max(PROBE_S / rate, PROBE_WALL_S, N / PROBES_PER_S) wall seconds."""

PING_EVERY_S: Final = 0.5
PING_WAIT_S: Final = 0.5
"""Wall seconds between pings in contact, and for an answer beyond what the link itself takes."""


class RealContacts:
    """Finds peers, keeps the contacts with them, and sends what waits for them."""

    def __init__(self, driver: Driver, real: RealLinks) -> None:
        self._driver = driver
        self._real = real
        self._peers: dict[str, Peer] = {}
        self._calls: dict[str, asyncio.Event] = {}
        self._met_ns: dict[str, int] = {}

    def begin(self, addresses: Mapping[str, str], times: Times) -> None:
        self._outlook = Outlook(self._driver, self._real, times.acquisition_ns)
        self._clocks = ClockWatch(self._driver, self._real.clock_error_ns)
        self._transfers = Transfers(self._driver, self._outlook, times.handling_ns, self.reborn)
        self._driver.note("link_flows", Severity.DIAGNOSTIC, {"flows": self._real.flows})
        self._probe_s = max(PROBE_S / self._driver.clock.rate, PROBE_WALL_S, len(addresses) / PROBES_PER_S)
        for number, (peer, address) in enumerate(sorted(addresses.items())):
            self._calls[peer] = asyncio.Event()
            self._driver.spawn(self._meet(peer, address, self._probe_s * number / len(addresses)))

    def relink(self, at_ns: int) -> None:
        """Another plan is believed."""
        self._outlook.relink(at_ns)
        for call in self._calls.values():
            call.set()

    def reborn(self, peer: str, incarnation: str) -> None:
        """A ping of a peer, or its answer, says which store it has: begin anew with one that has another.

        A peer that is heard and was not found yet is asked at once.
        """
        here, driver = self._peers.get(peer), self._driver
        if here is None:
            if peer in self._calls:
                self._calls[peer].set()
            return
        if here.incarnation == incarnation:
            return
        here.incarnation = incarnation
        if not here.met:
            return
        driver.note("peer_reborn", Severity.WARNING_LO, {"peer": peer, "incarnation": incarnation})
        now_ns = self._outlook.now_ns()
        here.unfit.clear()
        driver.take(Arrival(now_ns, peer, -1, 0, None, ContactEnded(peer)))
        self._tell(here, now_ns)

    # ------------------------------------------------------------------------------------ contacts

    async def _meet(self, peer: str, address: str, stagger_s: float) -> None:
        """Keep every contact with one peer."""
        if self._outlook.announced(peer) is None:
            await self._pause(peer, min(stagger_s, self._outlook.opens_wall_s(peer)))
        while True:
            here = await self._seek(peer, address)
            await self._keep(here)

    async def _pause(self, peer: str, wall_s: float) -> None:
        """Wait, unless the peer is heard or the plan changes."""
        call = self._calls[peer]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(call.wait(), min(wall_s, 3600.0))
        call.clear()

    async def _seek(self, peer: str, address: str) -> Peer:
        """Ask until the peer answers a ping."""
        sought: Window | None = None
        tries = 0
        while True:
            window = self._outlook.announced(peer)
            if window != sought:
                self._missed(peer, sought)
                sought, tries = window, 0
            tries += 1
            patient = window is None or tries % PATIENT_EVERY == 0
            wait_s = (PATIENT_S if patient else KNOCK_S) + self._outlook.expected_trip_s(peer, 200)
            begun_ns = self._outlook.now_ns()
            if window is None:
                wait_s = min(wait_s, self._outlook.opens_wall_s(peer))
            if await self._answers(peer, address, wait_s):
                here = await self._first_ping(peer, address, window)
                if here is not None:
                    return here
            if window is None:
                if self._outlook.announced(peer) is not None:
                    continue  # it has just opened
                pause_s = min(self._probe_s, self._outlook.opens_wall_s(peer))
            else:
                rate = self._driver.clock.rate
                pause_s = max(KNOCK_S, 0.5 / rate) - (self._outlook.now_ns() - begun_ns) / SECOND_NS / rate
            await self._pause(peer, max(pause_s, 0.01))

    async def _answers(self, peer: str, address: str, wait_s: float) -> bool:
        """Whether something listens there; given up when the peer is heard, or another plan is believed."""
        knock = asyncio.create_task(answers(address, wait_s))
        call = asyncio.create_task(self._calls[peer].wait())
        try:
            await asyncio.wait({knock, call}, return_when=asyncio.FIRST_COMPLETED)
            return knock.done() and knock.result()
        finally:
            for task in (knock, call):
                task.cancel()
            await asyncio.gather(knock, call, return_exceptions=True)

    def _missed(self, peer: str, window: Window | None) -> None:
        """An announced window is over in which the peer did not answer once."""
        if window is None or self._outlook.now_ns() < window[1] or self._met_ns.get(peer, -1) >= window[0]:
            return
        if self._outlook.acquired_ns(window) < window[1]:  # else nobody could have met in it
            fields = {"peer": peer, "start_ns": window[0], "end_ns": window[1]}
            self._driver.note("contact_missed", Severity.ACTIVITY_LO, fields)

    def _ping_request(self) -> wire.PingRequest:
        driver = self._driver
        return wire.PingRequest(
            source=driver.core.node,
            incarnation=driver.core.incarnation,
            plan_sha256=driver.plan.sha256,
            now_ns=driver.clock.now_ns(),
        )

    def _ping_wait_s(self, peer: str) -> float:
        return PING_WAIT_S + 3 * self._outlook.expected_trip_s(peer, PING_BYTES)

    async def _ping(self, peer: str, client: LinkClient) -> wire.PingReply:
        """Raises LinkDown and PeerRefused."""
        sent_ns, begun_s = self._outlook.now_ns(), wall_s()
        reply = await client.ping(self._ping_request(), self._ping_wait_s(peer))
        self._outlook.took(peer, wall_s() - begun_s)
        self._clocks.heard(peer, reply.now_ns, sent_ns, self._outlook.now_ns())
        return reply

    async def _first_ping(self, peer: str, address: str, window: Window | None) -> Peer | None:
        """Something listens there: whether it is the peer."""
        driver = self._driver
        client = LinkClient(address, driver.core.node)
        sent_ns = self._outlook.now_ns()
        try:
            reply = await self._ping(peer, client)
            if reply.node != peer:
                raise PeerRefused(f"it answers as {reply.node[:64]!r}")
        except (LinkDown, PeerRefused) as error:
            await client.close()
            if isinstance(error, PeerRefused):
                driver.note("contact_refused", Severity.WARNING_LO, {"peer": peer, "reason": str(error)})
                await asyncio.sleep(REFUSED_S)
            return None
        except asyncio.CancelledError:
            await client.close()
            raise
        now_ns = self._outlook.now_ns()
        window = window or self._outlook.announced(peer)
        due_ns = now_ns if window is None else max(self._outlook.acquired_ns(window), now_ns)
        bulk = Flows(address, driver.core.node, self._real.flows)
        return Peer(peer, address, client, bulk, reply.incarnation, window, due_ns, sent_ns)

    async def _keep(self, here: Peer) -> None:
        """One contact, from the first answered ping to its end."""
        driver, peer = self._driver, here.name
        self._peers[peer] = here
        try:
            await self._ping_on(here)
        finally:
            await here.cut()
            del self._peers[peer]
            if here.met:
                self._met_ns[peer] = self._outlook.now_ns()
                driver.telemetry.contact(peer, False)
                self._part(here)
            await here.close()

    def _part(self, here: Peer) -> None:
        """Tell the machines: as of now, or of the announced end, or of the last sign of life after that."""
        end_ns = self._outlook.now_ns()
        cut = self._outlook.announced(here.name) is not None
        if here.announced is not None and not cut:
            end_ns = min(end_ns, max(here.proved_ns, self._outlook.over_ns(here.name)))
        fields = {"class": self._outlook.road(here.name).link_class, "bytes": here.fresh_bytes(), "cut": cut}
        self._driver.take(Arrival(end_ns, here.name, -1, 0, None, ContactEnded(here.name), fields=fields))

    async def _ping_on(self, here: Peer) -> None:
        """Until pings stay unanswered."""
        driver, pulse = self._driver, Pulse(wall_s(), here.heard_bytes)
        while True:
            if not here.met and pulse.misses == 0 and self._outlook.now_ns() >= here.due_ns:
                self._tell(here, here.due_ns)
            window = self._outlook.announced(here.name)
            here.announced = window or here.announced
            pause_s = PING_EVERY_S if pulse.misses == 0 else RETRY_S
            if not here.met and pulse.misses == 0:
                pause_s = min(pause_s, driver.clock.wall_s_until(here.due_ns))
            if window is not None:  # whether it is over then is asked then
                pause_s = min(pause_s, driver.clock.wall_s_until(window[1]))
            await asyncio.sleep(pause_s)
            if (
                not here.met
                and pulse.misses == 0
                and pause_s < PING_EVERY_S
                and self._outlook.now_ns() >= here.due_ns
            ):
                continue
            sent_ns = self._outlook.now_ns()
            try:
                reply = await self._ping(here.name, here.pings)
            except (LinkDown, PeerRefused):
                if not pulse.missed(wall_s(), here.heard_bytes):
                    here.proved_ns = sent_ns  # it waited behind what it is to prove possible
                    continue
                over = self._outlook.announced(here.name) is None and here.announced is not None
                if pulse.is_lost(wall_s(), self._transfers.allowance.queue_s(here), over=over):
                    return
                await here.renew_pings(driver.core.node)
                continue
            if pulse.is_stale(wall_s(), self._transfers.allowance.queue_s(here)):
                await self._transfers.renew(here)
            pulse.answered(wall_s(), here.heard_bytes)
            here.proved_ns = sent_ns
            self.reborn(here.name, reply.incarnation)
            if self._outlook.announced(here.name) is None:
                self._transfers.pump(here)

    def _tell(self, here: Peer, at_ns: int) -> None:
        """The machines are told of a contact."""
        here.met = True
        self._driver.telemetry.contact(here.name, True)
        window = here.announced
        fields: dict[str, object] = {"bytes": here.fresh_bytes(), "announced": window is not None}
        if window is not None:
            fields["late_s"] = round(max(0, at_ns - self._outlook.acquired_ns(window)) / SECOND_NS, 3)
        item = ContactStarted(here.name, self._outlook.road(here.name).link_class, None)
        self._driver.take(Arrival(at_ns, here.name, -1, 1, None, item, fields=fields))

    def ending_ns(self) -> int:
        """No step waits for a contact's end: nobody knows it ahead."""
        return NEVER_NS

    # ------------------------------------------------------------------------------------- letters

    def again_ns(self) -> int:
        """The next instant at which letters that were not begun are looked at again."""
        return min((here.again_ns for here in self._peers.values()), default=NEVER_NS)

    def pump(self) -> None:
        """Start what can be started."""
        for here in list(self._peers.values()):
            if here.again_ns <= self._driver.latest_ns:
                here.again_ns = NEVER_NS
            self._transfers.pump(here)
