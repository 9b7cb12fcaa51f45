"""Decisions of EMS-FL, with their reasons."""

from __future__ import annotations

from typing import Any

import pytest

from orbitrain.protocols.emsfl.rules import (
    Clock,
    Decision,
    accepted,
    awaited,
    first_step,
    second_step,
    split_due,
    weights,
)
from orbitrain.protocols.emsfl.terms import Stale
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.world import SECOND_NS
from tests.unit.protocols.emsfl.clusters import MASKED, PARAMS, SYNCHRONOUS

STALE = Stale(0.5, 2, 3.0)


def guest(**fields: Any) -> wire.Guest:
    return wire.Guest(**{"there": True, "heard": True, **fields})


def clock(now_s: float = 10, begun_s: float = 5, first_s: float = 0, end_s: float = 100) -> Clock:
    return Clock(*(round(t_s * SECOND_NS) for t_s in (now_s, begun_s, first_s, end_s)))


@pytest.mark.parametrize(
    ("guests", "members", "wanted"),
    [
        ({"a": guest(ready=True)}, {"a": wire.Member()}, ["a"]),
        ({"a": guest(ready=True, came=True)}, {}, []),
        ({"a": guest()}, {}, []),
        ({"a": guest(heard=False)}, {}, ["a"]),
        ({"a": guest(ready=True, there=False)}, {"a": wire.Member()}, []),
        ({"a": guest()}, {"a": wire.Member(), "b": wire.Member()}, ["b"]),
        ({"a": guest()}, {"b": wire.Member(missing=True)}, []),
    ],
)
def test_who_is_waited_for(
    guests: dict[str, wire.Guest], members: dict[str, wire.Member], wanted: list[str]
) -> None:
    found, reason = awaited(guests, members)
    assert found == wanted
    assert reason == (f"waiting for {', '.join(wanted)}" if wanted else "all have come")


FAR = guest(ready=True)


@pytest.mark.parametrize(
    ("guests", "received", "at", "decision", "reason"),
    [
        ({"a": FAR}, 0, clock(), Decision.WAIT, "waiting for a"),
        ({"a": guest()}, 0, clock(), Decision.SKIP, "nobody has an update"),
        ({"a": FAR}, 0, clock(96), Decision.SKIP, "nobody has an update"),
        ({"a": FAR}, 0, clock(9_999, end_s=0), Decision.WAIT, "waiting for a"),
        ({"a": guest(ready=True, came=True)}, 1, clock(), Decision.MERGE, "all have come"),
        ({"a": guest(ready=True, came=True), "b": FAR}, 1, clock(first_s=9), Decision.WAIT, "waiting for b"),
        ({"a": guest(), "b": FAR}, 1, clock(25, first_s=9), Decision.MERGE, "that was waited long enough"),
        ({"a": guest(), "b": FAR}, 1, clock(95, first_s=94), Decision.MERGE, "the pass is about to end"),
        ({"a": guest(there=False)}, 1, clock(), Decision.MERGE, "all have come"),
        (
            {"a": guest(there=False, heard=False)},
            1,
            clock(),
            Decision.WAIT,
            "nobody has been heard, and such a pass does not count",
        ),
    ],
)
def test_whether_experts_are_merged_now(
    guests: dict[str, wire.Guest], received: int, at: Clock, decision: Decision, reason: str
) -> None:
    session = wire.Session(guests=guests)
    assert first_step(PARAMS, session, {}, received, at) == (decision, reason)


def test_a_pass_commits_experts_once() -> None:
    session = wire.Session(guests={"a": guest()}, committed=True)
    assert first_step(PARAMS, session, {}, 1, clock())[0] is Decision.DONE
    given = wire.Session(guests={"a": guest(model=1)})
    assert first_step(SYNCHRONOUS, given, {}, 1, clock())[0] is Decision.DONE


ASKED = guest(model=1, asked=True)


