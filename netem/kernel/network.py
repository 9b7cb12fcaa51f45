"""A plan's nodes as namespaces, joined by a veth pair for each two that ever have a link.

A node has one address, on its loopback device; a route and a permanent neighbour for each peer lead through
the pair, so that nothing asks the link for an address and an outage forgets none. Offload is off: a packet
in a queue is a packet on the wire.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final

from netem import syscalls
from netem.counters import DeviceCounters
from netem.kernel.backend import KernelBackend, Port, Shaping
from netem.kernel.encoder import Netem
from netem.link_state import MTU_BYTES, Link
from netem.loop import TimerLoop
from netem.namespaces import ADDRESSES, HostError, Namespaces, Place, check_free, check_rights
from netem.netlink import LOOPBACK_INDEX, Netlink, VethEnd
from netem.open_files import allow_files
from netem.tun.fifo import ETHERNET_BYTES

LARGEST_NODES: Final = 65_535
"""A device's hardware address holds the numbers of both nodes."""

PREFIX: Final = "orbit"
"""Of devices' names; the number of the node at the other end follows."""

_FILES_PER_NODE: Final = 2
_PATIENCE_MS: Final = 5_000


@dataclass(slots=True)
class _Node:
    number: int
    place: Place
    netlink: Netlink
    counters: DeviceCounters


@dataclass(slots=True)
class KernelNetwork:
    """`up`, use `backend` and `loop`, `close`: which removes every namespace and device made."""

    backend: KernelBackend
    places: dict[str, Place]
    _namespaces: Namespaces
    _mtu: int
    loop: TimerLoop = field(default_factory=TimerLoop)
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _ports: dict[Link, Port] = field(default_factory=dict)

    @staticmethod
    def up(
        run_id: str,
        nodes: Sequence[str],
        links: Sequence[Link] = (),
        *,
        addresses: IPv4Network = ADDRESSES,
        shaping: Shaping = Netem,
        seed: int = 0,
        overhead_bytes: int = ETHERNET_BYTES,
        mtu: int = MTU_BYTES,
    ) -> KernelNetwork:
        """Nodes get the network's addresses, in order from its first; `links` are made ahead, all down.

        Raises HostError, ValueError.
        """
        if len(nodes) > min(addresses.num_addresses - 2, LARGEST_NODES):
            raise HostError(
                f"addresses {addresses}: too few for {len(nodes)} nodes; give more with --addresses"
            )
        check_rights()
        probe(shaping)
        check_free(addresses)
        allow_files(_FILES_PER_NODE * len(nodes))
        namespaces = Namespaces(run_id)
        backend = KernelBackend(shaping=shaping, seed=seed, packet_overhead=overhead_bytes - ETHERNET_BYTES)
        network = KernelNetwork(backend, {}, namespaces, mtu)
        try:
            for number, name in enumerate(nodes, 1):
                address = addresses[number]
                with namespaces.created(name) as path:
                    netlink = Netlink()
                    counters = DeviceCounters()
                place = Place(path, address)
                network._nodes[name] = _Node(number, place, netlink, counters)
                network.places[name] = place
                netlink.add_address(LOOPBACK_INDEX, address)
            for link in links:
                network._connect(link)
            network._await(list(network._ports.values()))
            backend.open_link = network._connect_now
            backend.drops_behind = network._drops_behind
        except OSError as error:
            network.close()
            raise HostError(f"links: {error.strerror}") from None
        except BaseException:
            network.close()
            raise
        return network

    def close(self) -> None:
        for node in self._nodes.values():
            # Programs that stay in a namespace keep it and its devices: no link may go on that nobody sets.
            with contextlib.suppress(OSError):
                node.netlink.remove_address(LOOPBACK_INDEX, node.place.address)
            node.netlink.close()  # its socket would keep the namespace, and the devices in it
            node.counters.close()
        self._nodes.clear()
        self._ports.clear()
        self.loop.close()
        self._namespaces.remove()

    def _connect(self, link: Link) -> None:
        """The pair for both directions, each with its qdisc, down. HostError, OSError, KeyError."""
        if link in self._ports:
            return
        here, there = (self._nodes[name] for name in link)
        ends = [self._end(one, other) for one, other in ((here, there), (there, here))]
        fd = os.open(there.place.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            here.netlink.add_veth(ends[0], ends[1], fd)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise HostError(
                    "this kernel has no veth (module veth); load it (modprobe veth), or use --links tun"
                ) from None
            raise
        finally:
            os.close(fd)
        ways = ((link, here, there, ends[0]), (link[::-1], there, here, ends[1]))
        for way, node, _, end in ways:
            port = Port(node.netlink, node.netlink.index_of(end.name), end.name)
            node.netlink.limit_segments(port.index, 1)
            self.backend.install(way, port)  # before the device is up: nothing passes that is not shaped
            self._ports[way] = port
        for way, node, peer, _ in ways:
            index, peer_address = self._ports[way].index, peer.place.address
            node.netlink.set_alias(index, f"to {way[1]}"[:255])
            node.netlink.set_up(index)
            node.netlink.add_route(index, IPv4Network((peer_address, 32)), node.place.address)
            node.netlink.add_neighbour(index, peer_address, self._end(peer, node).hardware)

    def _connect_now(self, link: Link) -> None:
        self._connect(link)
        self._await([self._ports[link], self._ports[link[::-1]]])

    def _drops_behind(self, node: str) -> int:
        """Packets that left a queue of the node, and for which there was no room at the pair's other end."""
        return self._nodes[node].counters.drops(PREFIX)

    @staticmethod
    def _await(ports: Sequence[Port]) -> None:
        """The kernel puts a device's qdisc to work some ms after its other end came up. HostError."""
        for port in ports:
            for _ in range(_PATIENCE_MS):
                if port.netlink.device(port.device).running:
                    break
                select.select((), (), (), 0.001)
            else:
                raise HostError(f"device {port.device}: is not running after {_PATIENCE_MS} ms")

    def _end(self, node: _Node, peer: _Node) -> VethEnd:
        # Locally administered; the same pair of nodes has the same addresses in each run.
        hardware = b"\x02o" + node.number.to_bytes(2, "big") + peer.number.to_bytes(2, "big")
        return VethEnd(f"{PREFIX}{peer.number}", hardware, self._mtu)


def probe(shaping: Shaping = Netem) -> None:
    """Whether this kernel shapes links so, by doing, in a namespace that is gone afterwards. HostError."""
    try:
        with syscalls.network_kept():
            syscalls.unshare(syscalls.CLONE_NEWNET)
            with Netlink() as netlink:
                port = Port(netlink, LOOPBACK_INDEX, "lo")
                link = ("probe", "probe")
                backend = KernelBackend(shaping=shaping)
                backend.install(link, port)
                wrong = backend.verify()
    except OSError as error:
        raise HostError(f"{shaping.KIND}: {error.strerror}; be root (CAP_NET_ADMIN)") from None
    if wrong:
        raise HostError(f"{shaping.KIND}: this kernel does not hold what it is told ({wrong[0]})")
