"""The folder of a run: who may write there, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orbitrain.machine import Severity
from orbitrain.outputs import RunFolder, load_plan, replace_bytes
from orbitrain.results import Entry
from orbitrain.scenario import ScenarioError
from orbitrain.step import Event

IDENTITY: dict[str, Any] = {"scenario_sha256": "a" * 64, "seed": 7, "driver": "sim"}


def refusal(folder: RunFolder, identity: dict[str, Any] = IDENTITY) -> str:
    with pytest.raises(ScenarioError) as caught:
        folder.claim(identity)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["new", "new/and/deep", "empty"])
def test_a_new_or_empty_folder_is_claimed_and_says_for_whom(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    folder = RunFolder(tmp_path / place)
    assert folder.claim(IDENTITY) is None
    assert json.loads(folder.identity.read_bytes()) == IDENTITY


def test_the_same_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim(IDENTITY)
    (folder.path / "plan.json").write_text("{}")
    assert folder.claim(IDENTITY) is None


def test_what_a_run_has_noted_beside_its_identity_does_not_matter(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim({**IDENTITY, "wall_seconds": 3.5})
    assert folder.claim(IDENTITY) is None


def test_a_finished_run_is_answered_with_its_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim(IDENTITY)
    folder.write_result({"rounds": {"quito": 2}})
    assert folder.claim(IDENTITY) == {"rounds": {"quito": 2}}


@pytest.mark.parametrize("key, value", [("scenario_sha256", "b" * 64), ("seed", 8), ("driver", "daemons")])
def test_the_folder_of_another_run_is_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim(IDENTITY)
    line = refusal(folder, {**IDENTITY, key: value})
    assert line.startswith(f"{folder.path}: --out: holds a run with another {key} (")


def test_a_folder_with_anything_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "must be an empty folder" in refusal(RunFolder(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "must be an empty folder" in refusal(RunFolder(tmp_path / "file"))
    assert "--out: cannot be written: " in refusal(RunFolder(tmp_path / "file" / "inner"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff"], ids=repr)
def test_a_folder_whose_identity_is_broken_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    folder.identity.write_bytes(content)
    assert str(tmp_path) in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"], ids=repr)
def test_a_result_that_is_broken_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim(IDENTITY)
    folder.result.write_bytes(content)
    assert str(folder.result) in refusal(folder)


# --------------------------------------------------------------------------------------------- the files


def test_events_are_one_object_a_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    event = Event(5, "fedmeld.device", Severity.ACTIVITY_HI, "model_adopted", {"region": "quito", "round": 1})
    folder.write_events([Entry("quito-dev-0", "f" * 32, event)] * 2)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0]) == {
        "t_ns": 5,
        "node": "quito-dev-0",
        "incarnation": "f" * 32,
        "role": "fedmeld.device",
        "severity": "activity_hi",
        "kind": "model_adopted",
        "fields": {"region": "quito", "round": 1},
    }


def test_metrics_are_a_table_in_seconds(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_metrics([(1_500_000_000, "sat-0", "contacts", 2.0), (0, "g", "x", 1 / 3)])
    text = (tmp_path / "metrics.csv").read_bytes()
    assert text == b"t_s,node,metric,value\n1.500,sat-0,contacts,2\n0.000,g,x,0.3333333333\n"


def test_models_are_copied_under_the_names_of_their_regions(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    RunFolder(tmp_path).write_models({"quito": tmp_path / "blob"})
    assert (tmp_path / "models" / "quito.safetensors").read_bytes() == b"weights"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    replace_bytes(tmp_path / "x", b"old")
    replace_bytes(tmp_path / "x", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"new")]


def test_a_plan_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"gone\.json: cannot be read: No such file"):
        load_plan(tmp_path / "gone.json")
