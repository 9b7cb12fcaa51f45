"""The management plane: what the operator's seat asks of a node (proto/orbitrain/v1/operator.proto)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from orbitrain.machine import Digest
from orbitrain.transport.objects import CHUNK_BYTES_MAX
from orbitrain.transport.rpc.channel import (
    CHUNK_BYTES_DEFAULT,
    Client,
    LinkDown,
    PeerRefused,
    Refusal,
    Rejection,
    Server,
    chunks,
    one_line,
)
from orbitrain.transport.rpc.files import pieces, received
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX, BlobStore, is_digest
from orbitrain.transport.store.errors import DigestMismatch, ObjectTooLarge, OutOfBounds, StorageFull
from orbitrain.transport.store.journal import PAGE_ROWS_MAX
from orbitrain.v1 import link_pb2, operator_pb2, operator_pb2_grpc

PLAN_BYTES_MAX = 64 * 1024 * 1024
"""Largest file of a plan update: held in memory while it is read, beside the plan made of it."""

_Reply = TypeVar("_Reply")


class OperatorHandler(Protocol):
    """What the driver makes of the operator's calls. Each may raise Refusal."""

    async def read_journal(self, request: operator_pb2.ReadJournalRequest) -> operator_pb2.JournalPage:
        """One page, as `Journal.page` makes it."""
        ...

    async def drain(self) -> operator_pb2.DrainReply: ...

    async def gather(self) -> operator_pb2.GatherReply: ...

    async def list_transfers(self) -> operator_pb2.TransferList: ...

    async def update_plan(self, at_ns: int, data: bytes) -> operator_pb2.UpdatePlanReply:
        """The bytes of a plan's file, whole, to be believed from `at_ns` on."""
        ...

    def admit_file(self, order: operator_pb2.SendOrder, size: int) -> None:
        """Asked before a file of so many bytes is taken."""
        ...

    async def send_file(self, order: operator_pb2.SendOrder, path: Path) -> operator_pb2.SendFileReply:
        """A file of this file system, whole and synced, that is no longer needed where it is. Raises
        StoreError."""
        ...


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
        self._receiving = False
        self._files = count(1)

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

    async def ListTransfers(
        self, request: operator_pb2.ListTransfersRequest, context: Any
    ) -> operator_pb2.TransferList:
        return await _answer(self._handler.list_transfers(), context)

    async def UpdatePlan(
        self, requests: AsyncIterator[operator_pb2.PlanChunk], context: Any
    ) -> operator_pb2.UpdatePlanReply:
        if self._receiving:  # one at a time is enough to hold in memory
            await context.abort(grpc.StatusCode.UNAVAILABLE, "another update is being received")
        self._receiving = True
        try:
            at_ns, data = await _plan_of(requests)
            return await _answer(self._handler.update_plan(at_ns, data), context)
        except Rejection as error:
            code, reason = error.code, error.reason
        finally:
            self._receiving = False
        await context.abort(code, reason)
        raise AssertionError("abort does not return")

    async def SendFile(
        self, requests: AsyncIterator[operator_pb2.FilePiece], context: Any
    ) -> operator_pb2.SendFileReply:
        path = self._blobs.scratch / f"file-{next(self._files)}"
        try:
            order = await received(requests, path, self._handler.admit_file)
            return await self._handler.send_file(order, path)
        except Rejection as error:
            code, reason = error.code, error.reason
        except Refusal as error:
            code, reason = grpc.StatusCode.PERMISSION_DENIED, one_line(str(error))
        except (StorageFull, ObjectTooLarge) as error:
            code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, one_line(str(error))
        except OSError as error:  # the node is there, and will not do better
            code, reason = grpc.StatusCode.FAILED_PRECONDITION, f"cannot be kept: {error.strerror}"
        finally:
            path.unlink(missing_ok=True)
        await context.abort(code, reason)
        raise AssertionError("abort does not return")


async def _plan_of(requests: AsyncIterator[operator_pb2.PlanChunk]) -> tuple[int, bytes]:
    """(at_ns, the file's bytes), checked against what the chunks say of it. Raises Rejection."""
    head: operator_pb2.PlanChunk | None = None
    data = bytearray()
    async for chunk in requests:
        head = chunk if head is None else head
        if (chunk.at_ns, chunk.sha256, chunk.size) != (head.at_ns, head.sha256, head.size):
            raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "a stream carries one plan")
        if not 1 <= head.size <= PLAN_BYTES_MAX:
            reason = f"size: must be 1 to {PLAN_BYTES_MAX} bytes, not {head.size}"
            raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, reason)
        if not 1 <= len(chunk.data) <= CHUNK_BYTES_MAX or len(data) + len(chunk.data) > head.size:
            raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, f"a chunk of {len(chunk.data)} bytes of a plan")
        data += chunk.data
    if head is None or len(data) != head.size:
        raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, f"a plan that ends after {len(data)} bytes")
    if (await asyncio.to_thread(hashlib.sha256, data)).hexdigest() != head.sha256:
        raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "sha256: is not the digest of the bytes that came")
    return head.at_ns, bytes(data)


class OperatorServer(Server):
    """Serves the operator's seat."""

    def __init__(self, address: str, handler: OperatorHandler, blobs: BlobStore) -> None:
        super().__init__(address)
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

    async def list_transfers(self, timeout_s: float) -> operator_pb2.TransferList:
        """What is under way on the node."""
        reply: operator_pb2.TransferList = await self._unary(
            self._stub.ListTransfers, operator_pb2.ListTransfersRequest(), timeout_s
        )
        return reply

    async def send_file(
        self, order: operator_pb2.SendOrder, path: Path, size: int
    ) -> operator_pb2.SendFileReply:
        """Queue a file at the node, however long it takes to hand over. A reply may have `refused`.

        Raises OSError for a file that cannot be read.
        """
        wrong: list[OSError] = []

        def read() -> Iterator[operator_pb2.FilePiece]:
            try:
                for piece in pieces(order, path, size):
                    self.traffic.sent(piece)
                    yield piece
            except OSError as error:  # gRPC would say only that the call was cancelled
                wrong.append(error)
                raise

        try:
            async with self._failures():
                self.traffic.call()
                reply: operator_pb2.SendFileReply = await self._stub.SendFile(read())
                self.traffic.received(reply)
                return reply
        except (LinkDown, asyncio.CancelledError):
            if wrong:
                raise wrong[0] from None
            raise

    async def update_plan(self, at_ns: int, data: bytes, timeout_s: float) -> operator_pb2.UpdatePlanReply:
        """Give the node a plan's file, to be believed from scenario time `at_ns` (1 or more) on.

        ValueError for a file of more than PLAN_BYTES_MAX. A reply without `accepted` says why.
        """
        if not 1 <= len(data) <= PLAN_BYTES_MAX:
            raise ValueError(f"data: must be 1 to {PLAN_BYTES_MAX} bytes, not {len(data)}")
        sha256 = hashlib.sha256(data).hexdigest()

        def pieces() -> Iterator[operator_pb2.PlanChunk]:
            for start in range(0, len(data), CHUNK_BYTES_DEFAULT):
                chunk = operator_pb2.PlanChunk(
                    at_ns=at_ns, sha256=sha256, size=len(data), data=data[start : start + CHUNK_BYTES_DEFAULT]
                )
                self.traffic.sent(chunk)
                yield chunk

        async with self._failures():
            self.traffic.call()
            reply: operator_pb2.UpdatePlanReply = await self._stub.UpdatePlan(pieces(), timeout=timeout_s)
            self.traffic.received(reply)
            return reply
