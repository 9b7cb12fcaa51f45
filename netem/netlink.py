"""Raw RTNETLINK, as much as nodes' devices need: set up, addresses, routes, counters; nothing to install.

Layouts are those of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. Host byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, tos, table, ...
_QDISC: Final = struct.Struct("=BxHiIII")  # family, padding, index, handle, parent, info
_NEIGHBOUR: Final = struct.Struct("=BxHiHBB")  # family, padding, index, state, flags, type

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE, _EXCLUSIVE = 0x1, 0x4, 0x300, 0x100, 0x400, 0x200
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 16, 18, 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC, _RTM_NEWNEIGH = 36, 37, 38, 28
_IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_IFALIAS, _IFLA_STATS64 = 3, 4, 13, 20, 23
_IFLA_ADDRESS, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_GSO_MAX_SEGS = 1, 18, 28, 40
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2 = 1, 2, 7
_TCA_STATS_BASIC, _TCA_STATS_QUEUE = 1, 3
_NDA_DST, _NDA_LLADDR = 1, 2
_TC_ROOT: Final = 0xFFFFFFFF
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 4, 253, 1
_IFF_UP: Final = 1
_IFLA_OPERSTATE, _IF_OPER_UP = 16, 6  # not IFF_RUNNING, which is there while the state is unknown
_NUD_PERMANENT: Final = 0x80
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_BATCH_REQUESTS: Final = 128
"""Of one sendmsg. A refusal takes 0.8 KB of the socket's receive buffer, where all of a batch must find room:
Linux gives 208 KB.
"""
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF  # without the bits for nested and byte order

LOOPBACK_INDEX: Final = 1


class NetlinkError(OSError):
    """The kernel refused; `strerror` says what."""


class HowQdisc:
    """What may become of the device's root qdisc: flags of a request.

    CHANGE keeps its packets, its handle must be the one that is there. ADD: there is none but the default.
    REPLACE with another handle drops what waits in the old one.
    """

    CHANGE: Final = 0
    ADD: Final = _CREATE | _EXCLUSIVE
    REPLACE: Final = _CREATE | _REPLACE


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queueing discipline as the kernel tells it; `drops` of all kinds, `waiting` in packets."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes
    sent: int
    sent_bytes: int
    waiting: int
    drops: int
    overlimits: int

    @property
    def is_root(self) -> bool:
        """Put there for all that leaves the device; not the kernel's default, which has no handle."""
        return self.handle != 0 and self.parent == _TC_ROOT


