"""A plan's nodes as namespaces with a TUN device each, and the relay between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final

from netem.link_state import MTU_BYTES, Link
from netem.namespaces import ADDRESSES, HostError, Namespaces, Place, check_free, check_rights
from netem.open_files import allow_files
from netem.tun.device import Device, open_device, probe
from netem.tun.fifo import ETHERNET_BYTES
from netem.tun.relay import Relay

_FILES_PER_NODE: Final = 2


@dataclass(slots=True)
class TunNetwork:
    """`up`, use `relay`, which is its back end and its loop, `close`."""

    relay: Relay
    places: dict[str, Place]
    _namespaces: Namespaces
    _devices: list[Device] = field(default_factory=list)

    @staticmethod
    def up(
        run_id: str,
        nodes: Sequence[str],
        links: Sequence[Link] = (),
        *,
        addresses: IPv4Network = ADDRESSES,
        seed: int = 0,
        overhead_bytes: int = ETHERNET_BYTES,
        mtu: int = MTU_BYTES,
    ) -> TunNetwork:
        """Nodes get the network's addresses, in order from its first; links need no making ahead.

        Raises HostError, ValueError.
        """
        if len(nodes) > addresses.num_addresses - 2:
            raise HostError(
                f"addresses {addresses}: too few for {len(nodes)} nodes; give more with --addresses"
            )
        check_rights()
        probe()
        check_free(addresses)
        allow_files(len(nodes) * _FILES_PER_NODE)
        network = TunNetwork(Relay(seed, overhead_bytes), {}, Namespaces(run_id))
        try:
            for number, node in enumerate(nodes, 1):
                address = addresses[number]
                with network._namespaces.created(node) as path:
                    device = open_device(address, addresses, mtu)
                network._devices.append(device)
                network.relay.add(node, device, address.packed, mtu)
                network.places[node] = Place(path, address)
        except BaseException:
            network.close()
            raise
        return network

    @property
    def backend(self) -> Relay:
        return self.relay

    @property
    def loop(self) -> Relay:
        return self.relay

    def close(self) -> None:
        for device in self._devices:
            device.close()
        self._devices.clear()
        self.relay.close()
        self._namespaces.remove()
