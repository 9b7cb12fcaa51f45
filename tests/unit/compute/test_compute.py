"""The worker process and both of its front ends. Real processes; a handful, and none is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tensors import write_tensors
from orbitrain.runtime.compute import BlockingCompute, Compute

ROOT = Path(__file__).resolve().parents[3]

TASK = """
import os, re, sys, time
from pathlib import Path
import numpy
from orbitrain.learning.tasks import Trained, derive_seed
HERE = Path(__file__).parent
class Mine:
    def __init__(self, options, regions, seed):
        self.seed = seed
        print("constructed", flush=True)
        os.write(1, b"raw bytes on fd 1")
    def initial(self):
        return {"w": numpy.random.default_rng(self.seed).normal(size=(3, 3))}
    def train(self, device, weights, round_number, seed):
        (HERE / f"{device}.pids").open("a").write(f"{os.getpid()}\\n")
        print("training " * 1000)
        if device == "fails":
            raise RuntimeError("no battery")
        if device == "sleeps" or (device == "slow_once" and not (HERE / "slow").exists()):
            (HERE / "slow").touch()
            time.sleep(600)
        if device == "holds_the_lock":
            re.match(r"(a*)*b", "a" * 64)
        if device == "dies":
            os.kill(os.getpid(), 9)
        if device == "reads":
            assert sys.stdin.read() == ""
        noise = numpy.random.default_rng(derive_seed(seed, device, round_number)).normal(size=(3, 3))
        return Trained({"w": weights["w"] + noise}, 5)
    def evaluate(self, weights):
        return {"accuracy": 0.5, **{"x" * 1000 + str(k): 0.0 for k in range(3000)}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "users_compute.py").write_text(TASK)
    write_tensors(tmp_path / "model", {"w": np.zeros((3, 3))})
    return tmp_path


def params(scenario: Path, device: str = "a1", seed: int = 1) -> dict[str, Any]:
    task = {
        "spec": "users_compute:Mine",
        "regions": {"a": ["a1"]},
        "seed": seed,
        "search_path": str(scenario),
    }
    return {"task": task, "device": device, "round": 1, "seed": seed}


def job(scenario: Path, device: str = "a1", seed: int = 1) -> tuple[Any, ...]:
    return "train", params(scenario, device, seed), {"model": scenario / "model"}, scenario / "out" / device


def digest(done: JobResult) -> str:
    return hashlib.sha256(done.outputs["update"].read_bytes()).hexdigest()


