"""Many small files at once: what a daemon's letters cost in calls, each of which is a round trip."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from orbitrain.machine import Digest
from orbitrain.send_command import send_command
from orbitrain.transport.expected import Expected
from orbitrain.transport.rpc import LinkServer, Refusal
from orbitrain.transport.store import BlobStore
from orbitrain.v1 import link_pb2 as wire
from tests.e2e.depot import Depot
from tests.e2e.lab import Lab, wait_until

FILES = 200


class CountingStore(BlobStore):
    """Counts the offers that it hears of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.calls: Counter[str] = Counter()

    def expect(self, letter: Expected, digests: Iterable[Digest], oldest: int = 0) -> None:
        self.calls["Offer"] += 1
        super().expect(letter, digests, oldest)


class Counting:
    """A peer that takes everything, and counts the calls that bring letters."""

    def __init__(self, calls: Counter[str], store: BlobStore) -> None:
        self.calls, self._store = calls, store
        self.taken: list[int] = []
        self.unwanted: set[int] = set()
        self.alone = 0
        """Of calls that hand over several letters, so many are refused."""

    async def ping(self, request: wire.PingRequest) -> wire.PingReply:
        return wire.PingReply(node="bird", incarnation="bird's", now_ns=request.now_ns)

    async def deliver(self, letter: wire.Letter) -> wire.Receipt:
        self.calls["Deliver"] += 1
        return self._take(letter)

    async def hand(self, letters: Sequence[wire.Letter]) -> list[wire.Receipt]:
        self.calls["Hand"] += 1
        if self.calls["Hand"] <= self.alone:
            raise Refusal("one at a time")
        receipts: list[wire.Receipt] = []
        for letter in letters:
            receipts.append(self._take(letter))
            if letter.sequence in self.unwanted:
                break
        return receipts

    def _take(self, letter: wire.Letter) -> wire.Receipt:
        assert all(self._store.has(name.digest) for name in letter.objects)
        self.taken.append(letter.sequence)
        if letter.sequence in self.unwanted:
            return wire.Receipt(outcome=wire.OUTCOME_REFUSED, reason="unwanted", incarnation="bird's")
        return wire.Receipt(outcome=wire.OUTCOME_DELIVERED, incarnation="bird's")

    def settles(self, letter: wire.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        assert reason == "one at a time"


def queue_files(depot: Depot, folder: Path, count: int) -> None:
    for n in range(count):
        file = folder / f"{n}.dat"
        file.write_bytes(b"%d " % n * 100)
        send_command(file, "bird", depot.file("farm"), "normal", None, None)


async def serve(depot: Depot, store: CountingStore, peer: Counting, count: int) -> None:
    """Serve the daemon until so many letters have been delivered."""
    server = LinkServer(depot.addresses["bird"], store, peer, ["farm"])
    await server.start()
    try:
        await asyncio.to_thread(depot.start, "farm")
        await asyncio.to_thread(
            wait_until, "all is sent", lambda: len(depot.told("farm", "letter_delivered")) >= count
        )
    finally:
        await asyncio.to_thread(depot.stop)
        await server.stop(0)


@pytest.fixture
def depot(lab: Lab) -> Depot:
    return Depot(lab, {"farm": "device", "bird": "satellite"}, {"farm": ["bird"], "bird": ["farm"]})


@pytest.fixture
def store(lab: Lab) -> Iterator[CountingStore]:
    store = CountingStore(lab.folder / "far")
    yield store
    store.close()


def test_two_hundred_small_files_share_their_round_trips(depot: Depot, store: CountingStore) -> None:
    queue_files(depot, depot.lab.folder, FILES)
    peer = Counting(store.calls, store)
    asyncio.run(serve(depot, store, peer, FILES))
    assert peer.taken == list(range(1, FILES + 1))
    assert store.calls["Hand"] and sum(store.calls.values()) <= FILES / 5


def test_a_letter_refused_among_others_ends_alone_and_those_behind_it_go_on(
    depot: Depot, store: CountingStore
) -> None:
    queue_files(depot, depot.lab.folder, 12)
    peer = Counting(store.calls, store)
    peer.unwanted, peer.alone = {5}, 1
    asyncio.run(serve(depot, store, peer, 11))
    assert peer.taken == list(range(1, 13))
    assert [fields["fate"] for fields in depot.told("farm", "letter_undelivered")] == ["refused"]
    assert store.calls["Deliver"] == 1  # the first, as the call with all of them was refused
    assert store.calls["Hand"] == 3
