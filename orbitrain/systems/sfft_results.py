"""What a run of SFFT came to, counted from journals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from orbitrain.results import Entry
from orbitrain.scenario import SECOND_NS

PHASES: Final = (
    ("embed", "embedded"),
    ("gather", "gathered"),
    ("backbone", "features_computed"),
    ("features", "features_received"),
    ("head", "head_stepped"),
    ("reduce", "reduced"),
    ("average", "averaged"),
    ("commit", "committed"),
)
"""Phases of a round, and the event at the last of which each has ended."""


def phases(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """By round, of the attempt that was committed: seconds from its beginning to the end of each phase."""
    begun: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], dict[str, int]] = {}
    kinds = {kind: phase for phase, kind in PHASES}
    committed = []
    for entry in entries:
        event = entry.event
        if event.kind not in kinds and event.kind != "round_begun":
            continue
        place = int(event.fields["round"]), int(event.fields["attempt"])
        if event.kind == "round_begun":
            begun[place] = event.t_ns
            continue
        last.setdefault(place, {})[kinds[event.kind]] = event.t_ns
        if event.kind == "committed":
            committed.append(place)
    return [
        {
            "round": place[0],
            "attempts": place[1],
            **{
                phase: round((last[place][phase] - begun[place]) / SECOND_NS, 3)
                for phase, _ in PHASES
                if phase in last[place]
            },
        }
        for place in committed
    ]


def flow(entries: Sequence[Entry], slot_ns: int) -> list[dict[str, Any]]:
    """Chunks that came down, repeats included, by satellite and station, and in how many slots."""
    counts: dict[tuple[str, str], int] = {}
    slots: dict[tuple[str, str], set[int]] = {}
    for entry in entries:
        if entry.event.kind == "chunks_came":
            link = str(entry.event.fields["satellite"]), entry.node
            counts[link] = counts.get(link, 0) + int(entry.event.fields["chunks"])
            slots.setdefault(link, set()).add(entry.event.t_ns // slot_ns)
    return [
        {
            "satellite": satellite,
            "station": station,
            "chunks": count,
            "slots": len(slots[satellite, station]),
        }
        for (satellite, station), count in sorted(counts.items())
    ]
