"""Runs across links of real packets: each daemon in a network namespace of its own.

They need root or a user namespace. Where neither is to be had: skipped, but failed in CI.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from netem.namespaces import FOLDER, tag_of
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.results import Entry, lineage
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import Scenario, load_scenario
from orbitrain.testbed.shaping import run_id
from orbitrain.transport.stripes import FLOWS
from tests.e2e.lab import Lab, Run, place_scenario, told, tun_or_skip, wait_gone, wait_until

pytestmark = pytest.mark.timeout(600)

ZERO, ONE = "farm-dev-0", "farm-dev-1"

SCENARIO = """
name = "across"
epoch = "2026-01-01T00:00:00Z"
seed = 5
rounds = {rounds}
duration_s = {duration_s}
[clock]
rate = {rate}
[[constellation]]
altitude_km = 550
inclination_degrees = 53
satellites = 2
[[sites]]
name = "farm"
latitude_degrees = 0.0
longitude_degrees = 0.0
[[regions]]
name = "farm"
site = "farm"
devices = 2
[links]
acquisition_s = 2
congestion = "{congestion}"
[compute]
train_s = {train_s}
aggregate_s = {aggregate_s}
message_s = 2
[protocol]
name = "fedmeld"
delta = {delta}
alpha = 0.5
[task]
task = "own.tides:Tides"
inputs = {inputs}
{truth}
{more}
"""

Windows = Mapping[str, Sequence[tuple[int, int]]]
"""Seconds in which a satellite and both devices can talk."""


@pytest.fixture(scope="module", autouse=True)
def _links_can_be_made() -> None:
    tun_or_skip()


def left_of(run: Run) -> list[str]:
    """Names of the run's namespaces, as `ip netns` lists them."""
    return sorted(path.name for path in FOLDER.glob(f"ob-{tag_of(run_id(run.out))}-*"))


def plan_of(scenario: Scenario, windows: Windows, rate_bps: int = 2_000_000) -> ContactPlan:
    contacts = []
    for satellite, spans in windows.items():
        for start_s, end_s in spans:
            start_ns, end_ns = start_s * SECOND_NS, end_s * SECOND_NS
            samples = (Sample(start_ns, 40_000_000, rate_bps, 0.0, 1.0),)
            for device in (ZERO, ONE):
                for ends in ((satellite, device), (device, satellite)):
                    contacts.append(Contact(*ends, "service", start_ns, end_ns, samples))
    return ContactPlan(
        version=1,
        scenario_sha256=scenario.sha256,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=scenario.duration_ns,
        nodes=tuple(PlanNode(name, kind) for name, kind in scenario.nodes()),
        contacts=tuple(contacts),
    )


def across(
    lab: Lab,
    believed: Windows,
    true: Windows | None = None,
    *options: object,
    links: str = "tun",
    **values: object,
) -> Run:
    """A run across real packets with plans made by hand, not started yet."""
    folder = lab.folder / "scenario"
    place_scenario(folder)  # for the task beside it
    given = {"rounds": 3, "duration_s": 1500, "rate": 40, "train_s": 20, "aggregate_s": 10, "delta": 9}
    truth = "" if true is None else '[truth]\nplan = "truth.json"'
    given |= {"inputs": 6, "rate_bps": 2_000_000, "more": "", "congestion": "auto"}
    file = folder / "across.toml"
    file.write_text(SCENARIO.format(**{**given, **values}, truth=truth), encoding="utf-8")
    scenario, rate_bps = load_scenario(file), int(str({**given, **values}["rate_bps"]))
    (folder / "believed.json").write_bytes(plan_of(scenario, believed, rate_bps).to_json())
    if true is not None:
        (folder / "truth.json").write_bytes(plan_of(scenario, true, rate_bps).to_json())
    chosen = ("--quiet", "--no-baseline", "--links", links, "--plan", folder / "believed.json", *options)
    return Run(lab, file, lab.folder / "out", chosen)


