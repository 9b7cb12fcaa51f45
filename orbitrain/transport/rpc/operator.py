"""The management plane: what the operator's seat asks of a node (proto/orbitrain/v1/operator.proto)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from orbitrain.machine import Digest
from orbitrain.transport.rpc.channel import (
    CHUNK_BYTES_DEFAULT,
    CHUNK_BYTES_MAX,
    Client,
    PeerRefused,
    Refusal,
    Server,
    chunks,
    one_line,
)
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX, BlobStore, is_digest
from orbitrain.transport.store.errors import DigestMismatch, ObjectTooLarge, OutOfBounds
from orbitrain.transport.store.journal import PAGE_ROWS_MAX
from orbitrain.v1 import link_pb2, operator_pb2, operator_pb2_grpc

_Reply = TypeVar("_Reply")


class OperatorHandler(Protocol):
    """What the driver makes of the operator's calls. Each may raise Refusal."""

    async def read_journal(self, request: operator_pb2.ReadJournalRequest) -> operator_pb2.JournalPage:
        """One page, as `Journal.page` makes it."""
        ...

    async def drain(self) -> operator_pb2.DrainReply: ...

    async def gather(self) -> operator_pb2.GatherReply: ...


async def _answer(answer: Awaitable[_Reply], context: Any) -> _Reply:
    try:
        return await answer
    except Refusal as error:
        reason = one_line(str(error))
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
    raise AssertionError("abort does not return")


class _Servicer(operator_pb2_grpc.OperatorServicer):
    def __init__(self, handler: OperatorHandler, blobs: BlobStore) -> None:
        self._handler = handler
        self._blobs = blobs

    async def ReadJournal(
        self, request: operator_pb2.ReadJournalRequest, context: Any
    ) -> operator_pb2.JournalPage:
        if request.after_event < 0 or request.after_metric < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "rows are numbered from 1")
        return await _answer(self._handler.read_journal(request), context)

    async def GetObject(self, name: link_pb2.ObjectName, context: Any) -> AsyncIterator[link_pb2.Chunk]:
        try:
            path, size = self._blobs.path(name.digest), self._blobs.size(name.digest)
            stream = chunks(path, name.digest, size, "", [(0, size)], CHUNK_BYTES_DEFAULT)
            for chunk in stream:
                yield chunk
        except (KeyError, FileNotFoundError):  # the second: collected just now
            await context.abort(grpc.StatusCode.NOT_FOUND, "the object is not here")

    async def Drain(self, request: operator_pb2.DrainRequest, context: Any) -> operator_pb2.DrainReply:
        return await _answer(self._handler.drain(), context)

    async def Gather(self, request: operator_pb2.GatherRequest, context: Any) -> operator_pb2.GatherReply:
        return await _answer(self._handler.gather(), context)


class OperatorServer(Server):
    """Serves the operator's seat."""

    def __init__(
        self, address: str, handler: OperatorHandler, blobs: BlobStore, allow_insecure: bool = False
    ) -> None:
        super().__init__(address, allow_insecure)
        self._servicer = _Servicer(handler, blobs)

    def _register(self, server: grpc.aio.Server) -> str:
        operator_pb2_grpc.add_OperatorServicer_to_server(self._servicer, server)
        return "orbitrain.v1.Operator"


class OperatorClient(Client):
    """The operator's end. All calls raise LinkDown and PeerRefused."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._stub = operator_pb2_grpc.OperatorStub(self._channel)

    async def read_journal(
        self, after_event: int, after_metric: int, timeout_s: float
    ) -> operator_pb2.JournalPage:
        """The page that follows; the journal is read to its end when it has no rows."""
        request = operator_pb2.ReadJournalRequest(after_event=after_event, after_metric=after_metric)
        page: operator_pb2.JournalPage = await self._unary(self._stub.ReadJournal, request, timeout_s)
        if len(page.events) > PAGE_ROWS_MAX or len(page.metrics) > PAGE_ROWS_MAX:
            raise PeerRefused("a page of more rows than were asked for")
        return page

    async def get_object(self, digest: Digest, blobs: BlobStore, timeout_s: float) -> bool:
        """Fetch an object into a store, verified; False if the node does not have it any more.

        Raises PeerRefused also for bytes that are not the object, StorageFull where `blobs` has no room.
        """
        if blobs.has(digest):
            return True
        if not is_digest(digest):
            raise ValueError(f"{digest[:80]!r} is not the name of an object")
        try:
            async with self._failures():
                await self._receive(digest, blobs, timeout_s)
        except PeerRefused as error:
            if error.code == grpc.StatusCode.NOT_FOUND.name:
                return False
            raise
        except (DigestMismatch, ObjectTooLarge, OutOfBounds) as error:
            raise PeerRefused(one_line(str(error))) from error
        return True

    async def _receive(self, digest: Digest, blobs: BlobStore, timeout_s: float) -> None:
        request = link_pb2.ObjectName(digest=digest)
        self.traffic.call()
        self.traffic.sent(request)
        incoming = None
        call = self._stub.GetObject(request, timeout=timeout_s)
        try:
            async for chunk in call:
                self.traffic.received(chunk)
                size = chunk.object.size
                if chunk.object.digest != digest or len(chunk.data) > CHUNK_BYTES_MAX:
                    raise PeerRefused("another object than was asked for")
                if not 0 <= size <= OBJECT_BYTES_MAX:
                    raise PeerRefused(f"an object of {size} bytes")
                if incoming is None:
                    incoming = blobs.incoming(digest, size, source=f"operator {self.address}")
                if size != incoming.size or chunk.offset != sum(end - start for start, end in incoming.held):
                    raise PeerRefused("bytes out of order")
                incoming.write(chunk.offset, chunk.data)
            if incoming is None:
                raise PeerRefused("an object without a chunk")
            incoming.finish()
        finally:
            call.cancel()
            if incoming is not None:
                incoming.discard()

    async def drain(self, timeout_s: float) -> operator_pb2.DrainReply:
        reply: operator_pb2.DrainReply = await self._unary(
            self._stub.Drain, operator_pb2.DrainRequest(), timeout_s
        )
        return reply

    async def gather(self, timeout_s: float) -> operator_pb2.GatherReply:
        reply: operator_pb2.GatherReply = await self._unary(
            self._stub.Gather, operator_pb2.GatherRequest(), timeout_s
        )
        return reply
