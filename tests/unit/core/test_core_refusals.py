"""What breaks the protocol is refused with its reason, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orbitrain.machine import Action, Delivered, Input, RemoteProtocolError, Report, Severity
from orbitrain.mailbox import Outcome
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.unit.core.recorder import Recorder, core_of, delivered


def refuse(text: str) -> Callable[[Input], list[Action]]:
    def answer(item: Input) -> list[Action]:
        if isinstance(item, Delivered) and item.message == wire.Poll(region="bad"):
            raise RemoteProtocolError(text)
        return [Report("heard", Severity.DIAGNOSTIC, {})]

    return answer


class Prudent(Recorder):
    """Refuses before it changes anything."""

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        actions = self.answer(item)
        self.seen.append(item.message.region if isinstance(item, Delivered) else type(item).__name__)
        return actions


def test_what_breaks_the_protocol_is_refused_with_its_text_and_nothing_changes() -> None:
    machine = Prudent(refuse("you are " + "x" * 600))
    core = core_of(machine)
    before = machine.snapshot()
    step = core.step([delivered("bad")], 7)
    assert machine.snapshot() == before
    assert step.snapshots == {}
    mark = step.marks[0]
    assert (mark.outcome, mark.reason) == (Outcome.REFUSED, ("you are " + "x" * 600)[:500])
    assert core.marks.find(mark.mailbox, 1) == mark
    assert [(event.kind, event.severity) for event in step.events] == [
        ("message_refused", Severity.WARNING_LO)
    ]
    assert step.events[0].fields == {"source": "peer", "reason": mark.reason}
    assert step.dead_letters == []


def test_a_refusal_leaves_the_rest_of_the_batch_alone() -> None:
    machine = Prudent(refuse("no"))
    step = core_of(machine).step([delivered("a", 1), delivered("bad", 2), delivered("b", 3)], 0)
    assert machine.seen == ["a", "b"]
    assert [mark.outcome.value for mark in step.marks] == ["delivered", "refused", "delivered"]


@pytest.mark.parametrize(
    ("role", "lane", "kind", "body", "reason"),
    [
        ("nobody", 0, "orbitrain.v1.fedmeld.Poll", b"", "this node has no role 'nobody'"),
        (
            "role-0",
            0,
            "orbitrain.v1.fedmeld.Model",
            b"",
            "role 'role-0' does not understand .*Model'",
        ),
        ("role-0", 0, "orbitrain.v1.fedmeld.Poll", b"\xff\xff", ".*Poll cannot be decoded"),
        ("role-0", 9, "orbitrain.v1.fedmeld.Poll", b"", "there is no lane 9"),
    ],
)
def test_a_letter_that_no_machine_here_reads_is_refused(
    role: str, lane: int, kind: str, body: bytes, reason: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        core_of(Recorder()).decode(role, lane, kind, body)
