"""Flower: SuperLink, SuperNode, `flwr run` of an app of one round of its FedAvg."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Final

from bench.survival.environment import environment
from bench.survival.link import CLIENT, SERVER
from bench.survival.peer import HELD, LOST, MARKS, Outcome, Refused, Stage
from bench.survival.shifted import shifted_clock

REQUIREMENT: Final = "flwr==1.41.0"
_PROGRAMS: Final = Path(__file__).parent / "programs"
_PORT: Final = 8000
_START_S: Final = 90.0
_CHUNK_BYTES: Final = 5 * 1024 * 1024  # its default
_CHUNK_S: Final = 4

_PROJECT: Final = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "survive"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "survive.app:server"
clientapp = "survive.app:client"
[tool.flwr.app.config]
"""
_CONFIG: Final = """
[superlink]
default = "bench"
[superlink.bench]
address = "{address}"
insecure = true
"""


class Flower:
    """At its defaults, which retry without end; or tuned as far as it has settings that bear on it."""

    def __init__(self, tuned: bool, given: Path | None = None) -> None:
        self.name = "Flower tuned" if tuned else "Flower"
        self._tuned = tuned
        self._given = given
        self._bin = Path()
        self.settings = (
            "SuperLink --database FILE; FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE of 4 s of the link (at most 5 MiB, "
            "the default) and FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PUSHES=1, so that an object passes a slow link "
            "within the fixed read timeout of 30 s and push session of 180 s; FedAvg timeout 86400 s; "
            "SuperNode --max-retries and --max-wait-time: no limit, which is the default"
            if tuned
            else "defaults; without internet: no installation at run time, no telemetry, no update check"
        )

    def prepare(self) -> str:
        self._bin = environment("flower", REQUIREMENT, self._given) / "bin"
        return REQUIREMENT

    def daemon(self, node: str) -> str:
        return {SERVER: "superlink", CLIENT: "supernode"}[node]

    def start(self, stage: Stage) -> None:
        app = stage.folder / "app"
        (app / "survive").mkdir(parents=True)
        (app / "survive" / "__init__.py").touch()
        (app / "pyproject.toml").write_text(_PROJECT)
        shutil.copy(_PROGRAMS / "flower_app.py", app / "survive" / "app.py")
        shutil.copy(_PROGRAMS / "marking.py", app / "survive" / "marking.py")
        for node in (SERVER, CLIENT):
            home = stage.folder / f"home-{node}"
            home.mkdir()
            (home / "config.toml").write_text(_CONFIG.format(address=f"{stage.link.address(SERVER)}:{_PORT}"))
        self.restart(stage, SERVER)
        _await(stage, "superlink", r"Uvicorn running|startup complete|running on")
        self.restart(stage, CLIENT)
        _await(stage, "supernode", r"SuperNode ID|node_id")
        command = [*stage.link.inside(SERVER), str(self._bin / "flwr"), "run", str(app), "bench"]
        if stage.processes.run("flwr-run", command, self._environment(stage, SERVER), _START_S) != 0:
            raise RuntimeError(f"flwr run: {stage.processes.text('flwr-run')[-500:]}")

    def restart(self, stage: Stage, node: str) -> None:
        command = stage.link.inside(node)
        if node == SERVER:
            command += [str(self._bin / "flower-superlink"), "--insecure", "--host", "0.0.0.0"]
            command += ["--port", str(_PORT), "--disable-runtime-dependency-installation"]
            if self._tuned:
                command += ["--database", str(stage.folder / "superlink.db")]
        else:
            command += [str(self._bin / "flower-supernode"), "--insecure"]
            command += ["--superlink", f"{stage.link.address(SERVER)}:{_PORT}"]
        stage.processes.start(self.daemon(node), command, self._environment(stage, node))

    def outcome(self, stage: Stage) -> Outcome | None:
        if held := stage.mark(HELD):
            return Outcome("complete", held["s"])
        if lost := stage.mark(LOST):
            return Outcome("lost", lost["s"], f"{lost['text']}; {_last_words(stage)}".strip("; "))
        # It deletes the reply then, and does not send it again.
        if failed := re.search(r"Failed to send message \w+: *(.*)", stage.processes.text("supernode")):
            return Outcome("lost", time.monotonic(), f"SuperNode: Failed to send message: {failed[1]}"[:300])
        return None

    def last_words(self, stage: Stage) -> str:
        return _last_words(stage)

    def _environment(self, stage: Stage, node: str) -> dict[str, str]:
        made = {
            "PATH": f"{self._bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "FLWR_HOME": str(stage.folder / f"home-{node}"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "NO_COLOR": "1",
            "PYTHONPATH": "",
            MARKS: str(stage.folder / "marks"),
            "ORBITRAIN_BENCH_BYTES": str(stage.update_bytes),
            "ORBITRAIN_BENCH_TIMEOUT_S": "86400" if self._tuned else "3600",  # FedAvg's own default
        }
        if self._tuned:
            chunk_bytes = min(_CHUNK_BYTES, stage.link.shape.rate_bps * _CHUNK_S // 8)
            made["FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE"] = str(chunk_bytes)
            made["FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PUSHES"] = "1"
        if stage.file is not None:
            made["ORBITRAIN_BENCH_FILE"] = str(stage.file)
        if stage.go is not None:
            made["ORBITRAIN_BENCH_GO"] = str(stage.go)
        if node == CLIENT and stage.client_clock_s:
            made |= shifted_clock(stage.folder, stage.client_clock_s)
        return made


def _await(stage: Stage, name: str, pattern: str) -> None:
    until_s = time.monotonic() + _START_S
    while not re.search(pattern, stage.processes.text(name)):
        if stage.processes.exited(name) is not None and not stage.processes.ended_from_outside(name):
            raise Refused(f"{name} ended as it began; {_last_words(stage)}")
        if stage.processes.exited(name) is not None or time.monotonic() > until_s:
            raise RuntimeError(f"{name} did not start: {stage.processes.text(name)[-500:]}")
        time.sleep(0.2)


def _last_words(stage: Stage) -> str:
    """The latest refusal of a request, else line of an error or a warning of either side."""
    refused = re.findall(r"\"POST (\S+) HTTP/1.1\" (4\d\d)", stage.processes.text("superlink"))
    if refused:
        return f"superlink answers {refused[-1][1]} to {refused[-1][0]}"
    for name in ("supernode", "superlink"):
        lines = re.findall(r".*(?:ERROR|WARN).*?: +(.*)", stage.processes.text(name))
        if lines:
            return f"{name}: {lines[-1]}"[:200]
    return ""
