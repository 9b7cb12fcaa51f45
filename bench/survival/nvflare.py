"""NVIDIA FLARE: provisioned server and client with mutual TLS, one job of one round of its FedAvg."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any, Final

from bench.survival.environment import environment
from bench.survival.link import CLIENT, SERVER
from bench.survival.peer import HELD, LOST, MARKS, Outcome, Refused, Stage
from bench.survival.shifted import shifted_clock

REQUIREMENT: Final = "nvflare==2.9.0"
_PROGRAMS: Final = Path(__file__).parent / "programs"
_START_S: Final = 120.0
_SITES: Final = {SERVER: "server1", CLIENT: "site-1"}
_DAY_S: Final = 86_400.0

_PROJECT: Final = """
api_version: 3
name: survive
description: one server, one client
participants:
  - {name: server1, type: server, org: bench, fed_learn_port: 8002, admin_port: 8003}
  - {name: site-1, type: client, org: bench}
  - {name: admin@bench.org, type: admin, org: bench, role: project_admin}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
    args: {template_file: master_template.yml}
  - path: nvflare.lighter.impl.static_file.StaticFileBuilder
    args: {config_folder: config}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""

_TUNED_JOB: Final[dict[str, Any]] = {
    "get_task_timeout": _DAY_S,
    "submit_task_result_timeout": _DAY_S,
    "task_check_timeout": 30.0,
    "min_download_timeout": _DAY_S,
    "np_min_download_timeout": _DAY_S,
    "np_streaming_per_request_timeout": _DAY_S,
    "streaming_per_request_timeout": _DAY_S,
    "runner_sync_timeout": 30.0,
    "max_runner_sync_timeout": _DAY_S,
    "dead_client_grace_period": _DAY_S,
}
_TUNED_CLIENT: Final[dict[str, Any]] = {"communication_timeout": _DAY_S, "retry_timeout": _DAY_S}
_TUNED_SERVER: Final[dict[str, Any]] = {"heart_beat_timeout": _DAY_S}
_TUNED_LINK: Final[dict[str, Any]] = {
    "streaming_read_timeout": 86_400,
    "streaming_ack_wait": 86_400,
    "streaming_ack_progress_timeout": _DAY_S,
    "streaming_send_timeout": _DAY_S,
    "streaming_retry_timeout": _DAY_S,
    "streaming_retry_wait": 0.0,  # set for each case
    "sfm_send_stall_timeout": _DAY_S,
}
_RETRY_TIMES: Final = 2
_RETRY_LEAST_S: Final = 30.0
_RETRY_WORDS: Final = "streaming_retry_wait twice the update's ideal time, at least 30"


