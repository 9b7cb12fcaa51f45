"""SFFT on real daemons: two orbits of nine satellites, two stations, one server; and kills in every phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import COMMAND, Lab, Run

DEMO = Path(__file__).parents[2] / "deploy" / "scenarios" / "sfft-demo.toml"

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def one_round(folder: Path) -> Path:
    """The demonstration, of one round."""
    file = folder / "sfft.toml"
    file.write_text(DEMO.read_text(encoding="utf-8").replace("rounds = 3", "rounds = 1"), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What virtual time comes to."""
    folder = tmp_path_factory.mktemp("sfft")
    lab = Lab(folder)
    program = lab.start(
        COMMAND, "sim", one_round(folder), "--out", folder / "sim", "--no-baseline", "--quiet"
    )
    assert program.wait(300) == 0, program.complained
    found: dict[str, Any] = json.loads((folder / "sim" / "result.json").read_bytes())
    lab.leave()
    return found


def test_daemons_come_to_the_head_of_the_simulator(lab: Lab, simulated: dict[str, Any]) -> None:
    run = Run(lab, one_round(lab.folder), lab.folder / "out", ("--quiet", "--no-baseline", "--rate", "20"))
    run.start()
    result = run.finish()
    assert result["model_sha256"] == simulated["model_sha256"]
    assert result["accuracy"] == simulated["accuracy"] > 0.5
    (commit,) = result["commits"]
    assert commit["participants"] == sorted(name for name, kind in run.nodes.items() if kind == "satellite")
    assert sum(link["chunks"] for link in result["flow"]) == 72
    assert result["bytes"]["feeder"] > 0 and result["bytes"]["intra_isl"] > 0
    for quantity in ("gather", "down", "up", "reduce", "edge"):
        found, like = (of["traffic"][0][quantity] for of in (result, simulated))
        assert found["expected"] == like["expected"] > 0
        assert found["bytes"] > 0
    assert 1 <= result["traffic"][0]["down"]["ratio"] < 2


def test_kills_in_every_phase_change_nothing_of_the_result(lab: Lab, simulated: dict[str, object]) -> None:
    run = Run(lab, one_round(lab.folder), lab.folder / "out", ("--quiet", "--no-baseline", "--rate", "20"))
    run.start()
    for kind in ("embedded", "chunks_came", "features_computed", "features_received", "reduced"):
        run.kill_who_reports(kind)
    result = run.finish()
    assert result["restarts"] >= 5
    assert result["model_sha256"] == simulated["model_sha256"]
    (commit,) = result["commits"]
    assert len(commit["participants"]) == 18 and commit["weight"] == 18 * 16


def test_shaped_links_change_nothing_of_the_result(lab: Lab, simulated: dict[str, object]) -> None:
    options = ("--quiet", "--no-baseline", "--links", "tun", "--rate", "20")
    run = Run(lab, one_round(lab.folder), lab.folder / "out", options)
    run.start()
    result = run.finish()
    assert result["links_truth"]["backend"] == "tun"
    assert result["model_sha256"] == simulated["model_sha256"]
    assert [commit["weight"] for commit in result["commits"]] == [18 * 16]
    down = result["traffic"][0]["down"]
    assert down["expected"] <= down["bytes"]
