from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from orbitrain.transport.bus import HIGH_WATER_MESSAGES, MESSAGE_BYTES_MAX, Publisher, Subscriber


@pytest.fixture(params=["ipc", "tcp"])
async def subscriber(request: pytest.FixtureRequest) -> AsyncIterator[Subscriber]:
    with tempfile.TemporaryDirectory(prefix="ot") as folder:
        made = Subscriber(f"ipc://{folder}/bus" if request.param == "ipc" else "tcp://127.0.0.1:*")
        yield made
        made.close()


@pytest.fixture
def raw(subscriber: Subscriber) -> Iterator[zmq.Socket[bytes]]:
    """A publisher without manners, known to be connected: it waits for the subscription."""
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 30_000)
    socket.connect(subscriber.endpoint)
    yield socket
    socket.close()
    context.term()


async def first_of(
    arrival: asyncio.Future[Any], publisher: Publisher, kind: str, fields: dict[str, Any]
) -> Any:
    """Publish until something arrives: what is sent before the connection stands is lost, by design."""
    while not arrival.done():
        publisher.publish(kind, fields)
        await asyncio.wait([arrival], timeout=0.01)
    return arrival.result()


async def test_telemetry_reaches_the_display(subscriber: Subscriber) -> None:
    publisher = Publisher(subscriber.endpoint)
    fields = {"node": "sat-1", "battery": 0.5, "text": "naïve"}
    arrival = asyncio.ensure_future(subscriber.receive())
    assert await first_of(arrival, publisher, "node.state", fields) == ("node.state", fields)
    publisher.close()


def test_publishing_to_nobody_neither_waits_nor_fails(tmp_path: Path) -> None:
    publisher = Publisher("ipc:///tmp/ot-nobody-listens")
    for n in range(3 * HIGH_WATER_MESSAGES):
        publisher.publish("tick", {"n": n})
    publisher.publish("big", {"text": "x" * MESSAGE_BYTES_MAX})
    assert publisher.dropped == 1
    with pytest.raises(ValueError, match="not a kind"):
        publisher.publish("two words", {})
    publisher.close()


async def test_malformed_messages_are_skipped_and_counted(
    subscriber: Subscriber, raw: zmq.Socket[bytes]
) -> None:
    # A subscriber subscribes when it receives.
    arrival = asyncio.ensure_future(subscriber.receive())
    await asyncio.to_thread(raw.recv)
    bad = [
        [b"alone"],
        [b"three", b"{}", b"{}"],
        [b"k", b"not json"],
        [b"k", b"[1]"],
        [b"k", b"[" * 60_000],
        [b"k", b'{"n": ' + b"9" * 50_000 + b"}"],
        [b"k", b"\xff\xfe"],
        [b"\xff", b"{}"],
        [b"a b", b"{}"],
    ]
    for frames in (*bad, [b"good", b'{"n": 1}']):
        raw.send_multipart(frames)
    assert await arrival == ("good", {"n": 1})
    assert subscriber.malformed == len(bad)


async def test_an_oversized_message_is_not_received(subscriber: Subscriber, raw: zmq.Socket[bytes]) -> None:
    arrival = asyncio.ensure_future(subscriber.receive())
    await asyncio.to_thread(raw.recv)
    raw.send_multipart([b"k", b'{"text": "' + b"x" * MESSAGE_BYTES_MAX + b'"}'])
    publisher = Publisher(subscriber.endpoint)
    assert await first_of(arrival, publisher, "tick", {"n": 2}) == ("tick", {"n": 2})
    publisher.close()


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://192.0.2.1:5", "ipc://" + "/x" * 60, "ipc://", "udp://x"],
)
async def test_an_endpoint_that_is_not_of_this_host_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError):
        Publisher(endpoint)
    with pytest.raises(ValueError):
        Subscriber(endpoint)


async def test_an_endpoint_is_bound_once() -> None:
    first = Subscriber("tcp://127.0.0.1:*")
    with pytest.raises(OSError, match=first.endpoint):
        Subscriber(first.endpoint)
    first.close()
