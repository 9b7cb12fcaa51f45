"""Starts the daemons of a run, starts again what crashes, and leaves none behind.

Each daemon holds the read end of a pipe of ours: if this process dies, however it dies, all of them end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from netem.syscalls import CLONE_NEWNET, setns
from orbitrain.runtime.clock import wall_s
from orbitrain.runtime.daemon import CONTROL_VARIABLE
from orbitrain.runtime.nursery import python_command

READY_S = 120.0
"""Wall seconds that all daemons of a run may take to start, on a slow board with many of them."""

STOP_S = 5.0
"""Wall seconds from SIGTERM to SIGKILL."""

QUICK_S = 3.0
CRASHES_MAX = 5
"""A daemon that dies CRASHES_MAX times in a row within QUICK_S of its start will not get better by itself."""

BACK_OFF_S = 0.2


class DaemonFailed(Exception):
    """A daemon that cannot be kept running; one line, with where its log is."""


@dataclass(slots=True)
class _Child:
    name: str
    kind: str
    config: Path
    namespace: Path | None = None
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    quick_crashes: int = 0

    @property
    def log(self) -> Path:
        return self.config.with_suffix(".log")

    @property
    def pid_file(self) -> Path:
        return self.config.with_suffix(".pid")


class Supervisor:
    """`start`, then wait on `failed` beside whatever else; `stop` ends everything."""

    def __init__(self, nodes: Sequence[tuple[str, str, Path]]) -> None:
        """`nodes` are (name, kind, configuration file)."""
        self._children = {node[0]: _Child(*node) for node in nodes}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.restarts = 0

    def place(self, namespaces: Mapping[str, Path]) -> None:
        """From now on daemons are started in these network namespaces, by name."""
        for name, namespace in namespaces.items():
            self._children[name].namespace = namespace

    async def clear(self) -> None:
        """See the end of daemons that an earlier supervisor of this run left when it was killed."""
        await asyncio.gather(*(_end_stale(child) for child in self._children.values()))

    async def start(self) -> None:
        """Start every daemon and wait until each is ready. Raises DaemonFailed."""
        for child in self._children.values():
            self._watchers.append(asyncio.create_task(self._watch(child)))
        ready = asyncio.gather(*(child.ready.wait() for child in self._children.values()))
        watchers = asyncio.gather(*self._watchers)
        try:
            both: set[asyncio.Future[Any]] = {ready, watchers}
            await asyncio.wait(both, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
            if watchers.done():
                watchers.result()
            if not ready.done():
                late = [name for name, child in self._children.items() if not child.ready.is_set()]
                raise DaemonFailed(f"not ready within {READY_S:g} s: {', '.join(late)}")
        finally:
            ready.cancel()
            # The watchers go on; only the waiting for all of them ends. Nobody asks any more how it did.
            for waiting in (ready, watchers):
                waiting.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def failed(self) -> None:
        """Returns never; raises DaemonFailed when a daemon cannot be kept running."""
        await asyncio.gather(*(asyncio.shield(watcher) for watcher in self._watchers))

    async def _watch(self, child: _Child) -> None:
        while not self._stopping:
            started_s = wall_s()
            code = await self._live(child)
            if self._stopping:
                return
            quick = wall_s() - started_s < QUICK_S
            child.quick_crashes = child.quick_crashes + 1 if quick else 0
            if child.quick_crashes >= CRASHES_MAX or (code == 2 and not child.ready.is_set()):
                raise DaemonFailed(f"{child.name} ended with {code}: {_last_words(child)} (see {child.log})")
            self.restarts += 1
            await asyncio.sleep(BACK_OFF_S * child.quick_crashes)

    async def _live(self, child: _Child) -> int:
        """One life of a daemon, from start to exit."""
        with child.log.open("ab") as log, _entrance(child.namespace) as enter:
            process = await asyncio.create_subprocess_exec(
                *python_command("daemon", f"{child.kind}_node", "--config", str(child.config)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, CONTROL_VARIABLE: "1"},
                # Ctrl-C in the terminal is for the supervisor alone.
                start_new_session=True,
                preexec_fn=enter,
            )
        child.process = process
        child.pid_file.write_text(f"{process.pid}\n", encoding="ascii")
        if self._stopping:
            process.terminate()
        assert process.stdout is not None
        if (await process.stdout.readline()).strip() == b"ready":
            child.ready.set()
        while await process.stdout.read(65536):
            pass
        code = await process.wait()
        child.process = None
        child.pid_file.unlink(missing_ok=True)
        return code

    async def stop(self, at_once: bool = False) -> None:
        """End every daemon: SIGTERM, then SIGKILL after STOP_S; only the latter if `at_once`."""
        self._stopping = True
        self._signal(signal.SIGKILL if at_once else signal.SIGTERM)
        done, late = await asyncio.wait(self._watchers, timeout=STOP_S) if self._watchers else (set(), set())
        if late:
            self._signal(signal.SIGKILL)
            await asyncio.wait(late)
        for watcher in done | late:
            with contextlib.suppress(DaemonFailed):
                watcher.result()

    def kill(self) -> None:
        """SIGKILL to every daemon, now."""
        self._stopping = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.process is not None and child.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)
                    if number is signal.SIGTERM:
                        # A daemon that was stopped by SIGSTOP hears nothing until it goes on.
                        child.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _entrance(namespace: Path | None) -> Iterator[Callable[[], None] | None]:
    """What a child does before it becomes the daemon, to be in the namespace. Raises DaemonFailed.

    One system call and nothing else: between fork and exec little else is safe where threads run.
    """
    if namespace is None:
        yield None
        return
    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DaemonFailed(f"{namespace}: {error.strerror}") from None
    try:
        yield partial(setns, fd, CLONE_NEWNET)
    finally:
        os.close(fd)


async def _end_stale(child: _Child) -> None:
    """End a daemon of this very configuration that an earlier supervisor left; it is ending by itself."""
    try:
        pid = int(child.pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    for attempt in range(100):
        if not _runs(pid, child.config):
            break
        if attempt == 50:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
    child.pid_file.unlink(missing_ok=True)


def _runs(pid: int, config: Path) -> bool:
    """Whether process `pid` is a daemon with this configuration; where that cannot be seen, assume not."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(config).encode() in command


def _last_words(child: _Child) -> str:
    """The daemon's own last complaint; without one the last line of its log, which may be a library's."""
    try:
        lines = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    own = [line for line in lines if line.startswith(f"{child.kind}-node: ")]
    return (own or lines or [""])[-1][:300]
