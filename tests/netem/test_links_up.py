"""`orbitrain links up`, `links verify` and `clean` with real packets, started as a person starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netem.namespaces import FOLDER, namespace_name, owned
from netem.syscalls import network_of
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import unix_ns
from tests.netem.conftest import HERE
from tests.netem.measures import L2_BYTES, one_of_three
from tests.netem.traffic import Flow, exchange
from tests.unit.netem.plans import MS, S, contact, plan_of, steady

ROOT = HERE.parents[1]
COMMAND = [sys.executable, "-m", "orbitrain"]
RUN_ID = f"up{os.getpid()}"

# A pass of 40 s at rate 2: nearer and faster until 20 s, then away again.
PASS = [(0, 60 * MS, 2_000_000), (20 * S, 10 * MS, 10_000_000), (40 * S, 60 * MS, 2_000_000)]


@dataclass
class Up:
    """Running `links up`; `clock` says which scenario time it is."""

    process: subprocess.Popen[str]
    places: dict[str, dict[str, str]]
    clock: dict[str, Any]

    def flow(self, source: str, destination: str, packets: int, interval_ms: float, payload: int) -> Flow:
        at = {node: f"{FOLDER}/{place['netns']}" for node, place in self.places.items()}
        address = self.places[destination]["address"]
        return Flow(at[source], at[destination], address, 5000, packets, round(interval_ms * MS), payload)

    def t_ns(self, at_unix_ns: int) -> int:
        return int(self.clock["scenario_ns"] + (at_unix_ns - self.clock["unix_ns"]) * self.clock["rate"])

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def orbitrain(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False, **more
    )


def devices() -> list[tuple[int, str]]:
    """As `ip link` shows them, in this namespace."""
    return socket.if_nameindex()


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[ContactPlan], Path]:
    def write(plan: ContactPlan) -> Path:
        path = tmp_path / "plan.json"
        path.write_bytes(plan.to_json())
        return path

    return write


@contextmanager
def up(plan: Path, *more: str, run_id: str = RUN_ID) -> Iterator[Up]:
    command = [*COMMAND, "links", "up", str(plan), "--run-id", run_id, "--verbose", *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            clock = next(json.loads(text)["clock"] for text in process.stderr if '"clock"' in text[:10])
            yield Up(process, json.loads(line), clock)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20)


def test_programs_in_the_namespaces_see_delay_and_rate_of_the_plan_change_over_a_pass(
    plan_file: Callable[..., Path], tmp_path: Path
) -> None:
    plan = plan_of(contact("a", "b", 0, 40 * S, *PASS), steady("b", "a", 5, 10))

    def measure() -> list[str]:
        found = []
        with up(plan_file(plan), "--rate", "2") as links:
            assert links.places == {
                "a": {"netns": namespace_name(RUN_ID, "a"), "address": "10.213.0.1"},
                "b": {"netns": namespace_name(RUN_ID, "b"), "address": "10.213.0.2"},
            }
            shares = []
            while links.t_ns(unix_ns()) < 24 * S:
                # A few single packets, then more than the link carries.
                (one,) = exchange([links.flow("a", "b", 40, 5, 100)], tmp_path, 0.2)
                (full,) = exchange([links.flow("a", "b", 120, 0.4, 1400)], tmp_path, 0.6)
                sent = one.sent_ns[0]
                state = plan.contacts[0].sample_at(links.t_ns(sent))
                sending_ns = (100 + L2_BYTES) * 8 * S // (state.rate_bps * 2)
                delays = sorted(at - one.sent_ns[number] - sending_ns for number, at in one.arrived)
                late_ms = (delays[len(delays) // 2] - state.delay_ns / 2) / MS
                if not one.arrived or abs(late_ms) > 2:
                    found.append(f"{links.t_ns(sent) / S:.1f} s: {late_ms:+.2f} ms")
                times = [at for _, at in full.arrived][5:]
                middle = (times[0] + times[-1]) // 2
                planned = plan.contacts[0].sample_at(links.t_ns(middle)).rate_bps * 2
                share = (len(times) - 1) * (1400 + L2_BYTES) * 8 * S / (times[-1] - times[0]) / planned
                if abs(share - 1) > 0.05:
                    found.append(f"{links.t_ns(middle) / S:.1f} s: {share:.3f} of the planned rate")
                shares.append(share)
            assert len(shares) >= 2
        return found

    one_of_three(measure)
    assert owned(RUN_ID) == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(one, marks=pytest.mark.full) for one in (signal.SIGTERM, signal.SIGHUP))],
)
def test_interrupted_it_leaves_nothing(plan_file: Callable[..., Path], number: signal.Signals) -> None:
    before = devices()
    with up(plan_file(plan_of(steady("a", "b", 5, 10)))) as links:
        folder = _folder_of(links)
        assert len(owned(RUN_ID)) == 2
        links.process.send_signal(number)
        assert links.process.wait(20) == 0
    assert owned(RUN_ID) == []
    assert not folder.exists()
    assert devices() == before


def _folder_of(links: Up) -> Path:
    """Where its files are, from the emulator's command line."""
    words = Path(f"/proc/{links.children()[0]}/cmdline").read_bytes().split(b"\0")
    folder = Path(words[words.index(b"--clock") + 1].decode()).parent
    assert folder.is_dir()
    return folder


