"""What was committed is there after a restart, and only what changed is written."""

from __future__ import annotations

import pytest

from orbitrain.machine import NEVER_NS, Action, Input, LocalProtocolError, ObjectLost, Report, Severity
from orbitrain.memory import MemoryJournal
from orbitrain.step import Durable, Snapshot
from tests.unit.core.recorder import Recorder, command, core_of, delivered, does, job, on, send


def test_everything_that_was_committed_is_there_after_a_restart() -> None:
    plan: dict[str, list[Action]] = {
        "go": [send("a"), job("j", "input"), Report("found", Severity.ACTIVITY_LO, {}, ("report",))]
    }
    machine = Recorder(on(plan))
    machine.objects = frozenset({"state"})
    journal = MemoryJournal("store-1")
    core = core_of(machine)
    for batch in ([command("go")], [delivered("a", 4)]):
        journal.commit(core.step(batch, 1), core.reported)
    again = core_of(fresh := Recorder(on(plan)), durable=journal.load())
    assert fresh.seen == machine.seen
    assert again.jobs == core.jobs
    assert again.needed() == core.needed()
    assert list(again.outbox) == list(core.outbox)
    assert again.marks.find(("peer", "store-9", "role-0", 0), 4) is not None
    assert again.outbox.next_sequence("far", "r", 0) == 2
    assert again.outbox.certain_ends(NEVER_NS) == [], "it may have left before the crash"


def test_a_snapshot_of_another_schema_is_not_read() -> None:
    durable = Durable("store-1", snapshots={"role-0": Snapshot(b"", 2, frozenset())})
    with pytest.raises(LocalProtocolError, match="snapshot schema 2, this version reads 3"):
        core_of(Recorder(), durable=durable)


def test_at_start_each_machine_is_told_of_the_objects_that_its_state_names_and_are_gone() -> None:
    durable = Durable(
        "store-1",
        snapshots={
            "role-0": Snapshot(b"", 3, frozenset({"kept", "y", "x"})),
            "role-1": Snapshot(b"", 3, frozenset({"x"})),
        },
    )
    core = core_of(Recorder(), Recorder(), durable=durable)
    assert [(arrival.role, arrival.item) for arrival in core.lost(lambda digest: digest == "kept")] == [
        ("role-0", ObjectLost("x")),
        ("role-0", ObjectLost("y")),
        ("role-1", ObjectLost("x")),
    ]


def test_only_a_state_that_changed_is_written_again() -> None:
    class Idle(Recorder):
        def handle(self, item: Input, now_ns: int) -> list[Action]:
            return []

    assert does(core_of(Idle()), "go").snapshots == {}
