"""Both back ends follow the plan in time, and another plan that takes over."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime.clock import ClockFile, unix_ns
from tests.netem.measures import one_of_three
from tests.netem.traffic import exchange
from tests.unit.netem.plans import MS, S, contact, plan_of, steady


@pytest.mark.parametrize("outage", ["hold", "cut"])
def test_a_contact_begins_and_ends_when_the_plan_says(
    links: Callable[..., Any], tmp_path: Path, outage: str
) -> None:
    # Up from 1 to 2 s of scenario time, 100 ms long; a probe each ms.
    window = contact("a", "b", 1 * S, 2 * S, (1 * S, 100 * MS, 10_000_000))

    def measure() -> list[str]:
        clock = tmp_path / "clock.json"
        ClockFile(None, 0, 1.0, 0).write(clock)
        with links(plan_of(window), "--clock", str(clock), "--outage", outage) as up:
            zero_ns = unix_ns() + S // 2
            ClockFile(zero_ns, 0, 1.0, 0).write(clock)
            (one,) = exchange([up.flow("a", "b", 3000, 1, 60)], tmp_path, 0.3)
            account = up.end()
        assert account["replay"]["steps"] == 2
        sent = [one.sent_ns[number] - zero_ns for number, _ in one.arrived]
        # By `cut` what flies is lost: the last to arrive was sent a light time before the end.
        last_ns = 2 * S if outage == "hold" else round(1.9 * S)
        edges = [(sent[0] - 1 * S) / MS, (sent[-1] - last_ns) / MS]
        return [] if all(abs(edge) <= 20 for edge in edges) else [f"edges {edges} ms off"]

    one_of_three(measure)


def test_one_that_joins_a_run_late_begins_at_its_present(links: Callable[..., Any], tmp_path: Path) -> None:
    clock = tmp_path / "clock.json"
    ClockFile(unix_ns() - 50 * S, 0, 1.0, 0).write(clock)
    windows = [contact("a", "b", n * S, n * S + S // 2, (n * S, 5 * MS, 10_000_000)) for n in range(40)]
    with links(plan_of(*windows, steady("b", "a", 5, 10)), "--clock", str(clock)) as up:
        flows = [up.flow("a", "b", 20, 2, 60), up.flow("b", "a", 20, 2, 60)]
        there, back = exchange(flows, tmp_path, 0.2)
        account = up.end()
    assert all(there.missing) and not any(back.missing)
    assert account["replay"]["steps"] == 0
    assert account["scenario_ns"] > 50 * S


def test_a_replay_that_is_too_late_can_end_the_run(links: Callable[..., Any]) -> None:
    # Time runs when the first contact is up; stopped over the begin of the second, it is late by as long.
    first = contact("b", "a", S // 5, 9 * S, (S, 5 * MS, 10**7))
    second = contact("a", "b", S, 9 * S, (S, 5 * MS, 10**7))
    with links(plan_of(first, second), "--late", "abort") as up:
        assert up.line("cue")["source"] == "b"
        up.process.send_signal(signal.SIGSTOP)
        until_ns = unix_ns() + S
        while unix_ns() < until_ns:
            os.sched_yield()
        up.process.send_signal(signal.SIGCONT)
        assert up.line("ended")["replay"]["late_steps"] == 1
        assert up.process.wait(10) == 3


def test_another_plan_takes_over_while_packets_fly(links: Callable[..., Any], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(plan_of(steady("b", "a", 5, 10)).to_json())
    hasty = tmp_path / "hasty.json"
    hasty.write_bytes(plan_of(steady("b", "a", 5, 2e6)).to_json())
    foreign = tmp_path / "foreign.json"
    foreign.write_bytes(plan_of(steady("b", "z", 5, 10)).to_json())
    with links(plan_of(steady("a", "b", 5, 10))) as up:
        assert up.line("cue")["up"]

        def tell(text: str) -> None:
            up.process.stdin.write(text + "\n")
            up.process.stdin.flush()

        tell(json.dumps({"plan": str(foreign)}))
        assert "nodes must be those of the run" in up.line("refused")
        tell(json.dumps({"plan": str(hasty)}))
        assert "hasty.json: rate_bps: must be 1 to 1000000000000 on the host" in up.line("refused")
        tell("nonsense")
        assert "must be" in up.line("refused")
        tell(json.dumps({"plan": str(tmp_path / "none.json")}))
        assert "none.json" in up.line("refused")
        tell(json.dumps({"plan": str(other), "from_ns": None}))
        cues = [up.line("cue"), up.line("cue")]
        assert [(cue["source"], cue["up"]) for cue in cues] == [("b", True), ("a", False)] or [
            (cue["source"], cue["up"]) for cue in cues
        ] == [("a", False), ("b", True)]
        flows = [up.flow("a", "b", 50, 2, 60), up.flow("b", "a", 50, 2, 60)]
        there, back = exchange(flows, tmp_path, 0.2)
    assert all(there.missing) and not any(back.missing)
