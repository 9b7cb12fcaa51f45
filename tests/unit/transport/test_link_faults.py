"""A link that is cut, and ends that die, at any byte: all comes through, and nothing acknowledged twice."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from orbitrain.transport.objects import Pace, RangeSet
from orbitrain.transport.rpc import LinkClient, LinkDown, LinkServer, PeerRefused
from orbitrain.transport.rpc.intake import DAMAGED_MAX
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2, link_pb2_grpc

PACE = Pace(4_000, 12_000)
SIZE = 60_000
OVERHEAD_BYTES = 3_000
"""Of a connection, its calls and its headers: where a fault is put between nothing and all."""


class Receiver:
    """A handler that takes everything, and keeps what was refused."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.make: Callable[[], object] = lambda: None

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        return link_pb2.PingReply(node="receiver")

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        return link_pb2.Receipt(outcome=link_pb2.OUTCOME_DELIVERED)

    async def hand(self, letters: Sequence[link_pb2.Letter]) -> list[link_pb2.Receipt]:
        return [await self.deliver(letter) for letter in letters]

    def settles(self, letter: link_pb2.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        self.make()

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        self.refusals.append(reason)


class Cutter:
    """A proxy that cuts its connections after so many bytes of either direction."""

    def __init__(self, target: str) -> None:
        self._target = target.removeprefix("unix:")
        self._limits = [0, 0]
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, path: str) -> None:
        self._server = await asyncio.start_unix_server(self._pass, path)

    def allow(self, up_bytes: int, down_bytes: int) -> None:
        self._limits = [up_bytes, down_bytes]

    async def _pass(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far, out = await asyncio.open_unix_connection(self._target)
        ways = [asyncio.create_task(self._copy(*way)) for way in ((near, out, 0), (far, back, 1))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.transport.abort()
            out.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: int) -> None:
        with suppress(ConnectionError):
            while self._limits[way] > 0 and (data := await source.read(65536)):
                passed = data[: self._limits[way]]
                self._limits[way] -= len(passed)
                sink.write(passed)
                await sink.drain()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Site:
    """A receiving node that can die and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:{folder}/link"
        self.receiver = Receiver()
        self.blobs: BlobStore
        self._server: LinkServer

    async def start(self) -> None:
        self.blobs = BlobStore(self.folder / "store")
        self._server = LinkServer(self.address, self.blobs, self.receiver, ["a", "b"])
        await self._server.start()

    async def die(self) -> None:
        """What is not committed is lost."""
        self.blobs._ledger.close()
        self.blobs._held.close()
        await self._server.stop(0)

    async def stop(self) -> None:
        await self._server.stop(0)
        self.blobs.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    # A Unix socket's path is at most 100 bytes; pytest's own folders may be longer.
    with tempfile.TemporaryDirectory(prefix="ot") as name:
        yield Path(name)


@pytest.fixture
async def site(folder: Path) -> AsyncIterator[Site]:
    site = Site(folder)
    await site.start()
    yield site
    await site.stop()


def blob_of(folder: Path, rng: random.Random, size: int = SIZE) -> tuple[str, Path]:
    data = rng.randbytes(size)
    path = folder / "blob"
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest(), path


async def bring(client: LinkClient, digest: str, path: Path) -> bool:
    missing = await client.missing([(digest, SIZE)], 5.0)
    return digest not in missing or await client.put(digest, SIZE, path, 5.0, missing[digest])


@pytest.mark.parametrize("batch", range(10))
async def test_a_link_cut_at_any_byte_costs_no_more_than_its_window(folder: Path, batch: int) -> None:
    site = Site(folder)
    await site.start()
    cutter = Cutter(site.address)
    await cutter.start(f"{folder}/cut")
    for seed in range(batch * 20, batch * 20 + 20):
        rng = random.Random(seed)
        digest, path = blob_of(folder, rng)
        told, cuts, lost_bytes, sent_bytes = RangeSet(), 0, 0, 0
        for attempt in range(100):
            up = rng.randrange(200, SIZE + OVERHEAD_BYTES) if attempt < 6 else 10 * SIZE
            cutter.allow(up, rng.choice([10 * SIZE, rng.randrange(100, 2_000)]) if attempt < 6 else 10 * SIZE)
            client = LinkClient(f"unix:{folder}/cut", "a", PACE)
            try:
                missing = (await client.missing([(digest, SIZE)], 5.0)).get(digest, [])
                # What it has once said that it has, it has.
                assert all(told.missing(*gap) == [gap] for gap in missing), f"seed {seed}"
                for gap in RangeSet(missing).missing(0, SIZE):
                    told.add(*gap)
                if not missing or await client.put(digest, SIZE, path, 5.0, missing):
                    break
            except LinkDown:
                cuts += 1
            finally:
                sent_bytes += client.object_bytes
                await client.close()
            if rng.random() < 0.3:  # the receiver dies too, with what it has not committed
                partial = site.blobs.partial(digest, SIZE, "a")
                lost_bytes += 0 if partial is None else partial.uncommitted_bytes
                await site.die()
                await site.start()
        assert site.blobs.path(digest).read_bytes() == path.read_bytes(), f"seed {seed}"
        assert sent_bytes <= SIZE + cuts * PACE.window_bytes + lost_bytes, f"seed {seed}: {cuts} cuts"
        site.blobs.collect(set())
    assert list((folder / "store" / "incoming").iterdir()) == []
    await cutter.close()
    await site.stop()


async def test_a_second_sender_goes_on_where_the_first_was_cut(site: Site) -> None:
    digest, path = blob_of(site.folder, random.Random(1))
    first, second = LinkClient(site.address, "a", PACE), LinkClient(site.address, "b", PACE)
    await first.missing([(digest, SIZE)])
    assert not await first.put(digest, SIZE, path, 5.0, [(0, 20_000), (50_000, 55_000)])
    assert await second.missing([(digest, SIZE)]) == {digest: [(20_000, 50_000), (55_000, SIZE)]}
    assert await bring(second, digest, path)
    assert first.object_bytes + second.object_bytes == SIZE
    await first.close()
    await second.close()


async def test_a_sender_stops_at_the_border_of_a_chunk_when_there_is_no_more_room(site: Site) -> None:
    digest, path = blob_of(site.folder, random.Random(2))
    client = LinkClient(site.address, "a", PACE)
    rooms = iter([4_000, 2_000, 0])
    await client.missing([(digest, SIZE)])
    assert not await client.put(digest, SIZE, path, 5.0, None, lambda in_air: next(rooms))
    assert client.object_bytes == 6_000
    assert await client.missing([(digest, SIZE)]) == {digest: [(6_000, SIZE)]}
    assert await bring(client, digest, path)
    await client.close()


async def test_many_chunks_are_acknowledged_while_more_go(site: Site) -> None:
    digest, path = blob_of(site.folder, random.Random(3), 20_000_000)
    client = LinkClient(site.address, "a")
    in_air: list[int] = []

    def room(nbytes: int) -> int:
        in_air.append(nbytes)
        return 256 * 1024

    missing = await client.missing([(digest, 20_000_000)])
    assert await client.put(digest, 20_000_000, path, 5.0, missing[digest], room)
    assert max(in_air) <= client.pace.window_bytes
    await client.close()


async def test_an_object_that_was_whole_when_the_receiver_died_is_published_when_it_is_asked_for(
    site: Site,
) -> None:
    digest, path = blob_of(site.folder, random.Random(4))
    incoming = site.blobs.shared(digest, SIZE, "a")
    incoming.write(0, path.read_bytes())
    incoming.commit()
    await site.die()
    await site.start()
    client = LinkClient(site.address, "a", PACE)
    assert await client.missing([(digest, SIZE)]) == {}
    assert site.blobs.path(digest).read_bytes() == path.read_bytes()
    await client.close()


async def test_an_object_that_was_not_offered_is_not_taken(site: Site) -> None:
    digest, path = blob_of(site.folder, random.Random(5))
    client = LinkClient(site.address, "a", PACE)
    with pytest.raises(PeerRefused, match="was not offered") as caught:
        await client.put(digest, SIZE, path, 5.0)
    assert caught.value.code == "FAILED_PRECONDITION"
    await client.close()


async def test_an_object_without_room_is_refused_when_it_is_offered_unless_room_can_be_made(
    site: Site,
) -> None:
    site.blobs.partial_quota_bytes = 2 * SIZE - 1
    stale = site.blobs.shared("0" * 64, SIZE, "b")
    digest, path = blob_of(site.folder, random.Random(7))
    client = LinkClient(site.address, "a", PACE)
    with pytest.raises(PeerRefused, match="no room for a partial object of 60000 bytes") as caught:
        await bring(client, digest, path)
    assert (caught.value.code, client.object_bytes) == ("RESOURCE_EXHAUSTED", 0)
    assert site.receiver.refusals[0].startswith("no room")
    site.receiver.make = stale.discard
    assert await bring(client, digest, path)
    await client.close()


async def test_a_disk_that_is_full_in_mid_transfer_is_said_and_costs_nothing_that_was_committed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, path = blob_of(site.folder, random.Random(8))
    client = LinkClient(site.address, "a", PACE)
    await client.missing([(digest, SIZE)])
    assert not await client.put(digest, SIZE, path, 5.0, [(0, 20_000)])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(PeerRefused, match="the disk is full") as caught:
            await bring(client, digest, path)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert await client.missing([(digest, SIZE)]) == {digest: [(20_000, SIZE)]}
    assert await bring(client, digest, path)
    await client.close()


async def test_a_sender_whose_copy_is_damaged_is_told_that_it_is_not_the_object(site: Site) -> None:
    digest, path = blob_of(site.folder, random.Random(9))
    data = bytearray(path.read_bytes())
    data[SIZE // 2] ^= 1
    path.write_bytes(data)
    client = LinkClient(site.address, "a", PACE)
    with pytest.raises(PeerRefused, match="are not object") as caught:
        await bring(client, digest, path)
    assert caught.value.code == "DATA_LOSS"
    assert not site.blobs.has(digest)
    await client.close()


# ------------------------------------------------------------------------------------------ damaged chunks


async def test_a_damaged_chunk_is_not_taken_and_is_asked_for_again(site: Site) -> None:
    whole = bytes(range(200))
    name = link_pb2.ObjectName(digest=hashlib.sha256(whole).hexdigest(), size=200)
    channel = grpc.aio.insecure_channel(site.address)
    stub = link_pb2_grpc.LinkStub(channel)
    await stub.Offer(link_pb2.OfferRequest(source="a", objects=[name]))
    call = stub.Put()
    flipped = bytes([whole[0] ^ 1]) + whole[1:100]
    good = link_pb2.Chunk(object=name, source="a", data=whole[:100], crc32=zlib.crc32(whole[:100]))
    bad = link_pb2.Chunk(object=name, source="a", data=flipped, crc32=zlib.crc32(whole[:100]))
    rest = link_pb2.Chunk(
        object=name, source="a", offset=100, data=whole[100:], crc32=zlib.crc32(whole[100:])
    )
    await call.write(bad)
    answer = await call.read()
    assert (answer.arrived_bytes, list(answer.damaged)) == (100, [link_pb2.Range(start=0, end=100)])
    for chunk in (rest, good):
        await call.write(chunk)
    while (answer := await call.read()) is not grpc.aio.EOF and not answer.whole:
        assert not answer.damaged
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert site.blobs.has(name.digest)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF  # what was wrong in all is said at the call's end
    assert site.receiver.refusals == ["damaged chunks: 1"]
    await channel.close()


async def test_a_sender_whose_chunks_are_all_damaged_is_turned_away(site: Site) -> None:
    name = link_pb2.ObjectName(digest="0" * 64, size=2_000)
    channel = grpc.aio.insecure_channel(site.address)
    stub = link_pb2_grpc.LinkStub(channel)
    await stub.Offer(link_pb2.OfferRequest(source="a", objects=[name]))
    chunks = [link_pb2.Chunk(object=name, source="a", data=b"x", crc32=1)] * (DAMAGED_MAX + 1)
    with pytest.raises(grpc.aio.AioRpcError, match="more than 16 damaged chunks") as caught:
        async for _ in stub.Put(iter(chunks)):
            pass
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert site.blobs.partial("0" * 64, 2_000, "a").held == []  # type: ignore[union-attr]
    await channel.close()


class Doubter(link_pb2_grpc.LinkServicer):
    """Says of each chunk that it was damaged, as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.taken: list[tuple[int, bytes]] = []

    async def Put(self, requests: AsyncIterator[link_pb2.Chunk], context: Any) -> None:
        arrived = 0
        async for chunk in requests:
            arrived += len(chunk.data)
            progress = link_pb2.Progress(arrived_bytes=arrived)
            if self.times > 0:
                self.times -= 1
                progress.damaged.add(start=chunk.offset, end=chunk.offset + len(chunk.data))
            else:
                self.taken.append((chunk.offset, chunk.data))
                progress.whole = sum(len(data) for _, data in self.taken) == chunk.object.size
            await context.write(progress)


@pytest.mark.parametrize(("times", "comes_through"), [(3, True), (10**6, False)])
async def test_what_the_peer_calls_damaged_goes_again_but_not_for_ever(
    folder: Path, times: int, comes_through: bool
) -> None:
    doubter = Doubter(times)
    server = grpc.aio.server()
    link_pb2_grpc.add_LinkServicer_to_server(doubter, server)
    server.add_insecure_port(f"unix:{folder}/doubter")
    await server.start()
    digest, path = blob_of(folder, random.Random(6))
    client = LinkClient(f"unix:{folder}/doubter", "a", PACE)
    if comes_through:
        assert await client.put(digest, SIZE, path, 5.0)
        assert b"".join(data for _, data in sorted(doubter.taken)) == path.read_bytes()
        assert client.object_bytes == SIZE + 3 * PACE.chunk_bytes
    else:
        with pytest.raises(PeerRefused, match="asked for again"):
            await client.put(digest, SIZE, path, 5.0)
    await client.close()
    await server.stop(0)
