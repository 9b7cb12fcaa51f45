"""orbitrain: two daemons without a plan, and `orbitrain send`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.survival.link import CLIENT, ROOT, SERVER
from bench.survival.peer import READY, Outcome, Stage
from bench.survival.shifted import shifted_clock
from orbitrain.runtime.config import Link, NodeConfig, Operator, dump_toml

_PORT: Final = 7900
_NETWORK: Final = "10.213.0.0/16"  # the emulator's, unless it is told another
_START_S: Final = 60.0
_NAME: Final = "update"
_OTHER: Final = {SERVER: CLIENT, CLIENT: SERVER}


class Orbitrain:
    """As it is, but that it knows no more of the link than the others do."""

    name = "orbitrain"
    settings = "defaults, without a plan (`no_plan`): the link decides, as for the others"

    def prepare(self) -> str:
        return f"orbitrain=={version('orbitrain')}, of this tree"

    def daemon(self, node: str) -> str:
        return f"{node}-node"

    def start(self, stage: Stage) -> None:
        for node, other in _OTHER.items():
            folder = stage.folder / node
            folder.mkdir()
            config = NodeConfig(
                name=node,
                kind="satellite",
                seed=0,
                no_plan=True,
                link=Link(
                    listen=f"{stage.link.address(node)}:{_PORT}",
                    peers={other: f"{stage.link.address(other)}:{_PORT}"},
                    shaped=_NETWORK,
                ),
                operator=Operator(listen=f"unix:{folder}/desk"),
            )
            (folder / "node.toml").write_text(dump_toml(config.model_dump(exclude_none=True)))
            self.restart(stage, node)
        until_s = time.monotonic() + _START_S
        while not all("ready" in stage.processes.text(self.daemon(node)) for node in _OTHER):
            if time.monotonic() > until_s:
                raise RuntimeError(f"no daemon: {stage.processes.text(self.daemon(CLIENT))[-300:]}")
            time.sleep(0.1)
        update = stage.folder / _NAME
        data = os.urandom(stage.update_bytes)
        (stage.folder / "sha256").write_text(hashlib.sha256(data).hexdigest())
        update.write_bytes(data)
        mark = {"s": time.monotonic(), "text": ""}
        (stage.folder / "marks" / READY).write_text(json.dumps(mark))
        command = [sys.executable, "-m", "orbitrain", "send", str(update), "--to", SERVER]
        command += ["--node", str(stage.folder / CLIENT / "node.toml")]
        stage.processes.start("send", command, {"PYTHONPATH": str(ROOT)})

    def restart(self, stage: Stage, node: str) -> None:
        command = [*stage.link.inside(node), sys.executable, "-m", "satellite_node"]
        command += ["--config", str(stage.folder / node / "node.toml")]
        environment = {"PYTHONPATH": str(ROOT)}
        if node == CLIENT and stage.client_clock_s:
            environment |= shifted_clock(stage.folder, stage.client_clock_s)
        stage.processes.start(self.daemon(node), command, environment, stage.folder / node)

    def outcome(self, stage: Stage) -> Outcome | None:
        there: Path = stage.folder / SERVER / "inbox" / CLIENT / _NAME
        if not there.exists():
            return None
        at_s = time.monotonic()
        with there.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == (stage.folder / "sha256").read_text()
        return Outcome("complete", at_s) if same else Outcome("lost", at_s, "another file came")

    def last_words(self, stage: Stage) -> str:
        return " ".join(stage.processes.text(self.daemon(CLIENT)).split())[-200:]
