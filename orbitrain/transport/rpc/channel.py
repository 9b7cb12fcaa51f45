"""What both services share: options, bounds, how a call fails, and how its bytes are counted."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from orbitrain.machine import Digest
from orbitrain.transport.objects import CHUNK_BYTES_MAX, Range
from orbitrain.transport.rpc.address import (
    AddressInUse,
    InsecureAddress,
    check_unused,
    emulated_network,
    is_emulated,
    is_local,
    unix_path,
)
from orbitrain.v1 import link_pb2

MESSAGE_BYTES_MAX = 2 * CHUNK_BYTES_MAX
"""Largest gRPC message either way: gRPC's own default, made explicit."""

CHUNK_BYTES_DEFAULT = 256 * 1024
"""Bytes of an object in one message: lost work when a contact ends is at most this."""

CALLS_MAX = 1024
"""Calls that a server works on at once: a node has few neighbours, and each has few calls under way, of which
an object on its way takes up to FLOWS_MAX."""

REASON_CHARACTERS_MAX = 200
"""Longest reason sent or taken from a peer: one line of a log."""

CALL_OVERHEAD_BYTES = (50, 55)
"""HTTP/2 of one call besides its messages, (from the client, from the server): indexed headers, window
updates, pings. Measured behind a counting proxy with grpcio 1.85 on loopback: 20 to 75, and 50 to 67."""

CONNECTION_BYTES = (420, 190)
"""Preface, settings and first headers of a connection, (from the client, from the server). Measured alike."""

MESSAGE_OVERHEAD_BYTES = 14
"""gRPC's length prefix (5) and one DATA frame's header (9) around a message."""

KEPT_BYTES = 8 * 1024 * 1024
"""Largest block that the allocator keeps when it is freed, and half of what it keeps at the end of its heap:
some chunks, each copied a few times on its way."""

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
)

SERVER_OPTIONS: tuple[tuple[str, Any], ...] = (
    *_OPTIONS,
    ("grpc.so_reuseport", 0),  # two daemons on one port would share its calls in silence
    ("grpc.max_concurrent_streams", CALLS_MAX),
)

KEEPALIVE_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Of a server whose links really break: a connection whose other end went silent is gone within 15 s."""

CLIENT_OPTIONS: tuple[tuple[str, Any], ...] = (
    *_OPTIONS,
    ("grpc.enable_http_proxy", 0),  # gRPC obeys http_proxy even for loopback
    ("grpc.enable_retries", 0),  # the mailbox repeats, and counts
    ("grpc.service_config_disable_resolution", 1),  # no questions to DNS about TXT records
    ("grpc.use_local_subchannel_pool", 1),  # a fresh connection, with no back-off inherited
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the time an attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),  # a contact is short: be back within a second
)

_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""The peer has read the call and will not do it. Every other status may be the link's doing."""


class LinkDown(Exception):
    """The call did not come through, or its answer did not: only trying again can tell."""


class PeerRefused(Exception):
    """The peer answered that it will not. `code` is gRPC's name for the kind of refusal."""

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.code = code


class Refusal(Exception):
    """Raised by a handler to refuse a call: PERMISSION_DENIED, with this text as the reason."""


