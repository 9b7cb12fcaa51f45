"""A clock that differs from a peer's is told of, once, and again when the difference changes or goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbitrain.machine import Severity
from orbitrain.runtime.clock_watch import ClockWatch

S = 1_000_000_000


class Notes:
    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def note(self, kind: str, severity: Severity, fields: Mapping[str, Any]) -> None:
        self.told.append((kind, fields))


def test_a_difference_beyond_what_both_may_err_and_the_trip_is_told_once() -> None:
    notes = Notes()
    watch = ClockWatch(notes, S)  # type: ignore[arg-type]
    watch.heard("bird", 100 * S, 101 * S, 103 * S)  # 2 s off, to 1 s: within what both may err
    assert notes.told == []
    for _ in range(3):
        watch.heard("bird", 100 * S, 3700 * S, 3702 * S)
    assert [kind for kind, _ in notes.told] == ["clock_differs"]
    assert notes.told[0][1] == {"peer": "bird", "ahead_s": 3601.0, "known_to_s": 1.0, "allowed_s": 1.0}


def test_a_node_that_is_behind_has_a_negative_difference() -> None:
    notes = Notes()
    ClockWatch(notes, S).heard("bird", 3700 * S, 0, 0)  # type: ignore[arg-type]
    assert notes.told[0][1]["ahead_s"] == -3700.0


def test_another_difference_is_told_and_so_is_that_it_has_gone() -> None:
    notes = Notes()
    watch = ClockWatch(notes, S)  # type: ignore[arg-type]
    watch.heard("bird", 0, 10 * S, 10 * S)
    watch.heard("dish", 0, 10 * S, 10 * S)
    watch.heard("bird", 0, 12 * S, 12 * S)
    watch.heard("bird", 0, 20 * S, 20 * S)
    watch.heard("bird", 0, S, S)
    watch.heard("bird", 0, S, S)
    assert [(kind, fields["peer"]) for kind, fields in notes.told] == [
        ("clock_differs", "bird"),
        ("clock_differs", "dish"),
        ("clock_differs", "bird"),
        ("clocks_agree", "bird"),
    ]