def test_after_a_kill_of_everything_clean_removes_what_is_left_and_nothing_else(
    plan_file: Callable[..., Path],
) -> None:
    before, names = devices(), _names()
    plan = plan_file(plan_of(steady("a", "b", 5, 10)))
    other = f"{RUN_ID}other"
    with up(plan, run_id=other), up(plan) as links:
        folder = _folder_of(links)
        for pid in [links.process.pid, *links.children()]:
            os.kill(pid, signal.SIGKILL)
        links.process.wait(20)
        mine = {namespace_name(RUN_ID, node) for node in "ab"}
        assert mine <= _names()
        told = orbitrain("clean", "--dry-run").stdout
        assert all(f"would remove network namespace {name}\n" in told for name in mine)
        assert f"would remove folder {folder}\n" in told
        assert mine <= _names() and folder.exists()
        done = orbitrain("clean")
        assert done.returncode == 0, done.stderr
        assert all(f"removed network namespace {name}\n" in done.stdout for name in mine)
        assert f"kept network namespace {namespace_name(other, 'a')}: its run goes on\n" in done.stdout
        assert not folder.exists() and not mine & _names()
        assert {namespace_name(other, node) for node in "ab"} <= _names()
        # The living one was not disturbed: its clock, its files.
        again = orbitrain("clean", "--run-id", RUN_ID)
        assert again.stdout == f"nothing is left of run {RUN_ID}\n"
    assert _names() - names == set() and devices() == before


def _names() -> set[str]:
    try:
        return set(os.listdir(FOLDER))
    except FileNotFoundError:
        return set()


def test_one_of_the_same_id_begins_where_a_killed_one_has_left_things(plan_file: Callable[..., Path]) -> None:
    plan = plan_file(plan_of(steady("a", "b", 5, 10)))
    with up(plan) as links:
        for pid in [*links.children(), links.process.pid]:
            os.kill(pid, signal.SIGKILL)
        links.process.wait(20)
    with up(plan) as links:
        second = orbitrain("links", "up", str(plan), "--run-id", RUN_ID)
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.startswith(f"orbitrain: --run-id: the links of {RUN_ID} are up")
        assert second.stderr.endswith("end that one first\n") and second.stderr.count("\n") == 1
        assert links.process.poll() is None
    orbitrain("clean", "--run-id", RUN_ID)


def test_an_emulator_that_is_killed_ends_the_command_with_a_line(plan_file: Callable[..., Path]) -> None:
    with up(plan_file(plan_of(steady("a", "b", 5, 10)))) as links:
        (child,) = links.children()
        os.kill(child, signal.SIGKILL)
        assert links.process.wait(20) == 1
        assert links.process.stderr is not None
        last = links.process.stderr.read().splitlines()[-1]
        assert last == "orbitrain: links: the emulator was killed by SIGKILL"
    assert owned(RUN_ID) == []


