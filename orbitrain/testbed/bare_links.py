"""Links without a run: for whatever programs a person starts in their namespaces, and to check them.

What emulator and probe read and write lies in a private folder, which goes with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final, TypeVar

from netem.link_state import Outage
from netem.namespaces import ADDRESSES, tag_of
from orbitrain.contacts.plan import ContactPlan
from orbitrain.outputs import replace_bytes
from orbitrain.runtime.clock import SECOND_NS, ClockFile, unix_ns
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.cues import cueing
from orbitrain.testbed.deployment import private_folder
from orbitrain.testbed.emulator import Emulator, Places, Probe, Wiring
from orbitrain.testbed.shaping import run_id as id_of
from orbitrain.testbed.supervisor import DaemonFailed

LEAD_S: Final = 0.3
"""Wall seconds from ready to the first instant of the clock: everybody has read it by then."""

PROBE_LEAD_S: Final = 2.0
"""The same with a probe, which measures each node's own delays first."""

ACCOUNT_S: Final = 5.0
PROBE_ACCOUNT_S: Final = 1.0
PROBE_PATIENCE_S: Final = 30.0
"""Wall seconds beyond those asked for until a probe that does not end is given up."""

T = TypeVar("T")

Told = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class BareLinks:
    """What links are to follow, and how; `run_id` None: one that nobody else has."""

    plan: ContactPlan
    backend: str
    rate: float = 1.0
    from_ns: int = 0
    outage: Outage = "hold"
    run_id: str | None = None
    addresses: IPv4Network = ADDRESSES
    seed: int = 0
    cues: str | None = None

    @staticmethod
    def check_run_id(run_id: str | None) -> None:
        """Raises ValueError."""
        if run_id is not None:
            tag_of(run_id)

    def wired(self, folder: Path, account_s: float) -> Wiring:
        """As they are started in a folder, where their plan and clock, standing still, are written."""
        replace_bytes(folder / "plan.json", self.plan.to_json())
        clock = folder / "clock.json"
        ClockFile(None, self.from_ns, self.rate, self.from_ns).write(clock)
        return Wiring(
            self.backend,
            self.run_id if self.run_id is not None else id_of(folder),
            folder,
            clock,
            self.seed,
            self.outage,
            str(self.addresses),
            account_s,
        )

    def begin(self, wiring: Wiring, lead_s: float) -> ClockFile:
        """Time runs, so long from now on."""
        clock = ClockFile(unix_ns() + round(lead_s * SECOND_NS), self.from_ns, self.rate, self.from_ns)
        clock.write(wiring.clock)
        return clock


def replay(
    wanted: BareLinks,
    ready: Callable[[Places, ClockFile], None],
    told: Told = lambda what, value: None,
) -> None:
    """Links that follow the plan until SIGINT, SIGTERM or SIGHUP; `ready` is called when programs can start.

    `told` is called with what the emulator says afterwards: cues, now and then its account. Raises
    ScenarioError, DaemonFailed.
    """
    asyncio.run(_replay(wanted, ready, told))


async def _replay(wanted: BareLinks, ready: Callable[[Places, ClockFile], None], told: Told) -> None:
    with private_folder() as folder:
        wiring = wanted.wired(folder, ACCOUNT_S)
        async with cueing(wanted.cues) as cue, _interruption() as interrupted:

            def said(what: str, value: Any) -> None:
                if what == "cue":
                    cue(value)
                if what != "ready":
                    told(what, value)

            emulator = Emulator(wiring, said)
            try:
                places = await _unless(interrupted, _start(emulator))
                if places is not None:
                    ready(places, wanted.begin(wiring, LEAD_S))
                    await _unless(interrupted, emulator.failed())
            finally:
                await emulator.stop()


def verify(wanted: BareLinks, seconds: float) -> dict[str, Any]:
    """Bring links up, measure them for so many wall seconds, or until interrupted: what the probe found.

    Raises ScenarioError, DaemonFailed.
    """
    return asyncio.run(_verify(wanted, seconds))


async def _verify(wanted: BareLinks, seconds: float) -> dict[str, Any]:
    with private_folder() as folder:
        wiring = wanted.wired(folder, PROBE_ACCOUNT_S)
        emulator, probe = Emulator(wiring), Probe(wiring)
        async with _interruption() as interrupted:
            try:
                if await _unless(interrupted, _start(emulator)) is None:
                    raise ScenarioError("interrupted before anything was measured")
                await probe.start(folder / "plan.json", seconds)
                wanted.begin(wiring, PROBE_LEAD_S)
                await _unless(interrupted, _first(emulator.failed(), _ended(probe, seconds)))
            finally:
                await probe.stop()
                await emulator.stop()
        if probe.exit_code == 2:
            raise ScenarioError(f"links: {probe.last_words}")
        found = probe.found
        if found is None:
            raise DaemonFailed(
                f"links: the probe left nothing (ended with {probe.exit_code}): {probe.last_words}"
            )
        return found


async def _start(emulator: Emulator) -> Places:
    wiring = emulator.wiring
    if not await emulator.clear():
        raise ScenarioError(
            f"--run-id: the links of {wiring.run_id} are up, held by another process: end that one first"
        )
    return await emulator.start(wiring.folder / "plan.json")


async def _ended(probe: Probe, seconds: float) -> None:
    try:
        await asyncio.wait_for(probe.ended(), PROBE_LEAD_S + seconds + PROBE_PATIENCE_S)
    except TimeoutError:
        raise DaemonFailed("links: the probe does not end") from None


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
