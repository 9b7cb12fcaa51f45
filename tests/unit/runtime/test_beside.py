"""Which letters go over real links side by side, and which wait for each other. The peer is a stand-in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.machine import NEVER_NS, Lane
from orbitrain.mailbox import Letter, Outbox
from orbitrain.runtime.outlook import Outlook, RealLinks
from orbitrain.runtime.peer import Peer
from orbitrain.runtime.transfers import Transfers
from orbitrain.transport.objects import Pace
from orbitrain.v1 import link_pb2 as wire

S = 1_000_000_000
KIB = 1024


class FarEnd:
    """Answers what it is allowed to; objects have gone once `gone` is set."""

    count, in_air_bytes, object_bytes, bytes_moved = 1, 0, 0, (0, 0)

    def __init__(self) -> None:
        self.pace = Pace(64 * KIB, 128 * KIB)
        self.gone, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.log: list[str] = []
        """`put`: its bytes begin; a letter's number in its mailbox: it was handed over."""

    async def missing(self, objects: Any, timeout_s: float, parcel: Any) -> dict[str, list[tuple[int, int]]]:
        return {digest: [(0, size)] for digest, size in objects}

    async def put(self, digest: str, size: int, *rest: Any) -> bool:
        self.log.append(f"put {digest}")
        await self.gone.wait()
        rest[-1]()
        await self.answers.wait()
        return True

    async def deliver(self, letter: wire.Letter, timeout_s: float) -> wire.Receipt:
        self.log.append(f"{Lane(letter.lane).name.lower()} {letter.sequence}")
        await self.answers.wait()
        return wire.Receipt(outcome=wire.OUTCOME_DELIVERED, incarnation="y")

    async def hand(self, letters: list[wire.Letter], timeout_s: float) -> list[wire.Receipt]:
        return [await self.deliver(letter, timeout_s) for letter in letters]

    async def close(self) -> None:
        return None


class Node:
    """A driver whose steps take no time."""

    latest_ns, draining, committing = S, False, False

    def __init__(self) -> None:
        samples = (Sample(0, 10_000_000, 4_000_000, 0.0, 1.0),)
        contacts = tuple(Contact(*ends, "service", 0, 900 * S, samples) for ends in (("a", "b"), ("b", "a")))
        nodes = (PlanNode("a", "device"), PlanNode("b", "satellite"))
        self.plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 900 * S, nodes, contacts)
        self.core = SimpleNamespace(node="a", incarnation="x", outbox=Outbox())
        self.clock = SimpleNamespace(now_ns=lambda: S, rate=1.0)
        self.blobs = SimpleNamespace(path=Path)
        self.lacking: dict[tuple[str, str], int] = {}
        self.notes: list[str] = []
        driver: Any = self
        outlook = Outlook(driver, RealLinks(), 0)
        self.transfers = Transfers(driver, outlook, 0, lambda peer, incarnation: None)
        self.far = FarEnd()
        client: Any = self.far
        self.here = Peer("b", "address", client, client, "y", None, 0, 0, met=True)

    def told(self, peer: str) -> bool:
        return True

    def spawn(self, work: Any) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    def note(self, kind: str, severity: Any, fields: Any) -> None:
        self.notes.append(kind)

    def wake(self) -> None:
        raise AssertionError("a letter does not fit")

    def take(self, arrival: Any) -> None:
        self.core.outbox.remove(arrival.settles)

    def post(self, lane: Lane, *sizes: int) -> Letter:
        """A letter with an object of each size."""
        sequence = self.core.outbox.next_sequence("b", "r", int(lane))
        objects = tuple((f"{lane.name.lower()}-{sequence}-{n}", size) for n, size in enumerate(sizes))
        key = f"{lane.name}/{sequence}"
        letter = Letter("r", key, "b", "r", int(lane), sequence, "K", b"", objects, NEVER_NS)
        self.core.outbox.post(letter)
        self.transfers.pump(self.here)
        return letter

    async def turn(self) -> list[str]:
        for _ in range(400):
            await asyncio.sleep(0)
        return self.far.log


