"""One object coming in over one call: chunk by chunk into the store, answered as it goes.

An answer says how much has arrived, so that the sender keeps its window, and which bytes are on disk. Bytes
are committed every COMMIT_S or COMMIT_BYTES, while more come: what a death of this process costs is at most
that.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import grpc

from orbitrain.runtime.clock import wall_s
from orbitrain.transport.objects import CHUNK_BYTES_MAX, Range, RangeSet
from orbitrain.transport.rpc.channel import Rejection
from orbitrain.transport.store.incoming import Incoming
from orbitrain.v1 import link_pb2

COMMIT_S: Final = 0.5
"""Wall seconds that bytes wait to be committed at most: two syncs a second are nothing to any disk."""

COMMIT_BYTES: Final = 8 * 1024 * 1024
"""... and bytes: on a fast link more would be lost with the process than one needs to put up with."""

ALIVE_S: Final = 1.0
"""Wall seconds between answers while a large object is hashed and synced: the sender must not give it up."""

DRAIN_S: Final = 5.0
"""Wall seconds that a caller has to hear that nothing more is wanted: longer than any window takes to go
by."""

DAMAGED_MAX: Final = 16
"""Damaged chunks of one call: TCP lets hardly any through, so more come from a sender that is broken."""


class Inbound:
    """The messages of a caller, one awaited at a time; one that nobody has waited out is not lost."""

    def __init__(self, messages: AsyncIterator[link_pb2.Chunk]) -> None:
        self._messages = aiter(messages)
        self._reading: asyncio.Future[link_pb2.Chunk | None] | None = None

    def reading(self) -> asyncio.Future[link_pb2.Chunk | None]:
        """The next message, None at the end of them."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(anext(self._messages, None))
        return self._reading

    async def next(self) -> link_pb2.Chunk | None:
        """As `reading`, taken."""
        chunk = await self.reading()
        self._reading = None
        return chunk

    async def drain(self) -> None:
        """Drop what still comes, until the caller has heard that nothing more is wanted.

        A call that ends while its caller writes tells the caller of an internal error, not of its end.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while await self.next() is not None:
                    pass

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()


class Intake:
    """Takes the chunks of one call. `run` is called once."""

    def __init__(self, incoming: Incoming, answer: Callable[[link_pb2.Progress], Awaitable[None]]) -> None:
        self._incoming = incoming
        self._answer = answer
        self._told = RangeSet(incoming.committed)
        self._good_bytes = 0
        self._arrived_bytes = 0
        self._committed_s = wall_s()
        self._commit: asyncio.Task[None] | None = None
        self._hashing: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._untold = False
        self._untold_damaged: list[Range] = []
        self.damaged = 0
        """Chunks that were not as their CRC says."""

    async def run(self, first: link_pb2.Chunk, rest: Inbound) -> None:
        """Until the object is whole, or the sender has no more to say.

        Raises Rejection, and what the store raises.
        """
        name, source = first.object, first.source
        chunk: link_pb2.Chunk | None = first
        try:
            while chunk is not None:
                if chunk.object != name or chunk.source != source:
                    raise _broken("a stream carries one object of one source")
                rest.reading()
                # gRPC is asked for the next chunk, and reads it while this one is taken.
                await asyncio.sleep(0)
                damaged = self._take(chunk)
                if not self._incoming.missing:
                    await self._publish()
                    return
                await self._tell(damaged)
                await self._wait(rest.reading())
                chunk = await rest.next()
            await self._committing()
            await asyncio.to_thread(self._incoming.rest)
            await self._tell([])
            await self._told_all()
        finally:
            if self._telling is not None:  # whoever answers next must not do so beside it
                self._telling.add_done_callback(lambda task: task.cancelled() or task.exception())
                await asyncio.wait({self._telling}, timeout=DRAIN_S)
            if self._commit is not None:  # it goes on in its thread; what comes of it is in the ledger
                self._commit.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _take(self, chunk: link_pb2.Chunk) -> list[Range]:
        """Returns the chunk's range if it is damaged."""
        size = self._incoming.size
        data, offset = chunk.data, chunk.offset  # looked up once: each time is a copy
        if len(data) > CHUNK_BYTES_MAX or (not data and size):
            raise _broken(f"a chunk of {len(data)} bytes of an object")
        self._arrived_bytes += len(data)
        if zlib.crc32(data) != chunk.crc32:
            self.damaged += 1
            if self.damaged > DAMAGED_MAX:
                raise Rejection(grpc.StatusCode.DATA_LOSS, f"more than {DAMAGED_MAX} damaged chunks")
            if not 0 <= offset <= size - len(data):
                raise _broken(f"a damaged chunk outside an object of {size} bytes")
            return [(offset, offset + len(data))]
        self._good_bytes += len(data)
        if self._good_bytes > size:
            # Otherwise a stream could repeat bytes for ever.
            raise _broken("more bytes than the object has")
        self._incoming.write(offset, data)
        return []

    async def _wait(self, reading: asyncio.Future[link_pb2.Chunk | None]) -> None:
        """For the next chunk; meanwhile commit what is due."""
        while not reading.done():
            self._due()
            if self._commit is not None:
                either: set[asyncio.Future[Any]] = {reading, self._commit}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._commit.done():
                    await self._committing()
                    if not reading.done():
                        await self._tell([])
                continue
            waits_s = COMMIT_S - (wall_s() - self._committed_s)
            timeout_s = max(waits_s, 0.0) if self._incoming.uncommitted_bytes else None
            await asyncio.wait({reading}, timeout=timeout_s)
        self._due()

    def _due(self) -> None:
        """Begin a commit if it is time."""
        uncommitted = self._incoming.uncommitted_bytes
        if self._commit is not None or not uncommitted:
            return
        if uncommitted >= COMMIT_BYTES or wall_s() - self._committed_s >= COMMIT_S:
            self._commit = asyncio.create_task(asyncio.to_thread(self._incoming.commit))
            if self._hashing is None or self._hashing.done():
                # Beside it, so that the digest is nearly there with the last byte. It raises nothing.
                self._hashing = asyncio.create_task(asyncio.to_thread(self._incoming.hash_ahead))

    async def _committing(self) -> None:
        """The end of the commit under way, if there is one."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            await commit
            self._committed_s = wall_s()

    async def _publish(self) -> None:
        await self._committing()
        finish = asyncio.create_task(asyncio.to_thread(self._incoming.finish))
        while not finish.done():
            done, _ = await asyncio.wait({finish}, timeout=ALIVE_S)
            if not done:
                await self._tell([])
        await finish
        await self._told_all()
        await self._answer(link_pb2.Progress(arrived_bytes=self._arrived_bytes, whole=True))

    async def _tell(self, damaged: list[Range]) -> None:
        """Answer with what has arrived, and what has been committed since the last answer.

        Not waited for: while an answer is on its way, the next one gathers. Raises what the last one did.
        """
        self._untold = True
        self._untold_damaged += damaged
        if self._telling is not None and self._telling.done():
            await self._told_all()
        if self._telling is None:
            self._telling = asyncio.create_task(self._answers())

    async def _answers(self) -> None:
        while self._untold:
            self._untold = False
            damaged, self._untold_damaged = self._untold_damaged, []
            fresh = []
            for start, end in self._incoming.committed:
                fresh += self._told.missing(start, end)
                self._told.add(start, end)
            await self._answer(
                link_pb2.Progress(
                    arrived_bytes=self._arrived_bytes,
                    damaged=[link_pb2.Range(start=a, end=b) for a, b in damaged],
                    committed=[link_pb2.Range(start=a, end=b) for a, b in fresh],
                )
            )

    async def _told_all(self) -> None:
        """The end of the answers under way, if there are any."""
        if self._telling is not None:
            await self._telling
            self._telling = None


def _broken(reason: str) -> Rejection:
    return Rejection(grpc.StatusCode.INVALID_ARGUMENT, reason)
