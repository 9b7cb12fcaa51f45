"""An operator's file on its way into a node's custody, while it runs and while it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.core import Core
from orbitrain.learning.outcome import JobResult
from orbitrain.machine import NEVER_NS, CommandReceived, Fate, Lane, Undelivered
from orbitrain.protocols.bundles import COMMAND, ROLE, Custodian, Order, OrderError, bundles_held
from orbitrain.routes import PlanRoutes
from orbitrain.runtime.clock import SECOND_NS, Anchor, Clock, unix_ns
from orbitrain.runtime.contacts import Times
from orbitrain.runtime.driver import Driver
from orbitrain.runtime.plans import PlanShelf
from orbitrain.runtime.sending import FileDesk, check_destination, order_from, queue_at_rest
from orbitrain.runtime.telemetry import Telemetry
from orbitrain.step import Arrival
from orbitrain.transport.rpc import Refusal
from orbitrain.transport.store import BlobStore, Journal
from orbitrain.transport.store.errors import StorageFull
from orbitrain.v1 import operator_pb2 as wire

SAMPLES = (Sample(0, 1_000_000, 8_000_000, 0.0, 1.0),)
PLAN = ContactPlan(
    1,
    "ab" * 32,
    "2026-01-01T00:00:00Z",
    10**6 * SECOND_NS,
    tuple(PlanNode(name, "satellite") for name in ("home", "relay", "far")),
    tuple(
        Contact(*ends, "service", 0, 10**6 * SECOND_NS, SAMPLES)
        for ends in (("home", "relay"), ("relay", "home"), ("relay", "far"), ("far", "relay"))
    ),
)


class NoJobs:
    async def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        raise AssertionError(kind)


def custodian() -> Custodian:
    return Custodian("home", PlanRoutes(PLAN, "home", 0, 0))


def asked(**changes: Any) -> wire.SendOrder:
    values = {
        "destination": "far",
        "name": "photo.jpg",
        "lane": 3,
        "expires_in_ns": 3600 * SECOND_NS,
        "token": "t",
        **changes,
    }
    return wire.SendOrder(**values)


@dataclass
class Desk:
    driver: Driver
    journal: Journal
    blobs: BlobStore
    files: FileDesk

    def file(self, data: bytes) -> Path:
        path = self.blobs.scratch / "file-1"
        path.write_bytes(data)
        return path

    def held(self) -> list[str]:
        """Names of what is in custody, as it stands on disk."""
        kept = self.journal.load().snapshots.get(ROLE)
        return [] if kept is None else [one.bundle.name for one in bundles_held(kept.state)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A node that runs, alone."""
    journal, blobs = Journal(tmp_path / "journal", "normal"), BlobStore(tmp_path / "blobs")
    with ThreadPoolExecutor(1) as disk:
        driver = Driver(
            Core("home", {ROLE: custodian()}, journal.load(), blobs.size),
            PlanShelf(tmp_path / "plans", PLAN, 0),
            Clock(Anchor(unix_ns(), 0, 1.0)),
            (journal, blobs),
            NoJobs(),
            Telemetry("home"),
            disk,
        )
        running = asyncio.create_task(driver.run({}, Times(SECOND_NS, SECOND_NS), (), 0))
        yield Desk(driver, journal, blobs, FileDesk(driver))
        driver.drain()
        await running
    blobs.close()
    journal.close()


# ------------------------------------------------------------------------------------------ while it runs


async def test_what_is_answered_is_committed(desk: Desk) -> None:
    reply = await desk.files.take(asked(), desk.file(b"abc"))
    assert reply.bundle.startswith("home:")
    assert desk.held() == ["photo.jpg"]
    (letter,) = desk.journal.load().letters
    assert (letter.destination, letter.objects[0][1]) == ("relay", 3)
    assert list(desk.blobs.scratch.iterdir()) == []


async def test_an_order_that_is_repeated_is_taken_once_and_answered_twice(desk: Desk) -> None:
    for _ in range(2):
        reply = await desk.files.take(asked(), desk.file(b"abc"))
        assert (reply.bundle != "", reply.refused) == (True, "")
    assert desk.held() == ["photo.jpg"]


async def test_orders_that_come_at_once_have_each_its_own_answer(desk: Desk) -> None:
    digest = desk.blobs.put(b"abc")

    def command(name: str) -> CommandReceived:
        arguments = {**Order("far", name, Lane.BULK).arguments(), "bytes": 3, "token": name}
        return CommandReceived(COMMAND, arguments, (digest,))

    wrong = CommandReceived(COMMAND, {}, (digest,))
    found = await asyncio.gather(
        *(desk.driver.command(ROLE, each) for each in (command("one"), wrong, command("two")))
    )
    assert [events[0].kind for events in found] == ["bundle_queued", "bundle_refused", "bundle_queued"]
    assert [events[0].fields.get("name") for events in found] == ["one", None, "two"]


