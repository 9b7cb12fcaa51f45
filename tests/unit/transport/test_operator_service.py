from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from orbitrain.machine import Severity
from orbitrain.step import Event
from orbitrain.transport.objects import CHUNK_BYTES_MAX
from orbitrain.transport.rpc import OperatorClient, OperatorServer, PeerRefused, Refusal, operator
from orbitrain.transport.store import Archive, BlobStore, Journal
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX
from orbitrain.v1 import link_pb2, operator_pb2, operator_pb2_grpc


class Node:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plans: list[tuple[int, bytes]] = []
        self.blobs: BlobStore | None = None
        self.files: list[tuple[str, bytes]] = []

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

    def admit_file(self, order: operator_pb2.SendOrder, size: int) -> None:
        if order.destination == "nowhere":
            raise Refusal("destination: 'nowhere' is not a node of the plan")
        assert self.blobs is not None
        self.blobs.check_whole(size)

    async def send_file(self, order: operator_pb2.SendOrder, path: Path) -> operator_pb2.SendFileReply:
        if order.name == "broken":
            raise OSError(errno.EIO, "Input/output error", str(path))
        if order.name == "full":
            return operator_pb2.SendFileReply(refused="1000 bundles are in custody")
        self.files.append((order.name, await asyncio.to_thread(path.read_bytes)))
        return operator_pb2.SendFileReply(bundle=f"b{len(self.files)}")


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
        node.blobs = blobs
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


# ------------------------------------------------------------------------------------------ files to send


def order(name: str = "photo.jpg", **changes: object) -> operator_pb2.SendOrder:
    values = {"destination": "far", "name": name, "lane": 3, "expires_in_ns": 9, "token": "t", **changes}
    return operator_pb2.SendOrder(**values)  # type: ignore[arg-type]


def scratch(seat: Seat) -> list[Path]:
    return list(seat.blobs.scratch.iterdir())


@pytest.mark.parametrize("size", [0, 1, 262_144, 700_000])
async def test_a_file_arrives_whole_and_leaves_nothing_behind(seat: Seat, size: int) -> None:
    path, data = seat.folder / "mine.jpg", os.urandom(size)
    path.write_bytes(data)
    for _ in range(2):
        assert (await seat.client.send_file(order(), path, size)).bundle
    assert seat.node.files == [("photo.jpg", data)] * 2
    assert seat.client.traffic.sent_bytes > 2 * size
    assert scratch(seat) == []
    assert path.read_bytes() == data


async def test_a_node_says_why_it_does_not_take_a_file(seat: Seat) -> None:
    path = seat.folder / "mine.jpg"
    path.write_bytes(os.urandom(2_000_000))
    assert (
        await seat.client.send_file(order("full"), path, 2_000_000)
    ).refused == "1000 bundles are in custody"
    with pytest.raises(PeerRefused, match="'nowhere' is not a node of the plan"):
        await seat.client.send_file(order(destination="nowhere"), path, 2_000_000)
    seat.blobs.quota_bytes = 1_999_999
    with pytest.raises(PeerRefused, match="no room for 2000000 bytes within the quota of 1999999") as caught:
        await seat.client.send_file(order(), path, 2_000_000)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert (seat.node.files, scratch(seat)) == ([], [])


async def test_a_file_that_changes_or_goes_while_it_is_read_is_told(seat: Seat) -> None:
    path = seat.folder / "mine.jpg"
    path.write_bytes(b"abc")
    with pytest.raises(OSError, match="it has become shorter while it was read"):
        await seat.client.send_file(order(), path, 4)
    await seat.client.send_file(order(), path, 2)  # it has grown: as much as was said is sent
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await seat.client.send_file(order(), path, 3)
    assert (seat.node.files, scratch(seat)) == ([("photo.jpg", b"ab")], [])
    assert (await seat.client.drain(10)).committed_ns == 9  # and the connection is of use still


def piece(data: bytes, size: int = 6, **changes: object) -> operator_pb2.FilePiece:
    return operator_pb2.FilePiece(order=order(**changes), size=size, data=data)  # type: ignore[arg-type]


BROKEN_FILES = [
    ([], "INVALID_ARGUMENT", "a file that ends after 0 bytes"),
    ([piece(b"abc")], "INVALID_ARGUMENT", "a file that ends after 3 bytes"),
    ([piece(b"abc"), piece(b"defg")], "INVALID_ARGUMENT", "a piece of 4 bytes of a file"),
    ([piece(b"a", 0)], "INVALID_ARGUMENT", "a piece of 1 bytes of a file"),
    ([piece(b"abc"), piece(b"def", 7)], "INVALID_ARGUMENT", "a stream carries one file"),
    ([piece(b"abc"), piece(b"def", name="other")], "INVALID_ARGUMENT", "a stream carries one file"),
    ([piece(b"abc"), piece(b"def", destination="moon")], "INVALID_ARGUMENT", "a stream carries one file"),
    ([piece(b"a", -1)], "INVALID_ARGUMENT", f"size: must be 0 to {OBJECT_BYTES_MAX} bytes, not -1"),
    (
        [piece(b"a", 1 << 62)],
        "INVALID_ARGUMENT",
        f"size: must be 0 to {OBJECT_BYTES_MAX} bytes, not {1 << 62}",
    ),
    (
        [piece(b"a" * (CHUNK_BYTES_MAX + 1), 1 << 24)],
        "INVALID_ARGUMENT",
        "a piece of 2097153 bytes of a file",
    ),
    ([piece(b"abcdef", name="broken")], "FAILED_PRECONDITION", "cannot be kept: Input/output error"),
]


@pytest.mark.parametrize(
    ("pieces", "code", "why"), BROKEN_FILES, ids=[str(n) for n in range(len(BROKEN_FILES))]
)
async def test_a_file_in_broken_pieces_is_refused_in_one_line_and_leaves_nothing(
    seat: Seat, pieces: list[operator_pb2.FilePiece], code: str, why: str
) -> None:
    async with grpc.aio.insecure_channel(f"unix:{seat.folder}/operator") as channel:
        stub = operator_pb2_grpc.OperatorStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SendFile(iter(pieces), timeout=10)
    assert (caught.value.code().name, caught.value.details()) == (code, why)
    assert (seat.node.files, scratch(seat)) == ([], [])


class Full(io.RawIOBase):
    """A file on a disk that has no room."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize("size", [5, 300_000])
async def test_a_full_disk_is_told_as_such(seat: Seat, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    path = seat.folder / "mine.jpg"
    path.write_bytes(bytes(size))
    opened = Path.open

    def full(path: Path, mode: str = "r", buffering: int = -1, **named: object) -> object:
        if mode != "xb":
            return opened(path, mode, buffering, **named)  # type: ignore[arg-type]
        return Full() if buffering == 0 else io.BufferedWriter(Full())

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(PeerRefused, match="the disk is full"):
        await seat.client.send_file(order(), path, size)
    assert seat.node.files == []


async def test_an_operator_that_goes_away_leaves_nothing(seat: Seat) -> None:
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[operator_pb2.FilePiece]:
        yield piece(b"abc")
        begun.set()
        await asyncio.Event().wait()

    async with grpc.aio.insecure_channel(f"unix:{seat.folder}/operator") as channel:
        call = operator_pb2_grpc.OperatorStub(channel).SendFile(pieces())
        await begun.wait()
        while not scratch(seat):
            await seat.client.list_transfers(10)
        call.cancel()
        while scratch(seat):
            await seat.client.list_transfers(10)
    assert seat.node.files == []
