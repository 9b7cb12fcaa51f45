"""ZeroMQ telemetry: lost when nobody listens, never waited for, never the truth.

For the live display publishers connect and the one subscriber binds, so nodes may start before or after the
display. For everybody else on this host a broadcaster binds and any number of subscribers connect.

A message is two frames: its kind (ASCII), and its fields as a JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Final

import zmq
import zmq.asyncio

MESSAGE_BYTES_MAX = 64 * 1024
"""Largest message: a screenful of numbers."""

HIGH_WATER_MESSAGES = 1000
"""Messages that wait for a slow display before further ones are dropped: some seconds of telemetry."""

IPC_PATH_BYTES_MAX = 100
"""Longest path of an ipc:// endpoint: the kernel holds 108 on Linux, 104 on macOS."""

BROADCAST_HIGH_WATER_MESSAGES: Final = 10_000
"""The same of each listener to a broadcaster: the latest of every link of a large plan, sent at once."""

LISTENER_BYTES_MAX: Final = 256
"""Longest subscription of a listener: many times a kind."""

REPEAT_S: Final = 1.0
"""How often a broadcaster sends what holds again: how long one that joined late does not know it, at most."""

_KIND = re.compile(r"[A-Za-z0-9_.]{1,64}")
_LOOPBACK = re.compile(r"tcp://(127(\.\d{1,3}){3}|localhost|\[::1\]):(\*|\d{1,5})")
_PORT_MAX = 65_535


def _check(endpoint: str, *, binds: bool) -> None:
    """Raises ValueError for an endpoint that is not of this host, or cannot be."""
    if endpoint.startswith("ipc://"):
        size = len(endpoint.removeprefix("ipc://").encode())
        if not 0 < size <= IPC_PATH_BYTES_MAX:
            raise ValueError(
                f"{endpoint}: the path of a socket has {size} bytes, and {IPC_PATH_BYTES_MAX} at most; "
                "use a shorter folder"
            )
        return
    found = _LOOPBACK.fullmatch(endpoint)
    if found is None:
        raise ValueError(f"{endpoint}: not ipc:// and not tcp:// on loopback")
    port = found[3]
    if port == "*" and not binds:
        raise ValueError(f"{endpoint}: a port must be named, * is for who binds")
    if port != "*" and int(port) > _PORT_MAX:
        raise ValueError(f"{endpoint}: a port is at most {_PORT_MAX}")


def _bind(endpoint: str, bound: zmq.Socket[Any] | zmq.asyncio.Socket) -> str:
    """The endpoint with the port that was free. Raises OSError.

    ZeroMQ removes whatever is at the path of a socket, a user's file or one in use too; this does not.
    """
    path = endpoint.removeprefix("ipc://")
    try:
        if path != endpoint and path[0] not in "@*" and os.path.lexists(path):
            _check_leftover(path)
        bound.setsockopt(zmq.IPV6, int("[" in endpoint))
        bound.bind(endpoint)
    except (OSError, zmq.ZMQError) as error:
        raise OSError(error.errno, f"{endpoint}: {os.strerror(error.errno or 0)}") from None
    return bound.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def _connect(endpoint: str, connecting: zmq.Socket[Any] | zmq.asyncio.Socket) -> None:
    connecting.setsockopt(zmq.IPV6, int("[" in endpoint))
    connecting.connect(endpoint)


def _unbind(endpoint: str) -> None:
    """Remove the socket that `_bind` made at a path: ZeroMQ leaves it. After the close."""
    path = endpoint.removeprefix("ipc://")
    if path != endpoint and path[0] not in "@*":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _check_leftover(path: str) -> None:
    """Raises OSError unless it is a socket that nobody has open."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, path)
    with socket.socket(socket.AF_UNIX) as knocking:
        try:
            knocking.connect(path)
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, path)


def _message(kind: str, fields: Mapping[str, Any]) -> list[bytes] | None:
    """Its frames; None: too large. Raises ValueError for a kind that is not a short dotted name."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind[:80]!r} is not a kind of telemetry")
    data = json.dumps(dict(fields), separators=(",", ":")).encode("ascii")
    return [kind.encode("ascii"), data] if len(data) <= MESSAGE_BYTES_MAX else None


