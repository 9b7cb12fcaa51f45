"""`orbitrain run` on a small scenario: its files, its counts, and that it agrees with everything else."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.tensors import Tensors, encode_tensors
from orbitrain.planning import build_plan
from orbitrain.results import UPDATE_ENDS, count_bytes, summarise
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import Scenario, load_scenario
from tests.e2e.lab import (
    HERE,
    Lab,
    Run,
    mapped_files,
    place_scenario,
    protocol_events,
    told,
    wait_until,
    workers,
)
from tests.e2e.own.tides import Tides

# A busy machine may take several times as long; waiting has deadlines of its own.
pytestmark = pytest.mark.timeout(600)

RESULT_KEYS = [
    "scenario", "protocol", "seed", "links", "congestion", "driver", "plan_sha256",
    "scenario_seconds", "wall_seconds",
    "rounds", "accuracy", "isolated_accuracy", "updates", "carries", "bytes", "restarts", "overruns",
    "model_sha256", "links_truth",
]  # fmt: skip

HEAVY = ("torch", "onnxruntime", "sklearn", "pandas")


@dataclass(slots=True)
class Finished:
    """A run of the small scenario that has ended well, and what was seen of it meanwhile."""

    run: Run
    result: dict[str, Any]
    carrier_maps: dict[str, set[str]]
    """Files mapped by a satellite's daemon, and by its worker, after they had aggregated."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    lab = Lab(tmp_path_factory.mktemp("run"))
    run = Run(lab, place_scenario(lab.folder / "scenario"), lab.folder / "out", ("--quiet",))
    program = run.start()

    def aggregated() -> str | None:
        assert program.code is None, program.complained
        return next((one.node for one in run.journals() if one.event.kind == "aggregated"), None)

    carrier = wait_until("a satellite has aggregated", aggregated)
    daemon = run.pid(carrier)
    assert daemon is not None
    (worker,) = workers(daemon)
    maps = {"daemon": mapped_files(daemon), "worker": mapped_files(worker)}
    yield Finished(run, run.finish(), maps)
    lab.leave()


# ---------------------------------------------------------------------------------------------- the files


def test_a_run_leaves_every_file_it_promises_and_no_process(finished: Finished) -> None:
    run, result = finished.run, finished.result
    assert list(result) == RESULT_KEYS
    assert result["driver"] == "daemons"
    assert (result["links"], result["links_truth"]) == ("none", {"backend": "none", "verdict": "unshaped"})
    assert result["rounds"] == {"east": 5, "west": 5}
    assert result["restarts"] == 0
    assert ContactPlan.from_json((run.out / "plan.json").read_bytes()).sha256 == result["plan_sha256"]
    for region, digest in result["model_sha256"].items():
        model = (run.out / "models" / f"{region}.safetensors").read_bytes()
        assert hashlib.sha256(model).hexdigest() == digest
    for name in run.nodes:
        assert (run.out / "nodes" / f"{name}.toml").is_file()
        assert (run.out / "nodes" / name / "journal.sqlite").is_file()
    assert not list((run.out / "nodes").glob("*.pid"))
    with (run.out / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["t_s", "node", "metric", "value"]
    assert {row[1] for row in rows[1:]} == set(run.nodes)
    assert {row[2] for row in rows[1:]} >= {"accuracy.east", "accuracy.west", "resident_bytes"}
    clock = json.loads((run.out / "clock.json").read_bytes())
    assert set(clock) == {"unix_ns", "scenario_ns", "rate", "committed_ns"}
    assert 0 < result["scenario_seconds"] <= clock["committed_ns"] / SECOND_NS
    assert not run.lab.processes()


def test_counts_are_those_of_the_nodes_own_journals(finished: Finished) -> None:
    run, result = finished.run, finished.result
    journals = run.journals()
    own = journals[: len(run.events())]
    assert own == run.events()
    # The run is over when the last device has adopted the last model; the nodes went on until they were told.
    assert told(own, "model_adopted")[-1].event.t_ns == own[-1].event.t_ns
    assert all(entry.event.t_ns > own[-1].event.t_ns for entry in journals[len(own) :])
    regions = [region.name for region in run.scenario.regions]
    recount = summarise(own, {}, regions, run.scenario.fedmeld.delta)
    assert recount | {"accuracy": None} == {key: result[key] for key in recount} | {"accuracy": None}
    # Once more, without the code that counted.
    updates = result["updates"]
    assert updates["sent"] == len(told(own, "update_sent")) == 15
    assert sum(updates[end] for end in UPDATE_ENDS) == updates["sent"]
    assert set(updates) == {"sent", *UPDATE_ENDS}
    assert updates["lost"] == 0
    assert result["carries"]["picked_up"] == len(told(own, "carry_picked_up")) == 2
    assert result["carries"]["mixed"] == len(told(own, "carry_mixed")) == 2
    moved = [
        e.event.fields["bytes"]
        for e in own
        if e.event.fields.get("class") == "service" and "bytes" in e.event.fields
    ]
    others = dict.fromkeys(("feeder", "intra_isl", "inter_isl", "backhaul"), 0)
    assert result["bytes"] == {"service": sum(moved), **others}


def test_a_finished_run_is_shown_again_and_not_touched(finished: Finished, lab: Lab) -> None:
    run = finished.run
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(run.out.rglob("*"))}
    again = lab.orbitrain("run", run.file, "--out", run.out, "--quiet")
    assert again.code == 0
    assert again.said == finished.run.program.said  # type: ignore[union-attr]
    assert "lost 0" in again.said
    assert before == {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(run.out.rglob("*"))
    }


