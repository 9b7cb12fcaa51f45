"""A node's shelf of plans, and the desk that takes updates: kept, in order, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orbitrain.contacts.compact import compact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.slices import slice_for
from orbitrain.contacts.updates import spliced
from orbitrain.machine import NEVER_NS
from orbitrain.runtime.clock import Anchor, Clock, unix_ns
from orbitrain.runtime.operator import OperatorDesk
from orbitrain.runtime.plans import WAITING_MAX, PlanRefused, PlanShelf
from orbitrain.transport.rpc import Refusal
from orbitrain.transport.store import Journal
from orbitrain.v1 import operator_pb2
from tests.trace.world import SECOND_NS, plan_of, ring

REGIONS = ring("home", devices=1)


def plan(*windows: tuple[int, int]) -> ContactPlan:
    return plan_of(REGIONS, {("sat", "home"): windows}, 100)


BASE = plan((10, 30))
FIRST = spliced(BASE, plan((50, 60)), 20 * SECOND_NS)
SECOND = spliced(FIRST, plan((70, 80)), 40 * SECOND_NS)


def put(shelf: PlanShelf, update: ContactPlan, at_s: int) -> None:
    """As the desk does it."""
    shelf.check(update)
    follow = shelf.examine(update)
    shelf.publish(shelf.draft(compact(update)), update, at_s * SECOND_NS)
    shelf.add(at_s * SECOND_NS, update, follow)


def shelf_at(folder: Path, committed_s: int = 0) -> PlanShelf:
    shelf = PlanShelf(folder, BASE, committed_s * SECOND_NS)
    shelf.open()
    return shelf


def test_updates_are_believed_from_their_instant_on(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path / "plans")
    put(shelf, FIRST, 20)
    put(shelf, SECOND, 40)
    assert (shelf.plan, shelf.newest, shelf.next_ns()) == (BASE, SECOND, 20 * SECOND_NS)
    assert shelf.take(20 * SECOND_NS - 1) == []
    assert shelf.take(20 * SECOND_NS) == [(20 * SECOND_NS, FIRST)]
    assert (shelf.plan, shelf.next_ns()) == (FIRST, 40 * SECOND_NS)
    assert shelf.take(90 * SECOND_NS) == [(40 * SECOND_NS, SECOND)]
    assert (shelf.plan, shelf.next_ns()) == (SECOND, NEVER_NS)


@pytest.mark.parametrize(
    ("committed_s", "believed", "waiting"),
    [(0, BASE, [FIRST, SECOND]), (19, BASE, [FIRST, SECOND]), (20, FIRST, [SECOND]), (40, SECOND, [])],
)
def test_after_a_restart_the_last_commit_says_which_updates_were_taken_up(
    tmp_path: Path, committed_s: int, believed: ContactPlan, waiting: list[ContactPlan]
) -> None:
    first = shelf_at(tmp_path / "plans")
    put(first, FIRST, 20)
    put(first, SECOND, 40)
    again = shelf_at(tmp_path / "plans", committed_s)
    assert (again.plan, again.newest) == (believed, SECOND)
    assert [one for _, one in again.take(99 * SECOND_NS)] == waiting


def test_a_damaged_or_foreign_file_is_left_out_with_a_remark_and_the_rest_counts(tmp_path: Path) -> None:
    first = shelf_at(tmp_path / "plans")
    put(first, FIRST, 20)
    put(first, SECOND, 40)
    damaged = min((tmp_path / "plans").glob("*.plan"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "plans" / "fresh").write_bytes(b"half a draf")
    (tmp_path / "plans" / "note.plan").write_bytes(b"somebody's")
    again = shelf_at(tmp_path / "plans", 60)
    assert again.plan == SECOND
    ((_, kind, fields),) = again.take_remarks()
    assert (kind, fields["revision"]) == ("plan_unusable", 1)
    assert damaged.name in str(fields["reason"])


def test_an_update_with_an_earlier_instant_overtakes_the_one_before_it(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path / "plans")
    put(shelf, FIRST, 20)
    put(shelf, SECOND, 15)
    assert [one for _, one in shelf.take(30 * SECOND_NS)] == [SECOND]
    again = shelf_at(tmp_path / "plans", 16)
    assert again.plan == SECOND
    assert again.take(30 * SECOND_NS) == []


def test_what_is_older_than_the_plan_believed_does_not_stay_on_the_disk(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path / "plans")
    put(shelf, FIRST, 20)
    put(shelf, SECOND, 40)
    shelf.take(50 * SECOND_NS)
    put(shelf, spliced(SECOND, plan((80, 90)), 60 * SECOND_NS), 60)
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2


def test_there_is_a_bound_on_updates_that_wait(tmp_path: Path) -> None:
    shelf, newest = shelf_at(tmp_path / "plans"), BASE
    for n in range(WAITING_MAX + 1):
        newest = replace(newest, revision=n + 1)
        if n < WAITING_MAX:
            put(shelf, newest, 20 + n)
    with pytest.raises(PlanRefused, match=f"{WAITING_MAX} updates wait already"):
        shelf.check(newest)


def test_a_node_refuses_an_update_that_its_machines_cannot_go_on_with(tmp_path: Path) -> None:
    def wary(update: ContactPlan) -> None:
        raise ValueError("'home-0' is not a node of the plan")

    shelf = PlanShelf(tmp_path / "plans", BASE, 0)
    shelf.ask(wary)  # type: ignore[arg-type]
    shelf.open()
    with pytest.raises(PlanRefused, match="'home-0' is not a node of the plan"):
        shelf.examine(FIRST)


# ------------------------------------------------------------------------------------------------ desk


async def at_once(work: object, *arguments: object) -> None:
    raise AssertionError("no journal here")


@pytest.fixture
def shelf(tmp_path: Path) -> PlanShelf:
    return shelf_at(tmp_path / "plans", 5)


@pytest.fixture
def desk(tmp_path: Path, shelf: PlanShelf) -> OperatorDesk:
    return OperatorDesk("sat", Journal(tmp_path / "journal", "normal"), at_once, shelf)


async def test_an_update_is_on_the_disk_before_it_is_answered(
    tmp_path: Path, desk: OperatorDesk, shelf: PlanShelf
) -> None:
    for data in (compact(FIRST), SECOND.to_json()):
        reply = await desk.update_plan(40 * SECOND_NS, data)
        assert (reply.accepted, reply.at_ns) == (True, 40 * SECOND_NS)
    assert (reply.revision, reply.sha256) == (2, SECOND.sha256)
    assert shelf_at(tmp_path / "plans", 50).plan == SECOND
    assert shelf.take_remarks() == []


async def test_an_update_that_does_not_follow_is_refused_in_one_line(
    desk: OperatorDesk, shelf: PlanShelf
) -> None:
    assert (await desk.update_plan(40 * SECOND_NS, compact(FIRST))).accepted
    for offered, why in [
        (FIRST, "it is the plan in use, revision 1"),
        (BASE, "revision 0 is older than 1"),
        (replace(FIRST, contacts=()), "it is another plan under the same revision 1"),
        (replace(SECOND, scenario_sha256="1" * 64), "it is the plan of another scenario"),
        (slice_for(SECOND, "sat"), "it is a slice for sat, not a whole plan"),
    ]:
        reply = await desk.update_plan(40 * SECOND_NS, compact(offered))
        assert (reply.accepted, reply.reason) == (False, why)
        assert (reply.revision, reply.sha256) == (1, FIRST.sha256)
    assert shelf.newest == FIRST
    with pytest.raises(Refusal):
        await desk.update_plan(40 * SECOND_NS, b"no plan")
    with pytest.raises(Refusal, match="at_ns: must be 1 or more, not 0"):
        await desk.update_plan(0, compact(SECOND))


async def test_an_update_that_comes_late_is_believed_at_once_and_that_is_reported(
    desk: OperatorDesk, shelf: PlanShelf
) -> None:
    woken: list[bool] = []

    async def stop() -> int:
        return 0

    clock = Clock(Anchor(unix_ns() - 60 * SECOND_NS, 0, 1.0))
    desk.opened(clock, lambda: woken.append(True), stop, operator_pb2.TransferList)
    reply = await desk.update_plan(20 * SECOND_NS, compact(FIRST))
    assert reply.at_ns >= 60 * SECOND_NS
    assert shelf.take(clock.now_ns()) == [(reply.at_ns, FIRST)]
    ((_, kind, fields),) = shelf.take_remarks()
    assert (kind, fields["revision"]) == ("plan_late", 1)
    assert fields["late_s"] == pytest.approx(40, abs=5)
    assert woken == [True]


async def test_an_update_is_never_believed_from_an_instant_that_has_been_stepped(
    desk: OperatorDesk, shelf: PlanShelf
) -> None:
    shelf.take(30 * SECOND_NS)
    reply = await desk.update_plan(20 * SECOND_NS, compact(FIRST))
    assert reply.at_ns == 30 * SECOND_NS + 1


async def test_a_node_whose_clock_has_not_started_is_not_drained(desk: OperatorDesk) -> None:
    with pytest.raises(Refusal, match="the clock has not started"):
        await desk.drain()


async def test_a_node_whose_clock_has_not_started_takes_no_file(desk: OperatorDesk, tmp_path: Path) -> None:
    order = operator_pb2.SendOrder(destination="sat", name="a", lane=3, expires_in_ns=1)
    with pytest.raises(Refusal, match="the clock has not started"):
        desk.admit_file(order, 1)
    with pytest.raises(Refusal, match="the clock has not started"):
        await desk.send_file(order, tmp_path / "file")


def test_a_shelf_that_nobody_has_opened_says_when_the_next_update_is_due(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    assert shelf.next_ns() == NEVER_NS
    put(shelf, FIRST, 20)
    put(shelf, SECOND, 40)
    for committed_s, due_ns in ((0, 20 * SECOND_NS), (20, 40 * SECOND_NS), (40, NEVER_NS)):
        assert PlanShelf(tmp_path, BASE, committed_s * SECOND_NS).next_ns() == due_ns
