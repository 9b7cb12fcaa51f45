"""The emulator and its probe as processes, beside a run or without one.

The emulator (`python -m netem up`) owns the nodes' network namespaces and moves every packet between them. It
reads the plan that the links follow and a clock; what it says comes as JSON lines. The probe (`python -m
netem probe`) measures the links beside the nodes' own traffic, and leaves its findings in a file. Both end
when their standard input closes, so they do not outlive this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netem.link_state import Outage
from netem.namespaces import ADDRESSES, FOLDER, HostError, clean
from netem.schedule import Adaptive
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.supervisor import DaemonFailed

STEPS: Final = Adaptive(100_000, 0.01)
"""A link is set anew when its plan is 0.1 ms or 1 % from what is set: some tens of changes a pass."""

ANY_ADDRESSES: Final = str(ADDRESSES)
"""Nodes' addresses, unless told otherwise."""

READY_S: Final = 60.0
"""Wall seconds in which the emulator has all namespaces up; a hundred take some seconds."""

STOP_S: Final = 5.0
PROBE_STOP_S: Final = 10.0
"""Wall seconds from the end of its input to a process's SIGTERM, and on to SIGKILL."""

CLEAR_S: Final = 10.0
"""Wall seconds that an emulator whose parent was killed may take to end by itself."""

LINE_BYTES_MAX: Final = 16 << 20
"""Longest line that is read: its first one names every node."""

Places = dict[str, dict[str, str]]
"""{node: {netns, address}}"""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What an emulator is started with. `folder` takes what it and its probe write; `clock` is read."""

    backend: str
    run_id: str
    folder: Path
    clock: Path
    seed: int = 0
    outage: Outage = "hold"
    addresses: str = ANY_ADDRESSES
    account_s: float = 2.0
    """Wall seconds between two accounts."""

    @property
    def account(self) -> Path:
        """Where the emulator keeps its latest account while it runs."""
        return self.folder / "links-account.json"

    @property
    def log(self) -> Path:
        return self.folder / "links.log"


class Emulator:
    """`clear`, `start`, then wait on `failed` beside whatever else; `stop` in any case."""

    def __init__(self, wiring: Wiring, told: Callable[[str, Any], None] = lambda what, value: None) -> None:
        """`told` is called with what the emulator says: `ready`, `cue`, `stats`, `plan`, `ended`."""
        self.wiring = wiring
        self.places: Places = {}
        self.record: dict[str, Any] = {}
        """What it said when it was ready, and `account`, the latest or last."""
        self._told = told
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._refused = ""

    @property
    def namespaces(self) -> dict[str, Path]:
        """Of the nodes, by name."""
        return {node: FOLDER / place["netns"] for node, place in self.places.items()}

    async def clear(self, patience_s: float = 0.0) -> bool:
        """Remove what one of the same id has left; whether nothing is left. Raises ScenarioError.

        What a living process holds stays; it may take `patience_s` to end.
        """
        for more in range(int(patience_s / 0.2), -1, -1):
            try:
                _, kept = clean(self.wiring.run_id)
            except HostError as error:
                raise ScenarioError(f"links: {error}") from None
            if not kept:
                return True
            if more:
                await asyncio.sleep(0.2)
        return False

    async def start(self, plan: Path) -> Places:
        """Bring the nodes' namespaces up, with links that follow the plan and the clock.

        Raises ScenarioError for what the host lacks, DaemonFailed.
        """
        wiring = self.wiring
        with wiring.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netem", "up", "--links", wiring.backend, "--plan", str(plan)),
                *("--run-id", wiring.run_id, "--clock", str(wiring.clock), "--seed", str(wiring.seed)),
                *("--outage", wiring.outage, "--addresses", wiring.addresses, "--beyond", "mark"),
                *("--adaptive", str(STEPS.delay_ns / 1e6), str(STEPS.rate * 100)),
                *("--stats", str(wiring.account), "--stats-s", str(wiring.account_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C in the terminal is for this process alone.
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        self._reader = asyncio.create_task(self._read(self._process))
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._reader}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._ready.is_set():
            return self.places
        if self._reader.done() and self._process.returncode == 2:
            raise ScenarioError(f"links: {self._last_words()}")
        raise DaemonFailed(self._end_said() if self._reader.done() else "links: not ready in time")

    async def follow(self, plan: Path, from_ns: int) -> None:
        """From scenario time `from_ns` on links follow another plan; one waits at a time."""
        assert self._process is not None and self._process.stdin is not None
        line = json.dumps({"plan": str(plan), "from_ns": from_ns})
        with contextlib.suppress(OSError):  # it has ended, which is said elsewhere
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()

    async def failed(self) -> None:
        """Returns never; raises DaemonFailed when the emulator has ended or does not follow a plan."""
        assert self._reader is not None
        while not self._reader.done():
            if self._refused:
                raise DaemonFailed(f"links: {self._refused}")
            await asyncio.wait({self._reader}, timeout=1.0)
        raise DaemonFailed(self._end_said())

    async def stop(self) -> None:
        """End the emulator, and see to it that nothing of it is left."""
        if self._process is not None:
            await end(self._process, STOP_S)
            self.wiring.account.unlink(missing_ok=True)
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        with contextlib.suppress(HostError, ValueError):
            clean(self.wiring.run_id)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """What it says, until it ends."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                document = json.loads(line)
                what, value = next(iter(document.items()))
            except (ValueError, AttributeError, StopIteration):
                continue
            if what == "ready":
                self.places = value
                self.record |= document
                self._ready.set()
            elif what in ("stats", "ended"):
                self.record["account"] = value
            elif what == "refused":
                self._refused = str(value)
            self._told(what, value)
        await process.wait()

    def _end_said(self) -> str:
        code = None if self._process is None else self._process.returncode
        killed = code is not None and code < 0
        how = f"was killed by {signal.Signals(-(code or 0)).name}" if killed else f"ended with {code}"
        words = self._last_words()
        return f"links: the emulator {how}{f': {words}' if words else ''}"

    def _last_words(self) -> str:
        return last_words(self.wiring.log).removeprefix("netem: ")


