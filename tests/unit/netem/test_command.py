"""What the user can mend: one line, exit 2, before anything is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netem.__main__ import main
from tests.unit.netem.plans import MS, S, contact, plan_of


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(contact("a", "b", 0, S, (0, 2 * MS, 50_000_000))).to_json())
    return path


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--run-id", "a b"], "run id: must be"),
        (["--run-id", "x", "--rate", "0"], "clock_rate: must be"),
        (["--run-id", "x", "--rate", "60"], "a link of 3000 Mbit/s: at most 300"),
        (["--run-id", "x", "--step-ms", "0"], "step_ns: must be"),
        (["--run-id", "x", "--adaptive", "1", "100"], "rate: must be"),
        (["--run-id", "x", "--clock", "/nowhere/clock.json"], "/nowhere/clock.json: not a clock file"),
        (["--run-id", "x", "--plan", "/nowhere/plan.json"], "/nowhere/plan.json: No such file"),
        (["--run-id", "x", "--plan", "/dev/null"], "must be JSON"),
        (["--run-id", "x", "--seed", "-1"], "--seed, --overhead: must be 0 or more"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(
    plan: Path, more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--links", "tun", "--plan", str(plan), *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("netem: ") and captured.err.count("\n") == 1
    assert complaint in captured.err


@pytest.mark.parametrize(
    ("links", "sample", "complaint"),
    [
        ("kernel", (0, 2 * MS, 500), "link a b: rate_bps: must be at least 800 for netem, not 500"),
        ("kernel", (0, 2 * MS, 10**6, 0.01, 1e8), "link a b: loss: must be held within 1% in parts of"),
        ("tun", (0, 2 * MS, 2 * 10**12), "rate_bps: must be 1 to 1000000000000 on the host, not 2"),
    ],
)
def test_a_plan_that_no_kernel_or_no_link_can_hold_is_refused_before_anything_is_made(
    tmp_path: Path, links: str, sample: tuple[float, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(contact("a", "b", 0, S, sample)).to_json())
    arguments = ["up", "--links", links, "--plan", str(path), "--run-id", "x", "--beyond", "mark"]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"netem: {complaint}")


def test_a_rate_beside_a_clock_must_be_its_rate(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = tmp_path / "clock.json"
    clock.write_text(json.dumps({"unix_ns": None, "scenario_ns": 0, "rate": 2.0, "committed_ns": 0}))
    arguments = [
        "up",
        "--links",
        "tun",
        "--plan",
        str(plan),
        "--run-id",
        "x",
        "--clock",
        str(clock),
        "--rate",
        "3",
    ]
    assert main(arguments) == 2
    assert "--rate: must be the clock's, 2," in capsys.readouterr().err


def test_an_address_range_that_is_none_is_refused(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["up", "--links", "tun", "--plan", str(plan), "--run-id", "x", "--addresses", "10.0.0.1/8"])
    assert ended.value.code == 2
    assert "has host bits set" in capsys.readouterr().err


def test_nothing_to_clean_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--run-id", "neverstarted"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [], "in_use": []}