@dataclass(frozen=True, slots=True)
class QdiscBatch:
    """Requests of one system call: the place of the first, the numbers of the first and the last."""

    begin: int
    first: int
    last: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """What the kernel says of a device; drops are of packets that it was to send."""

    index: int
    name: str
    alias: str
    up: bool
    dropped: int
    running: bool
    """Its other end is up too, and its qdisc at work: until then what is sent vanishes."""


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a pair; `hardware`: six bytes."""

    name: str
    hardware: bytes
    mtu: int

    def attributes(self) -> bytes:
        return (
            _text(_IFLA_IFNAME, self.name)
            + attribute(_IFLA_ADDRESS, self.hardware)
            + _number(_IFLA_MTU, self.mtu)
        )


class Netlink:
    """A socket to the network namespace that the thread was in when it was made. Raises NetlinkError."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(10.0)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # a refusal does not repeat the request
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
        body = _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_IFALIAS, alias.encode())
        self._order(_RTM_NEWLINK, 0, body, f"name device {index}")

    def add_address(self, index: int, address: IPv4Address) -> None:
        """Alone, without a route to its neighbours."""
        body = _ADDRESS.pack(socket.AF_INET, 32, 0, 0, index)
        body += attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
        self._order(_RTM_NEWADDR, _CREATE | _EXCLUSIVE, body, f"address {address}")

    def remove_address(self, index: int, address: IPv4Address) -> None:
        """With every route that sends from it."""
        body = _ADDRESS.pack(socket.AF_INET, 32, 0, 0, index) + attribute(_IFA_LOCAL, address.packed)
        self._order(_RTM_DELADDR, 0, body, f"address {address}")

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
        body += attribute(_RTA_DST, network.network_address.packed) + _number(_RTA_OIF, index)
        body += attribute(_RTA_PREFSRC, source.packed)
        self._order(_RTM_NEWROUTE, _CREATE | _EXCLUSIVE, body, f"route {network}")

    def add_root_qdisc(self, index: int, kind: str, options: bytes) -> None:
        """A queueing discipline for what leaves the device; ENOENT: the kernel lacks this kind."""
        body = _QDISC.pack(0, 0, index, 0, _TC_ROOT, 0)
        body += _text(_TCA_KIND, kind) + attribute(_TCA_OPTIONS, options)
        self._order(_RTM_NEWQDISC, _CREATE | _EXCLUSIVE, body, f"qdisc {kind}")

    def composed(self, orders: Sequence[tuple[int, bytes]]) -> list[QdiscBatch]:
        """For `set_qdiscs`, ahead of time: (`HowQdisc`, `root_qdisc`) each, in this order."""
        batches: list[QdiscBatch] = []
        for begin in range(0, len(orders), _BATCH_REQUESTS):
            some = orders[begin : begin + _BATCH_REQUESTS]
            first, self._sequence = self._sequence + 1, self._sequence + len(some)
            parts: list[bytes] = []
            for number, (flags, body) in enumerate(some, first):
                flags |= _REQUEST | _ACK if number == self._sequence else _REQUEST
                parts += (_HEADER.pack(_HEADER.size + len(body), _RTM_NEWQDISC, flags, number, 0), body)
            batches.append(QdiscBatch(begin, first, self._sequence, b"".join(parts)))
        return batches

    def set_qdiscs(self, batches: Sequence[QdiscBatch]) -> list[tuple[int, int]]:
        """Many root qdiscs, one system call a batch of this socket's `composed`; refused: (place, errno).

        The kernel works through them inside the call, in order, and answers a refusal each, and one
        acknowledgement of the last: silence about the others is success. OSError: answers were lost.
        """
        refused: list[tuple[int, int]] = []
        for batch in batches:
            self._socket.send(batch.data)
            done = False
            while not done:
                data = self._socket.recv(1 << 18)
                at = 0
                while at < len(data):
                    length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                    if kind == _NLMSG_ERROR and batch.first <= sequence <= batch.last:
                        (number,) = struct.unpack_from("=i", data, at + _HEADER.size)
                        if number:
                            refused.append((batch.begin + sequence - batch.first, -number))
                        done |= sequence == batch.last
                    at += (length + 3) & ~3
        return refused

    def qdiscs(self) -> list[Qdisc]:
        """Of every device in this namespace, with those inside others."""
        body = _QDISC.pack(0, 0, 0, 0, 0, 0)
        return [_qdisc(reply) for reply in self._ask(_RTM_GETQDISC, _REQUEST | _DUMP, body, "qdiscs")]

    def remove_root_qdisc(self, index: int) -> None:
        body = _QDISC.pack(0, 0, index, 0, _TC_ROOT, 0)
        self._order(_RTM_DELQDISC, 0, body, f"remove the qdisc of device {index}")

    def add_veth(self, end: VethEnd, other: VethEnd, other_namespace: int) -> None:
        """A pair of devices, `end` here, `other` in the namespace of that descriptor; both down.

        One segment a packet: what is lost or counted is what is on the wire.
        """
        peer = _attribute_nested(
            _VETH_INFO_PEER,
            _LINK.pack(0, 0, 0, 0, 0) + other.attributes() + _number(_IFLA_NET_NS_FD, other_namespace),
        )
        veth = _text(_IFLA_INFO_KIND, "veth") + _attribute_nested(_IFLA_INFO_DATA, peer)
        body = _LINK.pack(0, 0, 0, 0, 0) + end.attributes() + _attribute_nested(_IFLA_LINKINFO, veth)
        self._order(_RTM_NEWLINK, _CREATE | _EXCLUSIVE, body, f"veth {end.name}")

    def limit_segments(self, index: int, segments: int) -> None:
        """What a packet may hold that is cut up later."""
        body = _LINK.pack(0, 0, index, 0, 0) + _number(_IFLA_GSO_MAX_SEGS, segments)
        self._order(_RTM_NEWLINK, 0, body, f"segments of device {index}")

    def add_neighbour(self, index: int, address: IPv4Address, hardware: bytes) -> None:
        """For ever: nobody asks the link for it."""
        body = _NEIGHBOUR.pack(socket.AF_INET, 0, index, _NUD_PERMANENT, 0, 0)
        body += attribute(_NDA_DST, address.packed) + attribute(_NDA_LLADDR, hardware)
        self._order(_RTM_NEWNEIGH, _CREATE | _REPLACE, body, f"neighbour {address}")

    def networks(self) -> Iterator[tuple[IPv4Network, str]]:
        """Every IPv4 network that this namespace has an address in or a route to, with words for which."""
        address = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        for reply in self._ask(_RTM_GETADDR, _REQUEST | _DUMP, address, "addresses"):
            prefix = _ADDRESS.unpack_from(reply)[1]
            found = dict(attributes(reply[_ADDRESS.size :]))
            local = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
            if local is not None:
                own = IPv4Address(local)
                yield IPv4Network((own, prefix), strict=False), f"address {own}/{prefix}"
        route = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for reply in self._ask(_RTM_GETROUTE, _REQUEST | _DUMP, route, "routes"):
            prefix = _ROUTE.unpack_from(reply)[1]
            destination = dict(attributes(reply[_ROUTE.size :])).get(_RTA_DST)
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
    found = dict(attributes(reply[_LINK.size :]))
    statistics = found.get(_IFLA_STATS64, b"")
    # struct rtnl_link_stats64: rx and tx packets, bytes, errors, dropped, eight bytes each.
    dropped = struct.unpack_from("=Q", statistics, 7 * 8)[0] if len(statistics) >= 64 else 0
    return Device(
        index,
        found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        bool(flags & _IFF_UP),
        dropped,
        found.get(_IFLA_OPERSTATE, b"") == bytes([_IF_OPER_UP]),
    )


def _qdisc(reply: bytes) -> Qdisc:
    _, _, index, handle, parent, _ = _QDISC.unpack_from(reply)
    found = dict(attributes(reply[_QDISC.size :]))
    statistics = dict(attributes(found.get(_TCA_STATS2, b"")))
    # struct gnet_stats_basic: bytes, packets; gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
    sent_bytes, sent = struct.unpack_from("=QI", statistics.get(_TCA_STATS_BASIC, bytes(12)))
    waiting, _, drops, _, overlimits = struct.unpack_from("=5I", statistics.get(_TCA_STATS_QUEUE, bytes(20)))
    return Qdisc(
        index,
        handle,
        parent,
        found.get(_TCA_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        found.get(_TCA_OPTIONS, b""),
        sent,
        sent_bytes,
        waiting,
        drops,
        overlimits,
    )


def root_qdisc(index: int, handle: int, kind: str, options: bytes) -> bytes:
    """The body of a request for `set_qdiscs`."""
    return (
        _QDISC.pack(0, 0, index, handle, _TC_ROOT, 0)
        + _text(_TCA_KIND, kind)
        + attribute(_TCA_OPTIONS, options)
    )


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of each; ends at the first that is not whole."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Length, type, content, padded to four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _attribute_nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")
