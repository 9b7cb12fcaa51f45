from __future__ import annotations

import asyncio
import filecmp
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from netem.replay import Cue
from orbitrain.transport.bus import (
    BROADCAST_HIGH_WATER_MESSAGES,
    HIGH_WATER_MESSAGES,
    MESSAGE_BYTES_MAX,
    Broadcaster,
    Publisher,
    Subscriber,
)


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
    publishing = context.socket(zmq.XPUB)
    publishing.setsockopt(zmq.LINGER, 0)
    publishing.setsockopt(zmq.RCVTIMEO, 30_000)
    publishing.connect(subscriber.endpoint)
    yield publishing
    publishing.close()
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
    [
        *("tcp://0.0.0.0:1", "tcp://*:1", "tcp://192.0.2.1:5", "tcp://127.0.0.1:65536"),
        *("ipc://" + "/x" * 60, "ipc://", "udp://x"),
    ],
)
async def test_an_endpoint_that_is_not_of_this_host_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError):
        Publisher(endpoint)
    with pytest.raises(ValueError):
        Broadcaster(endpoint)
    with pytest.raises(ValueError):
        Subscriber(endpoint)
    with pytest.raises(ValueError):
        Subscriber(endpoint, binds=False)


async def test_who_connects_must_name_a_port() -> None:
    with pytest.raises(ValueError, match="a port must be named"):
        Publisher("tcp://127.0.0.1:*")
    with pytest.raises(ValueError, match="a port must be named"):
        Subscriber("tcp://127.0.0.1:*", binds=False)


async def test_an_endpoint_is_bound_once() -> None:
    first = Subscriber("tcp://127.0.0.1:*")
    with pytest.raises(OSError, match=first.endpoint):
        Subscriber(first.endpoint)
    first.close()


@pytest.mark.parametrize("kind", [Broadcaster, Subscriber])
async def test_binding_removes_no_file_and_takes_no_path_in_use(
    kind: type[Broadcaster] | type[Subscriber],
) -> None:
    with tempfile.TemporaryDirectory(prefix="ot") as folder:
        shutil.copy(__file__, f"{folder}/precious")
        with pytest.raises(FileExistsError, match="precious: File exists"):
            kind(f"ipc://{folder}/precious")
        assert filecmp.cmp(__file__, f"{folder}/precious", shallow=False)
        first = kind(f"ipc://{folder}/bus")
        with pytest.raises(OSError, match="bus: Address already in use"):
            kind(f"ipc://{folder}/bus")
        first.close()
        assert os.listdir(folder) == ["precious"]
        with pytest.raises(FileNotFoundError, match="none/bus: No such file"):
            kind(f"ipc://{folder}/none/bus")


def test_a_socket_that_a_killed_one_has_left_is_bound_again() -> None:
    with tempfile.TemporaryDirectory(prefix="ot") as folder:
        path = Path(folder, "bus")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        assert path.is_socket()
        broadcaster = Broadcaster(f"ipc://{path}")
        with outsider(broadcaster.endpoint) as listener:
            repeat_until_heard(broadcaster, listener)
        broadcaster.close()
        assert not path.exists()


# --- broadcasts ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["ipc", "tcp"])
def broadcaster(request: pytest.FixtureRequest) -> Iterator[Broadcaster]:
    with tempfile.TemporaryDirectory(prefix="ot") as folder:
        made = Broadcaster(f"ipc://{folder}/cues" if request.param == "ipc" else "tcp://127.0.0.1:*")
        yield made
        made.close()


@contextmanager
def outsider(endpoint: str, kind: bytes = b"") -> Iterator[zmq.Socket[bytes]]:
    """Any program that knows the message format and no more."""
    context = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.setsockopt(zmq.LINGER, 0)
    listener.setsockopt(zmq.RCVTIMEO, 30_000)
    listener.setsockopt(zmq.SUBSCRIBE, kind)
    listener.connect(endpoint)
    yield listener
    listener.close()
    context.term()


def heard(listener: zmq.Socket[bytes]) -> tuple[str, dict[str, Any]]:
    kind, data = listener.recv_multipart()
    return kind.decode(), json.loads(data)


def repeat_until_heard(broadcaster: Broadcaster, listener: zmq.Socket[bytes]) -> None:
    """Its subscription has arrived; what it has not read is all of it that was sent since."""
    broadcaster.publish("begin", (), {})
    while not listener.poll(10):
        broadcaster.repeat()
    while listener.poll(100):
        listener.recv_multipart()


