"""The learning plane, sending: a node's calls towards one peer."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import grpc.aio

from orbitrain.machine import NEVER_NS, Digest
from orbitrain.transport.objects import CHUNK_BYTES_MAX, Pace, Range, RangeSet, Sending
from orbitrain.transport.rpc.channel import Client, LinkDown, PeerRefused, one_line
from orbitrain.transport.rpc.custody import expanded
from orbitrain.transport.rpc.intake import DAMAGED_MAX
from orbitrain.transport.rpc.link import NAME_CHARACTERS_MAX, OBJECTS_MAX
from orbitrain.v1 import link_pb2, link_pb2_grpc

OFFER_TIMEOUT_S: Final = 10.0
"""Wall time for the answer to an offer: a look into a table, over a link of seconds at worst."""

WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Bytes in the air where nobody says what the link is like: loopback carries that in a few milliseconds."""

CHUNK_BYTES: Final = 1024 * 1024
"""... and of a chunk there: each costs both ends as much again as several hundred kilobytes do."""

PACE: Final = Pace(CHUNK_BYTES, WINDOW_BYTES)
"""Of a link of which nothing is known."""

PUT: Final = "/orbitrain.v1.Link/Put"
"""The method, called with chunks that are serialised already."""

_DATA_TAG: Final = bytes([link_pb2.Chunk.DATA_FIELD_NUMBER << 3 | 2])
"""Of the field `data`: its number, and that it is a length and bytes."""

Room = Callable[[int], int]
"""How large the next chunk may be, bytes, given the bytes in the air; 0 to send no more."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Whose letter objects are offered for (see `OfferRequest`)."""

    incarnation: str = ""
    role: str = ""
    lane: int = 0
    sequence: int = 0
    expires_at_ns: int = NEVER_NS
    oldest: int = 0


