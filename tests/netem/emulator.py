"""A running emulator of links, and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netem.namespaces import FOLDER
from tests.netem.traffic import Flow
from tests.unit.netem.plans import MS

ROOT = Path(__file__).parents[2]


@dataclass
class Links:
    """A running emulator."""

    process: subprocess.Popen[str]
    run_id: str
    backend: str
    ready: dict[str, Any] = field(default_factory=dict)
    root: str = ""

    def line(self, key: str) -> Any:
        """The next line with this key."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            document = json.loads(text)
            if key in document:
                return document[key]
        raise AssertionError(f"ended without {key}")

    def flow(
        self, source: str, destination: str, packets: int, interval_ms: float, payload: int, port: int = 5000
    ) -> Flow:
        places = self.ready
        return Flow(
            f"{self.root}{FOLDER}/{places[source]['netns']}",
            f"{self.root}{FOLDER}/{places[destination]['netns']}",
            places[destination]["address"],
            port,
            packets,
            round(interval_ms * MS),
            payload,
        )

    def end(self) -> dict[str, Any]:
        """Its final account."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        ended: dict[str, Any] = self.line("ended")
        assert self.process.wait(10) == 0
        return ended


def netem(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netem", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **more,
    )  # fmt: skip