@pytest.mark.parametrize(
    ("guests", "received", "at", "decision", "reason"),
    [
        ({"a": guest(model=1)}, 0, clock(), Decision.SKIP, "nobody was asked"),
        ({"a": ASKED}, 0, clock(), Decision.WAIT, "waiting for a"),
        ({"a": ASKED}, 0, clock(99), Decision.WAIT, "waiting for a"),
        ({"a": ASKED, "b": ASKED}, 1, clock(60, first_s=10), Decision.WAIT, "waiting for a, b"),
        ({"a": ASKED}, 1, clock(95, first_s=10), Decision.MERGE, "the pass is about to end"),
        ({"a": ASKED}, 1, clock(60, first_s=10, end_s=0), Decision.MERGE, "that was waited long enough"),
        ({"a": guest(asked=True, answered=True)}, 1, clock(), Decision.MERGE, "all have answered"),
        ({"a": guest(there=False, asked=True)}, 0, clock(), Decision.SKIP, "nobody has answered"),
    ],
)
def test_whether_the_gate_is_merged_now(
    guests: dict[str, wire.Guest], received: int, at: Clock, decision: Decision, reason: str
) -> None:
    assert second_step(PARAMS, wire.Session(guests=guests), received, at) == (decision, reason)


def item(version: int = 5, owner: str = "east", since: int = 2) -> wire.Item:
    return wire.Item(version=wire.Version(number=version), owner=owner, since=since)


@pytest.mark.parametrize(
    ("stands", "base", "counted", "good", "reason"),
    [
        (item(), 5, 0, True, "0 behind"),
        (item(), 3, 0, True, "2 behind"),
        (item(owner="west"), 5, 0, False, "west owns it"),
        (item(owner=""), 5, 0, False, "nobody owns it"),
        (item(since=5), 4, 0, False, "version 4 is of before version 5, with which east got it"),
        (item(), 2, 0, False, "version 2 is 3 behind, allowed are 2"),
        (item(), 4, 5, False, "an update of version 4 was counted before"),
        (item(), 5, 5, True, "0 behind"),
    ],
)
def test_what_counts(stands: wire.Item, base: int, counted: int, good: bool, reason: str) -> None:
    change = wire.Change(item="expert/0", base=base)
    assert accepted(stands, change, "east", counted, STALE) == (good, reason)


def test_weights_are_samples_that_fade_with_staleness() -> None:
    entries = [wire.Entry(samples=30, base=5), wire.Entry(samples=10, base=3)]
    assert weights(entries, 5, STALE) == ([0.75, 0.0625], [None, 3.0])


def state(surveyed: tuple[str, ...], epoch: int = 0, **clusters: wire.Standing) -> wire.SatelliteState:
    made = wire.SatelliteState(epoch=epoch)
    for name in surveyed:
        made.members[name].surveyed = True
    for name in ("east", "west"):
        made.clusters[name].CopyFrom(clusters.get(name, wire.Standing()))
    return made


EVERYBODY = ("east-0", "east-1", "west-0", "west-1")
LEASE_NS = MASKED.pace.lease_ns


@pytest.mark.parametrize(
    ("of", "now_ns", "due", "reason"),
    [
        (state(EVERYBODY), 0, True, "all counts are here"),
        (state(EVERYBODY[:3]), 0, False, "no counts of west-1"),
        (state(EVERYBODY[:3]), LEASE_NS, True, "west-1 did not send counts"),
        (state(()), LEASE_NS, False, "no counts of any cluster"),
        (state(EVERYBODY, 1), 0, False, "it is nobody's turn"),
        (state(EVERYBODY, 1, east=wire.Standing(absent=True)), 0, True, "the lease of east has expired"),
        (
            state(EVERYBODY, 1, east=wire.Standing(absent=True), west=wire.Standing(absent=True)),
            0,
            False,
            "no counts of any cluster",
        ),
    ],
)
def test_when_experts_are_given_out(of: wire.SatelliteState, now_ns: int, due: bool, reason: str) -> None:
    assert split_due(MASKED, of, {"east", "west"}, False, now_ns) == (due, reason)


def test_nothing_is_given_out_while_updates_are_merged_or_in_the_baseline() -> None:
    assert split_due(MASKED, state(EVERYBODY), set(), True, 0) == (False, "updates are being merged")
    assert split_due(SYNCHRONOUS, state(EVERYBODY), set(), False, 0)[0] is False
