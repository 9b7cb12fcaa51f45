"""A UDP socket in each node's namespace, all held by one process: one clock for sending and receiving.

A packet's arrival is when the kernel took it off its device (SO_TIMESTAMPNS): how soon the probe is woken
does not count. What the kernel itself takes from the send call to that stamp is measured before the start, on
each node's loopback device in the same namespace with the same sockets, and subtracted: the unshaped path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from netem import namespaces, syscalls
from netem.namespaces import HostError, namespace_name
from netem.open_files import allow_files
from netem.probe.traffic import sent_octets
from orbitrain.runtime.clock import monotonic_ns, unix_ns

_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_SO_RXQ_OVFL: Final = 40
_BUFFER_BYTES: Final = 1 << 22
_ANCILLARY_BYTES: Final = 128
_AT_ONCE: Final = 64

_BASELINE_NODES: Final = 32
_BASELINE_PACKETS: Final = 32

Arrival = tuple[bytes, int]
"""(payload, monotonic ns)"""


class LinksGone(Exception):
    """The back end has ended: its devices are not there any more."""


@dataclass(slots=True)
class Endpoint:
    """One node's. `opened_bytes`: what its programs had sent at `opened_ns`, before any probe. `overflowed`:
    packets that the socket's buffer had no room for; the probe's own fault.
    """

    node: str
    socket: socket.socket
    place: tuple[str, int]
    counters: int
    opened_ns: int = 0
    opened_bytes: int = 0
    overflowed: int = 0

    def send(self, data: bytes, place: tuple[str, int]) -> None:
        """LinksGone."""
        try:
            self.socket.sendto(data, place)
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.ENETDOWN, errno.ENODEV, errno.EADDRNOTAVAIL):
                raise LinksGone from None
            # Refused here is not sent: it shows as a loss, like all that does not arrive.

    def receive(self, offset_ns: int) -> Iterator[Arrival]:
        """What is there, at most `_AT_ONCE`; `offset_ns`: real time less monotonic."""
        for _ in range(_AT_ONCE):
            try:
                data, extra, _, _ = self.socket.recvmsg(64, _ANCILLARY_BYTES)
            except OSError:
                return
            at_ns = 0
            for _, kind, value in extra:
                if kind == _SO_TIMESTAMPNS:
                    seconds, rest_ns = struct.unpack("=qq" if len(value) == 16 else "=ll", value)
                    at_ns = seconds * 1_000_000_000 + rest_ns - offset_ns
                elif kind == _SO_RXQ_OVFL:
                    self.overflowed = struct.unpack("=I", value)[0]
            yield data, at_ns or monotonic_ns()

    def sent_bytes(self) -> int:
        """By the kernel's counters."""
        return sent_octets(os.pread(self.counters, 1 << 16, 0).decode("ascii"))

    def close(self) -> None:
        self.socket.close()
        os.close(self.counters)


def realtime_offset_ns() -> int:
    before_ns = monotonic_ns()
    now_ns = unix_ns()
    return now_ns - (before_ns + monotonic_ns()) // 2


def open_endpoints(run_id: str, nodes: Sequence[str], addresses: IPv4Network) -> list[Endpoint]:
    """Of a run that is up, its nodes in the plan's order, from which their addresses follow. HostError."""
    allow_files(2 * len(nodes))
    endpoints: list[Endpoint] = []
    try:
        for number, node in enumerate(nodes, 1):
            endpoints.append(_open(run_id, node, str(addresses[number])))
    except BaseException:
        for endpoint in endpoints:
            endpoint.close()
        raise
    return endpoints


def _open(run_id: str, node: str, address: str) -> Endpoint:
    path = namespaces.FOLDER / namespace_name(run_id, node)
    try:
        with syscalls.network_of(str(path)):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            counters = os.open("/proc/thread-self/net/netstat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HostError(
            f"run {run_id}: node {node} has no namespace here: start its links first (python -m netem up)"
        ) from None
    except OSError as error:
        raise HostError(f"namespace {path.name}: {error.strerror}; be root, or where the links are") from None
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except OSError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        made.bind((address, 0))
    except OSError as error:
        made.close()
        os.close(counters)
        raise HostError(
            f"node {node}: has no address {address} ({error.strerror}); the plan and --addresses must be "
            "those of the links"
        ) from None
    return Endpoint(node, made, (address, made.getsockname()[1]), counters)


def baseline_ns(endpoints: Sequence[Endpoint]) -> int:
    """Median one-way time through the kernel alone, of up to `_BASELINE_NODES` nodes.

    From its end on the endpoints know what their nodes have sent.
    """
    taken: list[int] = []
    step = max(1, len(endpoints) // _BASELINE_NODES)
    for endpoint in endpoints[::step]:
        for _ in range(_BASELINE_PACKETS):
            sent_ns = monotonic_ns()
            with contextlib.suppress(LinksGone):
                endpoint.send(b"baseline", endpoint.place)
            select.select([endpoint.socket], (), (), 0.1)
            taken += [at_ns - sent_ns for _, at_ns in endpoint.receive(realtime_offset_ns())]
    for endpoint in endpoints:
        endpoint.opened_ns, endpoint.opened_bytes = monotonic_ns(), endpoint.sent_bytes()
    if not taken:
        raise HostError("probe: a packet to a node's own address does not arrive (a firewall?)")
    return sorted(taken)[len(taken) // 2]
