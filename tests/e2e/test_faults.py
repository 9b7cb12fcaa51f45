"""Runs that are killed, stopped, robbed and interrupted, and come to the same end."""

from __future__ import annotations

import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbitrain.core import REPORTED_OBJECTS_MAX
from orbitrain.results import lineage
from orbitrain.runtime.clock import SECOND_NS, ClockFile
from orbitrain.runtime.driver import COLLECT_STEPS
from tests.e2e.lab import DEADLINE_S, GONE_S, Lab, Run, place_scenario, told, wait_gone, wait_until, workers

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


STOPPED = "orbitrain: stopped; the same command with this --out goes on from here\n"


def undisturbed(lab: Lab, file: Path) -> dict[str, Any]:
    """What the run comes to if nothing happens to it; the simulator and the daemons agree."""
    run = Run(lab, file, lab.folder / "undisturbed")
    assert lab.orbitrain("sim", file, "--out", run.out, "--quiet", "--no-baseline").code == 0
    return run.result


def check_learned(run: Run, result: dict[str, Any], calm: dict[str, Any]) -> None:
    """Everything was learned, once, and it is what would have been learned in peace."""
    assert result["rounds"] == calm["rounds"], result
    assert result["updates"]["lost"] == 0, result["updates"]
    known = lineage(run.events())
    assert known.forks == []
    assert len(known.counted) == len(set(known.counted))
    assert result["model_sha256"] == calm["model_sha256"]
    assert not told(run.events(), "dead_letter")


def begin(lab: Lab, *options: object, **changes: str) -> Run:
    file = place_scenario(lab.folder / "scenario", **changes)
    run = Run(lab, file, lab.folder / "out", ("--quiet", "--no-baseline", *options))
    run.start()
    return run


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------- daemons that die


@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_kills_change_nothing_that_was_learned(lab: Lab, seed: int) -> None:
    run = begin(lab, "--rate", 250)
    calm = undisturbed(lab, run.file)
    chance = random.Random(seed)
    kills = 0
    t_s = 100.0
    while kills < 20:
        run.wait_for_s(t_s)
        assert run.program is not None and run.program.code is None, "the run ended before the kills did"
        name = chance.choice(sorted(run.nodes))
        pid = wait_until(f"{name} runs", lambda name=name: run.pid(name))
        at_work = workers(pid)
        kill(pid)
        kills += 1
        wait_gone(f"{name} and its worker", [pid, *at_work])
        t_s = run.committed_ns() / SECOND_NS + chance.uniform(100, 500)
    result = run.finish()
    check_learned(run, result, calm)
    assert result["restarts"] == kills


def test_a_satellite_that_stands_still_for_a_pass_goes_on_afterwards(lab: Lab) -> None:
    run = begin(lab)
    calm = undisturbed(lab, run.file)
    run.wait_for_s(700)
    pid = wait_until("sat-2 runs", lambda: run.pid("sat-2"))  # it serves the east until 2200 s
    os.kill(pid, signal.SIGSTOP)
    run.wait_for_s(3500)
    os.kill(pid, signal.SIGCONT)
    result = run.finish()
    check_learned(run, result, calm)
    assert result["restarts"] == 0


@pytest.mark.parametrize(
    ("name", "t_s"),
    [
        ("east-dev-0", 1300),
        ("east-dev-0", 3500),
        ("sat-2", 1300),
        # With the model of the east on board that the west waits for.
        ("sat-2", 3500),
        ("ground", 1300),
        ("ground", 3500),
    ],
)
def test_a_node_that_loses_its_disk_gets_back_what_it_needs(lab: Lab, name: str, t_s: float) -> None:
    run = begin(lab)
    calm = undisturbed(lab, run.file)
    run.wait_for_s(t_s)
    # The supervisor starts the node again as soon as it dies: hold it, so that the disk goes meanwhile.
    assert run.program is not None
    run.program.signal(signal.SIGSTOP)
    pid = wait_until(f"{name} runs", lambda: run.pid(name))
    kill(pid)
    wait_gone(name, [pid])
    shutil.rmtree(run.state(name))
    run.program.signal(signal.SIGCONT)
    result = run.finish()
    check_learned(run, result, calm)
    assert result["restarts"] == 1


# --------------------------------------------------------------------------------- the whole run dies


