"""What a receiver refuses of peers that break the rules, by name, and leaves nothing of."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest

from orbitrain.transport.rpc import (
    LinkClient,
    PeerRefused,
)
from orbitrain.transport.rpc.link import LETTER_BODY_BYTES_MAX, OBJECTS_MAX
from orbitrain.v1 import link_pb2, link_pb2_grpc
from tests.unit.transport.links import World, chunk


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
