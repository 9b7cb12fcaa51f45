"""Tables of a run of SFFT, from a journal written by hand."""

from __future__ import annotations

from typing import Any

from orbitrain.machine import Severity
from orbitrain.results import Entry
from orbitrain.step import Event
from orbitrain.systems.sfft_results import flow, phases

S = 1_000_000_000


def entry(node: str, t_s: float, kind: str, **fields: Any) -> Entry:
    return Entry(node, "0", Event(round(t_s * S), "sfft", Severity.ACTIVITY_LO, kind, fields))


def test_flow_counts_chunks_and_the_slots_in_which_they_came() -> None:
    entries = [
        entry("gs", 12, "chunks_came", satellite="a-0", chunks=4),
        entry("gs", 19.9, "chunks_came", satellite="a-0", chunks=2),
        entry("gs", 20, "chunks_came", satellite="a-0", chunks=1),
        entry("gs", 21, "chunks_came", satellite="b-0", chunks=8),
        entry("a-0", 22, "gathered", round=1, attempt=1),
    ]
    assert flow(entries, 10 * S) == [
        {"satellite": "a-0", "station": "gs", "chunks": 7, "slots": 2},
        {"satellite": "b-0", "station": "gs", "chunks": 8, "slots": 1},
    ]


def test_phases_end_with_the_last_satellite_of_the_attempt_that_was_committed() -> None:
    told = {"round": 1, "attempt": 2}
    entries = [
        entry("server", 0, "round_begun", round=1, attempt=1),
        entry("a-0", 5, "embedded", round=1, attempt=1),
        entry("server", 100, "round_begun", **told),
        entry("a-0", 103, "embedded", **told),
        entry("a-1", 107.5, "embedded", **told),
        entry("server", 150, "committed", **told),
        entry("server", 150, "round_begun", round=2, attempt=1),
    ]
    assert phases(entries) == [{"round": 1, "attempts": 2, "embed": 7.5, "commit": 50.0}]
