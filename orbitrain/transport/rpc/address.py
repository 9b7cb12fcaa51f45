"""Addresses of gRPC servers: `unix:/path` or `host:port`."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

UNIX_PATH_BYTES_MAX = 100
"""Longest path of a Unix socket: the kernel holds 108 on Linux, 104 on macOS, and one byte ends it."""

_PRIVATE = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


class InvalidAddress(ValueError):
    """Neither `unix:/path` nor `host:port`, or a path that no socket can have."""


class InsecureAddress(ValueError):
    """An address that others than this host can reach, while nothing is encrypted yet."""


class AddressInUse(OSError):
    """The address cannot be bound."""


def unix_path(address: str) -> Path | None:
    """The path of a `unix:` address, None for another. Raises InvalidAddress for one that is too long."""
    if not address.startswith("unix:"):
        return None
    text = address.removeprefix("unix:")
    size = len(text.encode())
    if size > UNIX_PATH_BYTES_MAX:
        raise InvalidAddress(
            f"{address}: the path of a socket has {size} bytes, and {UNIX_PATH_BYTES_MAX} at most; "
            "use a shorter folder"
        )
    if not text.startswith("/"):
        raise InvalidAddress(f"{address}: the path of a socket begins with /")
    return Path(text)


def split_host(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises InvalidAddress."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidAddress(f"{address}: write an IPv6 address as [address]:port")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidAddress(f"{address}: not unix:/path and not host:port")
    return host, int(port)


def is_local(address: str) -> bool:
    """Whether only this host can reach it: unix:, localhost, 127.0.0.0/8, ::1. Raises InvalidAddress."""
    if unix_path(address) is not None:
        return True
    host, _ = split_host(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, whatever it resolves to today


def emulated_network(text: str) -> ipaddress.IPv4Network:
    """The network of emulated links: of addresses that are nobody's in the world (RFC 1918).

    Raises InvalidAddress.
    """
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        network = None
    if network is None or not any(network.subnet_of(private) for private in _PRIVATE):
        raise InvalidAddress(
            f"{text[:64]}: not an IPv4 network within {', '.join(str(private) for private in _PRIVATE)}"
        )
    return network


def is_emulated(address: str, network: ipaddress.IPv4Network) -> bool:
    """Whether it is the address and port of one node of the network. Raises InvalidAddress."""
    if unix_path(address) is not None:
        return False
    host, port = split_host(address)
    try:
        node = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    ends = (network.network_address, network.broadcast_address)
    return port > 0 and node in network and node not in ends


def check_unused(path: Path) -> None:
    """Raises AddressInUse if a server answers at a Unix socket: gRPC would quietly take the path from it.

    Raises InvalidAddress if there is no folder for it.
    """
    if not path.parent.is_dir():
        raise InvalidAddress(f"unix:{path}: there is no folder {path.parent}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
        raise AddressInUse(f"unix:{path}: in use by another process")