def _sent(publishing: zmq.Socket[Any], frames: list[bytes]) -> bool:
    try:
        publishing.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


class Publisher:
    """Sends telemetry. Needs no event loop; belongs to one thread."""

    def __init__(self, endpoint: str) -> None:
        """Raises ValueError for an endpoint that is not local. Connects in the background."""
        _check(endpoint, binds=False)
        self.dropped = 0
        """Messages too large to send. Those that nobody took are not counted: ZeroMQ does not tell."""
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        _connect(endpoint, self._socket)

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Send without waiting, or drop. Raises ValueError for a kind that is not a short dotted name."""
        frames = _message(kind, fields)
        if frames is None or not _sent(self._socket, frames):
            self.dropped += 1

    def close(self) -> None:
        """What has not left is dropped."""
        self._socket.close()
        self._context.term()


class Broadcaster:
    """Sends what holds from now on to whoever listens, and again each `REPEAT_S`, for those that join late.

    Listeners are ZeroMQ SUB sockets of any program, which connect and subscribe to a kind, or to "" for all.
    They are never waited for and nothing that they send is looked at. One that is slow misses messages, and
    learns what holds with the next repetition. Belongs to one thread; `keep_repeating` needs an event loop.

    Cues of links are messages of the kind `link`, one a directed link, whose key is (source, destination):

    - `source`, `destination`: names of nodes;
    - `up`: whether the link carries packets from `t_ns` on;
    - `t_ns`: when that began, scenario time in ns since the plan's epoch; the same again in a repetition;
    - `next_ns`: when the link will do the opposite by the present plan, null for never.

    A link of which nothing was said is down.
    """

    def __init__(self, endpoint: str) -> None:
        """Raises ValueError for an endpoint that is not local, OSError if it cannot be bound."""
        _check(endpoint, binds=True)
        self.dropped = 0
        """Messages too large to send. Those that a slow listener missed are not counted."""
        self._latest: dict[tuple[str, ...], list[bytes]] = {}
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, BROADCAST_HIGH_WATER_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LISTENER_BYTES_MAX)
        self.endpoint = endpoint
        """Where it is bound, with the port that was free."""
        self._bound = False
        try:
            self.endpoint = _bind(endpoint, self._socket)
            self._bound = True
        except OSError:
            self.close()
            raise

    def publish(self, kind: str, key: Sequence[str], fields: Mapping[str, Any]) -> None:
        """Send now, and in repetitions until the next of the same kind and key: memory is one message each.

        Raises ValueError for a kind that is not a short dotted name.
        """
        frames = _message(kind, fields)
        if frames is None:
            self.dropped += 1
            return
        self._latest[(kind, *key)] = frames
        _sent(self._socket, frames)

    def repeat(self) -> None:
        """Send the latest of each kind and key again."""
        for frames in self._latest.values():
            _sent(self._socket, frames)

    async def keep_repeating(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(REPEAT_S)
            self.repeat()

    def close(self) -> None:
        """What has not left is dropped."""
        self._socket.close()
        self._context.term()
        if self._bound:
            _unbind(self.endpoint)


class Subscriber:
    """Receives telemetry. Needs a running event loop."""

    def __init__(self, endpoint: str, *, binds: bool = True) -> None:
        """Binds, for publishers; or connects to a broadcaster, in the background, which may start later.

        Raises ValueError for an endpoint that is not local, OSError if it cannot be bound.
        """
        _check(endpoint, binds=binds)
        self.malformed = 0
        """Messages that were skipped."""
        self._context = zmq.asyncio.Context(io_threads=1)
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MESSAGES if binds else BROADCAST_HIGH_WATER_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Longer frames are refused, with their connection, before memory is taken for them.
        self._socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.endpoint = endpoint
        """Where it is bound, with the port that was free, or connected to."""
        self._bound = False
        try:
            if binds:
                self.endpoint = _bind(endpoint, self._socket)
                self._bound = True
            else:
                _connect(endpoint, self._socket)
        except OSError:
            self.close()
            raise

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
        if self._bound:
            _unbind(self.endpoint)


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
