"""The link between two nodes over real sockets, and what a hostile peer gets for its trouble."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orbitrain.transport.objects import Pace
from orbitrain.transport.rpc import (
    AddressInUse,
    InsecureAddress,
    InvalidAddress,
    LinkClient,
    LinkDown,
    LinkServer,
    PeerRefused,
    Refusal,
    answers,
)
from orbitrain.transport.rpc.custody import LETTERS_BYTES_MAX, LETTERS_MAX, expanded
from orbitrain.transport.rpc.link import LETTER_BODY_BYTES_MAX, OBJECTS_MAX
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2, link_pb2_grpc


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Receiver:
    """A handler that keeps what it is told."""

    def __init__(self) -> None:
        self.letters: list[link_pb2.Letter] = []
        self.refusals: list[tuple[str, str]] = []
        self.no_contact: set[str] = set()
        self.busy: asyncio.Event | None = None
        self.ends: dict[int, link_pb2.Outcome] = {}

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        if request.plan_sha256 == "another":
            raise Refusal("another plan")
        return link_pb2.PingReply(node="receiver", now_ns=request.now_ns)

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        self.letters.append(letter)
        if self.busy is not None:
            self.busy.set()
            await asyncio.Event().wait()
        return link_pb2.Receipt(outcome=link_pb2.OUTCOME_DELIVERED)

    async def hand(self, letters: Sequence[link_pb2.Letter]) -> list[link_pb2.Receipt]:
        receipts = []
        for letter in letters:
            receipts.append(await self.deliver(letter))
            receipts[-1].outcome = self.ends.get(letter.sequence, link_pb2.OUTCOME_DELIVERED)
            if letter.sequence in self.ends:
                break
        return receipts

    def settles(self, letter: link_pb2.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return "no contact now" if source in self.no_contact else None

    def refused(self, source: str, reason: str) -> None:
        self.refusals.append((source, reason))


class World:
    """A receiver, and a sender that also has a raw channel to misbehave on."""

    def __init__(self, near: BlobStore, far: BlobStore, receiver: Receiver, server: LinkServer) -> None:
        self.near, self.far, self.receiver, self.server = near, far, receiver, server
        self.client: LinkClient
        self.stub: link_pb2_grpc.LinkStub
        self.channel: grpc.aio.Channel

    async def send(self, data: bytes, client: LinkClient | None = None) -> link_pb2.ObjectName:
        digest, client = self.near.put(data), client or self.client
        missing = await client.missing([(digest, len(data))])
        if digest in missing:
            assert await client.put(digest, len(data), self.near.path(digest), 10, missing[digest])
        return link_pb2.ObjectName(digest=digest, size=len(data))

    async def put_raw(self, *chunks: link_pb2.Chunk) -> grpc.StatusCode:
        """What a hand-made stream is answered, once offered; it must be reported, and leave nothing."""
        for each in chunks[:1]:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self.stub.Offer(link_pb2.OfferRequest(source="sender", objects=[each.object]))
        self.receiver.refusals.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in self.stub.Put(iter(chunks), timeout=10):
                pass
        assert "\n" not in (caught.value.details() or "")
        return caught.value.code()


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


def chunk(data: bytes, offset: int = 0, of: bytes | None = None, **changes: object) -> link_pb2.Chunk:
    whole = data if of is None else of
    made = link_pb2.Chunk(
        object=link_pb2.ObjectName(digest=sha256(whole), size=len(whole)),
        offset=offset,
        data=data,
        source="sender",
        crc32=zlib.crc32(data),
    )
    for name, value in changes.items():
        target = made.object if name in ("digest", "size") else made
        setattr(target, name, value)
    return made


# ------------------------------------------------------------------------------------------- a good peer


async def test_objects_then_their_letter_cross_a_link(world: World) -> None:
    data = os.urandom(123_457)
    digest = world.near.put(data)
    assert await world.client.missing([(digest, len(data))]) == {digest: [(0, len(data))]}
    name = await world.send(data)
    assert world.far.path(digest).read_bytes() == data
    assert await world.client.missing([(digest, len(data))]) == {}
    assert world.far.expected(0) == {digest}
    letter = link_pb2.Letter(source="sender", sequence=1, objects=[name])
    receipt = await world.client.deliver(letter, 10)
    assert receipt.outcome == link_pb2.OUTCOME_DELIVERED
    assert world.receiver.letters == [letter]
    assert world.far.expected(0) == set()
    assert world.receiver.refusals == []


async def test_an_empty_object_crosses_too(world: World) -> None:
    digest = world.near.put(b"")
    assert await world.client.missing([(digest, 0)]) == {digest: [(0, 0)]}
    await world.send(b"")
    assert world.far.size(digest) == 0


async def test_a_cut_transfer_goes_on_where_it_stopped(world: World) -> None:
    data = os.urandom(50_000)
    digest = world.near.put(data)
    path = world.near.path(digest)
    await world.client.missing([(digest, len(data))])
    assert not await world.client.put(digest, len(data), path, 10, ranges=[(0, 20_000)])
    assert await world.client.missing([(digest, len(data))]) == {digest: [(20_000, 50_000)]}
    assert await world.client.put(digest, len(data), path, 10, ranges=[(20_000, 50_000)])
    assert world.far.has(digest)
    assert world.client.object_bytes == len(data)


async def test_an_object_that_is_there_already_is_not_read_again(world: World) -> None:
    data = os.urandom(2_000_000)
    world.far.put(data)
    await world.send(data)
    assert world.receiver.refusals == []


async def test_an_objects_letter_is_still_to_come_until_the_source_is_forgotten(world: World) -> None:
    name = await world.send(b"model")
    assert world.far.expected(0) == {name.digest}
    world.far.unexpect("sender")
    assert world.far.expected(0) == set()
    await world.client.missing([(name.digest, name.size)])
    assert world.far.expected(0) == {name.digest}


async def test_two_peers_and_a_repeat_put_one_object_at_once(world: World) -> None:
    data = os.urandom(400_000)
    other = LinkClient(world.client.address, "other", Pace(7_000, 30_000))
    await asyncio.gather(*(world.send(data, c) for c in (world.client, other, world.client)))
    assert world.far.path(sha256(data)).read_bytes() == data
    assert world.far.total_bytes() == len(data)
    assert list((world.far.folder / "incoming").iterdir()) == []
    await other.close()


async def test_a_ping_comes_back(world: World) -> None:
    reply = await world.client.ping(link_pb2.PingRequest(source="sender", now_ns=7), 10)
    assert (reply.node, reply.now_ns) == ("receiver", 7)


async def test_the_server_says_that_it_is_healthy(world: World) -> None:
    health = health_pb2_grpc.HealthStub(world.channel)
    for service in ("", "orbitrain.v1.Link"):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


# ---------------------------------------------------------------------------------------- hostile peers


async def test_wrong_bytes_are_refused_and_leave_nothing(world: World) -> None:
    bad = chunk(b"evil!", of=b"right")
    assert await world.put_raw(bad) is grpc.StatusCode.DATA_LOSS
    assert world.far.digests() == set()
    assert list((world.far.folder / "incoming").iterdir()) == []
    ((source, reason),) = world.receiver.refusals
    assert source == "sender"
    assert "are not object" in reason


WHOLE = b"0123456789"


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ([chunk(b"89ab", 8, of=WHOLE)], "bytes 8 to 12"),
        ([chunk(b"0", -1, of=WHOLE)], "bytes -1 to 0"),
        ([chunk(b"0", 2**62, of=WHOLE)], "of 10 bytes"),
        ([chunk(b"012", of=WHOLE)] * 4, "more bytes than the object has"),
        ([chunk(b"0", of=WHOLE)] * 2 + [chunk(b"", of=WHOLE)], "a chunk of 0 bytes"),
        ([chunk(b"0", size=10**12)], "with 1000000000000 bytes"),
        ([chunk(b"0", size=-1)], "with -1 bytes"),
        ([chunk(b"0", digest="../../../etc/passwd")], "no object is called"),
        ([chunk(b"0", digest="\n" * 64)], "no object is called"),
        ([chunk(b"0", of=WHOLE), chunk(b"1", 1, of=b"other one!")], "one object of one source"),
        ([chunk(b"0", of=WHOLE), chunk(b"1", 1, of=WHOLE, source="other")], "one object of one source"),
        ([chunk(bytes(2 * 1024**2 + 1))], "a chunk of 2097153 bytes"),
        ([], "no chunk"),
    ],
)
async def test_a_stream_that_breaks_the_rules_is_refused_by_name(
    world: World, stream: list[link_pb2.Chunk], reason: str
) -> None:
    assert await world.put_raw(*stream) is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in world.receiver.refusals[0][1]
    assert world.far.digests() == set()


async def test_an_object_beyond_the_quota_is_refused_as_full(world: World) -> None:
    assert await world.put_raw(chunk(b"0", size=60_000_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_oversized_message_does_not_get_in(world: World) -> None:
    await world.put_raw(chunk(bytes(5 * 1024**2)))
    assert world.far.digests() == set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.Deliver(link_pb2.Letter(source="sender", body=bytes(5 * 1024**2)), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await world.client.ping(link_pb2.PingRequest(source="sender"), 10)).node == "receiver"


async def test_a_stranger_gets_nothing(world: World) -> None:
    stranger = LinkClient(world.client.address, "mallory\n" * 40)
    digest = world.near.put(b"x")
    calls = (
        stranger.ping(link_pb2.PingRequest(source=stranger.source), 10),
        stranger.missing([(digest, 1)]),
        stranger.put(digest, 1, world.near.path(digest), 10),
        stranger.deliver(link_pb2.Letter(source=stranger.source), 10),
    )
    for call in calls:
        with pytest.raises(PeerRefused, match="unknown peer") as caught:
            await call
        assert caught.value.code == "PERMISSION_DENIED"
    assert len(world.receiver.refusals) == 4
    assert all("\n" not in source and len(source) <= 200 for source, _ in world.receiver.refusals)
    assert world.far.digests() == set()
    assert world.receiver.letters == []
    await stranger.close()


async def test_a_peer_out_of_contact_may_ping_but_not_send(world: World) -> None:
    world.receiver.no_contact.add("sender")
    assert (await world.client.ping(link_pb2.PingRequest(source="sender"), 10)).node == "receiver"
    with pytest.raises(PeerRefused, match="no contact now"):
        await world.send(b"x")
    with pytest.raises(PeerRefused, match="another plan"):
        await world.client.ping(link_pb2.PingRequest(source="sender", plan_sha256="another"), 10)


async def test_a_letter_is_bounded_and_its_objects_must_be_here(world: World) -> None:
    absent = link_pb2.ObjectName(digest="0" * 64, size=1)
    held = await world.send(b"model")
    wrong_size = link_pb2.ObjectName(digest=held.digest, size=4)
    cases = [
        (link_pb2.Letter(objects=[held, absent]), "missing objects: 1 of 2", "FAILED_PRECONDITION"),
        (link_pb2.Letter(objects=[held] * (OBJECTS_MAX + 1)), "257 objects at once", "INVALID_ARGUMENT"),
        (link_pb2.Letter(objects=[wrong_size]), "does not have 4 bytes", "INVALID_ARGUMENT"),
        (link_pb2.Letter(body=bytes(LETTER_BODY_BYTES_MAX + 1)), "a body of", "INVALID_ARGUMENT"),
        (link_pb2.Letter(role="r" * 129), "a name of 129", "INVALID_ARGUMENT"),
    ]
    for letter, reason, code in cases:
        letter.source = "sender"
        with pytest.raises(PeerRefused, match=reason) as caught:
            await world.client.deliver(letter, 10)
        assert caught.value.code == code
    assert world.receiver.letters == []
    await world.client.deliver(link_pb2.Letter(source="sender", cancelled="expired", objects=[absent]), 10)
    assert len(world.receiver.letters) == 1


async def test_an_unknown_method_is_a_refusal(world: World) -> None:
    call = world.channel.unary_unary("/orbitrain.v1.Link/Format")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"now", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_answer_that_names_what_was_not_offered_is_refused(short_folder: Path) -> None:
    class Liar(link_pb2_grpc.LinkServicer):
        async def Offer(self, request: link_pb2.OfferRequest, context: object) -> link_pb2.OfferReply:
            ranges = [link_pb2.Range(start=0, end=10**12)]
            return link_pb2.OfferReply(missing=[link_pb2.Missing(digest="0" * 64, ranges=ranges)])

    server = grpc.aio.server()
    link_pb2_grpc.add_LinkServicer_to_server(Liar(), server)
    server.add_insecure_port(f"unix:{short_folder}/liar")
    await server.start()
    client = LinkClient(f"unix:{short_folder}/liar", "sender")
    with pytest.raises(PeerRefused, match="not offered"):
        await client.missing([("0" * 64, 5)])
    await client.close()
    await server.stop(0)


# ---------------------------------------------------------------------------------- letters that go together


def numbered(*sequences: int, **names: Any) -> list[link_pb2.Letter]:
    return [link_pb2.Letter(source="sender", sequence=n, **names) for n in sequences]


async def test_letters_that_go_together_are_answered_by_ranges_up_to_one_that_is_not_delivered(
    world: World,
) -> None:
    names = [await world.send(b"%d" % n) for n in range(3)]
    letters = numbered(1, 2, 5, 6)
    for letter, name in zip(letters, names, strict=False):
        letter.objects.append(name)
    world.receiver.ends = {5: link_pb2.OUTCOME_REFUSED}
    signal = await world.stub.Hand(link_pb2.Letters(letters=letters), timeout=10)
    assert [(r.first, r.last, r.outcome) for r in signal.ranges] == [
        (1, 2, link_pb2.OUTCOME_DELIVERED),
        (5, 5, link_pb2.OUTCOME_REFUSED),
    ]
    receipts = await world.client.hand(letters, 10)
    assert [receipt.outcome for receipt in receipts] == [
        link_pb2.OUTCOME_DELIVERED,
        link_pb2.OUTCOME_DELIVERED,
        link_pb2.OUTCOME_REFUSED,
    ]
    assert world.receiver.refusals == []


async def test_letters_that_go_together_are_bounded_and_of_one_mailbox_in_order(world: World) -> None:
    held = await world.send(b"model")
    absent = link_pb2.ObjectName(digest="0" * 64, size=1)
    half = bytes(LETTERS_BYTES_MAX // 2)
    cases = [
        (numbered(*range(LETTERS_MAX + 1)), "65 letters"),
        (numbered(1, 2, body=half), "2 letters of 1048"),
        (numbered(1, 2, objects=[held] * (OBJECTS_MAX // 2 + 1)), "258 objects at once"),
        (numbered(2, 1), "not in order"),
        (numbered(1, 1), "not in order"),
        (numbered(1) + numbered(2, role="other"), "several mailboxes"),
        (numbered(1) + numbered(2, lane=1), "several mailboxes"),
        (numbered(1) + numbered(2, incarnation="other"), "several mailboxes"),
        ([*numbered(1), link_pb2.Letter(source="other", sequence=2)], "several mailboxes"),
        (numbered(1) + numbered(2, objects=[absent]), "missing objects: 1 of 1"),
        ([], "unknown peer"),
    ]
    for letters, reason in cases:
        with pytest.raises(PeerRefused, match=reason):
            await world.client.hand(letters, 10)
    assert world.receiver.letters == []
    await world.client.hand(numbered(1) + numbered(2, cancelled="expired", objects=[absent]), 10)
    assert len(world.receiver.letters) == 2


@pytest.mark.parametrize(
    "ranges", [[(2, 3)], [(1, 4)], [(1, 9)], [(1, 2), (2, 3)], [(1, 3), (1, 3)], [(3, 1)]]
)
def test_a_custody_signal_of_other_letters_is_refused(ranges: list[tuple[int, int]]) -> None:
    named = [link_pb2.CustodyRange(first=first, last=last) for first, last in ranges]
    with pytest.raises(PeerRefused, match="not handed over"):
        expanded(link_pb2.CustodySignal(ranges=named), [1, 2, 3])


# ------------------------------------------------------------------------------------------ a broken link


async def test_no_peer_is_a_link_down(short_folder: Path) -> None:
    client = LinkClient(f"unix:{short_folder}/nobody", "sender")
    with pytest.raises(LinkDown, match="unavailable"):
        await client.ping(link_pb2.PingRequest(source="sender"), 10)
    await client.close()
    with pytest.raises(LinkDown, match="closed"):
        await client.ping(link_pb2.PingRequest(source="sender"), 10)


async def test_no_answer_in_time_is_a_link_down(world: World) -> None:
    world.receiver.busy = asyncio.Event()
    with pytest.raises(LinkDown, match="deadline_exceeded"):
        await world.client.deliver(link_pb2.Letter(source="sender"), 0.05)


@pytest.mark.parametrize("who", ["server", "client"])
async def test_a_link_that_ends_during_a_call_is_a_link_down(world: World, who: str) -> None:
    world.receiver.busy = asyncio.Event()
    call = asyncio.create_task(world.client.deliver(link_pb2.Letter(source="sender"), 30))
    await world.receiver.busy.wait()
    await (world.server.stop(0) if who == "server" else world.client.close())
    with pytest.raises(LinkDown):
        await call


async def test_who_waits_for_a_call_can_still_be_cancelled(world: World) -> None:
    world.receiver.busy = asyncio.Event()
    call = asyncio.create_task(world.client.deliver(link_pb2.Letter(source="sender"), 30))
    await world.receiver.busy.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_file_of_another_size_is_not_sent(world: World) -> None:
    digest = world.near.put(b"12345")
    with pytest.raises(OSError, match="5 bytes instead of 6"):
        await world.client.put(digest, 6, world.near.path(digest), 10)


# ---------------------------------------------------------------------------------------------- addresses


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
