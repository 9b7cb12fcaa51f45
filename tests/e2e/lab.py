"""Real processes for the end-to-end tests: start them, wait for what they report, find what is left behind.

Waiting is always for something to be so, with a deadline that only a defect reaches: nothing here depends on
how fast the machine is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orbitrain.machine import Severity
from orbitrain.results import Entry
from orbitrain.runtime.clock import SECOND_NS, ClockFile
from orbitrain.scenario import Scenario, load_scenario
from orbitrain.step import Event
from orbitrain.testbed.host import obstacles

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("orbitrain")

DEADLINE_S = 120.0
"""Wall seconds after which what was waited for is taken never to come."""

GONE_S = 5.0
"""Wall seconds in which a process ends after what ends it: part of what the tests show."""

MARK = "PYTHON_E2E_FOLDER"
"""In the environment of every process of a test; workers keep variables that begin like this."""

T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T], timeout_s: float = DEADLINE_S) -> T:
    """Wait for `condition` to be true, and return it."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


# -------------------------------------------------------------------------------------------- processes


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent to notice does not."""
    status = _bytes_of(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(status) and status[0] not in (b"Z", b"X")


def _is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal still waits for a process; the kernel keeps only one of each kind."""
    for line in _bytes_of(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith((b"SigPnd:", b"ShdPnd:")) and int(line.split()[1], 16) >> (number - 1) & 1:
            return True
    return False


def children(pid: int) -> list[int]:
    """Processes that `pid` has started and that run."""
    found = []
    for other in _pids():
        status = _bytes_of(Path(f"/proc/{other}/stat")).rpartition(b")")[2].split()
        if len(status) > 1 and status[1] == str(pid).encode() and is_alive(other):
            found.append(other)
    return found


def workers(pid: int) -> list[int]:
    """The worker of a daemon: none or one."""
    return [child for child in children(pid) if b"orbitrain.runtime.worker" in command_line(child)]


def command_line(pid: int) -> list[bytes]:
    return _bytes_of(Path(f"/proc/{pid}/cmdline")).split(b"\0")


def mapped_files(pid: int) -> set[str]:
    """Files in a process's memory: every library that it has loaded."""
    lines = _bytes_of(Path(f"/proc/{pid}/maps")).decode().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}


def wait_gone(what: str, pids: Sequence[int], timeout_s: float = GONE_S) -> None:
    wait_until(f"{what} is gone", lambda: not [pid for pid in pids if is_alive(pid)], timeout_s)


