from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from orbitrain.core import Event
from orbitrain.machine import Severity
from orbitrain.transport.rpc import OperatorClient, OperatorServer, PeerRefused, Refusal
from orbitrain.transport.store import Archive, BlobStore, Journal
from orbitrain.v1 import link_pb2, operator_pb2, operator_pb2_grpc


class Node:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def read_journal(self, request: operator_pb2.ReadJournalRequest) -> operator_pb2.JournalPage:
        return self.journal.page("node", request.after_event, request.after_metric)

    async def drain(self) -> operator_pb2.DrainReply:
        return operator_pb2.DrainReply(committed_ns=9)

    async def gather(self) -> operator_pb2.GatherReply:
        raise Refusal("not a ground node")


@dataclass
class Seat:
    client: OperatorClient
    journal: Journal
    blobs: BlobStore
    mine: BlobStore
    folder: Path


@pytest.fixture
async def seat() -> AsyncIterator[Seat]:
    with tempfile.TemporaryDirectory(prefix="ot") as name:
        folder = Path(name)
        journal = Journal(folder / "journal", "normal")
        blobs, mine = BlobStore(folder / "blobs"), BlobStore(folder / "mine")
        server = OperatorServer(f"unix:{folder}/operator", Node(journal), blobs)
        await server.start()
        client = OperatorClient(f"unix:{folder}/operator")
        yield Seat(client, journal, blobs, mine, folder)
        await client.close()
        await server.stop(0)
        for store in (blobs, mine, journal):
            store.close()


async def test_a_journal_is_read_to_its_end_into_an_archive(seat: Seat) -> None:
    written = [Event(n, "device", Severity.ACTIVITY_LO, "tick", {"n": n}) for n in range(4500)]
    seat.journal.add_events(written)
    seat.journal.add_metrics(3, [("battery", 0.5)])
    with Archive(seat.folder / "archive") as archive:
        pages = 0
        while True:
            cursor = archive.cursor("node", seat.journal.incarnation)
            page = await seat.client.read_journal(*cursor, 10)
            if not page.events and not page.metrics:
                break
            archive.add_page(page)
            pages += 1
        assert pages == 3
        assert [event for _, _, event in archive.events()] == written
        assert list(archive.metrics()) == [(3, "node", "battery", 0.5)]


async def test_an_object_is_fetched_and_verified(seat: Seat) -> None:
    data = os.urandom(700_000)
    digest, empty = seat.blobs.put(data), seat.blobs.put(b"")
    for wanted in (digest, digest, empty):
        assert await seat.client.get_object(wanted, seat.mine, 10)
    assert seat.mine.path(digest).read_bytes() == data
    assert not await seat.client.get_object("0" * 64, seat.mine, 10)


async def test_commands_are_answered_or_refused(seat: Seat) -> None:
    assert (await seat.client.drain(10)).committed_ns == 9
    with pytest.raises(PeerRefused, match="not a ground node"):
        await seat.client.gather(10)
    with pytest.raises(PeerRefused, match="numbered from 1"):
        await seat.client.read_journal(-1, 0, 10)


LIES = {
    "other bytes": [{"size": 5, "offset": 0, "data": b"wrong"}],
    "too many bytes": [{"size": 5, "offset": 0, "data": b"123456"}],
    "too few bytes": [{"size": 5, "offset": 0, "data": b"123"}],
    "out of order": [{"size": 5, "offset": 2, "data": b"345"}],
    "a trillion bytes": [{"size": 10**12, "offset": 0, "data": b"1"}],
    "two sizes": [{"size": 5, "offset": 0, "data": b"1"}, {"size": 6, "offset": 1, "data": b"2"}],
    "nothing": [],
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_node_that_sends_something_else_is_refused_and_leaves_nothing(seat: Seat, lie: str) -> None:
    class Liar(operator_pb2_grpc.OperatorServicer):
        async def GetObject(
            self, name: link_pb2.ObjectName, context: object
        ) -> AsyncIterator[link_pb2.Chunk]:
            for part in LIES[lie]:
                named = link_pb2.ObjectName(digest=name.digest, size=part["size"])
                yield link_pb2.Chunk(object=named, offset=part["offset"], data=part["data"])

    server = grpc.aio.server()
    operator_pb2_grpc.add_OperatorServicer_to_server(Liar(), server)
    server.add_insecure_port(f"unix:{seat.folder}/liar")
    await server.start()
    client = OperatorClient(f"unix:{seat.folder}/liar")
    with pytest.raises(PeerRefused):
        await client.get_object("0" * 64, seat.mine, 10)
    assert list((seat.mine.folder / "incoming").iterdir()) == []
    await client.close()
    await server.stop(0)