class NvFlare:
    """As provisioned; or with the time-outs on an update's way, as far as found, at a day."""

    def __init__(self, tuned: bool, given: Path | None = None) -> None:
        self.name = "NVFlare tuned" if tuned else "NVFlare"
        self._tuned = tuned
        self._given = given
        self._bin = Path()
        self.settings = "as provisioned, mutual TLS"
        if tuned:
            groups = {
                "job, both sides": _TUNED_JOB,
                "local/resources.json client": _TUNED_CLIENT,
                "local/resources.json server": _TUNED_SERVER,
                "local/comm_config.json": _TUNED_LINK,
            }
            told = [
                f"{where}: " + ", ".join(f"{key} {value:g}" for key, value in values.items())
                for where, values in groups.items()
            ]
            self.settings += "; " + "; ".join(told).replace("streaming_retry_wait 0", _RETRY_WORDS) + " (s)"

    def prepare(self) -> str:
        self._bin = environment("nvflare", REQUIREMENT, self._given) / "bin"
        return REQUIREMENT

    def daemon(self, node: str) -> str:
        return {SERVER: "flare-server", CLIENT: "flare-client"}[node]

    def start(self, stage: Stage) -> None:
        folder = stage.folder
        (folder / "project.yml").write_text(_PROJECT)
        self._local(
            stage, "provision", [str(self._bin / "nvflare"), "provision", "-p", "project.yml"], "-w", "ws"
        )
        self._local(stage, "update", [str(self._bin / "python"), "-c", _UPDATE, str(stage.update_bytes)])
        settings = json.dumps(_TUNED_JOB if self._tuned else {})
        command = [str(self._bin / "python"), str(_PROGRAMS / "nvflare_job.py"), str(folder / "job")]
        self._local(stage, "export", command, settings, settings)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{stage.link.address(SERVER)} server1\n")
        for node in (SERVER, CLIENT):
            self._settle(stage, node)
        self.restart(stage, SERVER)
        self._await(
            stage, SERVER, r"Server started|Got the primary SP|server runner starting|Start the admin"
        )
        self.restart(stage, CLIENT)
        self._await(stage, CLIENT, r"Successfully registered")
        (job,) = (folder / "job").iterdir()
        command = [*self._inside(stage, SERVER), str(self._bin / "nvflare"), "job", "submit", "-j", str(job)]
        command += ["--startup-kit", str(self._kit(stage, "admin@bench.org"))]
        if stage.processes.run("submit", command, self._environment(stage, SERVER), _START_S) != 0:
            raise RuntimeError(f"nvflare job submit: {stage.processes.text('submit')[-500:]}")

    def restart(self, stage: Stage, node: str) -> None:
        # What its start.sh keeps running; the bench is the service manager here.
        script = self._kit(stage, _SITES[node]) / "startup" / "sub_start.sh"
        command = [*self._inside(stage, node), "bash", str(script), "--once"]
        stage.processes.start(self.daemon(node), command, self._environment(stage, node))

    def outcome(self, stage: Stage) -> Outcome | None:
        if held := stage.mark(HELD):
            return Outcome("complete", held["s"])
        if lost := stage.mark(LOST):
            return Outcome("lost", lost["s"], lost["text"])
        # Its parent process says so when the job's process has ended.
        ended = re.search(
            r"(?:Finished|end|complete)[^\n]*job[^\n]*", self._log(stage, SERVER), re.IGNORECASE
        )
        if ended and "FINISHED" in ended[0]:
            return Outcome("lost", time.monotonic(), self.last_words(stage) or ended[0][-200:])
        return None

    def _kit(self, stage: Stage, site: str) -> Path:
        return stage.folder / "ws" / "survive" / "prod_00" / site

    def _inside(self, stage: Stage, node: str) -> list[str]:
        """`ip netns exec` gives the command a mount namespace of its own: the name is known in it only."""
        hosts = shlex.quote(str(stage.folder / "hosts"))
        return [*stage.link.inside(node), "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]

    def _settle(self, stage: Stage, node: str) -> None:
        local = self._kit(stage, _SITES[node]) / "local"
        # Jobs of all servers of a host are in one folder unless told otherwise: cells would run each other's.
        text = (local / "resources.json.default").read_text().replace("/tmp/nvflare", f"{stage.folder}/kept")
        (local / "resources.json").write_text(text)
        if not self._tuned:
            return
        resources = json.loads(text)
        if node == CLIENT:
            resources.setdefault("client", {}).update(_TUNED_CLIENT)
        else:
            for server in resources.get("servers", [resources.setdefault("server", {})]):
                server.update(_TUNED_SERVER)
        (local / "resources.json").write_text(json.dumps(resources))
        # By default it resends what is not acknowledged after 5 s, also what still waits for the link.
        ideal_s = stage.update_bytes * 8 / stage.link.shape.rate_bps
        wait = {"streaming_retry_wait": max(_RETRY_LEAST_S, _RETRY_TIMES * ideal_s)}
        (local / "comm_config.json").write_text(json.dumps(_TUNED_LINK | wait))

    def _environment(self, stage: Stage, node: str) -> dict[str, str]:
        made = {
            "PATH": f"{self._bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(stage.folder),  # where its command keeps its configuration
            "PYTHONPATH": "",
            MARKS: str(stage.folder / "marks"),
        }
        if node == CLIENT and stage.client_clock_s:
            made |= shifted_clock(stage.folder, stage.client_clock_s)
        return made

    def _local(self, stage: Stage, name: str, command: list[str], *more: str) -> None:
        """A program that needs no link. RuntimeError."""
        if stage.processes.run(name, [*command, *more], self._environment(stage, SERVER), _START_S) != 0:
            raise RuntimeError(f"nvflare {name}: {stage.processes.text(name)[-500:]}")

    def _log(self, stage: Stage, node: str) -> str:
        return stage.processes.text(self.daemon(node))

    def _await(self, stage: Stage, node: str, pattern: str) -> None:
        until_s = time.monotonic() + _START_S
        while not re.search(pattern, self._log(stage, node)):
            name = self.daemon(node)
            if stage.processes.exited(name) is not None and not stage.processes.ended_from_outside(name):
                raise Refused(f"{name} ended as it began; {self.last_words(stage)}")
            if stage.processes.exited(name) is not None or time.monotonic() > until_s:
                raise RuntimeError(f"{name} did not start: {self._log(stage, node)[-500:]}")
            time.sleep(0.2)

    def last_words(self, stage: Stage) -> str:
        for node in (CLIENT, SERVER):
            lines = re.findall(r".*(?:ERROR|WARNING) - (.*)", self._log(stage, node))
            if lines:
                return f"{self.daemon(node)}: {lines[-1]}"[:250]
        return ""


_UPDATE: Final = """
import hashlib, os, sys
import numpy as np
from pathlib import Path
words = np.frombuffer(hashlib.shake_256(b"orbitrain").digest(int(sys.argv[1])), dtype=np.int32)
np.save(Path(os.environ["ORBITRAIN_BENCH_MARKS"]) / "update.npy", words)
"""