def simulated(lab: Lab, run: Run) -> dict[str, Any]:
    """The same scenario with links as the plan, in virtual time: what `none` comes to."""
    plain = Run(lab, run.file, lab.folder / "sim")
    plan = run.file.parent / "believed.json"
    done = lab.orbitrain("sim", run.file, "--out", plain.out, "--plan", plan, "--quiet", "--no-baseline")
    assert done.code == 0, done.complained
    return plain.result


def check_learned(run: Run, result: Mapping[str, Any]) -> None:
    """Every round, once; nothing lost."""
    assert result["rounds"] == {"farm": run.scenario.rounds}, result
    assert result["updates"]["lost"] == 0, result["updates"]
    known = lineage(run.events())
    assert known.forks == []
    every = [(device, n) for device in (ZERO, ONE) for n in range(1, run.scenario.rounds + 1)]
    assert sorted(known.counted) == every
    assert not told(run.events(), "dead_letter")


def test_a_run_across_real_packets_learns_what_the_plan_alone_would(lab: Lab) -> None:
    run = across(lab, {"sat-0": [(0, 80)], "sat-1": [(100, 700)]}, None, "--no-probe", congestion="reno")
    run.start()
    result = run.finish()
    check_learned(run, result)
    assert result["model_sha256"] == simulated(lab, run)["model_sha256"]
    assert (result["links"], result["links_truth"]["backend"]) == ("tun", "tun")
    assert result["links_truth"]["verdict"] == "unchecked"  # nobody measured
    # A model that was begun by one satellite is finished by the other, over links that came and went.
    met = told(run.events(), "contact_started", announced=True)
    assert {(entry.node, entry.event.fields["peer"]) for entry in met} >= {("sat-0", ZERO), ("sat-1", ONE)}
    assert result["bytes"]["service"] > 0
    # Letters took the link's time: two delays of 40 ms at least, there and back.
    config = (run.out / "nodes" / "sat-0.toml").read_text(encoding="utf-8")
    assert 'shaped = "10.213.0.0/16"' in config
    record = json.loads((run.out / "links.json").read_bytes())
    assert record["ready"]["sat-0"]["address"] in config
    # Every kernel has Reno and lets namespaces have it; objects then go over several connections.
    assert record["tcp"]["tcp_congestion_control"] == result["congestion"] == "reno"
    assert {entry.event.fields["flows"] for entry in told(run.events(), "link_flows")} == {FLOWS}
    assert record["account"]["links"][f"sat-0 {ZERO}"]["delivered"] > 0
    assert not left_of(run)


@pytest.mark.full
def test_wrong_beliefs_cost_time_and_nothing_else(lab: Lab) -> None:
    believed = {"sat-0": [(0, 370), (1200, 1600)], "sat-1": [(500, 700), (1700, 2600)]}
    # Half a minute late; missing; not announced; cut; half a minute late.
    true = {"sat-0": [(30, 400), (1200, 1400)], "sat-1": [(800, 1100), (1730, 2630)]}
    run = across(lab, believed, true, "--no-probe", rounds=7, duration_s=3000, train_s=60, aggregate_s=40)
    run.start()
    result = run.finish()
    check_learned(run, result)
    entries = run.events()

    def met(satellite: str, from_s: int, to_s: int) -> list[Entry]:
        return [
            entry
            for entry in told(entries, "contact_started")
            if satellite in (entry.node, entry.event.fields["peer"])
            and from_s <= entry.event.t_ns / SECOND_NS < to_s
        ]

    late = met("sat-0", 0, 400)
    assert len(late) == 4
    assert all(28 <= entry.event.fields["late_s"] < 120 for entry in late), late
    # What the plan announced and did not come is said once by either side, for each pair.
    missed = told(entries, "contact_missed", start_ns=500 * SECOND_NS)
    assert sorted({entry.node for entry in missed}) == [ZERO, ONE, "sat-1"]
    assert len(missed) == 4
    assert not met("sat-1", 500, 800)
    found = met("sat-1", 800, 1100)
    assert len(found) == 4 and not any(entry.event.fields["announced"] for entry in found)
    cut = [
        entry.event.t_ns / SECOND_NS
        for entry in told(entries, "contact_ended", cut=True)
        if "sat-0" in (entry.node, entry.event.fields["peer"])
    ]
    assert len(cut) == 4 and all(1400 <= t_s < 1600 for t_s in cut), cut
    assert len([entry for entry in met("sat-1", 1730, 2630) if entry.event.fields["announced"]]) == 4


