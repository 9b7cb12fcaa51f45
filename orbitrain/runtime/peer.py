"""A peer over real links: its connections, and what is under way to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from orbitrain.contacts.plan import Window
from orbitrain.machine import NEVER_NS, Digest
from orbitrain.mailbox import Identity, Mailbox
from orbitrain.transport.objects import Meter
from orbitrain.transport.rpc import Flows, LinkClient


@dataclass(frozen=True, slots=True)
class Landing:
    """Letters of a mailbox that have been handed over, and the flight that waits for the answer."""

    letters: frozenset[Identity]
    flight: asyncio.Task[None]


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
    """The flight that has the link."""
    landing: dict[Mailbox, Landing] = field(default_factory=dict)
    """Those whose bytes have all gone, beside it: one of a mailbox."""
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
    def landing_letters(self) -> frozenset[Identity]:
        """The letters that are landing."""
        return frozenset[Identity]().union(*(one.letters for one in self.landing.values()))

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

    async def cut(self) -> None:
        """End what is under way."""
        flights = [self.air, *(one.flight for one in self.landing.values())]
        under_way = [flight for flight in flights if flight is not None]
        for flight in under_way:
            flight.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self.air = None  # one that had not begun did not say that it has ended
        self.landing.clear()
