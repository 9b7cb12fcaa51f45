"""Scenario time, over host clocks that the test sets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime import clock as clocks
from orbitrain.runtime.clock import SECOND_NS, Anchor, Clock, ClockError, ClockFile


class Host:
    """The host's clocks, in nanoseconds."""

    def __init__(self) -> None:
        self.utc_ns = 1_800_000_000 * SECOND_NS
        self.since_boot_ns = 50 * SECOND_NS

    def time_ns(self) -> int:
        return self.utc_ns

    def monotonic_ns(self) -> int:
        return self.since_boot_ns

    def pass_s(self, seconds: float) -> None:
        self.utc_ns += int(seconds * SECOND_NS)
        self.since_boot_ns += int(seconds * SECOND_NS)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host()
    monkeypatch.setattr(clocks, "time", found)
    return found


def test_time_runs_from_the_anchor_at_its_rate(host: Host) -> None:
    clock = Clock(Anchor(host.utc_ns, 1000 * SECOND_NS, 200.0))
    assert clock.now_ns() == 1000 * SECOND_NS
    host.pass_s(1.5)
    assert clock.now_ns() == 1300 * SECOND_NS


def test_time_stands_until_the_anchors_instant(host: Host) -> None:
    clock = Clock(Anchor(host.utc_ns + SECOND_NS, 5 * SECOND_NS, 10.0))
    assert clock.now_ns() == 5 * SECOND_NS
    assert clock.wall_s_until(5 * SECOND_NS) == pytest.approx(1.0)
    host.pass_s(0.5)
    assert clock.now_ns() == 5 * SECOND_NS
    host.pass_s(0.6)
    assert clock.now_ns() == 6 * SECOND_NS


def test_time_never_goes_back(host: Host) -> None:
    clock = Clock(Anchor(host.utc_ns, 0, 1.0))
    host.pass_s(2)
    assert clock.now_ns() == 2 * SECOND_NS
    host.since_boot_ns -= SECOND_NS
    assert clock.now_ns() == 2 * SECOND_NS


def test_a_step_of_utc_does_not_move_a_running_clock(host: Host) -> None:
    clock = Clock(Anchor(host.utc_ns, 0, 1.0))
    host.utc_ns += 3600 * SECOND_NS
    host.pass_s(1)
    assert clock.now_ns() == SECOND_NS


def test_processes_that_start_later_agree_on_the_time(host: Host) -> None:
    anchor = Anchor(host.utc_ns, 0, 7.0)
    first = Clock(anchor)
    host.pass_s(3)
    assert Clock(anchor).now_ns() == first.now_ns() == 21 * SECOND_NS


def test_waiting_is_in_wall_seconds_and_never_negative(host: Host) -> None:
    clock = Clock(Anchor(host.utc_ns, 0, 50.0))
    assert clock.wall_s_until(100 * SECOND_NS) == pytest.approx(2.0)
    host.pass_s(10)
    assert clock.wall_s_until(100 * SECOND_NS) == 0.0


def test_an_epoch_anchors_utc_at_rate_1(host: Host) -> None:
    anchor = Anchor.of_epoch("2026-01-01T00:00:00.000001Z")
    assert anchor == Anchor(1_767_225_600 * SECOND_NS + 1000, 0, 1.0)
    assert Anchor.of_epoch("2026-01-01T01:00:00+01:00").unix_ns == 1_767_225_600 * SECOND_NS


# --------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("unix_ns", [None, 1_800_000_000_123_456_789])
def test_a_clock_file_is_read_as_it_was_written(tmp_path: Path, unix_ns: int | None) -> None:
    path = tmp_path / "clock.json"
    file = ClockFile(unix_ns, 5, 200.0, 7)
    file.write(path)
    assert ClockFile.read(path) == file
    assert file.anchor == (None if unix_ns is None else Anchor(unix_ns, 5, 200.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["clock.json"]


GOOD: dict[str, Any] = {"unix_ns": None, "scenario_ns": 0, "rate": 1, "committed_ns": 0}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"3",
        b"\xff",
        b"{}",
        *(
            json.dumps({**GOOD, **wrong}).encode()
            for wrong in (
                {"unix_ns": 1.5},
                {"unix_ns": "now"},
                {"scenario_ns": None},
                {"scenario_ns": True},
                {"committed_ns": 1.0},
                {"rate": 0},
                {"rate": -1},
                {"rate": True},
                {"rate": 1e7},
                {"rate": float("nan")},
                {"rate": float("inf")},
                {"rate": "1"},
            )
        ),
    ],
)
def test_a_broken_clock_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clock.json"
    path.write_bytes(content)
    with pytest.raises(ClockError) as caught:
        ClockFile.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_clock_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClockError, match="not a clock file"):
        ClockFile.read(tmp_path / "clock.json")


async def test_a_node_waits_until_the_run_starts_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clock.json"
    monkeypatch.setattr(clocks, "POLL_S", 0.001)
    ClockFile(None, 3, 2.0, 3).write(path)
    waiting = asyncio.create_task(clocks.started(path))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    ClockFile(clocks.unix_ns() + 3600 * SECOND_NS, 3, 2.0, 3).write(path)
    clock = await waiting
    assert (clock.rate, clock.now_ns()) == (2.0, 3)