@pytest.mark.full
def test_a_transfer_that_a_link_takes_away_is_done_again_when_it_is_back(lab: Lab) -> None:
    # An update of 240 kB takes 19 s, and is on its way from about 23 s on.
    values = {"rate": 20, "inputs": 60_000, "rate_bps": 100_000, "rounds": 1}
    run = across(lab, {"sat-0": [(0, 600)]}, {"sat-0": [(0, 32), (140, 600)]}, "--no-probe", **values)
    run.start()
    result = run.finish()
    check_learned(run, result)
    entries = run.events()
    assert sorted(entry.node for entry in told(entries, "transfer_cut")) == [ZERO, ONE]
    cut = [entry.event.t_ns / SECOND_NS for entry in told(entries, "contact_ended", cut=True)]
    assert len(cut) == 4 and all(32 <= t_s < 32 + 5 * run.scenario.clock.rate for t_s in cut), cut
    assert all(entry.event.t_ns >= 140 * SECOND_NS for entry in told(entries, "update_accepted"))
    # The letter in doubt comes first; asked anew, a device also hands its update in anew: counted once.
    updates = result["updates"]
    assert updates["aggregated"] == 2
    assert updates["superseded"] + updates["duplicates_dropped"] == updates["sent"] - 2


PASSES = [(60 * n, 60 * n + 40) for n in range(14)]
"""Contacts of 40 s; at 100 kbit/s an object of 600 kB takes 48 s of them, without what comes before it."""

LONG = {"rate": 10, "inputs": 150_000, "rate_bps": 100_000, "rounds": 1, "duration_s": 840}

OBJECT_BYTES = 600_000
WINDOW_BYTES = 2 * 64 * 1024


def check_nothing_twice(run: Run, result: Mapping[str, Any]) -> None:
    """Two updates up, two models down; for each cut no more than was in the air; 10 % of headers."""
    cuts = len(told(run.events(), "transfer_cut"))
    moved = result["bytes"]["service"]
    assert 4 * OBJECT_BYTES <= moved <= 1.1 * (4 * OBJECT_BYTES + cuts * WINDOW_BYTES) + 50_000, (moved, cuts)


@pytest.mark.full
def test_an_object_larger_than_any_contact_comes_through_in_pieces(lab: Lab) -> None:
    run = across(lab, {"sat-0": PASSES}, None, "--no-probe", **LONG)
    run.start()
    result = run.finish()
    check_learned(run, result)
    check_nothing_twice(run, result)


@pytest.mark.full
def test_a_transfer_goes_on_where_it_was_whoever_is_killed_in_it(lab: Lab) -> None:
    run = across(lab, {"sat-0": PASSES}, None, "--no-probe", **LONG)
    program = run.start()
    rng = random.Random(7)

    def held() -> int:
        """Bytes of partial objects, of all nodes."""
        return sum(
            path.stat().st_blocks * 512
            for name in run.nodes
            for path in run.state(name).glob("blobs/incoming/*")
        )

    for victim in ("sat-0", ZERO, "sat-0", ONE, "sat-0"):
        at = held()
        more = rng.randrange(30_000, 150_000)
        wait_until("bytes have come", lambda at=at, more=more: held() - at > more or program.code is not None)
        pid = run.pid(victim)
        if pid is None or program.code is not None:
            break
        os.kill(pid, signal.SIGKILL)
        wait_until("it is back", lambda name=victim, old=pid: run.pid(name) not in (None, old))
    result = run.finish()
    check_learned(run, result)
    # A killed node's count of its bytes since the last event is lost with it: only what is too much is seen.
    kills, cuts = 5, len(told(run.events(), "transfer_cut"))
    assert result["bytes"]["service"] <= 1.1 * (4 * OBJECT_BYTES + (cuts + 2 * kills) * WINDOW_BYTES) + 50_000
    assert not [path for name in run.nodes for path in run.state(name).glob("blobs/incoming/*")]