def pids(scenario: Path, device: str) -> list[int]:
    path = scenario / f"{device}.pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def wait_until(condition: Any, limit_s: float = 30.0) -> float:
    """Poll another process; return how long it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < limit_s
        time.sleep(0.02)
    return time.monotonic() - started_s


async def until(condition: Any) -> None:
    await asyncio.to_thread(wait_until, condition)


async def test_both_front_ends_run_the_same_job_to_the_same_digest(scenario: Path) -> None:
    compute = Compute()
    first = digest(await compute.run(*job(scenario)))
    again = digest(await compute.run(*job(scenario)))
    other = digest(await compute.run(*job(scenario, seed=2)))
    await compute.close()
    with BlockingCompute() as blocking:
        done = await asyncio.to_thread(blocking.run, *job(scenario))
    assert first == again == digest(done) != other
    assert done.result == {"n_samples": 5, "metrics": {}}
    assert done.seconds > 0


async def test_prints_and_large_replies_do_not_disturb_frames(scenario: Path) -> None:
    compute = Compute()
    done = await compute.run("evaluate", params(scenario), {"model": scenario / "model"}, scenario / "out")
    assert len(done.result) == 3001
    big = params(scenario) | {"ignored": "x" * (8 << 20)}
    assert (await compute.run("evaluate", big, {"model": scenario / "model"}, scenario / "o")).result
    with pytest.raises(JobError, match="does not fit in a frame"):
        await compute.run("evaluate", {"ignored": "x" * (17 << 20)}, {}, scenario / "out")
    assert (await compute.run(*job(scenario, "reads"))).result["n_samples"] == 5
    await compute.close()


async def test_a_failed_job_gives_its_reason_and_keeps_the_worker(scenario: Path) -> None:
    compute = Compute()
    with pytest.raises(JobError, match=r"^RuntimeError: no battery$"):
        await compute.run(*job(scenario, "fails"))
    with pytest.raises(JobError, match="there is no job"):
        await compute.run("dance", {}, {}, scenario / "out")
    await compute.run(*job(scenario))
    await compute.close()
    assert pids(scenario, "fails") == pids(scenario, "a1")


async def test_a_worker_killed_in_a_job_is_started_again_and_the_job_retried(scenario: Path) -> None:
    compute = Compute()
    running = asyncio.create_task(compute.run(*job(scenario, "slow_once")))
    await until((scenario / "slow").exists)
    os.kill(pids(scenario, "slow_once")[0], signal.SIGKILL)
    assert (await running).result["n_samples"] == 5
    assert len(set(pids(scenario, "slow_once"))) == 2
    await compute.close()
    assert not any(is_running(pid) for pid in pids(scenario, "slow_once"))


async def test_a_job_that_kills_its_worker_is_given_up_after_one_retry(scenario: Path) -> None:
    compute = Compute()
    with pytest.raises(JobError, match=r"the worker died in job 'train', 2 times \(signal 9\)"):
        await compute.run(*job(scenario, "dies"))
    assert len(pids(scenario, "dies")) == 2
    await compute.run(*job(scenario))
    await compute.close()


async def test_cancelling_a_job_ends_it_and_the_next_one_runs(scenario: Path) -> None:
    compute = Compute()
    running = asyncio.create_task(compute.run(*job(scenario, "sleeps")))
    waiting = asyncio.create_task(compute.run(*job(scenario, "fails")))
    following = asyncio.create_task(compute.run(*job(scenario)))
    await until(lambda: pids(scenario, "sleeps"))
    waiting.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(pids(scenario, "sleeps")[0])
    assert (await following).result["n_samples"] == 5
    assert pids(scenario, "fails") == []
    await compute.close()


async def test_closing_fails_the_running_and_the_waiting_job(scenario: Path) -> None:
    compute = Compute()
    jobs = [asyncio.create_task(compute.run(*job(scenario, device))) for device in ("sleeps", "a1")]
    await until(lambda: pids(scenario, "sleeps"))
    await compute.close()
    for running in jobs:
        with pytest.raises(JobError, match="closed"):
            await running
    with pytest.raises(JobError, match="closed"):
        await compute.run(*job(scenario))
    assert not is_running(pids(scenario, "sleeps")[0])
    assert pids(scenario, "a1") == []


def test_the_blocking_front_end_retries_reports_and_closes(scenario: Path) -> None:
    with BlockingCompute() as compute:
        with pytest.raises(JobError, match="no battery"):
            compute.run(*job(scenario, "fails"))
        with pytest.raises(JobError, match=r"2 times \(signal 9\)"):
            compute.run(*job(scenario, "dies"))
        assert compute.run(*job(scenario)).result["n_samples"] == 5
    with pytest.raises(JobError, match="closed"):
        compute.run(*job(scenario))
    assert not is_running(pids(scenario, "a1")[0])


DAEMON = """
import asyncio, sys, threading
from pathlib import Path
from orbitrain.runtime.compute import BlockingCompute, Compute
params, here, device = {params!r}, Path({here!r}), {device!r}
arguments = ("train", params, {{"model": here / "model"}}, here / "out")
if {asynchronous!r}:
    asyncio.run(Compute().run(*arguments))
else:
    threading.Thread(target=BlockingCompute().run, args=arguments).start()
"""


@pytest.mark.parametrize(
    ("device", "asynchronous"), [("sleeps", True), ("holds_the_lock", True), ("sleeps", False)]
)
def test_the_worker_is_gone_soon_after_its_daemon_is_killed(
    scenario: Path, device: str, asynchronous: bool
) -> None:
    program = DAEMON.format(
        params=params(scenario, device), here=str(scenario), device=device, asynchronous=asynchronous
    )
    daemon = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT)
    wait_until(lambda: pids(scenario, device))
    worker = pids(scenario, device)[0]
    # Ctrl-C in the terminal is the daemon's to decide about.
    os.kill(worker, signal.SIGINT)
    assert is_running(worker)
    daemon.kill()
    daemon.wait()
    assert wait_until(lambda: not is_running(worker)) < 5.0


def test_an_idle_worker_is_gone_soon_after_its_daemon_is_killed(scenario: Path) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from orbitrain.runtime.compute import BlockingCompute
compute = BlockingCompute()
here = Path({str(scenario)!r})
compute.run("train", {params(scenario)!r}, {{"model": here / "model"}}, here / "out")
time.sleep(600)
"""
    daemon = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_until(lambda: pids(scenario, "a1"))
    daemon.kill()
    daemon.wait()
    assert wait_until(lambda: not is_running(pids(scenario, "a1")[0])) < 5.0


def test_the_daemons_end_loads_neither_numpy_nor_torch() -> None:
    program = "import sys, orbitrain.runtime.compute\nprint('numpy' in sys.modules or 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.strip() == "False"


def test_the_worker_does_not_see_the_daemons_command_line_or_secrets(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORBITRAIN_SECRET", "key")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with BlockingCompute() as compute:
        compute.run(*job(scenario))
        process = Path(f"/proc/{pids(scenario, 'a1')[0]}")
        command = process.joinpath("cmdline").read_bytes().split(b"\0")
        environment = process.joinpath("environ").read_bytes().split(b"\0")
    assert command[1:-1] == [b"-P", b"-m", b"orbitrain.runtime.worker", b"--die-with-parent"]
    assert b"OMP_NUM_THREADS=1" in environment
    assert not any(b"SECRET" in variable for variable in environment)
