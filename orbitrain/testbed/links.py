"""The processes beside a run whose links are emulated: the emulator, and the probe that holds it to the plan.

The emulator (`python -m netem tun`) owns the nodes' network namespaces and moves every packet between them.
It reads the plan that the links follow and the run's clock; what it says comes as JSON lines. It ends when
its standard input closes, so it does not outlive this process. The probe (`python -m netem probe`) measures
the links beside the nodes' own traffic, and leaves its findings in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from netem.namespaces import ADDRESSES, FOLDER, HostError, clean
from netem.schedule import Adaptive
from netem.syscalls import network_of
from orbitrain.outputs import RunFolder, replace_bytes, write_json
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.supervisor import DaemonFailed
from orbitrain.virtual import Update

STEPS: Final = Adaptive(100_000, 0.01)
"""A link is set anew when its plan is 0.1 ms or 1 % from what is set: some tens of changes a pass."""

READY_S: Final = 60.0
"""Wall seconds in which the emulator has all namespaces up; a hundred take some seconds."""

STOP_S: Final = 5.0
CLEAR_S: Final = 10.0
"""Wall seconds that an emulator whose supervisor was killed may take to end by itself."""

ACCOUNT_S: Final = 2.0
"""Wall seconds between two accounts of the emulator."""

LINE_BYTES_MAX: Final = 16 << 20
"""Longest line that is read: its first one names every node."""

RTO_MIN_US: Final = 200_000
RTO_FLOOR_US: Final = 50_000
"""TCP's least time until it repeats a packet: Linux's default, and what it is not divided below,
as receivers may hold an answer back for 40 ms."""


def run_id(folder: Path) -> str:
    """Names the namespaces of a run: the same for every start of a run in the same place."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def account(folder: RunFolder) -> Path:
    """Where the emulator keeps its latest account while it runs."""
    return folder.path / "links-account.json"


def tcp_settings(rate: float) -> dict[str, str]:
    """What is set of TCP in each namespace, below /proc/sys/net/ipv4; all else is the host's.

    A connection that the link has taken away must not linger, as gRPC makes a new one at each contact; and
    times that the kernel counts in wall time would be `rate` times as long in the scenario's.
    """
    least_us = max(RTO_FLOOR_US, round(RTO_MIN_US / max(rate, 1.0)))
    return {"tcp_syn_retries": "2", "tcp_orphan_retries": "2", "tcp_rto_min_us": str(least_us)}