async def test_a_letter_without_objects_is_handed_over_beside_objects_on_their_way() -> None:
    node = Node()
    node.post(Lane.BULK, 400 * KIB)
    assert await node.turn() == ["put bulk-1-0"]
    node.post(Lane.CONTROL)
    assert await node.turn() == ["put bulk-1-0", "control 1"]
    assert node.here.air is not None and not node.here.landing
    node.far.gone.set()
    assert await node.turn() == ["put bulk-1-0", "control 1", "bulk 1"]
    assert len(node.core.outbox) == 0 and not node.notes


async def test_it_goes_while_a_letter_of_another_mailbox_is_landing() -> None:
    node = Node()
    node.far.gone.set()
    node.far.answers.clear()
    node.post(Lane.BULK, 400 * KIB)
    assert await node.turn() == ["put bulk-1-0", "bulk 1"]
    node.post(Lane.CONTROL)
    assert (await node.turn())[2:] == ["control 1"]
    assert len(node.here.landing) == 2


async def test_letters_of_a_mailbox_wait_for_the_answer_to_those_before_them() -> None:
    node = Node()
    node.far.answers.clear()
    node.post(Lane.CONTROL)
    await node.turn()
    node.post(Lane.CONTROL)
    node.post(Lane.CONTROL, 400 * KIB)
    node.far.gone.set()
    assert await node.turn() == ["control 1"]
    node.far.answers.set()
    assert await node.turn() == ["control 1", "control 2", "put control-3-0", "control 3"]


async def test_behind_one_that_is_landing_a_letter_without_objects_waits_and_objects_do_not() -> None:
    node = Node()
    node.far.gone.set()
    node.far.answers.clear()
    node.post(Lane.UPDATE, 400 * KIB)
    await node.turn()
    node.post(Lane.UPDATE)
    node.post(Lane.BULK, 400 * KIB)
    assert await node.turn() == ["put update-1-0", "update 1", "put bulk-1-0", "bulk 1"]
    node.far.answers.set()
    assert (await node.turn())[4:] == ["update 2"]
    assert len(node.core.outbox) == 0


async def test_one_that_is_withdrawn_before_it_goes_is_not_handed_over() -> None:
    node = Node()
    letter = node.post(Lane.CONTROL)
    node.core.outbox.remove(letter.identity)
    assert await node.turn() == []
    assert not node.here.landing


async def test_small_letters_go_together_up_to_what_a_round_trip_carries() -> None:
    """40 ms at 4 Mbit/s are less than a smallest chunk."""
    node = Node()
    turns = node.transfers._turns
    node.here.met = False
    for size in (20, 20, 20, 20):
        node.post(Lane.UPDATE, size * KIB)
    for _ in range(2):
        node.post(Lane.BULK, 60 * KIB)
    update, bulk = node.core.outbox.heads("b")
    assert [one.sequence for one in turns.together(node.here, update)] == [1, 2, 3]
    assert [one.sequence for one in turns.together(node.here, bulk)] == [1]


async def test_a_letter_without_objects_takes_along_only_such() -> None:
    node = Node()
    node.here.met = False
    node.post(Lane.UPDATE)
    node.post(Lane.UPDATE)
    node.post(Lane.UPDATE, KIB)
    (together,) = node.transfers._turns.plain(node.here)
    assert [one.sequence for one in together] == [1, 2]


async def test_what_is_under_way_to_a_peer_ends_with_it() -> None:
    node = Node()
    node.post(Lane.BULK, 400 * KIB)
    node.far.answers.clear()
    node.post(Lane.CONTROL)
    await node.here.cut()  # the flights have not begun
    assert node.here.air is None and not node.here.landing
    node.post(Lane.UPDATE)
    await node.turn()
    await node.here.cut()
    assert node.here.air is None and not node.here.landing
    assert len(node.core.outbox) == 3
