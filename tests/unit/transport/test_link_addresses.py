"""Where a link can be served and dialled, and what is no address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orbitrain.transport.rpc import (
    AddressInUse,
    InsecureAddress,
    InvalidAddress,
    LinkServer,
    answers,
)
from tests.unit.transport.links import World


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_an_address_is_served_once(world: World, short_folder: Path, kind: str) -> None:
    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{short_folder}/twice"
    first = LinkServer(address, world.far, world.receiver, ["sender"])
    port = await first.start()
    address = f"127.0.0.1:{port}" if kind == "tcp" else address
    with pytest.raises(AddressInUse, match=address):
        await LinkServer(address, world.far, world.receiver, ["sender"]).start()
    await first.stop(0)
    again = LinkServer(address, world.far, world.receiver, ["sender"])
    await again.start()
    await again.stop(0)
    await again.stop(0)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1"])
async def test_an_open_address_is_not_bound(world: World, address: str) -> None:
    with pytest.raises(InsecureAddress, match="not a loopback address"):
        LinkServer(address, world.far, world.receiver, [])
    with pytest.raises(InsecureAddress, match="not an address and port of the emulated 10"):
        LinkServer(address, world.far, world.receiver, [], "10.213.0.0/16")


async def test_an_address_of_emulated_links_is_bound_where_they_are_and_nowhere_else(world: World) -> None:
    LinkServer("10.213.0.7:7900", world.far, world.receiver, [], "10.213.0.0/16")
    for outside in ("10.214.0.1:7900", "10.213.0.0:7900", "10.213.255.255:7900", "127.0.0.1:7900", "unix:/x"):
        with pytest.raises(InsecureAddress, match=outside):
            LinkServer(outside, world.far, world.receiver, [], "10.213.0.0/16")
    for network in ("0.0.0.0/0", "8.8.0.0/16", "10.0.0.0/7", "fe80::/10", "somewhere"):
        with pytest.raises(InvalidAddress, match="not an IPv4 network within 10"):
            LinkServer("10.213.0.7:7900", world.far, world.receiver, [], network)


async def test_a_knock_tells_whether_anything_listens(world: World) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert not await answers(address, 1.0)
        listening.listen()
        assert await answers(address, 1.0)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:/" + "x" * 100, "101 bytes, and 100 at most"),
        ("unix:relative", "begins with /"),
        ("localhost", "not unix:/path"),
        ("localhost:http", "not unix:/path"),
        ("localhost:65536", "not unix:/path"),
        ("::1:80", "write an IPv6 address"),
    ],
)
async def test_an_address_that_cannot_be_is_refused_by_name(world: World, address: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason):
        LinkServer(address, world.far, world.receiver, [])