def test_another_seed_in_the_folder_of_a_run_is_refused(finished: Finished, lab: Lab) -> None:
    refused = lab.orbitrain("run", finished.run.file, "--out", finished.run.out, "--seed", 12)
    assert refused.code == 2
    assert len(refused.complained.splitlines()) == 1
    assert "another seed (11, not 12)" in refused.complained


def test_links_that_are_not_there_yet_are_refused_in_one_line(lab: Lab) -> None:
    refused = lab.orbitrain("run", HERE / "scenario.toml", "--links", "kernel")
    assert refused.code == 2
    assert len(refused.complained.splitlines()) == 1
    assert "--links: kernel" in refused.complained
    assert not (lab.folder / "runs").exists()


def test_a_journal_that_cannot_be_read_ends_a_run_in_one_line(lab: Lab) -> None:
    run = Run(lab, place_scenario(lab.folder / "scenario", satellites="1"), lab.folder / "out")
    program = run.start()
    journal = run.state("sat-0") / "journal.sqlite"
    wait_until("sat-0 has a journal", journal.exists)
    program.signal(signal.SIGINT)
    assert program.wait() == 130
    for path in journal.parent.glob("journal.sqlite*"):
        path.unlink()
    journal.write_bytes(b"no database " * 1000)
    program = run.start()
    assert program.wait() == 1
    assert len(program.complained.splitlines()) == 1
    assert str(journal) in program.complained
    # It says what helps: a node that has lost its disk gets back what it needs.
    assert f"delete {journal.parent}" in program.complained


# ---------------------------------------------------------------------------------------------- agreement


def reference(scenario: Scenario) -> dict[str, str]:
    """FedMeld on one computer, in numpy: eq. (1) and (2) for every region and round."""
    regions = {region.name: region.device_names for region in scenario.regions}
    task = Tides(scenario.task.options, regions, scenario.seed)
    delta, alpha, names = scenario.protocol.delta, scenario.protocol.alpha, list(regions)
    models: dict[tuple[str, int], Tensors] = {(region, 0): task.initial() for region in names}
    for n in range(1, scenario.rounds + 1):
        for region in names:
            updates = [
                task.train(device, models[region, n - 1], n, scenario.seed)
                for device in sorted(regions[region])
            ]
            total = sum(update.n_samples for update in updates)
            model = {}
            for name, like in models[region, n - 1].items():
                mean = np.zeros(like.shape)
                for update in updates:
                    mean = mean + (update.n_samples / total) * update.weights[name].astype(np.float64)
                model[name] = mean.astype(like.dtype)
            if n % delta == 0 and n >= 2 * delta:
                carried = models[names[names.index(region) - 1], n - delta]
                for name, own in model.items():
                    mixed = (1 - alpha) * own.astype(np.float64) + alpha * carried[name].astype(np.float64)
                    model[name] = mixed.astype(own.dtype)
            models[region, n] = model
    return {
        region: hashlib.sha256(encode_tensors(models[region, scenario.rounds])).hexdigest()
        for region in names
    }


