"""Programs that are forked from a nursery behave as if they had been started. Real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orbitrain.learning.outcome import JobError
from orbitrain.learning.tensors import write_tensors
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.runtime.nursery import NURSERY_VARIABLE, python_command

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import os, signal, sys, time
if sys.argv[1] == "says":
    print("in", sys.stdin.read(), os.getcwd(), os.environ.get("MARK"), *sys.argv[2:], flush=True)
    print("to error", file=sys.stderr)
    sys.exit(int(sys.argv[2]))
if sys.argv[1] == "waits":
    try:
        print(os.getpid(), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(5)
if sys.argv[1] == "closes":
    os.close(1)
    sys.stdin.read()
"""


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    place = tmp_path / "nursery"
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    monkeypatch.setenv("PYTHONPATH", path)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "orbitrain.testbed.nursery", str(place), "json", "no_such_module"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for kind in ("daemon", "worker"):
            monkeypatch.setenv(NURSERY_VARIABLE.format(kind.upper()), str(place))
        yield process
        process.stdin.close()


def started(*arguments: str, **more: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        python_command("daemon", "program", *arguments),
        stdin=pipe, stdout=pipe, stderr=pipe, text=True, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def waiting() -> tuple[subprocess.Popen[str], int]:
    """One that has begun to wait, and the process that it truly is."""
    process = started("waits")
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def gone(pid: int) -> bool:
    """Within 10 s; the process is no child of ours."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(fd):
        return bool(select.select([fd], (), (), 10)[0])


def test_without_a_nursery_a_program_has_an_interpreter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NURSERY_VARIABLE.format("DAEMON"), raising=False)
    assert python_command("daemon", "json.tool", "x", flags=("-P",)) == [
        sys.executable, "-P", "-m", "json.tool", "x",
    ]  # fmt: skip


def test_files_folder_environment_and_exit_code_are_those_of_the_go_between(
    nursery: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    process = started("says", "7", cwd=tmp_path, env={**os.environ, "MARK": "yes"})
    out, err = process.communicate("hello", timeout=30)
    assert (process.returncode, out, err) == (7, f"in hello {tmp_path} yes 7\n", "to error\n")


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 5), (signal.SIGTERM, -15), (signal.SIGKILL, -9)], ids=str
)
def test_a_signal_reaches_the_program_and_its_end_comes_back(
    nursery: subprocess.Popen[bytes], number: signal.Signals, code: int
) -> None:
    process, pid = waiting()
    process.send_signal(number)
    assert process.wait(30) == code
    assert gone(pid)


def test_a_program_that_kills_itself_is_seen_to_have_been_killed(nursery: subprocess.Popen[bytes]) -> None:
    process, pid = waiting()
    os.kill(pid, signal.SIGKILL)
    assert process.wait(30) == -9


def test_the_end_of_a_pipe_is_the_programs_alone(nursery: subprocess.Popen[bytes]) -> None:
    process = started("closes")
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.read() == ""  # although the go-between lives on
    process.stdin.close()
    assert process.wait(30) == 0


def test_when_the_nursery_ends_so_do_its_programs(nursery: subprocess.Popen[bytes]) -> None:
    process, pid = waiting()
    assert nursery.stdin is not None
    nursery.stdin.close()
    assert gone(pid)
    assert process.wait(30) == -9


def test_a_worker_from_a_nursery_fails_and_dies_as_any_other(
    nursery: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    task = """
        import os
        import numpy
        class Mine:
            def __init__(self, options, regions, seed): pass
            def initial(self): return {"w": numpy.zeros(1)}
            def evaluate(self, weights): return {"accuracy": 0.5, "pid": os.getpid()}
            def train(self, device, weights, round_number, seed): os.kill(os.getpid(), 9)
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(task), encoding="utf-8")
    write_tensors(tmp_path / "model", {"w": np.zeros(1)})
    params = {
        "task": {"spec": "mine:Mine", "regions": {"a": ["a1"]}, "seed": 1, "search_path": str(tmp_path)}
    }
    models = {"model": tmp_path / "model"}
    with BlockingCompute() as compute:
        first = compute.run("evaluate", params, models, tmp_path / "out").result["pid"]
        assert compute.run("evaluate", params, models, tmp_path / "out").result["pid"] == first
        train = {**params, "device": "a1", "round": 1, "seed": 1}
        with pytest.raises(JobError, match=r"died in job 'train', 2 times \(signal 9\)"):
            compute.run("train", train, models, tmp_path / "out")
        assert gone(int(first))
