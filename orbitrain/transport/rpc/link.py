"""The learning plane: what crosses a contact between two nodes (proto/orbitrain/v1/link.proto).

Whatever a peer sends is bounded and checked here before it is used; what is refused is reported to the
handler and answered with one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from orbitrain.machine import Digest
from orbitrain.transport.objects import Range, RangeSet
from orbitrain.transport.rpc.channel import (
    CHUNK_BYTES_DEFAULT,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    Client,
    LinkDown,
    PeerRefused,
    Refusal,
    Rejection,
    Server,
    chunks,
    one_line,
)
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX, BlobStore, is_digest
from orbitrain.transport.store.errors import (
    DigestMismatch,
    IncomingClosed,
    ObjectTooLarge,
    OutOfBounds,
    StorageFull,
)
from orbitrain.v1 import link_pb2, link_pb2_grpc

LETTER_BODY_BYTES_MAX = 1024 * 1024
"""Largest body of a letter: messages hold names and numbers, what is large is an object."""

OBJECTS_MAX = 256
"""Objects of one letter or offer: the models of one region's devices."""

AWAITED_MAX = 512
"""Objects of one source that wait for their letter: two letters' worth."""

NAME_CHARACTERS_MAX = 128
"""Longest name of a node, role or message: they are keys of the journal's tables."""

OFFER_TIMEOUT_S = 10.0
"""Wall time for the answer to an offer: a look into a table, over a link of seconds at worst."""


class LinkHandler(Protocol):
    """What the driver makes of calls. All methods run on the event loop of the server."""

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        """The source is a known peer. Raises Refusal."""
        ...

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        """A letter from an admitted source, bounded, its objects in the store. Raises Refusal."""
        ...

    def admits(self, source: str) -> str | None:
        """None if `source` may send now, else the reason why not. Not asked for pings."""
        ...

    def refused(self, source: str, reason: str) -> None:
        """A call was refused. `source` is what the peer called itself, cut to one short line."""
        ...