def test_without_its_supervisor_a_run_ends_and_can_go_on(lab: Lab) -> None:
    run = begin(lab)
    calm = undisturbed(lab, run.file)
    run.wait_for_s(1300)
    assert run.program is not None
    frozen = wait_until("west-dev-0 runs", lambda: run.pid("west-dev-0"))
    os.kill(frozen, signal.SIGSTOP)  # it cannot end by itself, and holds its journal
    kill(run.program.pid)
    run.program.wait()
    # At once: the new supervisor waits for what the old one has left.
    run.start()
    result = run.finish()
    check_learned(run, result, calm)


def test_daemons_end_soon_after_their_supervisor(lab: Lab) -> None:
    run = begin(lab)
    run.wait_for_s(700)
    assert run.program is not None
    pids = list(run.pids().values())
    everybody = [*pids, *(worker for pid in pids for worker in workers(pid))]
    assert len(pids) == len(run.nodes)
    kill(run.program.pid)
    wait_gone("every daemon and worker", everybody, GONE_S)
    assert not lab.processes()


def test_a_run_killed_as_a_whole_goes_on_ten_minutes_later_where_it_was(lab: Lab) -> None:
    run = begin(lab)
    calm = undisturbed(lab, run.file)
    run.wait_for_s(1300)
    assert run.program is not None
    pids = run.pids()
    for pid in (run.program.pid, *pids.values()):
        kill(pid)
    run.program.wait()
    wait_until("all are gone", lambda: not lab.processes(), GONE_S)
    clock = ClockFile.read(run.out / "clock.json")
    assert clock.unix_ns is not None
    replace(clock, unix_ns=clock.unix_ns - 600 * SECOND_NS).write(run.out / "clock.json")
    stopped_ns = max(clock.committed_ns, *(e.event.t_ns for e in run.journals()))
    assert stopped_ns < 4000 * SECOND_NS
    run.start()
    result = run.finish()
    check_learned(run, result, calm)
    resumed = ClockFile.read(run.out / "clock.json")
    assert 0 <= resumed.scenario_ns - clock.committed_ns < 2 * clock.rate * SECOND_NS
    later = [e.event.t_ns for e in told(run.events(), "contact_started") if e.event.t_ns > stopped_ns]
    # The daemons acquire their signal again: 150 s, and what starting takes them.
    assert min(later) - stopped_ns < 600 * SECOND_NS


def test_the_first_interrupt_drains_and_the_second_ends_at_once(lab: Lab) -> None:
    run = begin(lab)
    calm = undisturbed(lab, run.file)
    run.wait_for_s(1300)
    program = run.program
    assert program is not None
    program.signal(signal.SIGINT)
    assert program.wait() == 130
    assert program.complained == STOPPED
    assert not lab.processes()
    assert not (run.out / "result.json").exists()

    program = run.start()
    run.wait_for_s(3500)
    frozen = wait_until("sat-1 runs", lambda: run.pid("sat-1"))
    os.kill(frozen, signal.SIGSTOP)  # it will not drain
    program.signal(signal.SIGINT)
    assert program.code is None
    program.signal(signal.SIGINT)
    assert program.wait(GONE_S) == 130
    assert not lab.processes()

    run.start()
    check_learned(run, run.finish(), calm)


def test_an_interrupt_while_daemons_start_leaves_a_run_that_can_go_on(lab: Lab) -> None:
    run = begin(lab)
    wait_until("a daemon has been started", run.pids)
    assert run.program is not None
    run.program.signal(signal.SIGINT)
    assert run.program.wait() == 130
    assert run.program.complained == STOPPED
    assert not lab.processes()
    calm = undisturbed(lab, run.file)
    run.start()
    check_learned(run, run.finish(), calm)


# ------------------------------------------------------------------------------------------- for long


def test_stores_stay_bounded_over_two_hundred_rounds(lab: Lab) -> None:
    changes = {"rounds": "200", "delta": "100", "message_s": "4", "train_s": "4", "aggregate_s": "4"}
    run = begin(lab, "--rate", 150, **changes)
    result = run.finish(5 * DEADLINE_S)
    assert result["rounds"] == {"east": 200, "west": 200}
    assert result["updates"]["lost"] == 0
    for name in run.nodes:
        objects = [path for path in (run.state(name) / "blobs" / "objects").rglob("*") if path.is_file()]
        # What the operator may still fetch, what two collections have between them (an object a step, at
        # most), and what is in use. Each device has made 200 updates and adopted 200 models.
        assert len(objects) <= REPORTED_OBJECTS_MAX + 2 * COLLECT_STEPS + 16, name
        for left in ("incoming", "scratch"):
            files = [path for path in (run.state(name) / "blobs" / left).rglob("*") if path.is_file()]
            assert len(files) <= 4, (name, files)
