"""An object over several connections to one real server: it is there once, whichever of them breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orbitrain.transport.objects import CHUNK_BYTES_MIN, Pace
from orbitrain.transport.rpc import Flows, LinkClient, LinkDown, LinkServer, PeerRefused
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2
from tests.unit.transport.links import Receiver

SIZE = 24 * CHUNK_BYTES_MIN + 1000
DATA = os.urandom(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()
PACE = Pace(2 * CHUNK_BYTES_MIN, 8 * CHUNK_BYTES_MIN)
"""Four flows of it at most."""


class Place:
    """A receiver, and a node that sends to it over four connections."""

    def __init__(self, far: BlobStore, receiver: Receiver, path: Path, address: str) -> None:
        self.far, self.receiver, self.path, self.address = far, receiver, path, address
        self.flows = Flows(address, "sender", 4, PACE)

    async def put(self, room: object = None, flows: Flows | None = None) -> bool:
        flows = flows or self.flows
        missing = await flows.missing([(DIGEST, SIZE)])
        return await flows.put(DIGEST, SIZE, self.path, 10.0, missing[DIGEST], room)  # type: ignore[arg-type]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ot") as name:
        yield Path(name)


@pytest.fixture
async def place(folder: Path) -> AsyncIterator[Place]:
    far, receiver = BlobStore(folder / "far"), Receiver()
    server = LinkServer(f"unix:{folder}/link", far, receiver, ["sender"])
    await server.start()
    path = folder / "object"
    path.write_bytes(DATA)
    made = Place(far, receiver, path, f"unix:{folder}/link")
    yield made
    await made.flows.close()
    await server.stop(0)
    far.close()


async def test_several_connections_bring_one_object_and_each_byte_once(place: Place) -> None:
    assert await place.put()
    assert place.far.path(DIGEST).read_bytes() == DATA
    assert place.flows.object_bytes == SIZE
    assert place.receiver.refusals == [] and place.far.parts() == []
    sending = [place.flows.client(n).object_bytes for n in range(4)]
    assert all(sending) and sum(sending) == SIZE


async def test_room_is_told_of_what_all_connections_have_in_the_air_and_ends_all(place: Place) -> None:
    told: list[int] = []

    def room(in_air_bytes: int) -> int:
        told.append(in_air_bytes)
        left_bytes = 12 * CHUNK_BYTES_MIN - place.flows.object_bytes
        return CHUNK_BYTES_MIN if left_bytes > 0 else 0

    assert not await place.put(room)
    assert place.flows.object_bytes == 12 * CHUNK_BYTES_MIN
    assert max(told) > PACE.window_bytes // 4, "more than one connection may have"
    assert max(told) <= PACE.window_bytes
    # What they had in the air has been heard of: nothing of it goes again.
    assert await place.put()
    assert place.flows.object_bytes == SIZE
    assert place.receiver.refusals == []


async def test_without_room_at_the_first_chunk_nothing_is_begun_and_nothing_is_refused(place: Place) -> None:
    for flows in (place.flows, Flows(place.address, "sender", 1, PACE)):
        assert not await place.put(lambda in_air_bytes: 0, flows)
        assert flows.object_bytes == 0
    await flows.close()
    assert place.receiver.refusals == []


@pytest.mark.parametrize("failures", [1, 3])
async def test_others_go_on_where_a_connection_does_not_come_about(
    place: Place, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    real, heard, failed = LinkClient.put, asyncio.Event(), 0

    async def put(self: LinkClient, *arguments: object) -> bool:
        nonlocal failed
        if self is place.flows.client(1) and failed < failures:
            await heard.wait()
            failed += 1
            raise LinkDown("no connection")
        return await real(self, *arguments)  # type: ignore[arg-type]

    def room(in_air_bytes: int) -> int:
        if in_air_bytes < place.flows.object_bytes:
            heard.set()
        return CHUNK_BYTES_MIN

    monkeypatch.setattr(LinkClient, "put", put)
    try:
        assert await place.put(room)
    except LinkDown:
        assert failures == 3  # the others had ended before this one was given up
        assert await place.put()
    assert place.far.path(DIGEST).read_bytes() == DATA
    assert place.flows.object_bytes == SIZE


async def test_a_connection_that_breaks_ends_the_others_after_they_have_heard_what_arrived(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LinkClient.put

    async def put(self: LinkClient, *arguments: object) -> bool:
        if self is not place.flows.client(1):
            return await real(self, *arguments)  # type: ignore[arg-type]
        arguments[4].answered(0)  # type: ignore[attr-defined]
        raise LinkDown("it broke")

    with monkeypatch.context() as patched:
        patched.setattr(LinkClient, "put", put)
        with pytest.raises(LinkDown, match="it broke"):
            await place.put()
    sent_bytes = place.flows.object_bytes
    assert sent_bytes < SIZE
    assert await place.put()
    assert place.flows.object_bytes == SIZE
    assert place.far.path(DIGEST).read_bytes() == DATA


async def test_damage_is_told_before_a_link_that_is_down(place: Place) -> None:
    place.path.write_bytes(DATA[:-1] + b"\0" if DATA[-1:] != b"\0" else DATA[:-1] + b"\1")
    with pytest.raises(PeerRefused) as caught:
        await place.put()
    assert caught.value.code == "DATA_LOSS"
    assert not place.far.has(DIGEST)


async def test_a_call_that_begins_when_another_has_just_brought_the_rest_finds_the_object_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = LinkClient(place.address, "sender", PACE)
    missing = await client.missing([(DIGEST, SIZE)])
    place.far.put(DATA)
    real, looks = place.far.has, []

    def has(digest: str) -> bool:
        looks.append(digest)
        return len(looks) > 1 and real(digest)

    monkeypatch.setattr(place.far, "has", has)
    assert await client.put(DIGEST, SIZE, place.path, 10.0, missing[DIGEST])
    assert place.far.parts() == [] and place.receiver.refusals == []
    await client.close()


async def test_an_empty_object_goes_over_one_connection(place: Place) -> None:
    place.path.write_bytes(b"")
    digest = hashlib.sha256(b"").hexdigest()
    missing = await place.flows.missing([(digest, 0)])
    assert await place.flows.put(digest, 0, place.path, 10.0, missing[digest])
    assert place.far.has(digest)


async def test_closing_ends_an_object_on_its_way(place: Place) -> None:
    begun = asyncio.Event()

    def room(in_air_bytes: int) -> int:
        begun.set()
        return 1000

    sending = asyncio.ensure_future(place.put(room))
    await begun.wait()
    await place.flows.close()
    with pytest.raises(LinkDown) as ended:
        await sending
    assert "no sign of the peer" not in str(ended.value), "which would be after all of its patience"
    with pytest.raises(LinkDown):
        await place.flows.deliver(link_pb2.Letter(source="sender"), 1.0)
