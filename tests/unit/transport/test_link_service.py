"""The link between two nodes over real sockets, and what a hostile peer gets for its trouble."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orbitrain.transport.objects import Pace
from orbitrain.transport.rpc import (
    LinkClient,
    LinkDown,
    PeerRefused,
)
from orbitrain.transport.rpc.custody import LETTERS_BYTES_MAX, LETTERS_MAX, expanded
from orbitrain.transport.rpc.link import OBJECTS_MAX
from orbitrain.v1 import link_pb2
from tests.unit.transport.links import World, sha256


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