class Lab:
    """Starts processes that carry the folder's name, so that none of them can be forgotten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._logs = 0

    def start(self, *command: object, stdin: int = subprocess.DEVNULL) -> Program:
        self._logs += 1
        output, errors = (self.folder / f"{self._logs}.{kind}" for kind in ("out", "err"))
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env={**os.environ, MARK: str(self.folder)},
                start_new_session=True,
            )
        self._started.append(process)
        return Program(process, output, errors)

    def orbitrain(self, *arguments: object, timeout_s: float = DEADLINE_S) -> Program:
        """Run the command to its end."""
        program = self.start(COMMAND, *arguments)
        program.wait(timeout_s)
        return program

    def processes(self) -> list[int]:
        """Every process of this lab that runs."""
        mark = str(self.folder).encode()
        return [
            pid
            for pid in _pids()
            if pid != os.getpid()
            and is_alive(pid)
            and (
                any(mark in word for word in command_line(pid))
                or f"{MARK}={self.folder}".encode() in _bytes_of(Path(f"/proc/{pid}/environ")).split(b"\0")
            )
        ]

    def leave(self) -> None:
        """End what still runs; whatever the test had not ended itself is a failure."""
        with contextlib.suppress(AssertionError):
            wait_until("all have ended", lambda: not self.processes(), GONE_S)
        left = {pid: b" ".join(command_line(pid)).decode() for pid in self.processes()}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait(DEADLINE_S)
        assert not left, f"left behind: {left}"


@dataclass(slots=True)
class Program:
    """One process that a test has started."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def code(self) -> int | None:
        return self.process.poll()

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def complained(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        wait_until("the process has ended", lambda: self.code is not None, timeout_s)
        assert self.code is not None
        return self.code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. It has been taken on return: a second one of the same kind is a second one."""
        self.process.send_signal(number)
        if number is signal.SIGINT:
            wait_until("the signal is taken", lambda: not _is_pending(self.pid, number))


# ----------------------------------------------------------------------------------------------- journals


def journal_entries(name: str, state: Path) -> list[Entry]:
    """What a node's own journal says, in order; also while the node writes it."""
    path = state / "journal.sqlite"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            (incarnation,) = db.execute("SELECT incarnation FROM node").fetchone()
            rows = db.execute("SELECT t_ns, role, severity, kind, fields FROM events ORDER BY sequence")
            return [
                Entry(name, incarnation, Event(t_ns, role, Severity(severity), kind, json.loads(fields)))
                for t_ns, role, severity, kind, fields in rows
            ]
        except (sqlite3.OperationalError, TypeError):
            return []  # not made yet


def in_order(entries: Iterator[Entry] | Sequence[Entry]) -> list[Entry]:
    """As the operator has them: by time, then node; `sorted` keeps the order inside a journal."""
    return sorted(entries, key=lambda entry: (entry.event.t_ns, entry.node))


def told(entries: Sequence[Entry], kind: str, **fields: object) -> list[Entry]:
    """The event reports of a kind, with these fields."""
    return [
        entry
        for entry in entries
        if entry.event.kind == kind
        and all(entry.event.fields.get(name) == value for name, value in fields.items())
    ]


# --------------------------------------------------------------------------------------------------- runs


def tun_or_skip() -> None:
    """Skip where no links of real packets can be made; in CI that is a failure."""
    why = obstacles(["tun"])["tun"]
    if not why:
        return
    inside = subprocess.run(
        [sys.executable, "-m", "orbitrain.testbed.inside", "--try", "tun"],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if inside.returncode != 0 or json.loads(inside.stdout)["tun"]:
        said = inside.stdout.strip() or inside.stderr.strip()
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{why}; {said}")


def place_scenario(folder: Path, **changes: str) -> Path:
    """A copy of the small scenario and its task; `changes` replace the values of keys that occur once."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(HERE / "own", folder / "own", ignore=shutil.ignore_patterns("__pycache__"))
    lines = (HERE / "scenario.toml").read_text(encoding="utf-8").splitlines()
    for key, value in changes.items():
        places = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
        assert len(places) == 1, key
        lines[places[0]] = f"{key} = {value}"
    (folder / "scenario.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "scenario.toml"


@dataclass(slots=True)
class Run:
    """`orbitrain run` on a scenario, in the folder `out`."""

    lab: Lab
    file: Path
    out: Path
    options: tuple[object, ...] = ("--quiet", "--no-baseline")
    program: Program | None = None
    scenario: Scenario = field(init=False)

    def __post_init__(self) -> None:
        self.scenario = load_scenario(self.file)

    def start(self) -> Program:
        options = self.options if "--links" in self.options else (*self.options, "--links", "none")
        self.program = self.lab.start(COMMAND, "run", self.file, "--out", self.out, *options)
        return self.program

    def finish(self, timeout_s: float = 4 * DEADLINE_S) -> dict[str, Any]:
        """Wait for the end, which must be a good one; returns the result."""
        assert self.program is not None
        code = self.program.wait(timeout_s)
        assert code == 0, f"exit {code}: {self.program.complained}"
        return self.result

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_bytes())
        return found

    @property
    def nodes(self) -> dict[str, str]:
        """Kind by name."""
        return dict(self.scenario.nodes())

    def state(self, name: str) -> Path:
        return self.out / "nodes" / name

    def pid(self, name: str) -> int | None:
        """The daemon of a node, if it runs now."""
        try:
            pid = int((self.out / "nodes" / f"{name}.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if is_alive(pid) and b"--config" in command_line(pid) else None

    def kill_who_reports(self, kind: str) -> None:
        """SIGKILL for the first node that reports such an event, once it has."""
        program = self.program
        assert program is not None

        def first() -> Entry | None:
            assert program.code is None, program.complained
            return next((one for one in self.journals() if one.event.kind == kind), None)

        node = wait_until(f"{kind} is reported", first, 300).node
        os.kill(wait_until(f"{node} runs", lambda: self.pid(node)), signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        return {name: pid for name in self.nodes if (pid := self.pid(name)) is not None}

    def committed_ns(self) -> int:
        """How far the run says it has come."""
        path = self.out / "clock.json"
        return ClockFile.read(path).committed_ns if path.exists() else 0

    def wait_for_s(self, t_s: float) -> None:
        """Wait until scenario time `t_s`, or the end of the run."""

        def come() -> bool:
            over = self.program is not None and self.program.code is not None
            return over or self.committed_ns() >= t_s * SECOND_NS

        wait_until(f"scenario time {t_s:g} s", come, 2 * DEADLINE_S)

    def journals(self) -> list[Entry]:
        """Every node's own journal."""
        return in_order([entry for name in self.nodes for entry in journal_entries(name, self.state(name))])

    def events(self) -> list[Entry]:
        """events.jsonl."""
        entries = []
        for line in (self.out / "events.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            event = Event(row["t_ns"], row["role"], Severity(row["severity"]), row["kind"], row["fields"])
            entries.append(Entry(row["node"], row["incarnation"], event))
        return entries


PROTOCOL_EVENTS = (
    "update_trained",
    "update_sent",
    "update_accepted",
    "aggregated",
    "carry_picked_up",
    "carry_mixed",
    "carry_expired",
    "round_starved",
    "model_adopted",
)


def protocol_events(entries: Sequence[Entry]) -> dict[str, list[tuple[object, ...]]]:
    """(kind, region, round, digest) by node: what the daemons and the simulator must agree on."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for entry in entries:
        if entry.event.kind in PROTOCOL_EVENTS:
            fields: Mapping[str, Any] = entry.event.fields
            place = (fields["region"], fields["round"], fields.get("digest"))
            found.setdefault(entry.node, []).append((entry.event.kind, *place))
    return found