class _Servicer(link_pb2_grpc.LinkServicer):
    def __init__(self, blobs: BlobStore, handler: LinkHandler, peers: Collection[str]) -> None:
        self._blobs = blobs
        self._handler = handler
        self._peers = frozenset(peers)
        self.awaited: dict[str, dict[Digest, None]] = {}

    # ------------------------------------------------------------------------------------- calls

    async def Ping(self, request: link_pb2.PingRequest, context: Any) -> link_pb2.PingReply:
        async with self._refusals(context, request.source):
            self._know(request.source)
            for text in (request.incarnation, request.plan_sha256):
                self._bounded(text, request.source)
            return await self._handler.ping(request)

    async def Offer(self, request: link_pb2.OfferRequest, context: Any) -> link_pb2.OfferReply:
        async with self._refusals(context, request.source):
            self._admit(request.source)
            reply = link_pb2.OfferReply()
            for digest, size in self._names(request.objects, request.source):
                if self._holds(digest, size, request.source):
                    self._await(digest, request.source)
                    continue
                held = RangeSet(self._blobs.partial(digest, size, request.source))
                gaps = held.missing(0, size) or [(0, size)]
                reply.missing.add(digest=digest, ranges=[link_pb2.Range(start=a, end=b) for a, b in gaps])
            return reply

    async def Put(self, requests: AsyncIterator[link_pb2.Chunk], context: Any) -> link_pb2.PutReply:
        stream = aiter(requests)
        first = await anext(stream, None)
        source = "" if first is None else first.source
        async with self._refusals(context, source):
            if first is None:
                raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "no chunk")
            self._admit(source)
            ((digest, size),) = self._names([first.object], source)
            self._await(digest, source)
            if self._holds(digest, size, source):
                return link_pb2.PutReply(held=[link_pb2.Range(start=0, end=size)])
            return await self._receive(first, stream)

    async def Deliver(self, letter: link_pb2.Letter, context: Any) -> link_pb2.Receipt:
        source = letter.source
        async with self._refusals(context, source):
            self._admit(source)
            for text in (letter.incarnation, letter.destination, letter.role, letter.kind, letter.cancelled):
                self._bounded(text, source)
            if len(letter.body) > LETTER_BODY_BYTES_MAX:
                raise Rejection(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"a body of {len(letter.body)} bytes; the largest is {LETTER_BODY_BYTES_MAX}",
                )
            names = self._names(letter.objects, source)
            # A cancelled letter is settled, not delivered: its objects need not have come.
            lacking = [] if letter.cancelled else [n for n in names if not self._holds(*n, source)]
            if lacking:
                raise Rejection(
                    grpc.StatusCode.FAILED_PRECONDITION, f"missing objects: {len(lacking)} of {len(names)}"
                )
            receipt = await self._handler.deliver(letter)
            for digest, _ in names:
                self.awaited.get(source, {}).pop(digest, None)
            return receipt

    async def _receive(self, first: link_pb2.Chunk, rest: AsyncIterator[link_pb2.Chunk]) -> link_pb2.PutReply:
        name, source = first.object, first.source
        incoming = self._blobs.incoming(name.digest, name.size, source)
        received_bytes = 0
        chunk: link_pb2.Chunk | None = first
        while chunk is not None:
            if chunk.object != name or chunk.source != source:
                raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "a stream carries one object of one source")
            if len(chunk.data) > CHUNK_BYTES_MAX or (not chunk.data and name.size):
                raise Rejection(
                    grpc.StatusCode.INVALID_ARGUMENT, f"a chunk of {len(chunk.data)} bytes of an object"
                )
            received_bytes += len(chunk.data)
            if received_bytes > name.size:
                # Otherwise a stream could repeat bytes for ever.
                raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "more bytes than the object has")
            incoming.write(chunk.offset, chunk.data)
            chunk = await anext(rest, None)
        if not incoming.missing:
            await asyncio.to_thread(incoming.finish)
        return link_pb2.PutReply(held=[link_pb2.Range(start=a, end=b) for a, b in incoming.held])

    # ------------------------------------------------------------------------------------ checks

    @asynccontextmanager
    async def _refusals(self, context: Any, source: str) -> AsyncIterator[None]:
        """Turns what the checks, the store and the handler raise into a status, and reports it."""
        try:
            yield
            return
        except Rejection as error:
            code, reason = error.code, error.reason
        except Refusal as error:
            code, reason = grpc.StatusCode.PERMISSION_DENIED, str(error)
        except (DigestMismatch, OutOfBounds, ObjectTooLarge) as error:
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except StorageFull as error:
            code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        except IncomingClosed as error:
            await context.abort(grpc.StatusCode.ABORTED, one_line(str(error)))
        reason = one_line(reason)
        self._handler.refused(one_line(source), reason)
        await context.abort(code, reason)

    @staticmethod
    def _bounded(text: str, source: str) -> None:
        if len(text) > NAME_CHARACTERS_MAX:
            raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, f"a name of {len(text)} characters", source)

    def _know(self, source: str) -> None:
        if source not in self._peers:
            raise Rejection(grpc.StatusCode.PERMISSION_DENIED, "unknown peer", source)

    def _admit(self, source: str) -> None:
        self._know(source)
        reason = self._handler.admits(source)
        if reason is not None:
            raise Rejection(grpc.StatusCode.PERMISSION_DENIED, reason, source)

    @staticmethod
    def _names(objects: Sequence[link_pb2.ObjectName], source: str) -> list[tuple[Digest, int]]:
        if len(objects) > OBJECTS_MAX:
            raise Rejection(
                grpc.StatusCode.INVALID_ARGUMENT, f"{len(objects)} objects at once; {OBJECTS_MAX} at most"
            )
        for name in objects:
            if not is_digest(name.digest) or not 0 <= name.size <= OBJECT_BYTES_MAX:
                raise Rejection(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"no object is called {name.digest[:80]!r} with {name.size} bytes",
                    source,
                )
        return [(name.digest, name.size) for name in objects]

    def _holds(self, digest: Digest, size: int, source: str) -> bool:
        if not self._blobs.has(digest):
            return False
        if self._blobs.size(digest) != size:
            raise Rejection(
                grpc.StatusCode.INVALID_ARGUMENT, f"object {digest[:12]} does not have {size} bytes", source
            )
        return True

    def _await(self, digest: Digest, source: str) -> None:
        waiting = self.awaited.setdefault(source, {})
        waiting.pop(digest, None)
        waiting[digest] = None
        if len(waiting) > AWAITED_MAX:
            del waiting[next(iter(waiting))]


