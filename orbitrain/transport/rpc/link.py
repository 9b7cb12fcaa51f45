"""The learning plane, receiving: what crosses a contact between two nodes (proto/orbitrain/v1/link.proto).

Whatever a peer sends is bounded and checked here before it is used; what is refused is reported to the
handler and answered with one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, Protocol

import grpc
import grpc.aio

from orbitrain.machine import Digest
from orbitrain.transport.expected import Expected
from orbitrain.transport.objects import Range, RangeSet
from orbitrain.transport.rpc.arrivals import Arrivals
from orbitrain.transport.rpc.channel import Refusal, Rejection, Server, one_line
from orbitrain.transport.rpc.custody import LETTERS_BYTES_MAX, LETTERS_MAX, compressed
from orbitrain.transport.rpc.intake import Inbound, Intake
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX, BlobStore, is_digest
from orbitrain.transport.store.errors import (
    DigestMismatch,
    IncomingClosed,
    ObjectTooLarge,
    OutOfBounds,
    StorageFull,
    StoreError,
)
from orbitrain.transport.store.incoming import Incoming
from orbitrain.v1 import link_pb2, link_pb2_grpc

LETTER_BODY_BYTES_MAX = 1024 * 1024
"""Largest body of a letter: messages hold names and numbers, what is large is an object."""

OBJECTS_MAX = 256
"""Objects of one letter or offer: the models of one region's devices."""

NAME_CHARACTERS_MAX = 128
"""Longest name of a node, role or message: they are keys of the journal's tables."""


