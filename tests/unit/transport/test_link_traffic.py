"""The bytes a client counts, against those that its connection carried."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orbitrain.transport.rpc import LinkClient, LinkServer
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2


class Agreeable:
    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        return link_pb2.PingReply(node="receiver", incarnation="0" * 32, now_ns=request.now_ns)

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        return link_pb2.Receipt(outcome=link_pb2.OUTCOME_DELIVERED, incarnation="0" * 32)

    def settles(self, letter: link_pb2.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        raise AssertionError(f"{source}: {reason}")


class Tap:
    """A TCP proxy that counts the bytes of both directions."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.sent_bytes = 0
        self.received_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _pass(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far, out = await asyncio.open_connection("127.0.0.1", self._target)

        async def up() -> None:
            while data := await near.read(65536):
                self.sent_bytes += len(data)
                out.write(data)
                await out.drain()
            out.close()

        async def down() -> None:
            while data := await far.read(65536):
                self.received_bytes += len(data)
                back.write(data)
                await back.drain()
            back.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    async def close(self) -> None:
        """Once both ends have closed."""
        self._server.close()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def tapped_link(folder: Path) -> AsyncIterator[tuple[LinkClient, Tap, BlobStore]]:
    near, far = BlobStore(folder / "near"), BlobStore(folder / "far")
    server = LinkServer("127.0.0.1:0", far, Agreeable(), ["sender"])
    tap = Tap(await server.start())
    client = LinkClient(f"127.0.0.1:{await tap.start()}", "sender")
    try:
        yield client, tap, near
    finally:
        await client.close()
        await server.stop(0)
        await tap.close()
        near.close()
        far.close()


@pytest.mark.parametrize(("size_bytes", "letters"), [(40_000, 1), (40_000, 10), (1_500_000, 2)])
async def test_counted_bytes_are_within_five_percent_of_those_on_the_connection(
    tmp_path: Path, size_bytes: int, letters: int
) -> None:
    async with tapped_link(tmp_path) as (client, tap, blobs):
        await client.ping(link_pb2.PingRequest(source="sender", incarnation="1" * 32), 10)
        for sequence in range(1, letters + 1):
            digest = blobs.put(os.urandom(size_bytes))
            missing = await client.missing([(digest, size_bytes)])
            await client.put(digest, size_bytes, blobs.path(digest), 10, missing[digest])
            name = link_pb2.ObjectName(digest=digest, size=size_bytes)
            letter = link_pb2.Letter(
                source="sender", sequence=sequence, role="device", body=bytes(200), objects=[name]
            )
            await client.deliver(letter, 10)
        sent, received = client.bytes_moved
        assert sent == pytest.approx(tap.sent_bytes, rel=0.05)
        # The way back is small, and partly flow control that depends on timing.
        assert received == pytest.approx(tap.received_bytes, rel=0.05, abs=150 * letters + 300)
