"""The private folder of a run's sockets, and what killed runs leave of theirs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from orbitrain.outputs import RunFolder
from orbitrain.testbed import deployment


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where socket folders are made: not among those of real runs."""
    monkeypatch.setattr(deployment, "_place", lambda: tmp_path)
    return tmp_path


def test_a_run_has_the_same_folder_at_every_start_and_two_runs_have_two(place: Path) -> None:
    first = deployment.socket_folder(place / "a")
    assert first == deployment.socket_folder(place / "a")
    assert first.stat().st_mode & 0o777 == 0o700
    assert first.parent == place


def test_the_folder_of_a_killed_run_goes_and_that_of_a_living_one_stays(place: Path) -> None:
    living, killed = RunFolder(place / "living"), RunFolder(place / "killed")
    for run in (living, killed):
        run.path.mkdir()
        (run.path / "lock").touch()
    with living.only_one():
        of_living = deployment.socket_folder(living.path)
        of_killed = deployment.socket_folder(killed.path)
        foreign = place / "orbitrain-of-somebody"
        foreign.mkdir()
        deployment.socket_folder(place / "new")
        assert of_living.exists() and foreign.exists()
        assert not of_killed.exists()


def test_the_real_place_is_the_shorter_of_the_temporary_folders() -> None:
    assert len(str(deployment._place())) <= len(tempfile.gettempdir())
