"""The daemon's end of its worker process: the only place that starts workers. Standard library only.

`Compute` is for asyncio, `BlockingCompute` for the virtual-time simulator; both run the same program
(`runtime.worker`, where the frames are described), so the same job gives the same digests under either.
The worker is started when the first job comes and runs one job at a time, in the order they were asked for.
If it dies it is started again and the job is run once more; a job is a function of its arguments, so running
it twice does no harm. A job that is cancelled takes the worker with it: nothing else stops foreign code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.runtime.nursery import python_command

MAX_FRAME_BYTES = 16 << 20
"""Largest frame, as in `runtime.worker`: what is larger travels as a file."""

ATTEMPTS = 2
"""Runs of a job whose worker dies: once may be the system's doing (out of memory), twice is the job's."""

GRACE_S = 1.0
"""How long a worker whose pipe has ended may take to end itself. Killing a process that has just ended takes
its status away from asyncio, and the reason of the failure would be wrong."""

_KEPT_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)

_SET_VARIABLES = {
    # One thread each: a worker is one of many on a host, and sums in a fixed order give the same bits.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # A user's loop over a set must not give another model in another process.
    "PYTHONHASHSEED": "0",
}


class Jobs(Protocol):
    """Whatever runs a node's jobs."""

    async def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        """Raises JobError."""
        ...


class Compute:
    """Runs jobs in a worker process, from asyncio."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()  # first come, first served
        self._next_id = 0
        self._closed = False

    async def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        """Run a job of `learning.jobs` when its turn comes.

        Raises JobError for a job that fails or whose worker died twice, or once closed. If the caller is
        cancelled while the job runs, the worker is killed and the next job gets a new one.
        """
        async with self._turn:
            self._next_id += 1
            frame = _encode_request(self._next_id, kind, params, inputs, out_dir)
            death = ""
            for _ in range(ATTEMPTS):
                if self._closed:
                    break
                try:
                    return _decode_reply(await self._exchange(frame), self._next_id)
                except _WorkerDied:
                    death = await self._end(GRACE_S)
                except BaseException as error:
                    if not isinstance(error, JobError):
                        await self._end()
                    raise
            raise JobError(_died(kind, death) if not self._closed else "compute is closed")

    async def close(self) -> None:
        """End the worker. A running job, and those that wait, fail."""
        self._closed = True
        await self._end()

    async def _exchange(self, frame: bytes) -> bytes:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *_command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=worker_environment(),
            )
            if self._closed:  # closed while it was being started
                raise _WorkerDied
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(frame)
            await stdin.drain()
            length = _frame_length(await stdout.readexactly(4))
            return await stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _WorkerDied from error

    async def _end(self, grace_s: float = 0.0) -> str:
        """Kill the worker, if there is one and it has not ended by itself in time; return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            if grace_s:
                async with asyncio.timeout(grace_s):
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            # Also if this task is cancelled, once or again: nothing stays behind.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return _ending(await process.wait())


class BlockingCompute:
    """Runs jobs in a worker process and waits for them: `Compute` without asyncio. A context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._next_id = 0
        self._closed = False

    def __enter__(self) -> BlockingCompute:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        """Run a job of `learning.jobs`. Raises JobError as `Compute.run` does. For one thread only."""
        if self._closed:
            raise JobError("compute is closed")
        self._next_id += 1
        frame = _encode_request(self._next_id, kind, params, inputs, out_dir)
        death = ""
        for _ in range(ATTEMPTS):
            try:
                return _decode_reply(self._exchange(frame), self._next_id)
            except _WorkerDied:
                death = self._end()
            except BaseException as error:  # Ctrl-C in the simulator, too
                if not isinstance(error, JobError):
                    self._end()
                raise
        raise JobError(_died(kind, death))

    def close(self) -> None:
        """End the worker."""
        self._closed = True
        self._end()

    def _exchange(self, frame: bytes) -> bytes:
        if self._process is None:
            self._process = subprocess.Popen(
                _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_environment()
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(frame)
            stdin.flush()
            length_field = stdout.read(4)
            if len(length_field) < 4:
                raise _WorkerDied
            reply = stdout.read(length := _frame_length(length_field))
        except ConnectionError as error:
            raise _WorkerDied from error
        if len(reply) < length:
            raise _WorkerDied
        return reply

    def _end(self) -> str:
        process, self._process = self._process, None
        if process is None:
            return ""
        process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(ConnectionError):  # what is still buffered has no reader
                    pipe.close()
        return _ending(status)


class _WorkerDied(Exception):
    """The worker ended, or does not speak in frames."""


def _command() -> list[str]:
    """The worker's own command line: nothing of the daemon's is inherited or can be matched."""
    # The kernel ties the worker to the *thread* that starts it. The main thread is as good as the process.
    tied = threading.current_thread() is threading.main_thread()
    # -P: the daemon's working folder is no place to import from.
    return python_command(
        "worker", "orbitrain.runtime.worker", *(("--die-with-parent",) if tied else ()), flags=("-P",)
    )


def worker_environment() -> dict[str, str]:
    """What a worker finds: few of this process's variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith("PYTHON")
    }
    # The same orbitrain as the daemon's, installed or not.
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {**kept, **_SET_VARIABLES, "PYTHONPATH": os.pathsep.join(paths)}


def _encode_request(
    identity: int, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
) -> bytes:
    request = {
        "id": identity,
        "kind": kind,
        "params": dict(params),
        "inputs": {name: str(path) for name, path in inputs.items()},
        "out_dir": str(out_dir),
    }
    frame = json.dumps(request).encode()
    if len(frame) > MAX_FRAME_BYTES:
        raise JobError(f"the request of {len(frame)} bytes does not fit in a frame of {MAX_FRAME_BYTES}")
    return len(frame).to_bytes(4, "big") + frame


def _frame_length(field: bytes) -> int:
    length = int.from_bytes(field, "big")
    if length > MAX_FRAME_BYTES:
        raise _WorkerDied
    return length


def _decode_reply(frame: bytes, identity: int) -> JobResult:
    try:
        reply = json.loads(frame)
        if reply["id"] != identity:
            raise _WorkerDied
        if reply["ok"]:
            outputs = {name: Path(path) for name, path in reply["outputs"].items()}
            return JobResult(reply["result"], outputs, float(reply["seconds"]))
        reason = str(reply["reason"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _WorkerDied from error
    raise JobError(reason)


def _died(kind: str, ending: str) -> str:
    return f"the worker died in job {kind!r}, {ATTEMPTS} times ({ending})"


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