def test_addresses_that_the_host_uses_are_refused(plan_file: Callable[..., Path]) -> None:
    plan = plan_file(plan_of(steady("a", "b", 5, 10)))
    run = orbitrain("links", "up", str(plan), "--addresses", "127.0.0.0/16", "--run-id", RUN_ID)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("orbitrain: links: addresses 127.0.0.0/16: in use here (")
    assert run.stderr.endswith("choose others with --addresses\n") and run.stderr.count("\n") == 1
    assert owned(RUN_ID) == []


@pytest.mark.full
def test_links_that_are_the_plan_are_verified(plan_file: Callable[..., Path]) -> None:
    plan = plan_file(plan_of(steady("a", "b", 20, 5), steady("b", "a", 20, 5)))

    def measure() -> list[str]:
        run = orbitrain("links", "verify", str(plan), "--seconds", "8", "--json")
        found = json.loads(run.stdout)["links_truth"]
        if run.returncode or found["verdict"] != "as_flown":
            return [f"{run.returncode}: {found['verdict']}: {found['reason']}"]
        assert found["delay_error_ms"]["p50"] < 0.5
        return []

    one_of_three(measure)


@pytest.mark.full
def test_links_that_nobody_could_measure_are_not_verified(plan_file: Callable[..., Path]) -> None:
    # Never up while it is looked at: nothing was measured, so nothing is claimed.
    plan = plan_file(plan_of(contact("a", "b", 500 * S, 600 * S, (500 * S, 5 * MS, 10_000_000))))
    run = orbitrain("links", "verify", str(plan), "--seconds", "5", "--from", "10")
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines()[-1].startswith("unchecked: ")


# --- without rights -----------------------------------------------------------------------------------------


def _without_rights() -> list[str]:
    """How to run a program without capabilities: all but one that the kernel wants where root maps itself."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+setfcap"]
    program = [*without, sys.executable, "-c", "import orbitrain"]
    if subprocess.run(program, cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip("capabilities cannot be taken away here")
    return without


def test_without_rights_one_line_says_what_is_missing(plan_file: Callable[..., Path]) -> None:
    plan = plan_file(plan_of(steady("a", "b", 5, 10)))
    command = [*_without_rights(), *COMMAND, "links", "up", str(plan), "--run-id", RUN_ID]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "ORBITRAIN_INSIDE": "1"},  # no further way
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("orbitrain: --links: tun is not possible here: network namespaces: ")
    assert "be root" in run.stderr and run.stderr.count("\n") == 1


def test_without_capabilities_it_goes_to_namespaces_of_its_own_and_says_how_to_get_there(
    plan_file: Callable[..., Path],
) -> None:
    plan = plan_file(plan_of(steady("a", "b", 30, 10), steady("b", "a", 30, 10)))
    without = _without_rights()
    tried = [*without, sys.executable, "-m", "orbitrain.testbed.inside"]
    found = subprocess.run(tried, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    before = _names()
    command = [*without, *COMMAND, "links", "up", str(plan), "--run-id", RUN_ID]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            places = json.loads(process.stdout.readline() or process.stderr.read())
            hint = process.stderr.readline()
            assert hint.startswith("orbitrain: these namespaces are seen from inside alone; enter with: ")
            assert _names() == before  # nothing of it outside
            words = hint.split("enter with: ")[1].split()
            assert words[-2:] == [places["a"]["netns"], "PROGRAM"]
            program = (
                "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                f"s.connect(('{places['b']['address']}', 9)); print(s.getsockname()[0])"
            )
            there = subprocess.run(
                [*words[:-1], sys.executable, "-c", program],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert there.stdout.strip() == places["a"]["address"], there.stderr
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
    assert _names() == before


def test_the_namespaces_are_those_of_ip_netns(plan_file: Callable[..., Path]) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no ip")
    with up(plan_file(plan_of(steady("a", "b", 5, 10)))) as links:
        there = links.places["b"]
        run = subprocess.run(
            ["ip", "netns", "exec", there["netns"], sys.executable, "-c", _ADDRESSES],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert run.stdout.strip() == there["address"], run.stderr
        with network_of(f"{FOLDER}/{there['netns']}"):
            assert {name for _, name in socket.if_nameindex()} == {"lo", "orbit0"}


_ADDRESSES = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    "s.connect(('10.213.0.1', 9)); print(s.getsockname()[0])"
)
