"""Fixtures of the transport: a store, and a receiver behind a link."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from orbitrain.transport.objects import Pace
from orbitrain.transport.rpc import (
    LinkClient,
    LinkServer,
)
from orbitrain.transport.store import (
    BlobStore,
)
from orbitrain.v1 import link_pb2_grpc
from tests.unit.transport.links import Receiver, World


@pytest.fixture
def short_folder() -> Iterator[Path]:
    # A Unix socket's path is at most 100 bytes; pytest's own folders may be longer.
    with tempfile.TemporaryDirectory(prefix="ot") as folder:
        yield Path(folder)


@pytest.fixture
async def world(short_folder: Path) -> AsyncIterator[World]:
    near, far = BlobStore(short_folder / "near"), BlobStore(short_folder / "far", quota_bytes=50_000_000)
    receiver = Receiver()
    address = f"unix:{short_folder}/link"
    server = LinkServer(address, far, receiver, ["sender", "other"])
    await server.start()
    world = World(near, far, receiver, server)
    world.client = LinkClient(address, "sender", Pace(10_000, 40_000))
    world.channel = grpc.aio.insecure_channel(
        address, options=[("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    )
    world.stub = link_pb2_grpc.LinkStub(world.channel)
    yield world
    await world.client.close()
    await world.channel.close()
    await server.stop(0)
    near.close()
    far.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    store = BlobStore(tmp_path / "store")
    yield store
    store.close()