class LinkHandler(Protocol):
    """What the driver makes of calls. All methods run on the event loop of the server."""

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        """The source is a known peer. Raises Refusal."""
        ...

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        """A letter from an admitted source, bounded, its objects in the store. Raises Refusal."""
        ...

    async def hand(self, letters: Sequence[link_pb2.Letter]) -> list[link_pb2.Receipt]:
        """As `deliver`, of letters of one mailbox in ascending sequence.

        Returns the receipts of the first of them, at least one, up to one that is not delivered.
        """
        ...

    def settles(self, letter: link_pb2.Letter) -> bool:
        """Whether a letter is not to be delivered any more, only its end to be told."""
        ...

    def make_room(self) -> None:
        """Drop the bytes of objects whose letters will not come any more."""
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
        self._resting: set[asyncio.Task[None]] = set()
        self._arrivals = Arrivals()

    # ------------------------------------------------------------------------------------- calls

    async def Ping(self, request: link_pb2.PingRequest, context: Any) -> link_pb2.PingReply:
        async with self._refusals(context, request.source):
            self._know(request.source)
            for text in (request.incarnation, request.plan_sha256):
                self._bounded(text, request.source)
            return await self._handler.ping(request)

    async def Offer(self, request: link_pb2.OfferRequest, context: Any) -> link_pb2.OfferReply:
        async with self._refusals(context, request.source):
            source = request.source
            self._admit(source)
            for text in (request.incarnation, request.role):
                self._bounded(text, source)
            names = self._names(request.objects, source)
            letter = Expected(
                source,
                request.incarnation,
                request.role,
                request.lane,
                request.sequence,
                request.expires_at_ns,
            )
            digests = [digest for digest, _ in names]
            await asyncio.to_thread(self._blobs.expect, letter, digests, request.oldest)
            self._arrivals.changed()
            reply = link_pb2.OfferReply()
            for digest, size in names:
                if self._holds(digest, size, source):
                    continue
                self._room_for(digest, size, source)
                gaps = await self._gaps(digest, size, source)
                if gaps is not None:
                    reply.missing.add(digest=digest, ranges=[link_pb2.Range(start=a, end=b) for a, b in gaps])
            return reply

    def _room_for(self, digest: Digest, size: int, source: str) -> None:
        """Said at the offer, so that nothing is sent in vain. Raises as `BlobStore.shared`."""
        try:
            self._blobs.check_room(digest, size, source)
        except StorageFull:
            self._handler.make_room()
            self._blobs.check_room(digest, size, source)

    async def _gaps(self, digest: Digest, size: int, source: str) -> list[Range] | None:
        """What is lacking of an object, with all that is not lacking committed; None if it is whole now."""
        partial = self._blobs.partial(digest, size, source)
        if partial is None:
            return [(0, size)]
        if not partial.missing:  # the process died between its last byte and its publication
            with suppress(DigestMismatch, IncomingClosed):
                await asyncio.to_thread(partial.finish)
                return None
            return [(0, size)]
        await asyncio.to_thread(partial.commit)
        return RangeSet(partial.committed).missing(0, size)

    async def Put(self, requests: AsyncIterator[link_pb2.Chunk], context: Any) -> None:
        stream = Inbound(requests)
        try:
            await self._put(stream, context)
        finally:
            stream.close()

    async def _put(self, stream: Inbound, context: Any) -> None:
        first = await stream.next()
        source = "" if first is None else first.source
        async with self._refusals(context, source, stream):
            if first is None:
                raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, "no chunk")
            self._admit(source)
            ((digest, size),) = self._names([first.object], source)
            if self._holds(digest, size, source):
                await context.write(link_pb2.Progress(whole=True))
                await stream.drain()
                return
            if not await self._arrivals.soon(lambda: self._blobs.is_expected(source, digest)):
                raise Rejection(
                    grpc.StatusCode.FAILED_PRECONDITION, f"object {digest[:12]} was not offered", source
                )
            with self._arrivals.bringing(source, digest):
                await self._receive(first, stream, context)
        await stream.drain()

    async def _receive(self, first: link_pb2.Chunk, stream: Inbound, context: Any) -> None:
        incoming = self._blobs.shared(first.object.digest, first.object.size, first.source)
        if self._blobs.has(first.object.digest):  # another call has just brought the last of it
            incoming.discard(wait=False)
            await context.write(link_pb2.Progress(whole=True))
            return
        intake = Intake(incoming, context.write)
        try:
            await intake.run(first, stream)
        finally:
            if intake.damaged:
                self._handler.refused(one_line(first.source), f"damaged chunks: {intake.damaged}")
            # Also when this call has been cancelled, which must not take from the disk what has come.
            rest = asyncio.create_task(asyncio.to_thread(_rest, incoming))
            self._resting.add(rest)
            rest.add_done_callback(self._resting.discard)

    async def Deliver(self, letter: link_pb2.Letter, context: Any) -> link_pb2.Receipt:
        source = letter.source
        async with self._refusals(context, source):
            self._admit(source)
            await self._arrived(source, [letter])
            self._check(letter)
            receipt = await self._handler.deliver(letter)
            await asyncio.to_thread(self._blobs.settled, source, letter.role, letter.lane, letter.sequence)
            return receipt

    async def Hand(self, request: link_pb2.Letters, context: Any) -> link_pb2.CustodySignal:
        letters = request.letters
        source = letters[0].source if letters else ""
        async with self._refusals(context, source):
            self._admit(source)
            self._check_together(letters)
            await self._arrived(source, letters)
            for letter in letters:
                self._check(letter)
            receipts = await self._handler.hand(letters)
            last = letters[len(receipts) - 1]
            await asyncio.to_thread(self._blobs.settled, source, last.role, last.lane, last.sequence)
            return compressed([letter.sequence for letter in letters], receipts)

    async def _arrived(self, source: str, letters: Sequence[link_pb2.Letter]) -> None:
        """Return once no objects of letters are on their way: a letter may come before the last bytes do.

        Not for letters that nobody needs the objects of, nor for objects that were not offered.
        """
        coming = [
            name.digest
            for letter in letters
            if not self._handler.settles(letter)
            for name in letter.objects[:OBJECTS_MAX]
            if not self._blobs.has(name.digest) and self._blobs.is_expected(source, name.digest)
        ]
        if coming:
            await self._arrivals.over(source, coming, self._blobs.has)

    # ------------------------------------------------------------------------------------ checks

    def _check(self, letter: link_pb2.Letter) -> None:
        """One letter of an admitted source. Raises Rejection."""
        source = letter.source
        for text in (letter.incarnation, letter.destination, letter.role, letter.kind, letter.cancelled):
            self._bounded(text, source)
        if len(letter.body) > LETTER_BODY_BYTES_MAX:
            raise Rejection(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"a body of {len(letter.body)} bytes; the largest is {LETTER_BODY_BYTES_MAX}",
            )
        names = self._names(letter.objects, source)
        # A letter that is not delivered, only settled, needs none of its objects.
        lacking = [n for n in names if not self._holds(*n, source)]
        if self._handler.settles(letter):
            lacking = []
        if lacking:
            raise Rejection(
                grpc.StatusCode.FAILED_PRECONDITION, f"missing objects: {len(lacking)} of {len(names)}"
            )

    @staticmethod
    def _check_together(letters: Sequence[link_pb2.Letter]) -> None:
        """Letters that are handed over in one call, at least one. Raises Rejection."""
        nbytes, named = sum(each.ByteSize() for each in letters), sum(len(each.objects) for each in letters)
        boxes = {(each.source, each.incarnation, each.destination, each.role, each.lane) for each in letters}
        if len(letters) > LETTERS_MAX or nbytes > LETTERS_BYTES_MAX or named > OBJECTS_MAX:
            reason = f"{len(letters)} letters of {nbytes} bytes with {named} objects at once"
        elif len(boxes) > 1:
            reason = "letters of several mailboxes at once"
        elif any(later.sequence <= each.sequence for each, later in pairwise(letters)):
            reason = "letters that are not in order"
        else:
            return
        raise Rejection(grpc.StatusCode.INVALID_ARGUMENT, reason, letters[0].source)

    @asynccontextmanager
    async def _refusals(
        self, context: Any, source: str, stream: Inbound | None = None
    ) -> AsyncIterator[None]:
        """Turns what the checks, the store and the handler raise into a status, and reports it.

        The caller of a stream is told before, as it may not hear the status while it writes.
        """
        try:
            yield
            return
        except Rejection as error:
            code, reason = error.code, error.reason
        except Refusal as error:
            code, reason = grpc.StatusCode.PERMISSION_DENIED, str(error)
        except DigestMismatch as error:
            code, reason = grpc.StatusCode.DATA_LOSS, str(error)
        except (OutOfBounds, ObjectTooLarge) as error:
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except StorageFull as error:
            code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        except IncomingClosed as error:
            # Dropped just now, for want of a letter: nothing is wrong with the sender.
            await context.abort(grpc.StatusCode.ABORTED, one_line(str(error)))
        except StoreError as error:
            code, reason = grpc.StatusCode.INTERNAL, str(error)
        reason = one_line(reason)
        self._handler.refused(one_line(source), reason)
        if stream is not None:
            await context.write(link_pb2.Progress(refused=reason, code=code.name))
            await stream.drain()
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


def _rest(incoming: Incoming) -> None:
    """Commit what came of it, if the disk allows: what is not committed comes again."""
    with suppress(StoreError, OSError):
        incoming.rest()


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
