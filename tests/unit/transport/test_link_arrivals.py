"""Calls that do not wait for one another's answers: an object before its offer is known, a letter before the
last bytes of its objects."""

from __future__ import annotations

import asyncio
import os

import pytest

from orbitrain.transport.objects import Pace
from orbitrain.transport.rpc import LinkClient, PeerRefused
from orbitrain.v1 import link_pb2
from tests.unit.transport.links import World, sha256

DATA = os.urandom(300_000)
DIGEST = sha256(DATA)


def a_letter(*digests: str) -> link_pb2.Letter:
    names = [link_pb2.ObjectName(digest=digest, size=len(DATA)) for digest in digests or (DIGEST,)]
    return link_pb2.Letter(source="sender", sequence=1, objects=names)


async def test_a_letter_that_overtakes_the_last_bytes_of_its_object_waits_for_them(world: World) -> None:
    path = world.near.path(world.near.put(DATA))
    await world.client.missing([(DIGEST, len(DATA))])
    free, asked = asyncio.Event(), asyncio.Event()
    waits = iter([False, True])

    def room(in_air_bytes: int) -> int:
        if next(waits, False) and not free.is_set():
            asked.set()
            return 0
        return 100_000

    assert not await world.client.put(DIGEST, len(DATA), path, 10, None, room)
    handed = asyncio.create_task(world.client.deliver(a_letter(), 10))
    await asked.wait()
    gaps = (await world.client.missing([(DIGEST, len(DATA))]))[DIGEST]
    assert not handed.done() and world.receiver.letters == []
    assert await world.client.put(DIGEST, len(DATA), path, 10, gaps)
    assert (await handed).outcome == link_pb2.OUTCOME_DELIVERED
    assert world.receiver.letters == [a_letter()]
    assert world.receiver.refusals == []


async def test_a_sender_hears_when_all_has_gone_and_can_hand_the_letter_over_then(world: World) -> None:
    path = world.near.path(world.near.put(DATA))
    await world.client.missing([(DIGEST, len(DATA))])
    handed = list[asyncio.Task[link_pb2.Receipt]]()

    def sent() -> None:
        handed.append(asyncio.create_task(world.client.deliver(a_letter(), 10)))

    assert await world.client.put(DIGEST, len(DATA), path, 10, None, None, sent)
    (one,) = handed
    assert (await one).outcome == link_pb2.OUTCOME_DELIVERED
    assert world.receiver.refusals == []


async def test_a_letter_is_refused_once_the_call_that_brought_its_object_ends_without_it(
    world: World,
) -> None:
    path = world.near.path(world.near.put(DATA))
    await world.client.missing([(DIGEST, len(DATA))])
    handed = list[asyncio.Task[link_pb2.Receipt]]()
    rooms = iter([100_000])

    def room(in_air_bytes: int) -> int:
        if not handed:
            handed.append(asyncio.create_task(world.client.deliver(a_letter(), 10)))
        return next(rooms, 0)

    assert not await world.client.put(DIGEST, len(DATA), path, 10, None, room)
    again = asyncio.create_task(world.client.put(DIGEST, len(DATA), path, 10, [(100_000, 200_000)]))
    with pytest.raises(PeerRefused, match="missing objects: 1 of 1"):
        await handed[0]
    assert not await again


async def test_an_object_may_come_before_its_offer_is_taken_in(world: World) -> None:
    path = world.near.path(world.near.put(DATA))
    put = asyncio.create_task(world.client.put(DIGEST, len(DATA), path, 10))
    await asyncio.sleep(0)
    await world.client.missing([(DIGEST, len(DATA))])
    assert await put
    assert world.far.has(DIGEST)
    assert world.receiver.refusals == []


async def test_an_object_that_is_never_offered_is_refused(world: World) -> None:
    path = world.near.path(world.near.put(DATA))
    with pytest.raises(PeerRefused, match="was not offered"):
        await world.client.put(DIGEST, len(DATA), path, 10)


async def test_what_one_object_has_in_the_air_takes_its_place_in_the_window_of_the_next(world: World) -> None:
    client = LinkClient(world.client.address, "sender", Pace(100_000, 200_000))
    other = os.urandom(300_000)
    seen = list[int]()

    def room(in_air_bytes: int) -> int:
        seen.append(client.in_air_bytes)
        return 100_000

    puts = []
    for data in (DATA, other):
        path = world.near.path(world.near.put(data))
        await client.missing([(sha256(data), len(data))])
        puts.append(client.put(sha256(data), len(data), path, 10, None, room))
    assert await asyncio.gather(*puts) == [True, True]
    assert max(seen) <= 200_000 and client.in_air_bytes == 0
    await client.close()