def test_daemons_simulator_and_one_computer_agree(finished: Finished, lab: Lab) -> None:
    run, result = finished.run, finished.result
    simulated = Run(lab, run.file, lab.folder / "sim")
    assert lab.orbitrain("sim", run.file, "--out", simulated.out, "--quiet").code == 0
    assert list(simulated.result) == RESULT_KEYS
    if result["overruns"]:
        # The machine was too busy for the times declared, which voids the comparison: once more, slower.
        run = Run(lab, run.file, lab.folder / "slower", ("--quiet", "--no-baseline", "--rate", "200"))
        run.start()
        result = run.finish()
    assert result["overruns"] == 0, told(run.journals(), "overrun")
    assert protocol_events(run.events()) == protocol_events(simulated.events())
    counted = ("rounds", "accuracy", "updates", "carries", "model_sha256")
    assert {key: result[key] for key in counted} == {key: simulated.result[key] for key in counted}
    assert finished.result["isolated_accuracy"] == simulated.result["isolated_accuracy"]
    assert result["model_sha256"] == reference(run.scenario)


# ------------------------------------------------------------------------------------------- the carrier


def test_a_carrier_loads_no_learning_framework_and_stays_small(finished: Finished) -> None:
    for process, files in finished.carrier_maps.items():
        assert any("numpy" in file for file in files) or process == "daemon", files
        heavy = [file for file in files for name in HEAVY if f"/{name}/" in file or f"/lib{name}" in file]
        assert not heavy, f"the {process} of a satellite has loaded {heavy}"
    with (finished.run.out / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "resident_bytes"]
    satellites = {
        row["node"]: float(row["value"]) for row in rows if finished.run.nodes[row["node"]] == "satellite"
    }
    assert set(satellites) == {"sat-0", "sat-1", "sat-2"}
    assert max(satellites.values()) < 80e6


# ---------------------------------------------------------------------------------------------- the plan


@pytest.fixture(scope="module")
def plan(finished: Finished) -> ContactPlan:
    """The one of the small scenario, as the run has built and kept it."""
    return ContactPlan.from_json((finished.run.out / "plan.json").read_bytes())


def test_a_plan_moved_by_a_minute_moves_the_first_messages_by_a_minute(lab: Lab, plan: ContactPlan) -> None:
    file = place_scenario(lab.folder / "scenario")
    # Without the passes under way at the start: their later part would come into view.
    risen = replace(plan, contacts=tuple(c for c in plan.contacts if c.start_ns > 0))
    first_ns = []
    for name, flown in (("as-built", risen), ("later", risen.shifted(60 * SECOND_NS))):
        (lab.folder / f"{name}.json").write_bytes(flown.to_json())
        run = Run(lab, file, lab.folder / name)
        done = lab.orbitrain(
            "sim", file, "--plan", lab.folder / f"{name}.json", "--out", run.out, "--no-baseline", "--quiet"
        )
        assert done.code == 0, done.complained
        first_ns.append(
            [
                told(run.events(), kind)[0].event.t_ns
                for kind in ("contact_started", "letter_delivered", "update_sent")
            ]
        )
    assert [later - before for before, later in zip(*first_ns, strict=True)] == [60 * SECOND_NS] * 3


def test_without_contacts_no_byte_of_the_protocol_moves(lab: Lab) -> None:
    file = place_scenario(lab.folder / "scenario", satellites="1")
    plan = replace(build_plan(load_scenario(file)), contacts=(), duration_ns=600 * SECOND_NS)
    (lab.folder / "empty.json").write_bytes(plan.to_json())
    run = Run(
        lab, file, lab.folder / "out", ("--quiet", "--no-baseline", "--plan", lab.folder / "empty.json")
    )
    run.start()
    result = run.finish()
    assert set(result["bytes"].values()) == {0}
    assert result["rounds"] == {"east": 0, "west": 0}
    assert result["updates"]["sent"] == 0
    assert result["scenario_seconds"] == 600
    assert sum(count_bytes(run.journals()).values()) == 0
    assert not told(run.journals(), "letter_delivered")


def test_a_plan_of_another_scenario_is_refused_in_one_line(lab: Lab, plan: ContactPlan) -> None:
    file = place_scenario(lab.folder / "scenario")
    plan = replace(plan, scenario_sha256="0" * 64)
    (lab.folder / "other.json").write_bytes(plan.to_json())
    assert plan.scenario_sha256 != load_scenario(file).sha256
    refused = lab.orbitrain("run", file, "--plan", lab.folder / "other.json", "--out", lab.folder / "out")
    assert refused.code == 2
    assert len(refused.complained.splitlines()) == 1
    assert not (lab.folder / "out").exists()