class LinkClient(Client):
    """This node's end of a link: calls towards one peer. All raise LinkDown and PeerRefused."""

    def __init__(self, address: str, source: str, pace: Pace = PACE) -> None:
        """`source` is this node's name. Chunks are cut to what a receiver takes."""
        super().__init__(address)
        self.source = source
        self.pace = pace
        self.object_bytes = 0
        """Bytes of objects sent so far, repeats included."""
        self._stub = link_pb2_grpc.LinkStub(self._channel)
        self._puts: set[_Put] = set()
        self._heard = asyncio.Event()
        self._put_stream: Any = self._channel.stream_stream(PUT, None, link_pb2.Progress.FromString)

    @property
    def in_air_bytes(self) -> int:
        """Bytes of objects that were sent and of which no answer has told yet."""
        return sum(put.in_air_bytes for put in self._puts)

    def heard(self) -> None:
        """An answer came: whoever waits for others to have less in the air looks again."""
        self._heard.set()
        self._heard = asyncio.Event()

    async def _has_room(self, nbytes: int, patience_s: float) -> None:
        """Wait until the window has room for so much beside what others have in the air. Raises LinkDown."""
        try:
            async with asyncio.timeout(patience_s):
                while self._puts and self.in_air_bytes + nbytes > self.pace.window_bytes:
                    await self._heard.wait()
        except TimeoutError:
            raise LinkDown(f"no sign of the peer for {patience_s:.1f} s") from None

    async def ping(self, request: link_pb2.PingRequest, timeout_s: float) -> link_pb2.PingReply:
        reply: link_pb2.PingReply = await self._unary(self._stub.Ping, request, timeout_s)
        return reply

    async def missing(
        self,
        objects: Iterable[tuple[Digest, int]],
        timeout_s: float = OFFER_TIMEOUT_S,
        parcel: Parcel = Parcel(),
    ) -> dict[Digest, list[Range]]:
        """Which bytes of (digest, bytes) the peer lacks; objects that it holds whole are absent.

        Ranges are in the order in which the peer wants them; all other bytes are on its disk. An empty object
        that is lacking has the one range (0, 0). Raises PeerRefused also for an answer that names other
        objects or other bytes.
        """
        sizes = dict(objects)
        missing: dict[Digest, list[Range]] = {}
        names = [link_pb2.ObjectName(digest=digest, size=size) for digest, size in sizes.items()]
        for first in range(0, len(names), OBJECTS_MAX):
            request = link_pb2.OfferRequest(
                source=self.source,
                objects=names[first : first + OBJECTS_MAX],
                incarnation=parcel.incarnation,
                role=parcel.role,
                lane=parcel.lane,
                sequence=parcel.sequence,
                expires_at_ns=parcel.expires_at_ns,
                oldest=parcel.oldest,
            )
            reply: link_pb2.OfferReply = await self._unary(self._stub.Offer, request, timeout_s)
            for entry in reply.missing:
                size = sizes.get(entry.digest)
                if size is None or any(not 0 <= r.start <= r.end <= size for r in entry.ranges):
                    raise PeerRefused("the answer to an offer names what was not offered")
                missing[entry.digest] = _in_order(entry.ranges) or [(0, size)]
        return missing

    async def put(
        self,
        digest: Digest,
        size: int,
        path: Path,
        patience_s: float,
        ranges: Sequence[Range] | Sending | None = None,
        room: Room | None = None,
        sent: Callable[[], object] = lambda: None,
    ) -> bool:
        """Send an object, or the `ranges` of it that the peer lacks. Whether it has the whole now, verified.

        A `Sending` says itself what goes. `room` is asked before each chunk; `sent` is called once all has
        gone, of which the answer is on its way. Gives up after `patience_s` seconds without a sign of the
        peer. Raises OSError if the file cannot be read or does not have `size` bytes.
        """
        with await asyncio.to_thread(path.open, "rb", 0) as file:
            actual = (await asyncio.to_thread(path.stat)).st_size
            if actual != size:
                raise OSError(f"{path}: {actual} bytes instead of {size}")
            wanted = [(0, size)] if ranges is None else ranges
            put = _Put(self, link_pb2.ObjectName(digest=digest, size=size), wanted, room, sent)
            async with self._failures():
                await self._has_room(min(put.left_bytes, self.pace.chunk_bytes), patience_s)
                self.traffic.call()
                call = self._put_stream()
                self._puts.add(put)
                try:
                    return await put.run(call, file, patience_s)
                except TimeoutError:
                    raise LinkDown(f"no sign of the peer for {patience_s:.1f} s") from None
                finally:
                    self._puts.remove(put)
                    self.heard()
                    call.cancel()

    async def deliver(self, letter: link_pb2.Letter, timeout_s: float) -> link_pb2.Receipt:
        """Returns once the peer has committed what became of the letter.

        Raises PeerRefused with the code FAILED_PRECONDITION if it lacks objects.
        """
        receipt: link_pb2.Receipt = await self._unary(self._stub.Deliver, letter, timeout_s)
        return receipt

    async def hand(self, letters: Sequence[link_pb2.Letter], timeout_s: float) -> list[link_pb2.Receipt]:
        """As `deliver`, letters of one mailbox in ascending sequence, LETTERS_MAX and LETTERS_BYTES_MAX at
        most. The receipts are of the first of them; the peer has left alone the others.

        Raises PeerRefused also for an answer that does not say that.
        """
        request = link_pb2.Letters(letters=letters)
        signal: link_pb2.CustodySignal = await self._unary(self._stub.Hand, request, timeout_s)
        return expanded(signal, [letter.sequence for letter in letters])


def with_data(head: link_pb2.Chunk, data: bytes) -> bytes:
    """A chunk, serialised, with these bytes as its data: copied once, where protobuf copies them thrice."""
    if not data:
        return head.SerializeToString()
    length, size = bytearray(), len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"".join((head.SerializeToString(), _DATA_TAG, length, data))


