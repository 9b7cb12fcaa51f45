"""A command of ours inside User-Mode Linux, where the kernel has netem: `orbitrain run --in uml`.

The guest has the host's files, so what the command writes is here; its standard output, error and exit code
come back as they are. Ctrl-C reaches the command inside, which ends as it would outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from netem.namespaces import HostError
from netem.uml.guest import INTERRUPT, MEMORY_MB, Guest
from orbitrain.scenario import ScenarioError

GUEST_VARIABLE: Final = "ORBITRAIN_GUEST"
"""Set inside."""

TOO_LONG, NO_END = 124, 125
"""Exit codes: the command took longer than allowed, or the guest ended before it did."""

LARGEST_MEMORY_MB: Final = 6144
"""What is not used is not taken from the host."""

_PASSED: Final = ("CI", "HF_HUB_OFFLINE", "HOME", "LANG", "LC_ALL", "PATH", "VIRTUAL_ENV")
_STOP_S: Final = 3.0
_LOOK_S: Final = 0.1


def in_guest() -> bool:
    """Whether this process is inside of one."""
    return GUEST_VARIABLE in os.environ


def command_in_guest() -> int:
    """This very command, inside; its exit code. Raises ScenarioError where that cannot be."""
    arguments = sys.argv[1:]
    if sys.orig_argv[len(sys.orig_argv) - len(arguments) :] != arguments:
        raise ScenarioError("--in: uml is for the command alone, not for a program that calls it")
    try:
        return run_in_guest([sys.executable, "-P", "-m", "orbitrain", *arguments], memory_mb=_memory_mb())
    except HostError as error:
        raise ScenarioError(f"--in: uml is not possible here: {error}") from None


def _memory_mb() -> int:
    """Half of the host's, and no more than a run of some dozen nodes can use."""
    host_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(MEMORY_MB, min(host_mb // 2, LARGEST_MEMORY_MB))


def run_in_guest(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    memory_mb: int = MEMORY_MB,
    niceness: int = 0,
    timeout_s: float | None = None,
) -> int:
    """Run a command in this folder inside a guest; its exit code. HostError, ValueError, OSError.

    For the main thread: SIGINT and SIGTERM interrupt the command while it runs; the second ends the guest.
    """
    folder = Path(tempfile.mkdtemp(prefix="orbitrain-uml-"))
    try:
        guest = Guest(
            command,
            folder,
            Path.cwd(),
            {**_environment(), **(environment or {})},
            memory_mb=memory_mb,
            niceness=niceness,
        )
        guest.prepare()
        for preparation in guest.preparations():
            subprocess.run(preparation, check=True)
        guest.errors.touch()
        return _run(guest, timeout_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """What the command finds, beside what its caller gives: little of the host's, and the console's size."""
    passed = {
        name: value for name, value in os.environ.items() if name in _PASSED or name.startswith("PYTHON")
    }
    if sys.stdout.isatty():
        columns, lines = shutil.get_terminal_size()
        screen = {"TERM": os.environ.get("TERM", "vt100"), "COLUMNS": str(columns), "LINES": str(lines)}
    else:
        screen = {"TERM": "dumb", "TTY_COMPATIBLE": "0"}
    return {**passed, **screen, GUEST_VARIABLE: "1"}


def _run(guest: Guest, timeout_s: float | None) -> int:
    with (
        subprocess.Popen(
            guest.arguments(),
            env={**os.environ, **guest.host_environment()},
            stdin=subprocess.PIPE,
            # Not our own descriptors: the guest changes the mode of its console's.
            stdout=subprocess.PIPE,
            process_group=0,
            preexec_fn=guest.child,  # noqa: PLW1509 - no thread of this process holds a lock that it needs
        ) as process,
        guest.errors.open("rb") as errors,
        _interrupting(process),
    ):
        assert process.stdout is not None
        done = threading.Event()
        threads = [
            threading.Thread(target=_forward, args=(process.stdout.fileno(), 1)),
            threading.Thread(target=_follow, args=(errors.fileno(), 2, done)),
        ]
        for thread in threads:
            thread.start()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            print(f"guest: not done after {timeout_s:g} s", file=sys.stderr)
            return TOO_LONG
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # helpers of a guest that was killed, or does not end
            done.set()
            for thread in threads:
                thread.join()
    code = guest.exit_code()
    if code is None:
        print("guest: it ended before the command did", file=sys.stderr)
        return NO_END
    return code


@contextlib.contextmanager
def _interrupting(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGINT and SIGTERM to this process interrupt the command inside."""
    assert process.stdin is not None
    stdin = process.stdin.fileno()
    count = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        with contextlib.suppress(OSError):
            os.write(stdin, INTERRUPT)
        if count > 1:
            process.terminate()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forward(source: int, target: int) -> None:
    """Everything, until it ends; the guest's console goes on when nobody reads ours."""
    while data := os.read(source, 65536):
        _write(target, data)


def _follow(source: int, target: int, done: threading.Event) -> None:
    """What is appended to a file, until `done` and its end."""
    while True:
        last = done.is_set()
        while data := os.read(source, 65536):
            _write(target, data)
        if last:
            return
        done.wait(_LOOK_S)


def _write(target: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(target, data) :]
