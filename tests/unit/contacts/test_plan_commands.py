"""`orbitrain plan show`, `plan slice`, `plan diff`, `plan export` and `plan import`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from orbitrain.contacts.compact import CompactPlan, compact
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.slices import slice_for
from orbitrain.plan_commands import plan_diff, plan_export, plan_import, plan_show, plan_slice
from orbitrain.scenario import ScenarioError

SECOND = 10**9
NODES = (PlanNode("sat-0", "satellite"), PlanNode("quito-0", "device"))

app = typer.Typer()
app.command("show")(plan_show)
app.command("slice")(plan_slice)
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
        "~ sat-0 -> quito-0 service 10.000 to 90.000 s: start +2.000 s, volume -2000 bytes\n"
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
    damaged.write_bytes(b"ORBPLAN\x02 and nothing that follows")
    assert refused("diff", plan, damaged).startswith(f"{damaged}: plan: must be a compact plan file")


# --- show -------------------------------------------------------------------------------------------------


def mixed() -> ContactPlan:
    """Three passes of a device, both ways, and a feeder of little confidence."""
    contacts = []
    for n in range(3):
        samples = (Sample(n * 20 * SECOND, 4_000_000, 8_000, 0.0, 1.0),)
        for ends in (("sat-0", "quito-0"), ("quito-0", "sat-0")):
            contacts.append(Contact(*ends, "service", n * 20 * SECOND, (n * 20 + 15) * SECOND, samples))
    doubtful = Contact(
        "sat-0", "hub", "feeder", 5 * SECOND, 9 * SECOND, (Sample(5 * SECOND, 9, 8_000, 0.0, 1.0),),
        margin_ns=400_000_000, confidence=0.8,
    )  # fmt: skip
    nodes = (*NODES, PlanNode("hub", "ground"))
    return replace(plan_of(), nodes=nodes, contacts=(*contacts, doubtful))


@pytest.fixture(params=["json", "compact"])
def mixed_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "mixed"
    path.write_bytes(mixed().to_json() if request.param == "json" else compact(mixed()))
    return path


def table_rows(output: str) -> list[list[str]]:
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_show_tells_classes_and_what_is_not_sure(mixed_file: Path) -> None:
    result = run("show", mixed_file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("plan version 1, epoch 2026-01-01T00:00:00Z, 100 s, 3 nodes, 7 contacts, sha")
    assert lines[1] == "1 satellite, 1 ground node, 1 device, 6 service, 1 feeder"
    found = table_rows(result.stdout)
    assert len(found) == 7
    assert [
        "sat-0",
        "hub",
        "feeder",
        "5.000",
        "9.000",
        "4.0",
        "0.00..0.00",
        "0.008",
        "0.400",
        "0.800",
    ] in found
    assert all(row[-2:] == ["", ""] for row in found if row[2] == "service")


def test_show_has_no_column_for_what_every_contact_has(plan: Path) -> None:
    output = run("show", plan).stdout
    assert "confidence" not in output and "margin" not in output


def test_show_can_be_narrowed_and_says_when_it_is_not_all(mixed_file: Path) -> None:
    assert [row[2] for row in table_rows(run("show", mixed_file, "--node", "hub").stdout)] == ["feeder"]
    assert len(table_rows(run("show", mixed_file, "--class", "service").stdout)) == 6
    limited = run("show", mixed_file, "--class", "service", "--limit", "2").stdout
    assert len(table_rows(limited)) == 2
    assert limited.splitlines()[-1] == ("2 of 6 contacts; --limit 0 shows all, --node and --class fewer")
    assert len(table_rows(run("show", mixed_file, "--limit", "0").stdout)) == 7
    nothing = run("show", mixed_file, "--node", "hub", "--class", "service").stdout
    assert nothing.splitlines()[-1] == "no such contacts"
    assert (
        refused("show", mixed_file, "--node", "x") == f"{mixed_file}: --node: 'x' is not a node of the plan"
    )
    assert run("show", mixed_file, "--class", "x").exit_code == 2


def test_show_says_of_what_a_slice_is_one(tmp_path: Path, mixed_file: Path) -> None:
    out = tmp_path / "slice.json"
    run("slice", mixed_file, "--node", "hub", "--out", out)
    assert run("show", out).stdout.splitlines()[2] == f"slice for hub of {mixed().sha256}"


def test_a_plan_of_nothing_is_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_bytes(replace(mixed(), contacts=()).to_json())
    assert run("show", path).stdout.splitlines()[-1] == "no contacts"


# --- plot -------------------------------------------------------------------------------------------------


def test_plot_writes_a_picture_and_one_line(mixed_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.png"
    result = run("show", mixed_file, "--plot", out)
    assert result.stdout == f"{out}: 7 contacts of 7, plan sha256 {mixed().sha256}\n"
    assert out.read_bytes().startswith(b"\x89PNG")
    assert run("show", mixed_file, "--node", "hub", "--plot", out).stdout.startswith(
        f"{out}: 1 contacts of 7"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed", "plan.png"]


def test_without_matplotlib_one_line_says_what_to_install(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "orbitrain.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "plan.png"
    assert refused("show", plan, "--plot", out) == (
        "--plot: needs matplotlib, which pip install 'orbitrain[plot]' brings"
    )
    assert not out.exists()
    assert run("show", plan).exit_code == 0


def test_what_cannot_be_written_leaves_nothing_half_written(plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    missing = tmp_path / "no" / "plan.png"
    before = sorted(tmp_path.rglob("*"))
    assert refused("show", plan, "--plot", folder) == f"{folder}: --plot: cannot be written: Is a directory"
    assert refused("show", plan, "--plot", missing) == (
        f"{missing}: --plot: cannot be written: No such file or directory"
    )
    assert refused("slice", plan, "--node", "sat-0", "--out", folder).startswith(f"{folder}: --out: cannot")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_fills_up_leaves_the_old_file(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "slice.json"
    out.write_bytes(b"before")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert refused("slice", plan, "--node", "sat-0", "--out", out) == (
        f"{out}: --out: cannot be written: No space left on device"
    )
    assert out.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "slice.json"]


# --- slice ------------------------------------------------------------------------------------------------


def test_slice_writes_what_one_node_needs(mixed_file: Path, tmp_path: Path) -> None:
    out, packed = tmp_path / "slice.json", tmp_path / "slice.orbplan"
    part = slice_for(mixed(), "hub", ["quito-0"])
    result = run("slice", mixed_file, "--node", "hub", "--device", "quito-0", "--out", out)
    assert result.stdout == (
        f"{out}: 7 contacts, 3 nodes for hub, sha256 {part.sha256}, of {mixed().sha256}\n"
    )
    assert out.read_bytes() == part.to_json()
    run("slice", mixed_file, "--node", "hub", "--format", "compact", "--out", packed)
    assert CompactPlan(packed.read_bytes()).plan() == slice_for(mixed(), "hub")
    named = tmp_path / "slice.plan"
    run("slice", mixed_file, "--node", "hub", "--out", named)
    assert named.read_bytes() == packed.read_bytes()
    run("slice", mixed_file, "--node", "hub", "--format", "json", "--out", named)
    assert named.read_bytes() == slice_for(mixed(), "hub").to_json()


def test_a_slice_that_cannot_be_cut_is_refused(mixed_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "slice.json"
    for arguments, message in (
        (("--node", "x"), "node: 'x' is not a node of the plan"),
        (("--node", "hub", "--device", "y"), "devices: 'y' is not a node of the plan"),
    ):
        assert refused("slice", mixed_file, *arguments, "--out", out) == f"{mixed_file}: {message}"
    assert not out.exists()
    run("slice", mixed_file, "--node", "hub", "--out", out)
    again = refused("slice", out, "--node", "hub", "--out", tmp_path / "again.json")
    assert again == f"{out}: plan: must be a whole plan, not the slice for hub"
