"""Nurseries for as long as a run needs them: one for daemons, one for workers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orbitrain.runtime.compute import worker_environment
from orbitrain.runtime.nursery import NURSERY_VARIABLE
from orbitrain.scenario import Scenario
from orbitrain.testbed.supervisor import DaemonFailed

_DAEMON: Final = ("satellite_node.node", "ground_node.node", "device_node.node", "orbitrain.runtime.daemon")
_WORKER: Final = ("orbitrain.learning.jobs",)


@contextlib.contextmanager
def warmed(scenario: Scenario, folder: Path) -> Iterator[None]:
    """Daemons and workers that this process, and what it starts, ask for come from nurseries inside.

    `folder` is the scenario's, where its task is looked for. Raises DaemonFailed.
    """
    task = scenario.task.task.partition(":")[0]
    with contextlib.ExitStack() as kept:
        place = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="orbitrain-")))
        for kind, modules in (("daemon", _DAEMON), ("worker", (*_WORKER, task))):
            kept.enter_context(_nursery(place / kind, kind, modules, folder))
        yield


@contextlib.contextmanager
def _nursery(place: Path, kind: str, modules: tuple[str, ...], folder: Path) -> Iterator[None]:
    environment = worker_environment()
    environment["PYTHONPATH"] += f"{os.pathsep}{folder.resolve()}"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "orbitrain.testbed.nursery", str(place), *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        variable = NURSERY_VARIABLE.format(kind.upper())
        try:
            if process.stdout.readline().strip() != b"ready":
                raise DaemonFailed(f"the nursery of {kind}s ended with {process.wait()}")
            os.environ[variable] = str(place)
            yield
        finally:
            os.environ.pop(variable, None)
            process.stdin.close()  # it ends, and whatever is left in it
