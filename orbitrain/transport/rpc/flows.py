"""The learning plane, sending: a node's calls towards one peer, objects over several connections at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from orbitrain.machine import Digest
from orbitrain.transport.objects import Pace, Range
from orbitrain.transport.rpc.channel import LinkDown, PeerRefused
from orbitrain.transport.rpc.link_client import OFFER_TIMEOUT_S, PACE, LinkClient, Parcel, Room
from orbitrain.transport.stripes import Stripe, Stripes, divided
from orbitrain.v1 import link_pb2

CONNECTS_MAX: Final = 3
"""Attempts of one flow to begin: at a loss of 3 % one in seventeen fails, as its first packet or the answer
is lost, and three in a row do once in five thousand times."""

_NOBODYS: Final = Parcel()


class Flows:
    """This node's end of a link, as a `LinkClient`; objects go over `count` connections where that pays."""

    def __init__(self, address: str, source: str, count: int = 1, pace: Pace = PACE) -> None:
        self.address = address
        self.source = source
        self.count = count
        self._clients = [LinkClient(address, source, pace)]
        self.pace = pace
        self._past = (0, 0)
        self._past_object_bytes = 0
        self._closed = False

    @property
    def pace(self) -> Pace:
        """Of all together. While an object goes over one connection, it is changed in mid-way."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._pace = self._clients[0].pace = pace

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """Bytes (sent, received) so far, see Traffic."""
        moved = [self._past, *(client.bytes_moved for client in self._clients)]
        return sum(sent for sent, _ in moved), sum(received for _, received in moved)

    @property
    def object_bytes(self) -> int:
        """Bytes of objects sent so far, repeats included."""
        return self._past_object_bytes + sum(client.object_bytes for client in self._clients)

    @property
    def in_air_bytes(self) -> int:
        """Bytes of objects sent of which no answer has told yet."""
        return sum(client.in_air_bytes for client in self._clients)

    async def missing(
        self,
        objects: Iterable[tuple[Digest, int]],
        timeout_s: float = OFFER_TIMEOUT_S,
        parcel: Parcel = _NOBODYS,
    ) -> dict[Digest, list[Range]]:
        """See `LinkClient.missing`."""
        return await self._clients[0].missing(objects, timeout_s, parcel)

    async def deliver(self, letter: link_pb2.Letter, timeout_s: float) -> link_pb2.Receipt:
        """See `LinkClient.deliver`."""
        return await self._clients[0].deliver(letter, timeout_s)

    async def hand(self, letters: Sequence[link_pb2.Letter], timeout_s: float) -> list[link_pb2.Receipt]:
        """See `LinkClient.hand`."""
        return await self._clients[0].hand(letters, timeout_s)

    async def put(
        self,
        digest: Digest,
        size: int,
        path: Path,
        patience_s: float,
        ranges: Sequence[Range] | None = None,
        room: Room | None = None,
        sent: Callable[[], object] = lambda: None,
    ) -> bool:
        """See `LinkClient.put`; `room` is told of the bytes that all connections have in the air, and `sent`
        called where one connection has all.

        Once it has answered 0, none sends more. What one connection raises ends the others, after they have
        heard what became of what they had in the air.
        """
        wanted = [(0, size)] if ranges is None else ranges
        flows, pace = divided(self.pace, self.count)
        stripes = Stripes(wanted, pace)
        shares = [stripe for _ in range(flows) if (stripe := stripes.open()) is not None]
        if len(shares) < 2:
            return await self._clients[0].put(digest, size, path, patience_s, wanted, room, sent)
        while len(self._clients) < len(shares):
            self._clients.append(LinkClient(self.address, self.source))
        put = partial(_put, digest=digest, size=size, path=path, patience_s=patience_s)
        return await _Striped(self, stripes, room, pace.chunk_bytes).over(shares, put)

    def client(self, place: int) -> LinkClient:
        """One of the connections."""
        return self._clients[place]

    async def renew(self, place: int) -> None:
        """Another connection in the place of one: it carries no back-off over."""
        if self._closed:
            return
        old, self._clients[place] = self._clients[place], LinkClient(self.address, self.source, self._pace)
        sent, received = old.bytes_moved
        self._past = (self._past[0] + sent, self._past[1] + received)
        self._past_object_bytes += old.object_bytes
        await old.close()

    async def close(self) -> None:
        """Calls under way end with LinkDown."""
        self._closed = True
        for client in self._clients:
            await client.close()


Put = Callable[[LinkClient, Stripe, Room], Awaitable[bool]]


async def _put(
    client: LinkClient,
    stripe: Stripe,
    room: Room,
    *,
    digest: Digest,
    size: int,
    path: Path,
    patience_s: float,
) -> bool:
    return await client.put(digest, size, path, patience_s, stripe, room)


class _Striped:
    """One object on its way over several connections. `over` is called once."""

    def __init__(self, flows: Flows, stripes: Stripes, room: Room | None, chunk_bytes: int) -> None:
        self._flows = flows
        self._stripes = stripes
        self._asked = room
        self._chunk_bytes = chunk_bytes
        self._failure: LinkDown | PeerRefused | None = None
        """What is raised unless the object is whole; a refusal says more than a link that is down."""
        self._absent: LinkDown | None = None
        """A flow that did not come about."""
        self._whole = False

    async def over(self, shares: Sequence[Stripe], put: Put) -> bool:
        tasks = [asyncio.create_task(self._flow(*share, put)) for share in enumerate(shares)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        if self._whole:
            return True
        if self._failure is None and self._stripes.left_bytes and not self._stripes.stopped:
            self._failure = self._absent
        if self._failure is not None:
            raise self._failure
        return False

    async def _flow(self, place: int, first: Stripe, put: Put) -> None:
        stripe: Stripe | None = first
        for attempt in range(CONNECTS_MAX):
            if attempt:
                await self._flows.renew(place)
                stripe = None if self._stripes.stopped else self._stripes.open()
            if stripe is None:
                return
            try:
                if await put(self._flows.client(place), stripe, self._room):
                    self._whole = True
                return
            except PeerRefused as error:
                self._failure, self._stripes.stopped = error, True
                return
            except LinkDown as error:
                if not self._stripes.shut(stripe):
                    self._failure, self._stripes.stopped = self._failure or error, True
                    return
                self._absent = error
            if not self._stripes.heard:
                return  # it is the link, not this connection

    def _room(self, in_air_bytes: int) -> int:
        """For the next chunk of one flow, which has so much in the air itself."""
        if self._stripes.stopped:
            return 0
        most = self._chunk_bytes if self._asked is None else self._asked(self._stripes.in_air_bytes)
        if most <= 0:
            self._stripes.stopped = True
        return min(most, self._chunk_bytes)
