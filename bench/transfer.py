"""An object over loopback through the link and the blob store, against the same bytes over bare gRPC.

Ours is hashed, written, synced to disk and published; the bare stream is counted and dropped. Both use the
same chunks, options and process. The ratio is what durability and verification cost here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
import grpc.aio

from orbitrain.transport.rpc import CHUNK_BYTES_DEFAULT, LinkClient, LinkServer
from orbitrain.transport.rpc.channel import CLIENT_OPTIONS, SERVER_OPTIONS
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.v1 import link_pb2, link_pb2_grpc

MIB = 1024 * 1024
SIZE_BYTES = 60 * MIB
REPEATS = 5
TIMEOUT_S = 120.0


class Admits:
    """A LinkHandler that takes everything."""

    def settles(self, letter: link_pb2.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        raise AssertionError(reason)

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        return link_pb2.PingReply()

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        return link_pb2.Receipt()


class Bare(link_pb2_grpc.LinkServicer):
    """Takes a stream and drops it."""

    async def Put(self, requests: AsyncIterator[link_pb2.Chunk], context: Any) -> None:
        received = 0
        async for chunk in requests:
            received += len(chunk.data)
        await context.write(link_pb2.Progress(arrived_bytes=received))


async def ours(data: bytes, folder: Path) -> float:
    path = folder / "object"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    blobs = BlobStore(folder / "store")
    server = LinkServer("127.0.0.1:0", blobs, Admits(), ["a"])
    client = LinkClient(f"127.0.0.1:{await server.start()}", "a")
    begun_s = time.perf_counter()
    missing = await client.missing([(digest, len(data))])
    await client.put(digest, len(data), path, TIMEOUT_S, missing[digest])
    took_s = time.perf_counter() - begun_s
    assert blobs.has(digest)
    await client.close()
    await server.stop(0.1)
    blobs.close()
    return took_s


async def bare(data: bytes) -> float:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    link_pb2_grpc.add_LinkServicer_to_server(Bare(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel:

        async def stream() -> AsyncIterator[link_pb2.Chunk]:
            for start in range(0, len(data), CHUNK_BYTES_DEFAULT):
                yield link_pb2.Chunk(offset=start, data=data[start : start + CHUNK_BYTES_DEFAULT])

        begun_s = time.perf_counter()
        call = link_pb2_grpc.LinkStub(channel).Put(stream(), timeout=TIMEOUT_S)
        answers = [answer async for answer in call]
        took_s = time.perf_counter() - begun_s
    assert answers[-1].arrived_bytes == len(data)
    await server.stop(0.1)
    return took_s


async def main() -> None:
    data = random.Random(1).randbytes(SIZE_BYTES)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(REPEATS):  # in turns, so that a slow moment of the machine hits both
        with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder:
            times["ours"].append(await ours(data, Path(folder)))
        times["bare"].append(await bare(data))
    for name, text in (
        ("ours", "link and store, verified and synced"),
        ("bare", "bare gRPC stream, dropped"),
    ):
        took_s = median(times[name])
        spread = f"{min(times[name]):.2f} to {max(times[name]):.2f} s"
        print(f"{text}: {SIZE_BYTES / MIB / took_s:.0f} MiB/s ({took_s:.2f} s, {spread})")
    print(
        f"ratio of the times: {median(times['ours']) / median(times['bare']):.2f} "
        f"({SIZE_BYTES // MIB} MiB over loopback, chunks of {CHUNK_BYTES_DEFAULT // 1024} KiB, "
        f"median of {REPEATS})"
    )


if __name__ == "__main__":
    asyncio.run(main())
