"""EMS-FL on real daemons: three clusters of two devices, one satellite; and kills on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import COMMAND, Lab, Run

DEMO = Path(__file__).parents[2] / "deploy" / "scenarios" / "emsfl-demo.toml"
CYCLES = 2
RANK = 4
RATE = "150"
SAME = ("rounds", "accuracy", "gamma", "model_sha256")
"""What daemons and simulator must agree on; bytes are measured."""

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def short(folder: Path) -> Path:
    """The demonstration, of a few cycles, with experts that go up and down as factors."""
    lines = DEMO.read_text(encoding="utf-8").splitlines()
    lines.insert(lines.index("masked = true"), f"rank = {RANK}")
    lines[next(n for n, line in enumerate(lines) if line.startswith("rounds = "))] = f"rounds = {CYCLES}"
    file = folder / "emsfl.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What virtual time comes to."""
    folder = tmp_path_factory.mktemp("emsfl")
    lab = Lab(folder)
    program = lab.start(COMMAND, "sim", short(folder), "--out", folder / "sim", "--no-baseline", "--quiet")
    assert program.wait(300) == 0, program.complained
    found: dict[str, Any] = json.loads((folder / "sim" / "result.json").read_bytes())
    lab.leave()
    return found


def same(of: dict[str, Any]) -> dict[str, Any]:
    """Instants are the simulator's unless something came later than modelled."""
    timed = ("cycles", "owners")
    late = bool(of["overruns"])
    rows = {key: [{**row, "t_s": 0.0 if late else row["t_s"]} for row in of[key]] for key in timed}
    return {**{key: of[key] for key in SAME}, **rows}


def test_daemons_come_to_the_experts_of_the_simulator(lab: Lab, simulated: dict[str, Any]) -> None:
    run = Run(lab, short(lab.folder), lab.folder / "out", ("--quiet", "--no-baseline", "--rate", RATE))
    run.start()
    result = run.finish()
    assert same(result) == same({**simulated, "overruns": result["overruns"]})
    assert set(result["rounds"].values()) == {CYCLES}
    assert result["updates"]["merged"] == simulated["updates"]["merged"] > 0
    assert result["updates"]["refused"] == 0
    commits = [entry.event.fields for entry in run.events() if entry.event.kind == "expert_committed"]
    assert commits and all(fields["step"] for fields in commits)
    assert not any(entry.event.kind == "model_incomplete" for entry in run.events())
    devices = [name for name, kind in run.nodes.items() if kind == "device"]
    for name in devices:
        assert result["peak_bytes"][name]["loaded"] == simulated["peak_bytes"][name]["loaded"] > 0
        assert result["device_bytes"][name]["up"] > 0 and result["device_bytes"][name]["down"] > 0


def test_kills_on_the_way_lose_and_repeat_nothing(lab: Lab, simulated: dict[str, Any]) -> None:
    run = Run(lab, short(lab.folder), lab.folder / "out", ("--quiet", "--no-baseline", "--rate", RATE))
    run.start()
    for kind in ("split", "trained", "update_sent", "update_accepted", "expert_committed"):
        run.kill_who_reports(kind)
    result = run.finish()
    assert result["restarts"] >= 5
    assert result["owners"][0]["owners"] == simulated["owners"][0]["owners"]
    assert set(result["rounds"].values()) == {CYCLES}
    contributions = [
        (part["device"], entry.event.fields["expert"], entry.event.fields["version"])
        for entry in run.events()
        if entry.event.kind == "expert_committed"
        for part in entry.event.fields["contributors"]
    ]
    assert len(contributions) == len(set(contributions))
