"""Taking an object's chunks: answers gather while one is on its way, and none is lost."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orbitrain.transport.objects import CHUNK_BYTES_MAX
from orbitrain.transport.rpc.intake import Inbound, Intake
from orbitrain.transport.rpc.link_client import with_data
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2

CONTENT = bytes(range(200)) * 10
NAME = link_pb2.ObjectName(digest=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    store = BlobStore(tmp_path / "store")
    yield store
    store.close()


def chunk(start: int, end: int, harm: int = 0) -> link_pb2.Chunk:
    data = CONTENT[start:end]
    return link_pb2.Chunk(object=NAME, offset=start, data=data, source="a", crc32=zlib.crc32(data) ^ harm)


class Peer:
    """Sends chunks; hears answers, the first only after all chunks but the last."""

    def __init__(self, chunks: list[link_pb2.Chunk]) -> None:
        self._chunks = chunks
        self._hears = asyncio.Event()
        self.answers: list[link_pb2.Progress] = []

    async def sent(self) -> AsyncIterator[link_pb2.Chunk]:
        for each in self._chunks[1:-1]:
            yield each
        self._hears.set()
        yield self._chunks[-1]

    async def answer(self, progress: link_pb2.Progress) -> None:
        await self._hears.wait()
        self.answers.append(progress)

    async def run(self, blobs: BlobStore) -> None:
        intake = Intake(blobs.shared(NAME.digest, NAME.size, "a"), self.answer)
        await intake.run(self._chunks[0], Inbound(self.sent()))


async def test_answers_gather_while_one_is_on_its_way_and_tell_of_all_damage(blobs: BlobStore) -> None:
    harmed = [chunk(at, at + 100, harm=1) for at in (0, 300, 700)]
    peer = Peer([*harmed, chunk(0, 1000), chunk(1000, 1500)])
    await peer.run(blobs)
    damaged = [(r.start, r.end) for progress in peer.answers for r in progress.damaged]
    assert damaged == [(0, 100), (300, 400), (700, 800)]
    assert len(peer.answers) < 5
    assert peer.answers[-1].arrived_bytes == 1800
    committed = [(r.start, r.end) for progress in peer.answers for r in progress.committed]
    assert committed == [(0, 1500)]


async def test_the_last_answer_says_whole_after_all_others(blobs: BlobStore) -> None:
    peer = Peer([chunk(at, at + 500) for at in range(0, 2000, 500)])
    await peer.run(blobs)
    assert [progress.whole for progress in peer.answers] == [False] * (len(peer.answers) - 1) + [True]
    assert blobs.has(NAME.digest)


async def test_an_answer_that_cannot_be_given_ends_the_call(blobs: BlobStore) -> None:
    async def answer(progress: link_pb2.Progress) -> None:
        raise ConnectionError("gone")

    async def sent() -> AsyncIterator[link_pb2.Chunk]:
        yield chunk(500, 1000)
        yield chunk(1000, 1500)

    with pytest.raises(ConnectionError):
        await Intake(blobs.shared(NAME.digest, NAME.size, "a"), answer).run(chunk(0, 500), Inbound(sent()))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000, CHUNK_BYTES_MAX])
def test_a_chunk_put_together_by_hand_is_the_one_that_protobuf_makes(size: int) -> None:
    head = link_pb2.Chunk(object=NAME, offset=7, source="a", crc32=9)
    data = bytes(size)
    whole = link_pb2.Chunk.FromString(with_data(head, data))
    head.data = data
    assert whole == head


COPIES = """
import resource
from orbitrain.transport.rpc.channel import keep_freed_memory
keep_freed_memory()
data = bytes(bytearray(range(256)) * 4096)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    copies = [bytearray(data) for _ in range(4)]
    del copies
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / len(data))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_of_one_chunk_is_used_again_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", COPIES], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40, "chunks of 400 whose memory was new"