class _Put:
    """One object, or ranges of it, over one call."""

    def __init__(
        self,
        client: LinkClient,
        name: link_pb2.ObjectName,
        ranges: Sequence[Range] | Sending,
        room: Room | None,
        sent: Callable[[], object],
    ) -> None:
        self._client = client
        self._name = name
        self._paced = not isinstance(ranges, Sending)
        """The window is the client's, as it is at each chunk."""
        self._sending = ranges if isinstance(ranges, Sending) else Sending(ranges, client.pace.window_bytes)
        self._room = room or (lambda in_air: client.pace.chunk_bytes)
        self._most_bytes = self._sending.left_bytes + DAMAGED_MAX * CHUNK_BYTES_MAX
        self._sent = sent
        self._stopped = False
        self._whole = False
        self._limit: asyncio.Timeout | None = None
        """Of the write under way."""

    @property
    def in_air_bytes(self) -> int:
        return self._sending.in_air_bytes

    @property
    def left_bytes(self) -> int:
        return self._sending.left_bytes

    async def run(self, call: Any, file: BinaryIO, patience_s: float) -> bool:
        """Raises TimeoutError when the peer shows no sign, and what gRPC raises."""
        call.add_done_callback(self._call_ended)
        reading = asyncio.ensure_future(call.read())
        said = told = False
        try:
            if not self._name.size:
                await self._write(call, b"", 0, patience_s)
            while True:
                await self._send(call, file, reading, patience_s)
                if not told and not self._sending.left_bytes:
                    told = True
                    self._sent()
                over = self._stopped or not self._sending.left_bytes
                if over and not self._sending.sent_bytes and self._name.size:
                    return False  # there was never room: a call without a chunk would be refused
                if over and not self._sending.in_air_bytes and not said and not reading.done():
                    said = True
                    await call.done_writing()
                done, _ = await asyncio.wait({reading}, timeout=patience_s)
                if not done:
                    raise TimeoutError
                progress = reading.result()
                if progress is grpc.aio.EOF or self._hear(progress):
                    return self._whole
                reading = asyncio.ensure_future(call.read())
        finally:
            reading.cancel()

    def _call_ended(self, call: Any) -> None:
        """A write to a call that ends before it has begun would never come back by itself."""
        if self._limit is not None:
            self._limit.reschedule(0.0)

    async def _send(self, call: Any, file: BinaryIO, reading: asyncio.Future[Any], patience_s: float) -> None:
        """Fill the window, as far as there is room; until the peer says something.

        What other objects have in the air takes its place in it.
        """
        while self._sending.left_bytes and not self._stopped and not reading.done():
            chunk_bytes = min(self._room(self._sending.in_air_bytes), CHUNK_BYTES_MAX)
            if chunk_bytes <= 0:
                self._stopped = True
                return
            if self._paced:
                others_bytes = self._client.in_air_bytes - self._sending.in_air_bytes
                self._sending.window_bytes = self._client.pace.window_bytes - others_bytes
            piece = self._sending.next(chunk_bytes)
            if piece is None:
                return
            # Read on the loop, a chunk at a time: objects were written or read not long ago.
            file.seek(piece[0])
            data = file.read(piece[1] - piece[0])
            if len(data) < piece[1] - piece[0]:
                raise OSError(f"{file.name}: it has become shorter")
            await self._write(call, data, piece[0], patience_s)

    async def _write(self, call: Any, data: bytes, offset: int, patience_s: float) -> None:
        head = link_pb2.Chunk(
            object=self._name, offset=offset, source=self._client.source, crc32=zlib.crc32(data)
        )
        message = with_data(head, data)
        self._client.traffic.sent_serialised(len(message))
        self._client.object_bytes += len(data)
        # The peer has ended the call: what it has to say is read next.
        with suppress(asyncio.InvalidStateError):
            try:
                async with asyncio.timeout(patience_s) as self._limit:
                    await call.write(message)
            except TimeoutError:
                if not call.done():
                    raise
            finally:
                self._limit = None

    def _hear(self, progress: link_pb2.Progress) -> bool:
        """Whether the object is whole now."""
        self._client.traffic.received(progress)
        self._client.heard()
        if progress.refused:
            raise PeerRefused(one_line(progress.refused), progress.code[:NAME_CHARACTERS_MAX])
        self._whole = progress.whole
        size = self._name.size
        named = [(r.start, r.end) for r in (*progress.damaged, *progress.committed)]
        if any(not 0 <= start <= end <= size for start, end in named):
            raise PeerRefused("an answer that names bytes outside the object")
        try:
            if not progress.whole:
                self._sending.answered(progress.arrived_bytes, named[: len(progress.damaged)])
        except ValueError as error:
            raise PeerRefused(str(error)) from None
        if self._sending.sent_bytes + self._sending.left_bytes > self._most_bytes:
            raise PeerRefused("more bytes are asked for again than can be damaged")
        self._sending.committed(named[len(progress.damaged) :])
        return self._whole


def _in_order(ranges: Iterable[link_pb2.Range]) -> list[Range]:
    """The ranges as they are given, each byte once."""
    seen, once = RangeSet(), list[Range]()
    for each in ranges:
        once += seen.missing(each.start, each.end)
        seen.add(each.start, each.end)
    return once
