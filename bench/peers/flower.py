"""Flower: the file is the update of one client in a round of one, from SuperNode to SuperLink.

Its SuperNode has two settings for a link that is down, --max-retries and --max-wait-time: both are without a
limit unless one is set. The session of a push of 180 s (OBJECT_PUSH_SESSION_TTL_SECONDS) is a constant.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from bench.peers.environment import FLOWER, environment
from bench.peers.system import Place, Programs, lacking

PORT: Final = 9_091
APP: Final = Path(__file__).with_name("flower_app")


class Flower:
    def obstacle(self) -> str:
        found = environment("flower", FLOWER, "flwr.serverapp")
        return lacking() if found is not None else f"{FLOWER} cannot be installed"

    def prepare(self, place: Place) -> None:
        programs = environment("flower", FLOWER, "flwr.serverapp")
        assert programs is not None
        self._place, self._bin = place, programs
        self.programs = Programs(place.folder / "log")
        self._out = place.folder / "out"
        home = place.folder / "home"
        home.mkdir()
        address = f"{place.destination.address}:{PORT}"
        text = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
        (home / "config.toml").write_text(text)
        shutil.copytree(APP, place.folder / "app")
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PYTHONPATH": "",
        }
        link = [programs / "flower-superlink", "--insecure"]
        self.programs.serve(
            place.destination,
            *(*link, "--host", place.destination.address, "--port", PORT, *self.server_options()),
            **self._environment,
        )
        node = [programs / "flower-supernode", "--insecure", "--superlink", address]
        about = f'file="{place.file}" begun="{place.folder / "begun"}"'
        self.programs.serve(place.source, *node, "--node-config", about, **self._environment)

    def server_options(self) -> list[str]:
        """Beyond the defaults: its state on disk, as an operator who cares would have it. By default it would
        install what an app needs from the network at each run, which here there is none for."""
        database = ["--database", str(self._place.folder / "superlink.sqlite")]
        return [*database, "--disable-runtime-dependency-installation"]

    def start(self) -> None:
        run = [self._bin / "flwr", "run", self._place.folder / "app", "here"]
        about = f'out="{self._out}"'
        self.programs.start(self._place.destination, *run, "--run-config", about, **self._environment)

    def is_complete(self) -> bool:
        return self._out.exists()

    def failure(self) -> str:
        """What its server was told instead of the update."""
        failed = self._out.with_suffix(".failed")
        return " ".join(failed.read_text().split())[:300] if failed.exists() else ""

    def received(self) -> Path:
        return self._out

    def sent_bytes(self) -> int | None:
        return None

    def stop(self) -> None:
        self.programs.stop()