class Rejection(Exception):
    """A call that the server refuses, before it becomes a status."""

    def __init__(self, code: grpc.StatusCode, reason: str, source: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = one_line(reason)
        self.source = source


def one_line(text: str) -> str:
    """Printable, on one line, of bounded length."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return flat if len(flat) <= REASON_CHARACTERS_MAX else flat[: REASON_CHARACTERS_MAX - 1] + "…"


def keep_freed_memory() -> None:
    """Let the allocator use the memory of one chunk again for the next.

    glibc maps large blocks, and returns them to the kernel when they are freed, which costs a page fault for
    every 4 KiB of every copy of every chunk: more than all the rest of a transfer. Once a block of KEPT_BYTES
    has been freed, which need not even be touched, it keeps those up to that size (mallopt(3),
    M_MMAP_THRESHOLD). With other allocators nothing happens.
    """
    bytes(KEPT_BYTES)


def message_bytes(message: Message) -> int:
    """Bytes of a message on the connection: serialised, prefixed, framed."""
    return message.ByteSize() + MESSAGE_OVERHEAD_BYTES


class Traffic:
    """Bytes moved by one client: its messages, plus measured constants for what HTTP/2 adds.

    TCP's own headers and repeats are not in it. Within 5 % of what the socket carries once objects are
    some ten kilobytes; a test compares.
    """

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self._connected = False

    def call(self) -> None:
        if not self._connected:
            self._connected = True
            self.sent_bytes += CONNECTION_BYTES[0]
            self.received_bytes += CONNECTION_BYTES[1]
        self.sent_bytes += CALL_OVERHEAD_BYTES[0]
        self.received_bytes += CALL_OVERHEAD_BYTES[1]

    def sent(self, message: Message) -> None:
        self.sent_bytes += message_bytes(message)

    def sent_serialised(self, nbytes: int) -> None:
        """A message of so many bytes."""
        self.sent_bytes += nbytes + MESSAGE_OVERHEAD_BYTES

    def received(self, message: Message) -> None:
        self.received_bytes += message_bytes(message)


def chunks(
    path: Path, digest: Digest, size: int, source: str, ranges: Iterable[Range], chunk_bytes: int
) -> Iterator[link_pb2.Chunk]:
    """The given ranges of a file as chunks. An empty object is one empty chunk. Stops short at its end."""
    name = link_pb2.ObjectName(digest=digest, size=size)
    if size == 0:
        yield link_pb2.Chunk(object=name, source=source)
        return
    with path.open("rb") as file:
        for start, end in ranges:
            file.seek(start)
            while start < end:
                data = file.read(min(chunk_bytes, end - start))
                if not data:
                    return
                crc32 = zlib.crc32(data)
                yield link_pb2.Chunk(object=name, offset=start, data=data, source=source, crc32=crc32)
                start += len(data)


class Server:
    """A gRPC server with the standard health service. Subclassed by the two services."""

    def __init__(self, address: str, emulated: str | None = None) -> None:
        """Raises InvalidAddress; and InsecureAddress for an address that is not this host's alone.

        `emulated` is the network of links of our own making, which reach no other machine: calls are neither
        encrypted nor authenticated. Then the address must be one of it, and is the only one that is bound.
        """
        if emulated is not None:
            if not is_emulated(address, emulated_network(emulated)):
                raise InsecureAddress(f"{address}: not an address and port of the emulated {emulated}")
        elif not is_local(address):
            raise InsecureAddress(f"{address}: not a loopback address, and the link is not encrypted")
        keep_freed_memory()
        self.address = address
        self._options = SERVER_OPTIONS if emulated is None else (*SERVER_OPTIONS, *KEEPALIVE_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    def _register(self, server: grpc.aio.Server) -> str:
        """Add the service; returns its full name, for the health service."""
        raise NotImplementedError

    async def start(self) -> int:
        """Serve; returns the port (for a Unix socket it means nothing). Raises AddressInUse."""
        path = unix_path(self.address)
        if path is not None:
            check_unused(path)
        server = grpc.aio.server(options=self._options, maximum_concurrent_rpcs=CALLS_MAX)
        name = self._register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            port = server.add_insecure_port(self.address)
        except RuntimeError:
            await server.stop(None)
            raise AddressInUse(
                f"{self.address}: cannot be bound: in use by another process, or not an address of this host"
            ) from None
        await server.start()
        self._server = server
        for service in ("", name):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return int(port)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; those under way have `grace_s` seconds. Again, or before `start`: nothing."""
        if self._server is not None:
            server, self._server = self._server, None
            await self._health.enter_graceful_shutdown()
            await server.stop(grace_s)


class Client:
    """One fresh channel to one address. Needs a running event loop."""

    def __init__(self, address: str) -> None:
        """Raises InvalidAddress for a Unix path that is too long. Connects at the first call."""
        unix_path(address)
        keep_freed_memory()
        self.address = address
        self.traffic = Traffic()
        self._channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self._closed = False

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """Bytes (sent, received) so far, see Traffic."""
        return (self.traffic.sent_bytes, self.traffic.received_bytes)

    async def close(self) -> None:
        """Calls under way end with LinkDown."""
        self._closed = True
        await self._channel.close()

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        """Turns gRPC's failures into LinkDown and PeerRefused."""
        if self._closed:
            raise LinkDown("the link is closed")
        try:
            yield
        except grpc.aio.AioRpcError as error:
            reason = one_line(error.details() or error.code().name)
            if error.code() in _REFUSALS:
                raise PeerRefused(reason, error.code().name) from None
            raise LinkDown(f"{error.code().name.lower()}: {reason}") from None
        except asyncio.CancelledError:
            # Closing the channel looks like a cancellation of whoever waits for a call; it is not one.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise LinkDown("the link is closed") from None
            raise

    async def _unary(self, method: Any, request: Message, timeout_s: float) -> Any:
        """One call with one answer, counted."""
        async with self._failures():
            self.traffic.call()
            self.traffic.sent(request)
            reply = await method(request, timeout=timeout_s)
            self.traffic.received(reply)
            return reply
