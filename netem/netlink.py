"""Raw RTNETLINK, as much as nodes' devices need: set up, addresses, routes, counters; nothing to install.

Layouts are those of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. Host byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, tos, table, ...

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _CREATE, _EXCLUSIVE = 0x1, 0x4, 0x300, 0x400, 0x200
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 16, 18, 20, 22, 24, 26
_IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_IFALIAS, _IFLA_STATS64 = 3, 4, 13, 20, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 4, 253, 1
_IFF_UP: Final = 1
_TYPE_MASK: Final = 0x3FFF  # without the bits for nested and byte order

LOOPBACK_INDEX: Final = 1


class NetlinkError(OSError):
    """The kernel refused; `strerror` says what."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the kernel says of a device; drops are of packets that it was to send."""

    index: int
    name: str
    alias: str
    up: bool
    dropped: int


class Netlink:
    """A socket to the network namespace that the thread was in when it was made. Raises NetlinkError."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(10.0)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def index_of(self, name: str) -> int:
        return self.device(name).index

    def device(self, name: str) -> Device:
        body = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        for reply in self._ask(_RTM_GETLINK, _REQUEST, body, f"device {name}"):
            return _device(reply)
        raise NetlinkError(errno.ENODEV, f"device {name}: {os.strerror(errno.ENODEV)}")

    def set_up(self, index: int, *, mtu: int | None = None, queue_packets: int | None = None) -> None:
        body = _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP)
        if mtu is not None:
            body += _number(_IFLA_MTU, mtu)
        if queue_packets is not None:
            body += _number(_IFLA_TXQLEN, queue_packets)
        self._order(_RTM_NEWLINK, 0, body, f"set up device {index}")

    def set_alias(self, index: int, alias: str) -> None:
        """At most 255 bytes; stays with the device."""
        body = _LINK.pack(0, 0, index, 0, 0) + _attribute(_IFLA_IFALIAS, alias.encode())
        self._order(_RTM_NEWLINK, 0, body, f"name device {index}")

    def add_address(self, index: int, address: IPv4Address) -> None:
        """Alone, without a route to its neighbours."""
        body = _ADDRESS.pack(socket.AF_INET, 32, 0, 0, index)
        body += _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        self._order(_RTM_NEWADDR, _CREATE | _EXCLUSIVE, body, f"address {address}")

    def add_route(self, index: int, network: IPv4Network, source: IPv4Address) -> None:
        body = _ROUTE.pack(
            socket.AF_INET,
            network.prefixlen,
            0,
            0,
            _RT_TABLE_MAIN,
            _RTPROT_STATIC,
            _RT_SCOPE_LINK,
            _RTN_UNICAST,
            0,
        )
        body += _attribute(_RTA_DST, network.network_address.packed) + _number(_RTA_OIF, index)
        body += _attribute(_RTA_PREFSRC, source.packed)
        self._order(_RTM_NEWROUTE, _CREATE | _EXCLUSIVE, body, f"route {network}")

    def networks(self) -> Iterator[tuple[IPv4Network, str]]:
        """Every IPv4 network that this namespace has an address in or a route to, with words for which."""
        address = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        for reply in self._ask(_RTM_GETADDR, _REQUEST | _DUMP, address, "addresses"):
            prefix = _ADDRESS.unpack_from(reply)[1]
            found = dict(_attributes(reply[_ADDRESS.size :]))
            local = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
            if local is not None:
                own = IPv4Address(local)
                yield IPv4Network((own, prefix), strict=False), f"address {own}/{prefix}"
        route = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for reply in self._ask(_RTM_GETROUTE, _REQUEST | _DUMP, route, "routes"):
            prefix = _ROUTE.unpack_from(reply)[1]
            destination = dict(_attributes(reply[_ROUTE.size :])).get(_RTA_DST)
            if destination is not None and prefix > 0:
                network = IPv4Network((destination, prefix), strict=False)
                yield network, f"route to {network}"

    def _order(self, kind: int, flags: int, body: bytes, what: str) -> None:
        for _ in self._ask(kind, _REQUEST | _ACK | flags, body, what):
            pass

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> list[bytes]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags, self._sequence, 0) + body)
        replies: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at < len(data):
                length, reply, _, sequence, _ = _HEADER.unpack_from(data, at)
                content = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if reply == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    if number:
                        raise NetlinkError(number, f"{what}: {os.strerror(number)}")
                    return replies
                if reply == _NLMSG_DONE:
                    return replies
                replies.append(content)
                if not flags & (_DUMP | _ACK):
                    return replies


def _device(reply: bytes) -> Device:
    _, _, index, flags, _ = _LINK.unpack_from(reply)
    found = dict(_attributes(reply[_LINK.size :]))
    statistics = found.get(_IFLA_STATS64, b"")
    # struct rtnl_link_stats64: rx and tx packets, bytes, errors, dropped, eight bytes each.
    dropped = struct.unpack_from("=Q", statistics, 7 * 8)[0] if len(statistics) >= 64 else 0
    return Device(
        index,
        found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        bool(flags & _IFF_UP),
        dropped,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")
