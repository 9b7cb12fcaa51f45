"""Daemons that believe a wrong plan, until they are told better: they do what the simulator does."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.updates import spliced
from orbitrain.outputs import RunFolder
from orbitrain.results import Entry, count_updates, lineage, until_the_end
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import Scenario, load_scenario
from orbitrain.setting import Setting, Update
from orbitrain.testbed.run import collect, run_daemons
from orbitrain.testbed.uplink import Given, desks, give
from orbitrain.transport.rpc import OperatorClient
from orbitrain.virtual import workshop
from tests.e2e.bench import Bench, epoch_now, plan_by_hand
from tests.e2e.lab import HERE, Lab, in_order, journal_entries, told, wait_until

pytestmark = pytest.mark.timeout(600)

SCENARIO = """
name = "beliefs"
epoch = "2026-01-01T00:00:00Z"
seed = 5
rounds = {rounds}
duration_s = 5000
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
acquisition_s = {links_s}
[compute]
train_s = 60
aggregate_s = 40
message_s = {links_s}
[protocol]
name = "fedmeld"
delta = 7
alpha = 0.5
[task]
task = "own.tides:Tides"
inputs = {inputs}
"""

Passes = Mapping[tuple[str, str], Sequence[tuple[int, int]]]
"""Seconds in which a satellite and a device can talk."""

ZERO, ONE = "farm-dev-0", "farm-dev-1"


def both(satellite: str, *windows: tuple[int, int]) -> Passes:
    return {(satellite, device): windows for device in (ZERO, ONE)}


BELIEVED = {
    **both("sat-0", (0, 600), (950, 1550)),
    # The first of these never comes, the second is cut, instead of the third sat-0 does.
    **both("sat-1", (650, 900), (1900, 2500), (2550, 3000)),
}
TRUTH = {
    # The second is a minute late.
    **both("sat-0", (0, 600), (1010, 1610), (2600, 3200)),
    # The first is not announced; the next ends while the updates of round 5 are on their way.
    ("sat-1", ZERO): ((1650, 1850), (1900, 2080), (3300, 4100)),
    ("sat-1", ONE): ((1650, 1850), (1900, 2120), (3300, 4100)),
}
TOLD_S = 2900
"""When the nodes are told the truth."""


def plan_of(scenario: Scenario, passes: Passes, rate_bps: int = 2_000_000) -> ContactPlan:
    contacts = []
    for (satellite, device), windows in passes.items():
        for start_s, end_s in windows:
            start_ns, end_ns = start_s * SECOND_NS, end_s * SECOND_NS
            samples = (Sample(start_ns, 4_000_000, rate_bps, 0.0, 1.0),)
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


def setting_in(folder: Path) -> Setting:
    file = folder / "beliefs.toml"
    file.write_text(SCENARIO.format(rounds=6, inputs=6, links_s=40), encoding="utf-8")
    scenario = load_scenario(file)
    believed, truth = plan_of(scenario, BELIEVED), plan_of(scenario, TRUTH)
    update = Update(TOLD_S * SECOND_NS, spliced(believed, truth, TOLD_S * SECOND_NS))
    return Setting(scenario, str(file), HERE, scenario.seed, believed, truth, (update,))


def run_in(folder: Path, setting: Setting, rate: float) -> list[Entry]:
    """The journals of a run, up to its end."""
    out = RunFolder(folder / f"run-{rate:g}")
    out.claim({"scenario_sha256": setting.scenario.sha256, "seed": setting.seed, "driver": "daemons"})
    _, system = run_daemons(setting, out, rate, lambda kind, fields: None)
    collect(setting, out, system)
    nodes = [name for name, _ in setting.scenario.nodes()]
    entries = in_order([entry for name in nodes for entry in journal_entries(name, out.nodes / name)])
    return until_the_end(entries, system.watch(), setting.plan.duration_ns)[0]


def every_event(entries: Sequence[Entry]) -> list[tuple[object, ...]]:
    """All that is in the journals, to the nanosecond, but for what only real sockets count."""
    return [
        (
            entry.event.t_ns / SECOND_NS,
            entry.node,
            entry.event.role,
            entry.event.kind,
            {name: value for name, value in entry.event.fields.items() if name not in ("bytes", "class")},
        )
        for entry in entries
    ]


@pytest.mark.full
def test_daemons_with_wrong_beliefs_do_what_the_simulator_does(tmp_path: Path) -> None:
    setting = setting_in(tmp_path)
    with workshop(setting) as shop:
        simulated = shop.simulate(shop.objects()).entries
    for rate in (250, 60):
        entries = run_in(tmp_path, setting, rate)
        if not told(entries, "overrun"):
            break  # else the machine was too busy for the times declared: once more, slower
    assert every_event(entries) == every_event(simulated)

    # A pass that does not appear is no contact; one that comes late is used for what is left of the service.
    met = [(e.event.t_ns // SECOND_NS, e.event.fields["peer"]) for e in told(entries, "contact_started")]
    assert {t_s for t_s, peer in met if peer == "sat-1"} == {1690, 1940, 3340}
    assert {t_s for t_s, peer in met if peer == "sat-0"} == {40, 1050, 2640}
    known = lineage(entries)
    models = [
        (e.event.t_ns // SECOND_NS, e.node, e.event.fields["round"]) for e in told(entries, "aggregated")
    ]
    assert [(node, n) for t_s, node, n in models if 1010 <= t_s < 1610] == [("sat-0", 3), ("sat-0", 4)]
    # Nothing is done in the pass that nobody expects, but for what was left over.
    assert not [e for e in entries if 1650 <= e.event.t_ns // SECOND_NS < 1850 and e.event.role]
    # Of the updates cut off one has arrived; its device does not know, and hands it in again when told to.
    taken = [(e.node, e.event.fields["device"]) for e in told(entries, "update_accepted", round=5)]
    assert taken == [("sat-1", ONE), ("sat-0", ZERO), ("sat-0", ONE)]
    # Told the truth within a pass, they use it at once.
    assert [e.event.t_ns for e in told(entries, "plan_updated", revision=1)] == [TOLD_S * SECOND_NS] * 5
    assert [(node, n) for t_s, node, n in models if t_s >= TOLD_S] == [("sat-0", 5), ("sat-1", 6)]
    # Nothing is lost and nothing is counted twice.
    assert known.rounds == {"farm": 6}
    assert known.forks == []
    assert sorted(known.counted) == [(device, n) for device in (ZERO, ONE) for n in range(1, 7)]
    counts = count_updates(entries)
    assert (counts["aggregated"], counts["lost"]) == (12, 0), counts


SLOW_BPS = 8_000
"""An update of 240 kB takes 240 s, and a chunk of it 65 s."""

SHORT = {
    **both("sat-0", (0, 300), (400, 700), (800, 1100), (1200, 1500), (1600, 1900), (2000, 2300)),
    **both("sat-1", (2400, 2700), (2800, 3100), (3200, 3500), (3600, 3900), (4000, 4300)),
}
CUT = {
    # In the middle of a chunk; and one that lasts longer than believed.
    **both("sat-0", (0, 300), (400, 700), (800, 977), (1200, 1570), (1600, 1900), (2000, 2300)),
    **both("sat-1", (2400, 2700), (2800, 3000), (3200, 3500), (3600, 3900), (4000, 4300)),
}


@pytest.mark.full
@pytest.mark.parametrize("truth", [None, CUT], ids=["as_believed", "cut"])
def test_daemons_bring_objects_over_several_contacts_as_the_simulator_does(
    tmp_path: Path, truth: Passes | None
) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(SCENARIO.format(rounds=2, inputs=60_000, links_s=15), encoding="utf-8")
    scenario = load_scenario(file)
    plans = [None if passes is None else plan_of(scenario, passes, SLOW_BPS) for passes in (SHORT, truth)]
    assert plans[0] is not None
    setting = Setting(scenario, str(file), HERE, scenario.seed, plans[0], plans[1])
    with workshop(setting) as shop:
        simulated = shop.simulate(shop.objects()).entries
    for rate in (250, 60):
        entries = run_in(tmp_path, setting, rate)
        if not told(entries, "overrun"):
            break  # else the machine was too busy for the times declared: once more, slower
    assert every_event(entries) == every_event(simulated)
    known = lineage(entries)
    assert known.rounds["farm"] >= 1
    # No contact has room for an update beside the messages before it.
    assert told(entries, "update_accepted") and count_updates(entries)["lost"] == 0
    assert not list((tmp_path / f"run-{rate:g}").glob("nodes/*/blobs/incoming/*.*"))


@pytest.mark.full
def test_an_update_that_is_damaged_on_its_devices_disk_is_noticed_and_trained_again(tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(SCENARIO.format(rounds=1, inputs=60_000, links_s=15), encoding="utf-8")
    scenario = load_scenario(file)
    plan = plan_of(scenario, both("sat-0", (0, 110), (600, 1100), (1300, 3000)))
    setting = Setting(scenario, str(file), HERE, scenario.seed, plan)
    nodes = tmp_path / "run-60" / "nodes"

    def trained() -> list[Entry]:
        return told(journal_entries(ZERO, nodes / ZERO), "update_trained")

    def flip() -> None:
        wait_until("its update is trained", trained)
        digest = trained()[0].event.fields["digest"]
        path = nodes / ZERO / "blobs" / "objects" / digest[:2] / digest[2:]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    vandal = threading.Thread(target=flip)
    vandal.start()
    entries = run_in(tmp_path, setting, 60)
    vandal.join()
    assert [entry.node for entry in told(entries, "object_damaged")] == [ZERO]
    assert len(told(entries, "update_trained")) == 3
    assert lineage(entries).rounds == {"farm": 1}
    assert count_updates(entries)["lost"] == 0


@pytest.mark.full
def test_a_node_that_loses_its_disk_is_given_the_updates_again(tmp_path: Path) -> None:
    setting = setting_in(tmp_path)
    early = spliced(setting.plan, plan_of(setting.scenario, TRUTH), 100 * SECOND_NS)
    setting = replace(setting, updates=(Update(100 * SECOND_NS, early),))
    nodes = tmp_path / "run-150" / "nodes"

    def rob() -> None:
        wait_until("sat-1 has the update", lambda: told(sat_1(), "plan_updated"))
        pid = int((nodes / "sat-1.pid").read_text(encoding="ascii"))
        shutil.rmtree(nodes / "sat-1")
        os.kill(pid, signal.SIGKILL)

    def sat_1() -> list[Entry]:
        return journal_entries("sat-1", nodes / "sat-1")

    robber = threading.Thread(target=rob)
    robber.start()
    entries = run_in(tmp_path, setting, 150)
    robber.join()
    assert len(told(sat_1(), "plan_updated", revision=1)) == 1
    assert told(sat_1(), "plan_late", revision=1)
    assert lineage(entries).rounds == {"farm": 6}
    assert count_updates(entries)["lost"] == 0


# ------------------------------------------------------------------------------------------ the uplink

KINDS = {"bird": "satellite", "farm": "device"}


def test_an_update_survives_a_kill_and_brings_the_contacts_it_announces(lab: Lab) -> None:
    """Two boards on their own, whose plan has no contact: links follow what they believe."""
    plan = plan_by_hand(KINDS, [("bird", "farm", 3500, 3600)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"]}, rounds=1)
    bench.start("bird", "farm")

    async def committed_ns(name: str) -> int:
        client = OperatorClient(bench.desks[name])
        try:
            return (await client.read_journal(0, 0, 10.0)).committed_ns
        finally:
            await client.close()

    at_ns = 6 * SECOND_NS
    fresh = plan_by_hand(KINDS, [("bird", "farm", 0, 3000)], plan.epoch)
    update = spliced(plan, fresh, at_ns)
    desks_of = {name: bench.desks[name] for name in KINDS}
    assert asyncio.run(committed_ns("bird")) < at_ns
    given = asyncio.run(give(desks_of, update, at_ns))
    assert {name: one.outcome for name, one in given.items()} == dict.fromkeys(KINDS, Given.TAKEN)
    again = asyncio.run(give(desks_of, update, at_ns))
    assert {one.outcome for one in again.values()} == {Given.KNOWN}
    for name in KINDS:
        bench.programs[name].process.kill()
        bench.programs[name].wait()
    bench.start("bird", "farm")
    wait_until("the farm has adopted a model", lambda: told(bench.entries("farm"), "model_adopted"))
    bench.stop("bird", "farm")
    entries = bench.entries("bird", "farm")
    updated = told(entries, "plan_updated", revision=1, sha256=update.sha256)
    assert [entry.node for entry in updated] == ["bird", "farm"]
    assert min(entry.event.t_ns for entry in updated) >= min(one.at_ns for one in given.values())
    assert min(entry.event.t_ns for entry in told(entries, "contact_started")) > at_ns
    # Started once more, they are where they were, and refuse what is older.
    bench.start("bird")
    stale = asyncio.run(give({"bird": bench.desks["bird"]}, plan, at_ns))["bird"]
    assert stale.outcome is Given.KNOWN
    assert "revision 0 is older than 1" in stale.reason
    other = plan_by_hand({**KINDS, "crow": "satellite"}, [("bird", "farm", 0, 9)], "2020-01-01T00:00:00Z")
    refused = asyncio.run(give({"bird": bench.desks["bird"]}, other, at_ns))["bird"]
    assert "its epoch is 2020-01-01T00:00:00Z" in refused.reason
    bench.stop("bird")
    assert len(told(bench.entries("bird"), "plan_updated")) == 1


def test_the_desks_of_a_run_are_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "sat-0.toml").write_text('[operator]\nlisten = "unix:/tmp/x/sat-0"\n')
    assert desks(tmp_path) == {"sat-0": "unix:/tmp/x/sat-0"}
