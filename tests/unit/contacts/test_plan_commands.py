"""`orbitrain plan diff`, `plan export` and `plan import`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from orbitrain.contacts.compact import CompactPlan
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.plan_commands import plan_diff, plan_export, plan_import
from orbitrain.scenario import ScenarioError

SECOND = 10**9
NODES = (PlanNode("sat-0", "satellite"), PlanNode("quito-0", "device"))

app = typer.Typer()
app.command("diff")(plan_diff)
app.command("export")(plan_export)
app.command("import")(plan_import)


def plan_of(start_s: int = 10) -> ContactPlan:
    samples = (Sample(start_s * SECOND, SECOND, 8_000, 0.0, 1.0),)
    contacts = (Contact("sat-0", "quito-0", "service", start_s * SECOND, 90 * SECOND, samples),)
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 100 * SECOND, NODES, contacts)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, ScenarioError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of().to_json())
    return path


def test_diff_says_what_moved(plan: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(plan_of(12).to_json())
    result = run("diff", plan, other)
    assert result.exit_code == 0
    assert result.stdout == (
        "~ sat-0 -> quito-0 service 10.000 to 90.000 s: start +2.000 s\n"
        "0 appeared, 0 vanished, 1 moved, 0 unchanged\n"
    )


@pytest.mark.parametrize("form", ["ion", "hdtn"])
def test_a_plan_goes_out_and_comes_back_the_same(form: str, plan: Path, tmp_path: Path) -> None:
    out, nodes, back = tmp_path / "out", tmp_path / "nodes.json", tmp_path / "back.json"
    result = run("export", plan, "--format", form, "--out", out, "--write-nodes", nodes)
    assert (result.exit_code, result.stderr) == (0, "")
    result = run("import", out, "--nodes", nodes, "--epoch", "2026-01-01T00:00:00Z", "--out", back)
    assert result.exit_code == 0
    assert f"{form} plan, rates in {'bytes/s' if form == 'ion' else 'bits/s'}" in result.stderr
    read = ContactPlan.from_json(back.read_bytes())
    assert read.contacts == plan_of().contacts and read.nodes == NODES
    assert f"{back}: 1 contacts, 2 nodes, sha256 {read.sha256}" in result.stdout
    if form == "ion":
        assert read == plan_of()


def test_without_out_the_plan_is_printed_and_nothing_else(plan: Path, tmp_path: Path) -> None:
    text = run("export", plan, "--format", "ion").stdout
    (tmp_path / "plan.ion").write_text(text)
    result = run("import", tmp_path / "plan.ion")
    assert result.stdout.encode() == plan_of().to_json()
    result = run("export", plan, "--format", "hdtn")
    assert json.loads(result.stdout)["contacts"][0]["rateBitsPerSec"] == 8000


def test_the_compact_form_is_written_and_read_everywhere(plan: Path, tmp_path: Path) -> None:
    packed = tmp_path / "plan.orbplan"
    assert run("export", plan, "--format", "compact", "--out", packed).exit_code == 0
    assert CompactPlan(packed.read_bytes()).sha256 == plan_of().sha256
    assert run("diff", plan, packed).stdout == "0 appeared, 0 vanished, 0 moved, 1 unchanged\n"
    assert run("export", packed, "--format", "json").stdout.encode() == plan_of().to_json()
    assert (
        refused("export", plan, "--format", "compact") == "--out: must be given for a file that is not text"
    )


def test_warnings_and_what_is_skipped_are_told_apart_from_the_plan(tmp_path: Path) -> None:
    lossy = plan_of()
    sample = replace(lossy.contacts[0].samples[0], delay_ns=4_000_000)
    lossy = replace(lossy, contacts=(replace(lossy.contacts[0], samples=(sample,)),))
    path = tmp_path / "lossy.json"
    path.write_bytes(lossy.to_json())
    warned = "warning: 1 contacts lost light time, rounded to whole seconds (by up to 0.004000 s)"
    assert warned in run("export", path, "--format", "ion").stderr
    bad = tmp_path / "bad.ion"
    bad.write_text("a contact +0 +9 1 2 9600\na contact +3 +12 1 2 9600\n")
    assert refused("import", bad) == f"{bad}: line 2: must not overlap line 1 from 1 to 2"
    result = run("import", bad, "--skip-bad", "--unit", "bits/s")
    assert f"{bad}: skipped: line 2: must not overlap line 1" in result.stderr
    assert f"{bad}: ion plan, rates in bits/s (as asked for)" in result.stderr
    assert ContactPlan.from_json(result.stdout.encode()).contacts[0].rate_bps_at(0) == 9600


def test_files_that_cannot_be_used_are_named(plan: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refused("diff", plan, missing) == f"{missing}: cannot be read: No such file or directory"
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff")
    assert refused("diff", broken, plan).startswith(f"{broken}: plan: must be JSON in UTF-8")
    assert refused("import", broken) == f"{broken}: must be text in UTF-8"
    assert refused("export", plan, "--format", "ion", "--nodes", broken).startswith(
        f"{broken}: nodes: must be"
    )
    out = tmp_path / "no" / "folder"
    assert refused("export", plan, "--format", "ion", "--out", out).startswith(f"{out}: --out: cannot be")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"ORBPLAN\x01 and nothing that follows")
    assert refused("diff", plan, damaged).startswith(f"{damaged}: plan: must be a compact plan file")
