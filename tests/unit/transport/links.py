"""A receiver behind a link, as tests want it, and what is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import Sequence

import grpc
import grpc.aio
import pytest

from orbitrain.transport.rpc import (
    LinkClient,
    LinkServer,
    Refusal,
)
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2, link_pb2_grpc


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Receiver:
    """A handler that keeps what it is told."""

    def __init__(self) -> None:
        self.letters: list[link_pb2.Letter] = []
        self.refusals: list[tuple[str, str]] = []
        self.no_contact: set[str] = set()
        self.busy: asyncio.Event | None = None
        self.ends: dict[int, link_pb2.Outcome] = {}

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        if request.plan_sha256 == "another":
            raise Refusal("another plan")
        return link_pb2.PingReply(node="receiver", now_ns=request.now_ns)

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        self.letters.append(letter)
        if self.busy is not None:
            self.busy.set()
            await asyncio.Event().wait()
        return link_pb2.Receipt(outcome=link_pb2.OUTCOME_DELIVERED)

    async def hand(self, letters: Sequence[link_pb2.Letter]) -> list[link_pb2.Receipt]:
        receipts = []
        for letter in letters:
            receipts.append(await self.deliver(letter))
            receipts[-1].outcome = self.ends.get(letter.sequence, link_pb2.OUTCOME_DELIVERED)
            if letter.sequence in self.ends:
                break
        return receipts

    def settles(self, letter: link_pb2.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return "no contact now" if source in self.no_contact else None

    def refused(self, source: str, reason: str) -> None:
        self.refusals.append((source, reason))


class World:
    """A receiver, and a sender that also has a raw channel to misbehave on."""

    def __init__(self, near: BlobStore, far: BlobStore, receiver: Receiver, server: LinkServer) -> None:
        self.near, self.far, self.receiver, self.server = near, far, receiver, server
        self.client: LinkClient
        self.stub: link_pb2_grpc.LinkStub
        self.channel: grpc.aio.Channel

    async def send(self, data: bytes, client: LinkClient | None = None) -> link_pb2.ObjectName:
        digest, client = self.near.put(data), client or self.client
        missing = await client.missing([(digest, len(data))])
        if digest in missing:
            assert await client.put(digest, len(data), self.near.path(digest), 10, missing[digest])
        return link_pb2.ObjectName(digest=digest, size=len(data))

    async def put_raw(self, *chunks: link_pb2.Chunk) -> grpc.StatusCode:
        """What a hand-made stream is answered, once offered; it must be reported, and leave nothing."""
        for each in chunks[:1]:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self.stub.Offer(link_pb2.OfferRequest(source="sender", objects=[each.object]))
        self.receiver.refusals.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in self.stub.Put(iter(chunks), timeout=10):
                pass
        assert "\n" not in (caught.value.details() or "")
        return caught.value.code()


def chunk(data: bytes, offset: int = 0, of: bytes | None = None, **changes: object) -> link_pb2.Chunk:
    whole = data if of is None else of
    made = link_pb2.Chunk(
        object=link_pb2.ObjectName(digest=sha256(whole), size=len(whole)),
        offset=offset,
        data=data,
        source="sender",
        crc32=zlib.crc32(data),
    )
    for name, value in changes.items():
        target = made.object if name in ("digest", "size") else made
        setattr(target, name, value)
    return made