class EmulatedLinks:
    """`clear`, `start`, then wait on `failed` beside whatever else; `stop` in any case, last of all."""

    def __init__(
        self, folder: RunFolder, seed: int, rate: float, publish: Callable[[str, Any], None]
    ) -> None:
        """`publish` is called with (kind, fields) when a link comes up or goes down."""
        self.run_id = run_id(folder.path)
        self.network = str(ADDRESSES)
        self.addresses: dict[str, str] = {}
        self.namespaces: dict[str, Path] = {}
        self._folder = folder
        self._seed = seed
        self._rate = rate
        self._publish = publish
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._record: dict[str, Any] = {}
        self._refused = ""

    @property
    def _log(self) -> Path:
        return self._folder.path / "links.log"

    async def clear(self) -> None:
        """Remove what an earlier start of this run has left. Raises ScenarioError."""
        tries = int(CLEAR_S / 0.2)
        for attempt in range(tries):
            try:
                _, kept = clean(self.run_id)
            except HostError as error:
                raise ScenarioError(f"links: {error}") from None
            if not kept:
                return
            if attempt + 1 < tries:
                await asyncio.sleep(0.2)
        raise ScenarioError(
            f"{self._folder.path}: --out: the links of an earlier start are still up, and their process lives"
        )

    async def start(self, plan: Path) -> None:
        """Bring the nodes' namespaces up, with links that follow the plan and the run's clock.

        Raises ScenarioError for what the host lacks, DaemonFailed.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netem", "tun", "--plan", str(plan), "--run-id", self.run_id),
                *("--clock", str(self._folder.clock), "--seed", str(self._seed), "--addresses", self.network),
                *("--adaptive", str(STEPS.delay_ns / 1e6), str(STEPS.rate * 100), "--beyond", "mark"),
                *("--stats", str(account(self._folder)), "--stats-s", str(ACCOUNT_S)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        self._reader = asyncio.create_task(self._read(self._process))
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._reader}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._ready.is_set():
            if self._process.returncode == 2:
                raise ScenarioError(f"links: {self._last_words()}")
            raise DaemonFailed(self._end_said() if self._reader.done() else "links: not ready in time")
        for namespace in self.namespaces.values():
            self._set_tcp(namespace)

    def _set_tcp(self, namespace: Path) -> None:
        held: dict[str, str] = {}
        base = Path("/proc/sys/net/ipv4")
        with network_of(str(namespace)):
            for name, value in tcp_settings(self._rate).items():
                with contextlib.suppress(OSError):  # an older kernel lacks it
                    (base / name).write_text(value, encoding="ascii")
                with contextlib.suppress(OSError):
                    held[name] = (base / name).read_text(encoding="ascii").strip()
            with contextlib.suppress(OSError):
                name = "tcp_congestion_control"
                held[name] = (base / name).read_text(encoding="ascii").strip()
        self._record["tcp"] = held

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """What it says, until it ends."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                ((what, value),) = list(json.loads(line).items())[:1]
            except ValueError:
                continue
            if what == "ready":
                for node, place in value.items():
                    self.addresses[node] = place["address"]
                    self.namespaces[node] = FOLDER / place["netns"]
                self._record |= json.loads(line)
                self._ready.set()
            elif what == "cue":
                self._publish("link", value)
            elif what in ("stats", "ended"):
                self._record["account"] = value
            elif what == "refused":
                self._refused = str(value)
        await process.wait()

    async def follow(self, update: Update) -> None:
        """From its instant on links follow an update of the plan; one update waits at a time."""
        assert self._process is not None and self._process.stdin is not None
        line = json.dumps({"plan": str(self.file_of(update)), "from_ns": update.at_ns})
        with contextlib.suppress(OSError):  # it has ended, which is said elsewhere
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()

    def file_of(self, update: Update) -> Path:
        """A file of an update's plan for the emulator."""
        folder = self._folder.path / "links"
        folder.mkdir(exist_ok=True)
        path = folder / f"plan-{update.plan.revision}.json"
        replace_bytes(path, update.plan.to_json())
        return path.resolve()

    async def failed(self) -> None:
        """Returns never; raises DaemonFailed when the emulator has ended or does not follow the plan."""
        assert self._reader is not None
        while not self._reader.done():
            if self._refused:
                raise DaemonFailed(f"links: {self._refused}")
            await asyncio.wait({self._reader}, timeout=1.0)
        raise DaemonFailed(self._end_said())

    def _end_said(self) -> str:
        code = None if self._process is None else self._process.returncode
        killed = code is not None and code < 0
        how = f"was killed by {signal.Signals(-(code or 0)).name}" if killed else f"ended with {code}"
        words = self._last_words()
        return f"links: the emulator {how}{f': {words}' if words else ''} (see {self._log})"

    def _last_words(self) -> str:
        return last_words(self._log).removeprefix("netem: ")

    async def stop(self) -> None:
        """End the emulator, and see to it that nothing of this run is left."""
        if self._process is not None:
            await end(self._process, STOP_S)
            account(self._folder).unlink(missing_ok=True)
            if self._reader is not None:
                await asyncio.gather(self._reader, return_exceptions=True)
            if self._record:
                write_json(self._folder.path / "links.json", {"run_id": self.run_id, **self._record})
        with contextlib.suppress(HostError, ValueError):
            clean(self.run_id)


class TruthProbe:
    """The probe beside a run: `start`, then `stop`, which says what it found."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._out = folder.path / "links-truth.json"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    async def start(self, plan: Path) -> None:
        """It waits for the run's clock to start."""
        self._out.unlink(missing_ok=True)
        with (self._folder.path / "probe.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netem", "probe", "--plan", str(plan), "--out", str(self._out)),
                *("--clock", str(self._folder.clock), "--run-id", run_id(self._folder.path)),
                *("--stats", str(account(self._folder))),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def stop(self) -> dict[str, Any]:
        """What it found; without findings why there are none."""
        if self._process is None:
            return unchecked("not asked for")
        process, self._process = self._process, None
        await end(process, 2 * STOP_S)
        try:
            found = json.loads(self._out.read_bytes())["links_truth"]
        except (OSError, ValueError, KeyError, TypeError):
            return unchecked(f"the probe left nothing: {last_words(self._folder.path / 'probe.log')}")
        return found if isinstance(found, dict) else unchecked("the probe left no object")


def unchecked(why: str) -> dict[str, Any]:
    """Links that were shaped, and nobody has measured them."""
    return {"backend": "tun", "verdict": "unchecked", "reason": why}


_WORST_LAST: Final = ("as_flown", "as_scaled", "unchecked", "unshaped", "untrue")


def worse(before: Mapping[str, Any] | None, now: dict[str, Any]) -> Mapping[str, Any]:
    """Of two starts of a run, the findings that hold for it as a whole."""
    if before is None or before.get("verdict") not in _WORST_LAST or now.get("verdict") not in _WORST_LAST:
        return now
    by_rank = _WORST_LAST.index
    return before if by_rank(before["verdict"]) > by_rank(now["verdict"]) else now


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