class LinkServer(Server):
    """Serves a node's peers."""

    def __init__(
        self,
        address: str,
        blobs: BlobStore,
        handler: LinkHandler,
        peers: Collection[str],
        emulated: str | None = None,
    ) -> None:
        """`peers` are the names of the nodes that may call. The rest as for `Server`."""
        super().__init__(address, emulated)
        self._servicer = _Servicer(blobs, handler, peers)

    def _register(self, server: grpc.aio.Server) -> str:
        link_pb2_grpc.add_LinkServicer_to_server(self._servicer, server)
        return "orbitrain.v1.Link"

    def awaited(self) -> set[Digest]:
        """Objects whose letter is still to come: `BlobStore.collect` must be told to keep them."""
        return {digest for waiting in self._servicer.awaited.values() for digest in waiting}

    def forget(self, source: str) -> None:
        """The letters of `source` will not come in this contact: its objects may be collected."""
        self._servicer.awaited.pop(source, None)


class LinkClient(Client):
    """This node's end of a link: calls towards one peer. All raise LinkDown and PeerRefused."""

    def __init__(self, address: str, source: str, chunk_bytes: int = CHUNK_BYTES_DEFAULT) -> None:
        """`source` is this node's name. `chunk_bytes` is clamped to what the receiver takes."""
        super().__init__(address)
        self.source = source
        self.chunk_bytes = max(CHUNK_BYTES_MIN, min(chunk_bytes, CHUNK_BYTES_MAX))
        self._stub = link_pb2_grpc.LinkStub(self._channel)

    async def ping(self, request: link_pb2.PingRequest, timeout_s: float) -> link_pb2.PingReply:
        reply: link_pb2.PingReply = await self._unary(self._stub.Ping, request, timeout_s)
        return reply

    async def missing(
        self, objects: Iterable[tuple[Digest, int]], timeout_s: float = OFFER_TIMEOUT_S
    ) -> dict[Digest, list[Range]]:
        """Which bytes of (digest, bytes) the peer lacks; objects that it holds whole are absent.

        An empty object that is lacking has the one range (0, 0). Raises PeerRefused also for an answer
        that names other objects or other bytes.
        """
        sizes = dict(objects)
        missing: dict[Digest, list[Range]] = {}
        names = [link_pb2.ObjectName(digest=digest, size=size) for digest, size in sizes.items()]
        for first in range(0, len(names), OBJECTS_MAX):
            request = link_pb2.OfferRequest(source=self.source, objects=names[first : first + OBJECTS_MAX])
            reply: link_pb2.OfferReply = await self._unary(self._stub.Offer, request, timeout_s)
            for entry in reply.missing:
                size = sizes.get(entry.digest)
                if size is None or any(not 0 <= r.start <= r.end <= size for r in entry.ranges):
                    raise PeerRefused("the answer to an offer names what was not offered")
                wanted = RangeSet((r.start, r.end) for r in entry.ranges)
                missing[entry.digest] = list(wanted) or [(0, size)]
        return missing

    async def put(
        self, digest: Digest, size: int, path: Path, timeout_s: float, ranges: Iterable[Range] | None = None
    ) -> None:
        """Send an object, or the `ranges` of it that the peer lacks; it has the whole, verified, on return.

        Raises OSError if the file cannot be read or does not have `size` bytes.
        """
        actual = (await asyncio.to_thread(path.stat)).st_size
        if actual != size:
            raise OSError(f"{path}: {actual} bytes instead of {size}")
        async with self._failures():
            self.traffic.call()
            wanted = [(0, size)] if ranges is None else ranges
            # Read on the loop, a chunk at a time: objects were written or read not long ago.
            reply = await self._stub.Put(
                self._counted(chunks(path, digest, size, self.source, wanted, self.chunk_bytes)),
                timeout=timeout_s,
            )
            self.traffic.received(reply)
            held = RangeSet((r.start, r.end) for r in reply.held if 0 <= r.start <= r.end <= size)
            if held.missing(0, size):
                raise LinkDown("the peer has not received all of the object")

    def _counted(self, stream: Iterator[link_pb2.Chunk]) -> Iterator[link_pb2.Chunk]:
        for chunk in stream:
            self.traffic.sent(chunk)
            yield chunk

    async def deliver(self, letter: link_pb2.Letter, timeout_s: float) -> link_pb2.Receipt:
        """Returns once the peer has committed what became of the letter.

        Raises PeerRefused with the code FAILED_PRECONDITION if it lacks objects.
        """
        receipt: link_pb2.Receipt = await self._unary(self._stub.Deliver, letter, timeout_s)
        return receipt
