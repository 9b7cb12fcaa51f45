"""The worker: does a node's long work, one job at a time (`python -m orbitrain.runtime.worker`).

Frames on stdin and stdout: 4 bytes, big-endian, of length, then that many bytes of JSON (at most 16 MiB).

    request   {"id", "kind", "params", "inputs": {name: path}, "out_dir"}
    reply     {"id", "ok": true, "result", "outputs": {name: path}, "seconds"}
              {"id", "ok": false, "reason"}

It keeps nothing that matters, so it may be killed at any time. It ends when its stdin does, that is, when the
daemon is gone, also in the middle of a job. What a job prints goes to stderr. The other end is
`runtime.compute`.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from orbitrain.learning.jobs import run_job
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.runtime.clock import wall_s

MAX_FRAME_BYTES = 16 << 20
"""Largest frame: frames carry parameters and metrics, never models, which are files."""

_MAX_WAITING = 16
"""Requests read ahead. The daemon sends one at a time; more than this is a defect, and ends the worker."""

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve jobs until stdin ends. `--die-with-parent`: also die with the thread that started us."""
    # Ctrl-C goes to the whole terminal; it is the daemon that decides what becomes of a running job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "--die-with-parent" in arguments:
        _die_with_parent()
    requests_in, replies_out = _claim_pipes()
    requests: queue.Queue[dict[str, Any]] = queue.Queue(_MAX_WAITING)
    threading.Thread(target=_read_requests, args=(requests_in, requests), daemon=True).start()
    while True:
        _write_frame(replies_out, _answer(requests.get()))


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes to ourselves: a user's print() or input() must not touch frames."""
    requests_in = os.fdopen(os.dup(0), "rb")
    replies_out = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a log that is written when it is printed
    return requests_in, replies_out


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent thread ends.

    The reader thread sees the end of stdin too, but it needs Python's global lock, and a job in foreign code
    (a regular expression that backtracks is enough) can keep that for hours. Elsewhere than on Linux: the
    thread alone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read_requests(source: BinaryIO, requests: queue.Queue[dict[str, Any]]) -> None:
    """Read requests until the daemon is gone, then end the process at once, whatever it is doing."""
    try:
        while True:
            length = int.from_bytes(_read_exactly(source, 4), "big")
            if length > MAX_FRAME_BYTES:
                break
            requests.put_nowait(json.loads(_read_exactly(source, length)))
    except EOFError:
        os._exit(0)
    except (OSError, ValueError, queue.Full) as error:
        print(f"worker: unreadable request: {error!r}", file=sys.stderr, flush=True)
    os._exit(2)


def _read_exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _answer(request: dict[str, Any]) -> bytes:
    started_s = wall_s()
    try:
        inputs = {name: Path(path) for name, path in request["inputs"].items()}
        done = run_job(request["kind"], request["params"], inputs, Path(request["out_dir"]))
        return _encode_reply(request["id"], done, wall_s() - started_s)
    except JobError as error:
        return json.dumps({"id": request["id"], "ok": False, "reason": str(error)}).encode()


def _encode_reply(identity: object, done: JobResult, seconds: float) -> bytes:
    reply = {
        "id": identity,
        "ok": True,
        "result": dict(done.result),
        "outputs": {name: str(path) for name, path in done.outputs.items()},
        "seconds": seconds,
    }
    frame = json.dumps(reply, allow_nan=False).encode()
    if len(frame) > MAX_FRAME_BYTES:
        raise JobError(f"the result of {len(frame)} bytes does not fit in a frame of {MAX_FRAME_BYTES}")
    return frame


def _write_frame(target: BinaryIO, frame: bytes) -> None:
    try:
        target.write(len(frame).to_bytes(4, "big") + frame)
        target.flush()
    except OSError:
        os._exit(0)  # nobody is listening


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
