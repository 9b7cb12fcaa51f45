"""Links without a run: the emulator for whatever programs a person starts in its namespaces, and its check.

As in a run the emulator (`python -m netem tun`) owns the namespaces and ends when this process does; what
both read and write lies in a private folder, which goes with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final, TypeVar

from netem.link_state import Outage
from netem.namespaces import ADDRESSES, HostError, clean, tag_of
from orbitrain.contacts.plan import ContactPlan
from orbitrain.outputs import replace_bytes
from orbitrain.runtime.clock import SECOND_NS, ClockFile, unix_ns
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.deployment import private_folder
from orbitrain.testbed.links import (
    LINE_BYTES_MAX,
    READY_S,
    STEPS,
    STOP_S,
    end,
    last_words,
)
from orbitrain.testbed.links import run_id as id_of
from orbitrain.testbed.supervisor import DaemonFailed

ANY_ADDRESSES: Final = str(ADDRESSES)
"""Nodes' addresses, unless told otherwise."""

LEAD_S: Final = 0.3
"""Wall seconds from ready to the first instant of the clock: everybody has read it by then."""

PROBE_LEAD_S: Final = 2.0
"""The same with a probe, which measures each node's own delays first."""

PROBE_STATS_S: Final = 1.0
PROBE_PATIENCE_S: Final = 30.0
"""Wall seconds beyond those asked for until a probe that does not end is given up."""

