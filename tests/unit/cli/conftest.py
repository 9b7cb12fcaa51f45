"""A folder with a small scenario and its task, and the command run in it without a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orbitrain import cli

SCENARIO = """\
name = "small"
epoch = "2026-01-01T00:00:00Z"
seed = 7
rounds = 2
duration_s = 600

[clock]
rate = 100

[[constellation]]
name = "sat"
altitude_km = 550
inclination_degrees = 5
satellites = 2
planes = 1

[[sites]]
name = "quito"
latitude_degrees = -0.18
longitude_degrees = -78.47
mask_degrees = 10

[[regions]]
name = "quito"
site = "quito"
devices = 2

[protocol]
name = "fedmeld"
delta = 1
alpha = 0.5

[task]
task = "lookout:Lookout"
"""

TASK = '''\
"""A task that costs nothing and, like many a user's, does not look at the shapes it is given."""

import numpy as np

from orbitrain.learning.tasks import Trained


class Lookout:
    def __init__(self, options, regions, seed):
        if options:
            raise ValueError(f"unknown option {sorted(options)[0]!r}; there are none")

    def initial(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, device, weights, round_number, seed):
        return Trained({name: value + 1 for name, value in weights.items()}, 1)

    def evaluate(self, weights):
        return {"accuracy": 0.5}
'''


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class Place:
    """The folder in which the command is run; everything it may write lies below."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._patch = patch
        self.write("scenario.toml", SCENARIO)
        self.write("lookout.py", TASK)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def edit(self, old: str, new: str, name: str = "scenario.toml") -> None:
        """The scenario with one passage replaced, all of it if `old` is empty."""
        assert old in SCENARIO
        self.write(name, SCENARIO.replace(old, new, 1) if old else new)

    def run(self, *arguments: str) -> Ended:
        """`orbitrain ARGUMENTS`."""
        self._patch.setattr("sys.argv", ["orbitrain", *arguments])
        self._capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        out, err = self._capsys.readouterr()
        return Ended(code, out, err)

    def files(self) -> dict[str, bytes | None]:
        """Everything in the folder; folders map to None. What importing the task leaves is not the run's."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
            if "__pycache__" not in path.parts
        }

    def refused(self, *arguments: str) -> str:
        """The one line with which the command refuses, having left no file and no process."""
        before, children = self.files(), children_of_this_process()
        ended = self.run(*arguments)
        assert (ended.code, ended.out) == (2, ""), ended
        assert ended.err.endswith("\n") and ended.err.count("\n") == 1, ended.err
        assert ended.err.startswith("orbitrain: ")
        assert self.files() == before
        assert children_of_this_process() == children
        return ended.err.removeprefix("orbitrain: ").rstrip("\n")


def children_of_this_process() -> set[int]:
    """Processes whose parent this is, where the system shows them in /proc."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield Place(tmp_path, capsys, monkeypatch)


@pytest.fixture
def refused(place: Place) -> Callable[..., str]:
    """`place.refused`, of `orbitrain sim scenario.toml --out out` if no arguments are given."""

    def ask(*arguments: str) -> str:
        return place.refused(*(arguments or ("sim", "scenario.toml", "--out", "out")))

    return ask
