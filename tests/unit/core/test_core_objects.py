"""Which objects must stay, and which of the reported ones are kept."""

from __future__ import annotations

import pytest

from orbitrain import core as core_module
from orbitrain.machine import Acknowledged, Action, Report, Severity
from orbitrain.step import Arrival
from tests.unit.core.recorder import Recorder, command, core_of, delivered, does, done, job, on, send


def test_needed_names_exactly_what_must_stay() -> None:
    plan: dict[str, list[Action]] = {
        "send": [send("a", objects=("letter",))],
        "job": [job("j", "input")],
        "report": [Report("found", Severity.ACTIVITY_LO, {}, ("report",))],
        "forget": [],
    }
    machine = Recorder(on(plan))
    core = core_of(machine)
    assert core.needed() == set()
    machine.objects = frozenset({"state"})
    letter = next(iter(does(core, "send").letters))
    assert core.needed() == {"state", "letter"}
    does(core, "job")
    does(core, "report")
    assert core.needed() == {"state", "letter", "input", "report"}
    core.step([done("j", "output")], 9)
    assert core.needed() == {"state", "letter", "report"}
    core.step([Arrival(0, "far", 0, 1, "role-0", Acknowledged("a"), settles=letter)], 9)
    assert core.needed() == {"state", "report"}
    machine.objects = frozenset()
    does(core, "forget")
    assert core.needed() == {"report"}


def test_an_input_that_waits_names_its_objects_for_the_driver() -> None:
    assert delivered("a", 1, ("x", "y")).objects == ("x", "y")
    assert done("j", "out").objects == ("out",)
    assert command("go").objects == ()


def test_reported_objects_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "REPORTED_OBJECTS_MAX", 3)
    names = [Report("found", Severity.ACTIVITY_LO, {}, (f"d{n}",)) for n in range(5)]
    core = core_of(Recorder(on({"go": list(names)})))
    does(core, "go")
    assert core.reported == (("d2", 10), ("d3", 10), ("d4", 10))


def test_reported_objects_are_kept_up_to_a_size_but_for_the_newest() -> None:
    plan = {name: [Report("found", Severity.ACTIVITY_LO, {}, (name,))] for name in ("small", "big")}
    core = core_of(Recorder(on(plan)))
    does(core, "small")
    does(core, "big")
    assert [digest for digest, _ in core.reported] == ["small", "big"]
    does(core, "big")
    assert [digest for digest, _ in core.reported] == ["big"]
