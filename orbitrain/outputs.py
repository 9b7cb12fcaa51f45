"""The folder of a run: what is written there, and whether a run may go on in it."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.plan import ContactPlan
from orbitrain.results import Entry
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import ScenarioError

LOCK_TRIES = 5
LOCK_WAIT_S = 0.1
"""A run that starts elsewhere may hold the lock for a moment, to see whether this one was killed."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """DIR of `--out`."""

    path: Path

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def truth(self) -> Path:
        """The plan that the links follow, where that is another."""
        return self.path / "truth.json"

    @property
    def updates(self) -> Path:
        """When which later plan is believed."""
        return self.path / "updates.json"

    @property
    def clock(self) -> Path:
        return self.path / "clock.json"

    @property
    def nodes(self) -> Path:
        return self.path / "nodes"

    @property
    def identity(self) -> Path:
        """Says of which scenario, seed and driver the folder is."""
        return self.path / "run.json"

    def claim(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make the folder this run's. Returns the result of a run that is finished, None to go on.

        Raises ScenarioError if the folder is of another scenario, seed or driver, or is not a run's at all.
        """
        if self.identity.exists():
            try:
                found = json.loads(self.identity.read_bytes())
            except (OSError, ValueError) as error:
                raise ScenarioError(f"{self.identity}: cannot be read: {error}") from None
            for key, value in identity.items():
                if not isinstance(found, dict) or found.get(key) != value:
                    was = found.get(key) if isinstance(found, dict) else None
                    raise ScenarioError(
                        f"{self.path}: --out: holds a run with another {key} ({was}, not {value}); "
                        "give an empty folder"
                    )
            return self._finished()
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ScenarioError(f"{self.path}: --out: must be an empty folder, or that of an unfinished run")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.identity, identity)
        except OSError as error:
            raise ScenarioError(f"{self.path}: --out: cannot be written: {error.strerror}") from None
        return None

    def _finished(self) -> dict[str, Any] | None:
        try:
            result = json.loads(self.result.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ScenarioError(f"{self.result}: cannot be read: {error}") from None
        if not isinstance(result, dict):
            raise ScenarioError(f"{self.result}: must be the object that a run writes")
        return result

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Raises ScenarioError while another process runs in the folder."""
        with (self.path / "lock").open("w") as file:
            for _ in range(LOCK_TRIES):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    threading.Event().wait(LOCK_WAIT_S)
            else:
                raise ScenarioError(f"{self.path}: --out: another run is going on there")
            yield

    def write_plan(self, plan: ContactPlan) -> None:
        replace_bytes(self.plan, plan.to_json())

    def write_events(self, entries: Iterable[Entry]) -> None:
        with (self.path / "events.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(entry.json_line() + "\n" for entry in entries)

    def write_metrics(self, rows: Iterable[tuple[int, str, str, float]]) -> None:
        """Rows are (t_ns, node, metric, value)."""
        with (self.path / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("t_s", "node", "metric", "value"))
            writer.writerows(
                (f"{t_ns / SECOND_NS:.3f}", node, metric, f"{value:.10g}")
                for t_ns, node, metric, value in rows
            )

    def write_models(self, models: Mapping[str, Path]) -> None:
        """Each region's model as models/REGION.safetensors, the bytes that travelled."""
        folder = self.path / "models"
        folder.mkdir(exist_ok=True)
        for region, path in models.items():
            shutil.copyfile(path, folder / f"{region}.safetensors")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Last of all: a folder with a result is a finished run."""
        write_json(self.result, result)


def load_plan(path: Path) -> ContactPlan:
    """Read a plan file of either form. Raises ScenarioError with one line."""
    try:
        return read_plan(path.read_bytes())
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None
    except PlanError as error:
        raise ScenarioError(f"{path}: {error}") from None


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    fresh = path.with_name(path.name + ".fresh")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    replace_bytes(path, (json.dumps(values, indent=2) + "\n").encode("ascii"))
