"""What is measured of a system that moves a file, and how its programs are started and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from netem.syscalls import network_of

ROOT: Final = Path(__file__).resolve().parents[2]

READY_S: Final = 60.0
"""Wall seconds in which a server listens, or a daemon is ready, on a host that is busy with others."""

LOOK_S: Final = 0.05

END_S: Final = 3.0
"""Wall seconds from SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class Node:
    """One end of the link: a network namespace, and the address that the other one reaches it by."""

    name: str
    netns: Path
    address: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a system is given: the file, the two ends, and a folder of its own.

    `plan` is what its nodes may believe of the link, `clock` the scenario's time (`ClockFile`), `network` the
    one that both addresses are of, `rate_bps` the link's at L2.
    """

    folder: Path
    file: Path
    size: int
    source: Node
    destination: Node
    plan: Path
    clock: Path
    network: str
    rate_bps: int


class System(Protocol):
    """Used once. `stop` is called in any case, and may be called twice."""

    warm_s: float
    """Wall seconds of link that it wants before the first contact, to greet its peer; 0: none."""

    def obstacle(self) -> str:
        """Why it cannot be run on this host; empty: it can."""
        ...

    def prepare(self, place: Place) -> None:
        """Before time runs: servers listen, keys and files lie where they must. Raises OSError."""
        ...

    def greet(self) -> None:
        """In the `warm_s` of link before the first contact. Raises OSError."""
        ...

    def start(self) -> None:
        """Begin to move the file; whatever it takes to have it there is up to the system. Raises OSError."""
        ...

    def is_complete(self) -> bool:
        """Whether the file is said to be there; asked some twenty times a second."""
        ...

    def received(self) -> Path:
        """Where the file is, once it is there."""
        ...

    def sent_bytes(self) -> int | None:
        """What its sender has handed to TCP so far, repeats included; asked last, after `stop`."""
        ...

    def stop(self) -> None:
        """End all that it has started."""
        ...


class Copier:
    """What is common to programs that copy a file and know nothing of contacts.

    `_settle` says where. `_done` is there when the file is said to be; `_count` has the bytes that its sender
    has handed to TCP.
    """

    warm_s = 0.0
    _programs: Programs
    _place: Place
    _received: Path
    _done: Path
    _count: Path

    def _settle(self, place: Place) -> None:
        self._place = place
        self._programs = Programs(place.folder / "log")
        self._received, self._done, self._count = (
            place.folder / name for name in ("received", "done", "count")
        )

    def greet(self) -> None:
        """There is nobody to be known by."""

    def is_complete(self) -> bool:
        return self._done.exists()

    def received(self) -> Path:
        return self._received

    def sent_bytes(self) -> int | None:
        return _number_in(self._count)

    def stop(self) -> None:
        self._programs.stop()


@dataclass
class Programs:
    """The processes of a system, each in a namespace and a session of its own."""

    log: Path
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _nodes: set[Path] = field(default_factory=set)

    def start(self, node: Node, *command: object, **environment: str) -> subprocess.Popen[bytes]:
        """As `command`, in the node's namespace; it dies with this process."""
        words = [str(word) for word in command]
        within = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={node.netns}", "--"]
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*within, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(ROOT), **environment},
                start_new_session=True,
            )
        self._started.append(process)
        self._nodes.add(node.netns)
        return process

    def listening(self, node: Node, port: int) -> None:
        """Wait until one of them takes connections there. Raises OSError."""
        limit = time.monotonic() + READY_S
        wanted = f":{port:04X} "
        while time.monotonic() < limit:
            with network_of(str(node.netns)):
                rows = [
                    row
                    for name in ("tcp", "tcp6")
                    for row in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
                ]
            # Of a row's words the second is the local address, the fourth the state: 0A listens.
            if any(wanted in f"{row.split()[1]} " and row.split()[3] == "0A" for row in rows):
                return
            time.sleep(LOOK_S)
        raise OSError(f"nothing listens on {node.address}:{port}")

    def stop(self) -> None:
        """End them and all else that runs in their namespaces: some have left their parents' sessions."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in running_in(self._nodes):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            for process in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_S)
        self._started.clear()


def running_in(namespaces: Iterable[Path]) -> list[int]:
    """Processes whose network namespace is one of these."""
    wanted = {path.stat().st_ino for path in namespaces if path.exists()}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns" / "net").stat().st_ino in wanted:
                    found.append(int(entry.name))
    return found


def lacking(*programs: str) -> str:
    """Which of these programs this host lacks, in words; empty: none."""
    missing = [name for name in (*programs, "setpriv", "nsenter") if shutil.which(name) is None]
    return f"no {', '.join(missing)}" if missing else ""


def python(module: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module]


def _number_in(file: Path) -> int | None:
    """What a program has counted so far."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
