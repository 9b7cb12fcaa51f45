"""The processes of a case: started in a namespace, each with a session of its own, found and ended by it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

TAG: Final = "ORBITRAIN_BENCH_CASE"
"""In the environment of all that a case starts, so that also what left its session is found."""

_END_S: Final = 5.0
_LOOK_S: Final = 0.1


class Processes:
    """Of one case. Daemons are named; `kill` ends one and all that it has started."""

    def __init__(self, tag: str, folder: Path, stop: threading.Event) -> None:
        """`stop`, once set: nothing is started or waited for any more, RuntimeError."""
        self._stop = stop
        self._tag = tag
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Its output is appended to NAME.log."""
        self._check()
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or self._folder,
                env={**os.environ, **environment, TAG: f"{self._tag} {name}"},
                start_new_session=True,
            )

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str], within_s: float) -> int:
        """Started, awaited: its exit status. RuntimeError."""
        self.start(name, command, environment)
        until_s = time.monotonic() + within_s
        while (status := self.exited(name)) is None:
            if time.monotonic() > until_s:
                raise RuntimeError(f"{name}: not done within {within_s:.0f} s")
            time.sleep(_LOOK_S)
        return status

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def text(self, name: str) -> str:
        try:
            return self.log(name).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def exited(self, name: str) -> int | None:
        """The exit status of one that has ended by itself."""
        self._check()
        return self._running[name].poll()

    def ended_from_outside(self, name: str) -> bool:
        """By a signal that this object has not sent."""
        return (self.exited(name) or 0) < 0

    def members(self, name: str) -> list[int]:
        """A daemon's process and those that it has started."""
        return [pid for pid, tag in _tagged() if tag == f"{self._tag} {name}"]

    def kill(self, name: str) -> None:
        """SIGKILL, as a power cut does: the daemon and all that it has started, at once."""
        for pid in self.members(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running[name].wait()

    def anonymous_bytes(self, name: str) -> int:
        """RssAnon of a daemon and of what it has started, summed."""
        return sum(_anonymous_bytes(pid) for pid in self.members(name))

    def end(self) -> None:
        """All of the case, kindly at first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if number == signal.SIGKILL:
                until_s = time.monotonic() + _END_S
                while self._mine() and time.monotonic() < until_s:
                    time.sleep(0.1)
            for pid in self._mine():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        for process in self._running.values():
            process.wait()

    def _check(self) -> None:
        if self._stop.is_set():
            raise RuntimeError("interrupted")

    def _mine(self) -> list[int]:
        for process in self._running.values():
            process.poll()
        return [pid for pid, tag in _tagged() if tag.startswith(f"{self._tag} ")]


def _tagged() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                for word in (entry / "environ").read_bytes().split(b"\0"):
                    if word.startswith(f"{TAG}=".encode()):
                        yield int(entry.name), word.decode().partition("=")[2]


def _anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