class Probe:
    """`start`, then `ended` or not, then `stop` in any case; `found` is what it left."""

    def __init__(self, wiring: Wiring) -> None:
        self.exit_code: int | None = None
        """Of the last one that has ended."""
        self._wiring = wiring
        self._out = wiring.folder / "links-truth.json"
        self._log = wiring.folder / "probe.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    async def start(self, plan: Path, seconds: float | None = None) -> None:
        """It waits for the clock to start, and measures for so many wall seconds, or until it is stopped."""
        wiring = self._wiring
        self._out.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netem", "probe", "--plan", str(plan), "--out", str(self._out)),
                *("--clock", str(wiring.clock), "--run-id", wiring.run_id, "--outage", wiring.outage),
                *("--addresses", wiring.addresses, "--stats", str(wiring.account), "--links", wiring.backend),
                *(() if seconds is None else ("--seconds", str(seconds))),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ended(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            await end(process, PROBE_STOP_S)
            self.exit_code = process.returncode

    @property
    def found(self) -> dict[str, Any] | None:
        """All that it found; None where it left nothing."""
        try:
            found = json.loads(self._out.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("links_truth"), dict) else None

    @property
    def last_words(self) -> str:
        return last_words(self._log).removeprefix("netem: ")


async def end(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """Close its input; SIGTERM, then SIGKILL, if that does not end it."""
    if process.stdin is not None:
        process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            await asyncio.wait_for(process.wait(), patience_s)
            return
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
    await process.wait()


def last_words(log: Path) -> str:
    """The last line of a log."""
    try:
        lines: Sequence[str] = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return (list(lines) or [""])[-1][:300]