def cue(source: str, destination: str, up: bool, t_ns: int, next_ns: int | None = None) -> Cue:
    return Cue((source, destination), up, t_ns, next_ns)


def tell(broadcaster: Broadcaster, one: Cue) -> None:
    broadcaster.publish("link", one.link, one.document())


def test_a_broadcaster_tells_the_port_that_was_free_and_needs_no_listener() -> None:
    broadcaster = Broadcaster("tcp://127.0.0.1:*")
    assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d+", broadcaster.endpoint)
    for n in range(3 * BROADCAST_HIGH_WATER_MESSAGES):
        broadcaster.publish("tick", (), {"n": n})
    with pytest.raises(OSError, match=broadcaster.endpoint):
        Broadcaster(broadcaster.endpoint)
    broadcaster.publish("big", (), {"text": "x" * MESSAGE_BYTES_MAX})
    assert broadcaster.dropped == 1
    with pytest.raises(ValueError, match="not a kind"):
        broadcaster.publish("two words", (), {})
    broadcaster.close()


def test_an_outsider_hears_each_cue_of_a_link(broadcaster: Broadcaster) -> None:
    with outsider(broadcaster.endpoint) as listener:
        repeat_until_heard(broadcaster, listener)
        tell(broadcaster, cue("sat-1", "quito", True, 7, 9))
        tell(broadcaster, cue("sat-1", "quito", False, 9))
        fields = {"source": "sat-1", "destination": "quito"}
        assert heard(listener) == ("link", {**fields, "up": True, "t_ns": 7, "next_ns": 9})
        assert heard(listener) == ("link", {**fields, "up": False, "t_ns": 9, "next_ns": None})


def test_one_that_joins_late_learns_how_each_link_is(broadcaster: Broadcaster) -> None:
    tell(broadcaster, cue("a", "b", True, 1, 5))
    tell(broadcaster, cue("b", "a", True, 2, 8))
    tell(broadcaster, cue("a", "b", False, 5, 20))
    with outsider(broadcaster.endpoint, b"link") as early, outsider(broadcaster.endpoint, b"link") as late:
        for listener in (early, late):
            while not listener.poll(10):
                broadcaster.repeat()
            found = [heard(listener)[1], heard(listener)[1]]
            assert sorted((one["source"], one["up"], one["t_ns"], one["next_ns"]) for one in found) == [
                ("a", False, 5, 20),
                ("b", True, 2, 8),
            ]


async def test_what_holds_is_repeated_in_time_for_a_subscriber_that_connects(
    broadcaster: Broadcaster,
) -> None:
    one = cue("a", "b", True, 1, 5)
    tell(broadcaster, one)
    subscriber = Subscriber(broadcaster.endpoint, binds=False)
    repeating = asyncio.create_task(broadcaster.keep_repeating())
    for _ in range(2):
        assert await asyncio.wait_for(subscriber.receive(), 30) == ("link", one.document())
    repeating.cancel()
    subscriber.close()


def test_a_listener_that_reads_nothing_holds_up_nobody(broadcaster: Broadcaster) -> None:
    with outsider(broadcaster.endpoint) as slow, outsider(broadcaster.endpoint) as other:
        for listener in (slow, other):
            repeat_until_heard(broadcaster, listener)
        count = 5 * BROADCAST_HIGH_WATER_MESSAGES
        for n in range(count):
            broadcaster.publish("tick", (), {"n": n, "text": "x" * 1000})
        while other.poll(1000) and heard(other)[1].get("n") != count - 1:
            pass
        # What it missed by then comes again.
        broadcaster.repeat()
        assert heard(other) == ("begin", {})
        assert heard(other)[1]["n"] == count - 1


def test_what_listeners_send_is_not_looked_at(broadcaster: Broadcaster) -> None:
    context = zmq.Context()
    strange = context.socket(zmq.XSUB)
    strange.setsockopt(zmq.LINGER, 0)
    strange.connect(broadcaster.endpoint)
    for data in (b"\x01", b"\x07nonsense", b"x" * 10_000, b"\x01" + b"y" * 1000):
        strange.send(data)
    with outsider(broadcaster.endpoint) as listener:
        repeat_until_heard(broadcaster, listener)
        tell(broadcaster, cue("a", "b", True, 1, 5))
        assert heard(listener)[1]["source"] == "a"
    strange.close()
    context.term()
