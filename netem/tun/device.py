"""A TUN device in the calling thread's network namespace: what a node's programs send, we read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from netem import syscalls
from netem.counters import DeviceCounters
from netem.link_state import MTU_BYTES
from netem.namespaces import HostError
from netem.netlink import Netlink

NAME: Final = "orbit0"
"""Of the device in every node's namespace."""

QUEUE_PACKETS: Final = 10_000
"""What the kernel keeps until we read: some tenths of a second, so that drops are ours, not its."""

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


@dataclass(slots=True)
class Device:
    """The file moves one IP packet a call, never blocks; while it is open the device is there."""

    fd: int
    counters: DeviceCounters

    def kernel_drops(self) -> int:
        """Packets that the kernel dropped as we did not read in time. OSError."""
        return self.counters.drops(NAME)

    def close(self) -> None:
        self.counters.close()
        os.close(self.fd)


def open_device(address: IPv4Address, network: IPv4Network, mtu: int = MTU_BYTES) -> Device:
    """Up, with the address and a route for the network. HostError.

    No offloads are asked for, so that packets are at most `mtu` long, segmented and with checksums.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"/dev/net/tun: {error.strerror}; {_MENDED.get(error.errno or 0, _NO_TUN)}") from None
    netlink = None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", NAME.encode(), _IFF_TUN | _IFF_NO_PI))
        netlink = Netlink()
        index = netlink.index_of(NAME)
        netlink.set_up(index, mtu=mtu, queue_packets=QUEUE_PACKETS)
        netlink.add_address(index, address)
        netlink.add_route(index, network, address)
        counters = DeviceCounters()
    except OSError as error:
        os.close(fd)
        raise HostError(
            f"TUN device: {error.strerror}; be root (CAP_NET_ADMIN) or start with --unprivileged"
        ) from None
    finally:
        if netlink is not None:
            netlink.close()
    return Device(fd, counters)


_NO_TUN: Final = "load it (modprobe tun), or give the container the device (--device /dev/net/tun)"
_MENDED: Final = {
    errno.EACCES: "let this user open it (chmod 0666 /dev/net/tun, as most distributions have it) or be root",
    errno.EPERM: "let this user open it (chmod 0666 /dev/net/tun, as most distributions have it) or be root",
}


def probe() -> None:
    """Whether a TUN device carries a packet, by doing, in a namespace that is gone afterwards. HostError."""
    node, peer, network = IPv4Address("10.213.0.1"), "10.213.0.2", IPv4Network("10.213.0.0/16")
    try:
        with syscalls.network_kept():
            syscalls.unshare(syscalls.CLONE_NEWNET)
            device = open_device(node, network)
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"probe", (peer, 9))
                packets = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packets.append(os.read(device.fd, MTU_BYTES))
            finally:
                device.close()
    except OSError as error:
        raise HostError(f"TUN device: {error.strerror}") from None
    if not any(packet.endswith(b"probe") for packet in packets):
        raise HostError("TUN device: a packet sent into it does not come out (a firewall in new namespaces?)")