@pytest.mark.full
def test_without_a_true_plan_links_follow_what_the_nodes_are_told(lab: Lab) -> None:
    told_of = '[[updates]]\nat_s = 200\nplan = "later.json"'
    run = across(lab, {"sat-0": [(0, 50)]}, None, "--no-probe", more=told_of)
    later = plan_of(run.scenario, {"sat-0": [(0, 50)], "sat-1": [(240, 900)]})
    (run.file.parent / "later.json").write_bytes(later.to_json())
    run.start()
    result = run.finish()
    check_learned(run, result)
    met = told(run.events(), "contact_started", peer="sat-1")
    assert [entry.event.fields["announced"] for entry in met] == [True, True]
    assert all(entry.event.t_ns >= 242 * SECOND_NS for entry in met)


@pytest.mark.full
def test_whatever_is_killed_a_run_goes_on_and_nothing_is_left(lab: Lab) -> None:
    run = across(lab, {"sat-0": [(0, 5000)]}, None, "--no-probe", rounds=12, duration_s=5000, train_s=40)

    def rounds() -> int:
        return lineage(run.journals()).rounds.get("farm", 0)

    # A daemon: it is started again, in its namespace.
    program = run.start()
    wait_until("a round is over", lambda: rounds() >= 1 or program.code is not None)
    victim = run.pid("sat-0")
    assert victim is not None, program.complained
    os.kill(victim, signal.SIGKILL)
    wait_until("it is back", lambda: run.pid("sat-0") not in (None, victim))
    wait_until("two rounds more", lambda: rounds() >= 3 or program.code is not None)
    # Everything at once.
    every = lab.processes()
    for pid in every:
        os.kill(pid, signal.SIGKILL)
    wait_gone("everything", every)
    # The links alone.
    program = run.start()
    at = rounds()
    wait_until("a round more", lambda: rounds() > at or program.code is not None)
    (emulator,) = [
        pid
        for pid in lab.processes()
        if {b"netem", b"tun"} <= set(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    ]
    os.kill(emulator, signal.SIGKILL)
    assert program.wait() == 1
    assert program.complained == (
        f"orbitrain: links: the emulator was killed by SIGKILL (see {run.out / 'links.log'})\n"
    )
    assert not left_of(run)
    # The user.
    program = run.start()
    at = rounds()
    wait_until("a round more", lambda: rounds() > at or program.code is not None)
    program.signal(signal.SIGINT)
    assert program.wait() == 130
    assert not left_of(run)
    assert not lab.processes()
    run.start()
    result = run.finish()
    check_learned(run, result)
    assert result["model_sha256"] == simulated(lab, run)["model_sha256"]
    assert not left_of(run)


@pytest.mark.full
def test_a_run_stays_with_the_links_it_was_begun_with(lab: Lab) -> None:
    run = across(lab, {"sat-0": [(0, 1400)]})
    program = run.start()
    wait_until("its clock runs", lambda: run.committed_ns() > 0 or program.code is not None)
    program.signal(signal.SIGINT)
    assert program.wait() == 130, program.complained
    other = lab.orbitrain("run", run.file, "--out", run.out, "--quiet", "--links", "none")
    assert other.code == 2
    assert other.complained == (
        f"orbitrain: {run.out}: --links: must be tun, which the run was begun with, not none\n"
    )