Places = dict[str, dict[str, str]]
"""{node: {netns, address}}"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Emulated:
    """What links are to follow, and how; `run_id` None: one that nobody else has."""

    plan: ContactPlan
    rate: float = 1.0
    from_ns: int = 0
    outage: Outage = "hold"
    run_id: str | None = None
    addresses: IPv4Network = ADDRESSES
    seed: int = 0

    @staticmethod
    def check_run_id(run_id: str | None) -> None:
        """Raises ValueError."""
        if run_id is not None:
            tag_of(run_id)


class Emulator:
    """`start`, `begin`, then wait on `failed` beside whatever else; `stop` in any case."""

    def __init__(
        self,
        folder: Path,
        wanted: Emulated,
        told: Callable[[dict[str, Any]], None] = lambda document: None,
        stats_s: float = 5.0,
    ) -> None:
        """`told` is called with what the emulator says once it is ready: cues, now and then its account."""
        self.run_id = wanted.run_id if wanted.run_id is not None else id_of(folder)
        self.plan = folder / "plan.json"
        self.clock = folder / "clock.json"
        self.stats = folder / "stats.json"
        self._log = folder / "links.log"
        self._wanted = wanted
        self._told = told
        self._stats_s = stats_s
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._places: asyncio.Future[Places] | None = None

    async def start(self) -> Places:
        """Bring namespaces and links up; time stands still. Raises ScenarioError for what can be mended."""
        wanted = self._wanted
        self._clear()
        replace_bytes(self.plan, wanted.plan.to_json())
        ClockFile(None, wanted.from_ns, wanted.rate, wanted.from_ns).write(self.clock)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "netem", "tun", "--plan", str(self.plan), "--run-id", self.run_id),
                *("--clock", str(self.clock), "--seed", str(wanted.seed), "--outage", wanted.outage),
                *("--adaptive", str(STEPS.delay_ns / 1e6), str(STEPS.rate * 100), "--beyond", "mark"),
                *("--addresses", str(wanted.addresses)),
                *("--stats", str(self.stats), "--stats-s", str(self._stats_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C in the terminal is for this process alone.
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        self._places = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, self._places))
        either: set[asyncio.Future[Any]] = {self._places, self._reader}
        await asyncio.wait(either, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        if self._places.done():
            return self._places.result()
        if self._reader.done() and self._process.returncode == 2:
            raise ScenarioError(f"links: {self._last_words()}")
        raise DaemonFailed(self._end_said() if self._reader.done() else "links: not ready in time")

    def begin(self, lead_s: float = LEAD_S) -> ClockFile:
        """Time runs, so long from now on."""
        wanted = self._wanted
        clock = ClockFile(unix_ns() + round(lead_s * SECOND_NS), wanted.from_ns, wanted.rate, wanted.from_ns)
        clock.write(self.clock)
        return clock

    async def failed(self) -> None:
        """Returns never; raises DaemonFailed when the emulator has ended."""
        assert self._reader is not None
        await asyncio.wait({self._reader})
        raise DaemonFailed(self._end_said())

    async def stop(self) -> None:
        """End the emulator, and see to it that nothing of it is left."""
        if self._process is not None:
            await end(self._process, STOP_S)
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        with contextlib.suppress(HostError):
            clean(self.run_id)

    def _clear(self) -> None:
        """Remove what one of the same id has left that was killed."""
        try:
            _, kept = clean(self.run_id)
        except HostError as error:
            raise ScenarioError(f"links: {error}") from None
        if kept:
            raise ScenarioError(
                f"--run-id: the links of {self.run_id} are up, held by another process: end that one first"
            )

    async def _read(self, process: asyncio.subprocess.Process, places: asyncio.Future[Places]) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if "ready" in document and not places.done():
                places.set_result(document["ready"])
            else:
                self._told(document)
        await process.wait()

    def _end_said(self) -> str:
        code = None if self._process is None else self._process.returncode
        killed = code is not None and code < 0
        how = f"was killed by {signal.Signals(-(code or 0)).name}" if killed else f"ended with {code}"
        words = self._last_words()
        return f"links: the emulator {how}{f': {words}' if words else ''}"

    def _last_words(self) -> str:
        return last_words(self._log).removeprefix("netem: ")


def replay(
    wanted: Emulated,
    ready: Callable[[Places, ClockFile], None],
    told: Callable[[dict[str, Any]], None] = lambda document: None,
) -> None:
    """Links that follow the plan until SIGINT, SIGTERM or SIGHUP; `ready` is called when programs can start.

    Raises ScenarioError, DaemonFailed.
    """
    asyncio.run(_replay(wanted, ready, told))


async def _replay(
    wanted: Emulated,
    ready: Callable[[Places, ClockFile], None],
    told: Callable[[dict[str, Any]], None],
) -> None:
    with private_folder() as folder:
        emulator = Emulator(folder, wanted, told)
        async with _interruption() as interrupted:
            try:
                places = await _unless(interrupted, emulator.start())
                if places is not None:
                    ready(places, emulator.begin())
                    await _unless(interrupted, emulator.failed())
            finally:
                await emulator.stop()


def verify(wanted: Emulated, seconds: float) -> dict[str, Any]:
    """Bring links up, measure them for so many wall seconds, or until interrupted: what the probe found.

    Raises ScenarioError, DaemonFailed.
    """
    return asyncio.run(_verify(wanted, seconds))


async def _verify(wanted: Emulated, seconds: float) -> dict[str, Any]:
    with private_folder() as folder:
        emulator = Emulator(folder, wanted, stats_s=PROBE_STATS_S)
        probe: asyncio.subprocess.Process | None = None
        async with _interruption() as interrupted:
            try:
                if await _unless(interrupted, emulator.start()) is None:
                    raise ScenarioError("interrupted before anything was measured")
                probe = await _probe(emulator, wanted, folder, seconds)
                emulator.begin(PROBE_LEAD_S)
                await _unless(interrupted, _first(emulator.failed(), _ended(probe, seconds)))
            finally:
                if probe is not None:
                    await end(probe, STOP_S)
                await emulator.stop()
        return _found(folder, probe)


async def _probe(
    emulator: Emulator, wanted: Emulated, folder: Path, seconds: float
) -> asyncio.subprocess.Process:
    with (folder / "probe.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "netem", "probe", "--plan", str(emulator.plan)),
            *("--clock", str(emulator.clock), "--run-id", emulator.run_id, "--outage", wanted.outage),
            *("--addresses", str(wanted.addresses), "--stats", str(emulator.stats)),
            *("--seconds", str(seconds), "--out", str(folder / "truth.json")),
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


async def _ended(probe: asyncio.subprocess.Process, seconds: float) -> None:
    try:
        await asyncio.wait_for(probe.wait(), PROBE_LEAD_S + seconds + PROBE_PATIENCE_S)
    except TimeoutError:
        raise DaemonFailed("links: the probe does not end") from None


def _found(folder: Path, probe: asyncio.subprocess.Process) -> dict[str, Any]:
    words = last_words(folder / "probe.log").removeprefix("netem: ")
    if probe.returncode == 2:
        raise ScenarioError(f"links: {words}")
    try:
        found = json.loads((folder / "truth.json").read_bytes())
    except (OSError, ValueError):
        raise DaemonFailed(
            f"links: the probe left nothing (ended with {probe.returncode}): {words}"
        ) from None
    if not isinstance(found, dict):
        raise DaemonFailed("links: the probe left no object")
    return found


@contextlib.asynccontextmanager
async def _interruption() -> AsyncIterator[asyncio.Event]:
    """Set by SIGINT, SIGTERM and SIGHUP."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _unless(interrupted: asyncio.Event, doing: Coroutine[Any, Any, T]) -> T | None:
    """What the coroutine answers; None where the event came first, which ends it."""
    task = asyncio.create_task(doing)
    waiting = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, waiting):
            one.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _first(*doing: Coroutine[Any, Any, None]) -> None:
    """Until one of them has ended; its exception."""
    tasks = [asyncio.create_task(one) for one in doing]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
