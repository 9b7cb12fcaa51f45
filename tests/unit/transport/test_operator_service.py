from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from orbitrain.core import Event
from orbitrain.machine import Severity
from orbitrain.transport.rpc import OperatorClient, OperatorServer, PeerRefused, Refusal, operator
from orbitrain.transport.store import Archive, BlobStore, Journal
from orbitrain.v1 import link_pb2, operator_pb2, operator_pb2_grpc


class Node:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plans: list[tuple[int, bytes]] = []

    async def read_journal(self, request: operator_pb2.ReadJournalRequest) -> operator_pb2.JournalPage:
        return self.journal.page("node", request.after_event, request.after_metric)

    async def drain(self) -> operator_pb2.DrainReply:
        return operator_pb2.DrainReply(committed_ns=9)

    async def gather(self) -> operator_pb2.GatherReply:
        raise Refusal("not a ground node")

    async def list_transfers(self) -> operator_pb2.TransferList:
        return operator_pb2.TransferList(now_ns=5, transfers=[operator_pb2.Transfer(peer="b", size=7)])

    async def update_plan(self, at_ns: int, data: bytes) -> operator_pb2.UpdatePlanReply:
        if data == b"no plan":
            raise Refusal("plan: must be JSON")
        self.plans.append((at_ns, data))
        return operator_pb2.UpdatePlanReply(accepted=True, at_ns=at_ns)


@dataclass
class Seat:
    client: OperatorClient
    journal: Journal
    blobs: BlobStore
    mine: BlobStore
    folder: Path
    node: Node


@pytest.fixture
async def seat() -> AsyncIterator[Seat]:
    with tempfile.TemporaryDirectory(prefix="ot") as name:
        folder = Path(name)
        journal = Journal(folder / "journal", "normal")
        blobs, mine = BlobStore(folder / "blobs"), BlobStore(folder / "mine")
        node = Node(journal)
        server = OperatorServer(f"unix:{folder}/operator", node, blobs)
        await server.start()
        client = OperatorClient(f"unix:{folder}/operator")
        yield Seat(client, journal, blobs, mine, folder, node)
        await client.close()
        await server.stop(0)
        for store in (blobs, mine, journal):
            store.close()


async def test_transfers_are_listed_as_the_node_says(seat: Seat) -> None:
    found = await seat.client.list_transfers(10)
    assert (found.now_ns, [(one.peer, one.size) for one in found.transfers]) == (5, [("b", 7)])


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


# ------------------------------------------------------------------------------------ updates of the plan


async def test_a_plan_arrives_whole_in_as_many_pieces_as_it_takes(seat: Seat) -> None:
    for data in (b"x", os.urandom(700_000)):
        reply = await seat.client.update_plan(5, data, 10)
        assert (reply.accepted, reply.at_ns) == (True, 5)
        assert seat.node.plans[-1] == (5, data)
    assert seat.client.traffic.sent_bytes > 700_000
    with pytest.raises(PeerRefused, match="plan: must be JSON"):
        await seat.client.update_plan(5, b"no plan", 10)


async def test_a_plan_that_is_too_large_is_not_even_sent(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "PLAN_BYTES_MAX", 10)
    for data in (b"", b"x" * 11):
        with pytest.raises(ValueError, match=f"data: must be 1 to 10 bytes, not {len(data)}"):
            await seat.client.update_plan(5, data, 10)


def chunk(data: bytes, size: int = 6, **changes: object) -> operator_pb2.PlanChunk:
    values = {"at_ns": 5, "sha256": hashlib.sha256(b"abcdef").hexdigest(), "size": size, "data": data}
    return operator_pb2.PlanChunk(**{**values, **changes})  # type: ignore[arg-type]


BROKEN = [
    ([], "a plan that ends after 0 bytes"),
    ([chunk(b"abc")], "a plan that ends after 3 bytes"),
    ([chunk(b"abc"), chunk(b"defg")], "a chunk of 4 bytes of a plan"),
    ([chunk(b"abc"), chunk(b"")], "a chunk of 0 bytes of a plan"),
    ([chunk(b"abc"), chunk(b"def", at_ns=6)], "a stream carries one plan"),
    ([chunk(b"abc"), chunk(b"def", sha256="0" * 64)], "a stream carries one plan"),
    ([chunk(b"abc"), chunk(b"dex")], "sha256: is not the digest of the bytes that came"),
    ([chunk(b"abc", 0)], "size: must be 1 to 67108864 bytes, not 0"),
    ([chunk(b"abc", 1 << 40)], "size: must be 1 to 67108864 bytes, not 1099511627776"),
]


@pytest.mark.parametrize(("chunks", "why"), BROKEN)
async def test_a_plan_in_broken_pieces_is_refused_in_one_line(
    seat: Seat, chunks: list[operator_pb2.PlanChunk], why: str
) -> None:
    async with grpc.aio.insecure_channel(f"unix:{seat.folder}/operator") as channel:
        stub = operator_pb2_grpc.OperatorStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UpdatePlan(iter(chunks), timeout=10)
    assert caught.value.details() == why
    assert seat.node.plans == []
    assert (await seat.client.update_plan(5, b"x", 10)).accepted
