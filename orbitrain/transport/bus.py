"""ZeroMQ telemetry for the live display: lost when nobody listens, never waited for, never the truth.

Publishers connect and the one subscriber binds, so nodes may start before or after the display.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import zmq
import zmq.asyncio

MESSAGE_BYTES_MAX = 64 * 1024
"""Largest message: a screenful of numbers."""

HIGH_WATER_MESSAGES = 1000
"""Messages that wait for a slow display before further ones are dropped: some seconds of telemetry."""

IPC_PATH_BYTES_MAX = 100
"""Longest path of an ipc:// endpoint: the kernel holds 108 on Linux, 104 on macOS."""

_KIND = re.compile(r"[A-Za-z0-9_.]{1,64}")
_LOOPBACK = re.compile(r"tcp://(127(\.\d{1,3}){3}|localhost|\[::1\]):(\*|\d{1,5})")


def _check(endpoint: str) -> None:
    """Raises ValueError for an endpoint that is not of this host, or cannot be."""
    if endpoint.startswith("ipc://"):
        size = len(endpoint.removeprefix("ipc://").encode())
        if not 0 < size <= IPC_PATH_BYTES_MAX:
            raise ValueError(
                f"{endpoint}: the path of a socket has {size} bytes, and {IPC_PATH_BYTES_MAX} at most; "
                "use a shorter folder"
            )
    elif not _LOOPBACK.fullmatch(endpoint):
        raise ValueError(f"{endpoint}: not ipc:// and not tcp:// on loopback")


class Publisher:
    """Sends telemetry. Needs no event loop; belongs to one thread."""

    def __init__(self, endpoint: str) -> None:
        """Raises ValueError for an endpoint that is not local. Connects in the background."""
        _check(endpoint)
        self.dropped = 0
        """Messages too large to send. Those that nobody took are not counted: ZeroMQ does not tell."""
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Send without waiting, or drop. Raises ValueError for a kind that is not a short dotted name."""
        if not _KIND.fullmatch(kind):
            raise ValueError(f"{kind[:80]!r} is not a kind of telemetry")
        data = json.dumps(dict(fields), separators=(",", ":")).encode("ascii")
        if len(data) > MESSAGE_BYTES_MAX:
            self.dropped += 1
            return
        try:
            self._socket.send_multipart([kind.encode("ascii"), data], zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def close(self) -> None:
        """What has not left is dropped."""
        self._socket.close()
        self._context.term()


class Subscriber:
    """Receives telemetry. Needs a running event loop."""

    def __init__(self, endpoint: str) -> None:
        """Raises ValueError for an endpoint that is not local, OSError if it cannot be bound."""
        _check(endpoint)
        self.malformed = 0
        """Messages that were skipped."""
        self._context = zmq.asyncio.Context(io_threads=1)
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Longer frames are refused, with their connection, before memory is taken for them.
        self._socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"{endpoint}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        """Where it is bound, with the port that was free."""

    async def receive(self) -> tuple[str, dict[str, Any]]:
        """The next well-formed message: (kind, fields)."""
        while True:
            message = _read(await self._socket.recv_multipart())
            if message is not None:
                return message
            self.malformed += 1

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def _read(frames: list[bytes]) -> tuple[str, dict[str, Any]] | None:
    if len(frames) != 2 or len(frames[1]) > MESSAGE_BYTES_MAX:
        return None
    try:
        kind = frames[0].decode("ascii")
        fields = json.loads(frames[1])
    except (ValueError, RecursionError):
        return None
    if not _KIND.fullmatch(kind) or not isinstance(fields, dict):
        return None
    return kind, fields
