"""User-Mode Linux as the kernel with netem, where the host's has none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netem.conftest import INSIDE_GUEST

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent.relative_to(ROOT)
THERE = [
    *(str(HERE / f"test_{name}.py") for name in ("netem", "truth", "scripts")),
    *(str(HERE.parent / f"test_{name}.py") for name in ("packets", "replay", "lifetime")),
]
"""What needs a kernel with netem, and not a guest of its own."""

TOOL = [sys.executable, "tools/run_in_uml.py"]

pytestmark = pytest.mark.netem


def run(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOOL, *arguments], cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=timeout_s,
        check=False,
    )  # fmt: skip


@pytest.mark.timeout(630)
def test_the_netem_tests_pass_inside_user_mode_linux() -> None:
    pytest_there = [sys.executable, "-m", "pytest", *THERE, "-m", "netem and not full", "-rA"]
    done = run(
        "--timeout-s", "600", "--env", f"{INSIDE_GUEST}=1", "--",
        *pytest_there, "-p", "no:cacheprovider", "--durations=5", "--color=no", timeout_s=620,
    )  # fmt: skip
    print(done.stdout[-12_000:], done.stderr[-2_000:])
    assert done.returncode == 0
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 40 and "skipped" not in done.stdout


def test_a_commands_output_and_exit_code_come_back_whole() -> None:
    program = "import os, sys; print('a\\u00e9' * 3000); print(os.getcwd(), os.environ['X']); sys.exit(7)"
    done = run("--env", "X=a b'c", "--", sys.executable, "-c", program)
    assert done.returncode == 7, done.stdout
    assert done.stdout.startswith("a\u00e9" * 3000 + f"\n{ROOT} a b'c\n")


def test_what_does_not_end_is_ended(tmp_path: Path) -> None:
    done = run("--timeout-s", "4", "--", "sleep", "100")
    assert done.returncode == 124 and "not done after 4 s" in done.stderr


def test_a_guest_that_ends_without_its_command_is_a_failure() -> None:
    done = run("--", "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 10")
    assert done.returncode == 125 and "ended before the command" in done.stderr


def test_programs_with_threads_compute_as_outside() -> None:
    """Registers that a guest's kernel does not keep must not be in use."""
    program = (
        "import threading, random, hashlib, numpy\n"
        "def work(seed, out):\n"
        "    source, digest = random.Random(seed), hashlib.sha256()\n"
        "    for _ in range(20):\n"
        "        data = source.randbytes(300_000); copy = bytes(bytearray(data)); digest.update(copy)\n"
        "        digest.update(b'%d' % copy.find(data[-1000:]))\n"
        "        a = numpy.frombuffer(data[:80000], dtype=numpy.uint16).astype(float).reshape(100, 400)\n"
        "        digest.update(numpy.rint(a @ a.T).astype(numpy.int64).tobytes() + numpy.sort(a).tobytes())\n"
        "    out[seed] = digest.hexdigest()\n"
        "found = [''] * 4\n"
        "threads = [threading.Thread(target=work, args=(n, found)) for n in range(4)]\n"
        "[one.start() for one in threads]; [one.join() for one in threads]\n"
        "print('digests', *found)\n"
    )
    here = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    there = run("--", sys.executable, "-c", program)
    assert here.stdout in there.stdout and here.stdout.startswith("digests ")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_the_guest_is_gone_within_seconds(how: signal.Signals, tmp_path: Path) -> None:
    mark = f"orbitrain-mark-{os.getpid()}"
    with subprocess.Popen(
        [*TOOL, "--", "sh", "-c", f"echo up {mark}; sleep 100"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any(mark in line for line in process.stdout)
        assert guests(tmp_path)
        process.send_signal(how)
        process.wait(10)
        deadline = time.monotonic() + 5
        while guests(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert guests(tmp_path) == []


def guests(folder: Path) -> list[int]:
    """Processes with the folder in their command line: the guest's, and its helpers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"init=" + str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found