def test_what_becomes_of_another_bundle_in_that_step_is_no_answer(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", "normal") as journal:
        core = Core("home", {ROLE: custodian()}, journal.load(), lambda digest: 3)
        arguments = {**Order("far", "one", Lane.BULK).arguments(), "bytes": 3}
        command = CommandReceived(COMMAND, arguments, ("ab" * 32,))
        (letter,) = core.step([Arrival(1, "", 0, 1, ROLE, command)], 1).letters.values()
        refused = Undelivered(letter.key, Fate.REFUSED, "full")
        step = core.step(
            [
                Arrival(1, "", 0, 1, ROLE, refused, settles=letter.identity),
                Arrival(2, "", 0, 2, ROLE, replace(command, arguments={**arguments, "name": "two"})),
            ],
            2,
        )
        assert next(event.kind for event in step.events if event.role == ROLE) == "bundle_refused"
        assert [event.fields["name"] for event in step.answers[2]] == ["two", "two"]


REFUSED = [
    (asked(destination="moon"), r"^destination: 'moon' is not a node of the plan$"),
    (asked(destination="home"), r"^destination: must be another node than home$"),
    (asked(destination=""), r"^destination: '' is not the name of a node$"),
    (asked(name="../x"), r"^name: must be printable, without slashes$"),
    (asked(lane=0), r"^priority: must be expedited, normal, bulk, not lane 0$"),
    (asked(expires_in_ns=0), r"^expires: must be more than 0 s, not 0 ns$"),
    (asked(expires_in_ns=-5), r"^expires: must be more than 0 s, not -5 ns$"),
    (asked(token="t" * 65), r"^token: must have at most 64 characters$"),
]


@pytest.mark.parametrize(("order", "why"), REFUSED, ids=[why for _, why in REFUSED])
async def test_an_order_that_cannot_be_taken_is_refused_before_the_file_and_after(
    desk: Desk, order: wire.SendOrder, why: str
) -> None:
    with pytest.raises(Refusal, match=why):
        desk.files.admit(order, 3)
    with pytest.raises(Refusal, match=why):
        await desk.files.take(order, desk.file(b"abc"))
    assert (desk.held(), desk.blobs.digests()) == ([], set())


async def test_a_file_that_the_quota_has_no_room_for_is_refused_beforehand(desk: Desk) -> None:
    desk.blobs.quota_bytes = 2
    desk.files.admit(asked(), 2)
    with pytest.raises(StorageFull):
        desk.files.admit(asked(), 3)
    with pytest.raises(StorageFull):
        await desk.files.take(asked(), desk.file(b"abc"))
    assert desk.held() == []


async def test_a_node_that_is_ending_takes_nothing_more(desk: Desk) -> None:
    desk.driver.drain()
    with pytest.raises(Refusal, match="it is ending"):
        desk.files.admit(asked(), 3)
    with pytest.raises(Refusal, match="it is ending"):
        await desk.files.take(asked(), desk.file(b"abc"))
    assert desk.held() == []


def test_an_expiry_is_counted_from_when_the_node_has_it_and_may_be_never() -> None:
    assert order_from(asked(expires_in_ns=5), 100) == Order("far", "photo.jpg", Lane.UPDATE, 105)
    for forever in (NEVER_NS, NEVER_NS - 50):
        assert order_from(asked(expires_in_ns=forever), 100).expires_at_ns == NEVER_NS
    with pytest.raises(OrderError, match="is not a node of the plan"):
        check_destination(order_from(asked(destination="x" * 64), 0), PLAN, "home")
    with pytest.raises(OrderError, match=f"^destination: '{'x' * 64}' is not the name of a node$"):
        order_from(asked(destination="x" * 500), 0)


# ------------------------------------------------------------------------------------------ while it does not


class Still:
    """A node's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "mine.jpg"
        self.source.write_bytes(b"abc")

    def queue(self, now_ns: int, quota_bytes: int = 1000, **changes: Any) -> wire.SendFileReply:
        order = asked(**changes)
        with Journal(self.folder / "state" / "journal", "normal") as journal:
            blobs = BlobStore(self.folder / "state" / "blobs", quota_bytes)
            try:
                taken = order_from(order, now_ns)
                stores = (journal, blobs)
                return queue_at_rest(custodian(), "home", stores, self.source, order, taken, now_ns)
            finally:
                assert list(blobs.scratch.iterdir()) == []
                blobs.close()

    def names(self) -> list[str]:
        with Journal(self.folder / "state" / "journal", "normal") as journal:
            kept = journal.load().snapshots.get(ROLE)
            return [] if kept is None else [one.bundle.name for one in bundles_held(kept.state)]


def test_a_folder_of_a_node_that_never_ran_takes_a_file(tmp_path: Path) -> None:
    still = Still(tmp_path)
    assert still.queue(7).bundle.startswith("home:7:1:")
    assert still.queue(8, name="later", token="u").bundle.startswith("home:8:2:")
    assert still.queue(9, name="again", token="u").bundle == "order u"
    assert still.names() == ["photo.jpg", "later"]
    assert still.source.read_bytes() == b"abc"
    with Journal(tmp_path / "state" / "journal", "normal") as journal:
        durable = journal.load()
    assert (durable.committed_ns, [one.destination for one in durable.letters]) == (9, ["relay", "relay"])


def test_what_has_no_room_in_the_folder_is_not_queued(tmp_path: Path) -> None:
    still = Still(tmp_path)
    with pytest.raises(StorageFull):
        still.queue(7, quota_bytes=2)
    assert still.names() == []
    still.source.unlink()
    with pytest.raises(FileNotFoundError):
        still.queue(7)
    assert still.names() == []


async def test_what_was_queued_at_rest_goes_on_when_the_node_runs(tmp_path: Path) -> None:
    Still(tmp_path).queue(7)
    with Journal(tmp_path / "state" / "journal", "normal") as journal:
        core = Core("home", {ROLE: custodian()}, journal.load(), lambda digest: 3)
        assert [letter.destination for letter in core.outbox] == ["relay"]
        assert core.needed() == {letter.objects[0][0] for letter in core.outbox}
