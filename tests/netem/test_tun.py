"""Both back ends with real packets: what programs in the namespaces see is the plan.

The machine may be busy, which the relay cannot help: what is held to a bound in time has three tries.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from netem.namespaces import FOLDER, owned
from netem.syscalls import CLONE_NEWNET, network_kept, unshare
from netem.tun.device import QUEUE_PACKETS, open_device
from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import ClockFile, unix_ns
from tests.netem.conftest import HERE, INSIDE
from tests.netem.traffic import Flow, Seen, exchange
from tests.unit.netem.plans import MS, S, contact, plan_of

ROOT = HERE.parents[1]
L2_BYTES = 28 + 14


@dataclass
class Links:
    """A running emulator."""

    process: subprocess.Popen[str]
    run_id: str
    backend: str
    ready: dict[str, Any] = field(default_factory=dict)
    root: str = ""

    def line(self, key: str) -> Any:
        """The next line with this key."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            document = json.loads(text)
            if key in document:
                return document[key]
        raise AssertionError(f"ended without {key}")

    def flow(
        self, source: str, destination: str, packets: int, interval_ms: float, payload: int, port: int = 5000
    ) -> Flow:
        places = self.ready
        return Flow(
            f"{self.root}{FOLDER}/{places[source]['netns']}",
            f"{self.root}{FOLDER}/{places[destination]['netns']}",
            places[destination]["address"],
            port,
            packets,
            round(interval_ms * MS),
            payload,
        )

    def end(self) -> dict[str, Any]:
        """Its final account."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        ended: dict[str, Any] = self.line("ended")
        assert self.process.wait(10) == 0
        return ended


@pytest.fixture(params=["tun", pytest.param("kernel", marks=pytest.mark.netem)])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def links(tmp_path: Path, backend: str) -> Callable[..., Any]:
    @contextmanager
    def up(plan: ContactPlan, *more: str, run_id: str = f"t{os.getpid()}") -> Iterator[Links]:
        path = tmp_path / "plan.json"
        path.write_bytes(plan.to_json())
        command = [sys.executable, "-m", "netem", "up", "--links", backend]
        command += ["--plan", str(path), "--run-id", run_id, *more]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
            running = Links(process, run_id, backend)
            try:
                running.ready = running.line("ready")
                yield running
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(10)
        assert owned(run_id) == []

    return up


def steady(source: str, destination: str, delay_ms: float, mbps: float, *loss: float) -> Contact:
    values = (0, round(delay_ms * MS), round(mbps * 1e6), *loss)
    return contact(source, destination, 0, 900 * S, values)  # type: ignore[arg-type]


def netem(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netem", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **more,
    )  # fmt: skip


def one_of_three(measure: Callable[[], list[str]]) -> None:
    """`measure` answers what was not as it should be."""
    complaints = []
    for _ in range(3):
        found = measure()
        if not found:
            return
        complaints.append(found)
    pytest.fail(f"three times: {complaints}")


def delay_complaints(flows: list[Flow], seen: list[Seen], states: list[tuple[float, float]]) -> list[str]:
    found = []
    for flow, one, (delay_ms, mbps) in zip(flows, seen, states, strict=True):
        errors = sorted(abs(e) for e in one.delay_errors_ns(flow, round(delay_ms * MS), round(mbps * 1e6)))
        assert one.reordered == 0 and not any(one.missing)
        p50_ms, p99_ms = errors[len(errors) // 2] / MS, errors[len(errors) * 99 // 100] / MS
        if p50_ms > 0.5 or p99_ms > 5:
            found.append(f"{delay_ms} ms, {mbps} Mbit/s: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms")
    return found


def test_packets_take_the_delay_and_the_rate_of_the_plan(links: Callable[..., Any], tmp_path: Path) -> None:
    states = [(5.0, 2.0), (20.0, 10.0), (100.0, 50.0)]
    names = [("a", "b"), ("b", "a"), ("a", "c")]
    plan = plan_of(*(steady(*link, *state) for link, state in zip(names, states, strict=True)))
    with links(plan) as up:
        flows = [up.flow(*link, 500, 2, 100, 5000 + n) for n, link in enumerate(names)]
        one_of_three(lambda: delay_complaints(flows, exchange(flows, tmp_path, 0.3), states))
        account = up.end()
    assert account["links"]["a b"]["delivered"] % 500 == 0
    assert account["cpu_s"] > 0
    if up.backend == "tun":
        assert account["refused"] == account["kernel_drops"] == account["overflow"] == 0
    else:
        assert account["tampered"] == account["links"]["a b"]["dropped"] == 0


def test_a_full_link_carries_its_rate_and_drops_the_rest(links: Callable[..., Any], tmp_path: Path) -> None:
    # 10 Mbit/s, 20 ms: 90 ms may wait. Twice the rate is offered.
    with links(plan_of(steady("a", "b", 20, 10))) as up:
        flow = up.flow("a", "b", 1600, 1442 * 8 / 20e6 * 1e3, 1400)

        def measure() -> list[str]:
            (one,) = exchange([flow], tmp_path, 0.5)
            assert one.reordered == 0
            times = [at_ns for _, at_ns in one.arrived]
            rate_bps = (len(times) - 1) * (1400 + L2_BYTES) * 8 * S / (times[-1] - times[0])
            return [] if abs(rate_bps / 10e6 - 1) <= 0.03 else [f"{rate_bps / 1e6:.3f} Mbit/s"]

        one_of_three(measure)
        one = up.end()["links"]["a b"]
    if up.backend == "kernel":
        assert one["dropped"] > 500 and (one["dropped"] + one["delivered"]) % 1600 == 0
        return
    assert one["offered"] % 1600 == 0
    assert one["overflow"] > 500 and one["lost"] == one["down"] == 0
    assert one["offered"] == one["delivered"] + one["overflow"]


def test_losses_come_as_often_and_in_runs_as_long_as_planned(
    links: Callable[..., Any], tmp_path: Path
) -> None:
    mean, burst, n = 0.1, 4.0, 6000
    with links(plan_of(steady("a", "b", 5, 20, mean, burst)), "--seed", "3") as up:
        (one,) = exchange([up.flow("a", "b", n, 0.5, 60)], tmp_path, 0.5)
        account = up.end()["links"]["a b"]
    missing = one.missing
    assert account["lost" if up.backend == "tun" else "dropped"] == sum(missing)
    to_good, to_bad = 1 / burst, mean / burst / (1 - mean)
    rho = 1 - to_good - to_bad
    spread = math.sqrt(mean * (1 - mean) / n * (1 + rho) / (1 - rho))
    assert abs(sum(missing) / n - mean) < 2.58 * spread
    runs = [sum(1 for _ in run) for lost, run in groupby(missing) if lost]
    assert abs(sum(runs) / len(runs) - burst) < 2.58 * math.sqrt(burst * (burst - 1) / len(runs))


@pytest.mark.parametrize("outage", ["hold", "cut"])
def test_a_contact_begins_and_ends_when_the_plan_says(
    links: Callable[..., Any], tmp_path: Path, outage: str
) -> None:
    # Up from 1 to 2 s of scenario time, 100 ms long; a probe each ms.
    window = contact("a", "b", 1 * S, 2 * S, (1 * S, 100 * MS, 10_000_000))

    def measure() -> list[str]:
        clock = tmp_path / "clock.json"
        ClockFile(None, 0, 1.0, 0).write(clock)
        with links(plan_of(window), "--clock", str(clock), "--outage", outage) as up:
            zero_ns = unix_ns() + S // 2
            ClockFile(zero_ns, 0, 1.0, 0).write(clock)
            (one,) = exchange([up.flow("a", "b", 3000, 1, 60)], tmp_path, 0.3)
            account = up.end()
        assert account["replay"]["steps"] == 2
        sent = [one.sent_ns[number] - zero_ns for number, _ in one.arrived]
        # By `cut` what flies is lost: the last to arrive was sent a light time before the end.
        last_ns = 2 * S if outage == "hold" else round(1.9 * S)
        edges = [(sent[0] - 1 * S) / MS, (sent[-1] - last_ns) / MS]
        return [] if all(abs(edge) <= 20 for edge in edges) else [f"edges {edges} ms off"]

    one_of_three(measure)


def test_one_that_joins_a_run_late_begins_at_its_present(links: Callable[..., Any], tmp_path: Path) -> None:
    clock = tmp_path / "clock.json"
    ClockFile(unix_ns() - 50 * S, 0, 1.0, 0).write(clock)
    windows = [contact("a", "b", n * S, n * S + S // 2, (n * S, 5 * MS, 10_000_000)) for n in range(40)]
    with links(plan_of(*windows, steady("b", "a", 5, 10)), "--clock", str(clock)) as up:
        flows = [up.flow("a", "b", 20, 2, 60), up.flow("b", "a", 20, 2, 60)]
        there, back = exchange(flows, tmp_path, 0.2)
        account = up.end()
    assert all(there.missing) and not any(back.missing)
    assert account["replay"]["steps"] == 0
    assert account["scenario_ns"] > 50 * S


def test_a_replay_that_is_too_late_can_end_the_run(links: Callable[..., Any]) -> None:
    # Time runs when the first contact is up; stopped over the begin of the second, it is late by as long.
    first = contact("b", "a", S // 5, 9 * S, (S, 5 * MS, 10**7))
    second = contact("a", "b", S, 9 * S, (S, 5 * MS, 10**7))
    with links(plan_of(first, second), "--late", "abort") as up:
        assert up.line("cue")["source"] == "b"
        up.process.send_signal(signal.SIGSTOP)
        until_ns = unix_ns() + S
        while unix_ns() < until_ns:
            os.sched_yield()
        up.process.send_signal(signal.SIGCONT)
        assert up.line("ended")["replay"]["late_steps"] == 1
        assert up.process.wait(10) == 3


def test_nothing_overtakes_when_the_delay_falls(links: Callable[..., Any], tmp_path: Path) -> None:
    samples = [(0, 60 * MS, 50_000_000), (2 * S, 20 * MS, 50_000_000)]
    with links(plan_of(contact("a", "b", 0, 900 * S, *samples)), "--step-ms", "100") as up:
        (one,) = exchange([up.flow("a", "b", 2500, 1, 60)], tmp_path, 0.3)
    assert one.reordered == 0 and not any(one.missing)


def test_scaled_links_are_as_much_shorter_and_faster(links: Callable[..., Any], tmp_path: Path) -> None:
    with links(plan_of(steady("a", "b", 200, 2)), "--rate", "10") as up:
        flow = up.flow("a", "b", 400, 1, 100)
        one_of_three(lambda: delay_complaints([flow], exchange([flow], tmp_path, 0.2), [(20.0, 20.0)]))


def test_another_plan_takes_over_while_packets_fly(links: Callable[..., Any], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(plan_of(steady("b", "a", 5, 10)).to_json())
    hasty = tmp_path / "hasty.json"
    hasty.write_bytes(plan_of(steady("b", "a", 5, 2e6)).to_json())
    foreign = tmp_path / "foreign.json"
    foreign.write_bytes(plan_of(steady("b", "z", 5, 10)).to_json())
    with links(plan_of(steady("a", "b", 5, 10))) as up:
        assert up.line("cue")["up"]

        def tell(text: str) -> None:
            up.process.stdin.write(text + "\n")
            up.process.stdin.flush()

        tell(json.dumps({"plan": str(foreign)}))
        assert "nodes must be those of the run" in up.line("refused")
        tell(json.dumps({"plan": str(hasty)}))
        assert "hasty.json: rate_bps: must be 1 to 1000000000000 on the host" in up.line("refused")
        tell("nonsense")
        assert "must be" in up.line("refused")
        tell(json.dumps({"plan": str(tmp_path / "none.json")}))
        assert "none.json" in up.line("refused")
        tell(json.dumps({"plan": str(other), "from_ns": None}))
        cues = [up.line("cue"), up.line("cue")]
        assert [(cue["source"], cue["up"]) for cue in cues] == [("b", True), ("a", False)] or [
            (cue["source"], cue["up"]) for cue in cues
        ] == [("a", False), ("b", True)]
        flows = [up.flow("a", "b", 50, 2, 60), up.flow("b", "a", 50, 2, 60)]
        there, back = exchange(flows, tmp_path, 0.2)
    assert all(there.missing) and not any(back.missing)


def test_packets_do_not_wait_for_the_disk(links: Callable[..., Any], tmp_path: Path) -> None:
    stats, slow = tmp_path / "stats.json", tmp_path / "stats.json.fresh"
    os.mkfifo(slow)  # who writes waits for a reader
    with links(plan_of(steady("a", "b", 5, 10)), "--stats", str(stats), "--stats-s", "0.05") as up:
        (one,) = exchange([up.flow("a", "b", 300, 2, 60)], tmp_path, 0.3)
        assert not any(one.missing)
        slow.read_bytes()
        account = up.end()
    assert json.loads(stats.read_bytes())["links"] == account["links"]


def test_packets_that_nobody_reads_are_counted_when_the_kernel_drops_them() -> None:
    address, network = IPv4Address("10.213.0.1"), IPv4Network("10.213.0.0/16")
    with network_kept():
        unshare(CLONE_NEWNET)
        device = open_device(address, network)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            assert device.kernel_drops() == 0
            for _ in range(QUEUE_PACKETS + 1):  # the kernel may have sent one itself
                sender.sendto(b"x", ("10.213.0.2", 9))
            before = device.kernel_drops()
            assert 1 <= before <= 5
            for _ in range(7):
                sender.sendto(b"x", ("10.213.0.2", 9))
    # Asked from the namespace of the emulator.
    assert device.kernel_drops() == before + 7
    device.close()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stdin"])
def test_it_ends_cleanly_and_takes_everything_along(links: Callable[..., Any], how: str) -> None:
    with links(plan_of(steady("a", "b", 5, 10))) as up:
        assert [one.node for one in owned(up.run_id)] == ["a", "b"]
        if how == "stdin":
            up.process.stdin.close()
        else:
            up.process.send_signal(signal.Signals[how])
        assert up.line("ended")["backend"] == up.backend
        assert up.process.wait(10) == 0
        assert owned(up.run_id) == []


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.netem)])
def test_a_refusal_by_the_kernel_ends_it_with_a_line(
    links: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Somebody takes a link's qdisc away: its next change is refused."""
    again = [contact("a", "b", n * S, n * S + S // 2, (n * S, 5 * MS, 10_000_000)) for n in range(1, 60)]
    with links(plan_of(*again)) as up:
        assert up.line("cue")["up"]
        name = up.ready["a"]["netns"]
        command = ["ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "orbit2", "root"]
        subprocess.run(command, check=True)
        assert up.line("ended")["tampered"] == 1
        assert up.process.wait(10) == 2
    said = capfd.readouterr().err
    assert said.startswith("netem: link a b: ") and said.count("\n") == 1
    assert said.endswith(": orbit2 has no qdisc, not ours\n")


def test_what_a_killed_one_leaves_is_removed_and_nothing_else(
    links: Callable[..., Any], tmp_path: Path
) -> None:
    plan = plan_of(steady("a", "b", 5, 10))
    mine, other = f"killed{os.getpid()}", f"killed{os.getpid()}x"
    strange = FOLDER / f"ob-{mine}-strange"  # looks like ours, and is a namespace that says nothing of us
    with links(plan, run_id=other) as alive:
        with links(plan, run_id=mine) as up:
            up.process.kill()
            up.process.wait(10)
            assert [one.node for one in owned(mine)] == ["a", "b"]
            (FOLDER / f"ob-{mine}-unborn").touch(mode=0)
            made = subprocess.run(["ip", "netns", "add", strange.name], check=False, capture_output=True)
            try:
                # Without an id the dead run's go, those of the living one stay.
                everything = json.loads(netem("clean").stdout)
                assert sorted(everything["removed"])[:3] == [
                    f"ob-{mine}-{node}" for node in ("a", "b", "unborn")
                ]
                assert set(everything["in_use"]) >= {f"ob-{other}-a", f"ob-{other}-b"}
                assert owned(mine) == []
                assert strange.exists() == (made.returncode == 0)
            finally:
                if made.returncode == 0:
                    subprocess.run(["ip", "netns", "del", strange.name], check=True)
        flow = alive.flow("a", "b", 20, 1, 60)
        assert not any(exchange([flow], tmp_path, 0.2)[0].missing)


def test_a_run_that_is_up_is_not_started_twice(links: Callable[..., Any], tmp_path: Path) -> None:
    with links(plan_of(steady("a", "b", 5, 10))) as up:
        second = netem(
            "up", "--links", up.backend, "--plan", str(tmp_path / "plan.json"), "--run-id", up.run_id
        )
        assert second.returncode == 2
        assert "its links are up, held by another process" in second.stderr
        assert second.stderr.count("\n") == 1


def test_left_over_namespaces_are_named_with_the_command_that_removes_them(
    links: Callable[..., Any], tmp_path: Path
) -> None:
    with links(plan_of(steady("a", "b", 5, 10)), run_id="left1") as up:
        up.process.kill()
        up.process.wait(10)
        again = netem("up", "--links", up.backend, "--plan", str(tmp_path / "plan.json"), "--run-id", "left1")
        assert again.returncode == 2
        assert "python -m netem clean --run-id left1" in again.stderr
        assert json.loads(netem("clean", "--run-id", "left1").stdout)["removed"] == [
            "ob-left1-a",
            "ob-left1-b",
        ]


def test_addresses_in_use_on_the_host_are_refused(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(steady("a", "b", 5, 10)).to_json())
    refused = netem(
        "up", "--links", backend, "--plan", str(path), "--run-id", "inuse1", "--addresses", "127.0.0.0/16"
    )
    assert refused.returncode == 2
    assert "addresses 127.0.0.0/16: in use here (address 127.0.0.1/8)" in refused.stderr
    assert owned("inuse1") == []


def test_too_few_addresses_are_refused(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(steady("a", "b", 5, 10), steady("c", "d", 5, 10)).to_json())
    refused = netem(
        "up", "--links", backend, "--plan", str(path), "--run-id", "few1", "--addresses", "10.213.0.0/30"
    )
    assert refused.returncode == 2 and "too few for 4 nodes" in refused.stderr


def test_a_user_without_rights_is_told_what_to_do(tmp_path: Path) -> None:
    if os.geteuid() != 0 or INSIDE in os.environ:
        pytest.skip("needs root, to become somebody else")
    path = tmp_path / "plan.json"
    path.write_bytes(plan_of(steady("a", "b", 5, 10)).to_json())
    program = (
        "import ctypes, encodings.ascii, os, sys; from pathlib import Path; import netem.__main__ as m\n"
        f"Path.read_bytes = lambda self, data=Path({str(path)!r}).read_bytes(): data\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"  # /proc/self is the user's again, as after an exec
        "sys.exit(m.main(['up', '--links', 'tun', '--plan', 'x', '--run-id', 'nobody1', *sys.argv[1:]]))"
    )

    def as_nobody(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *more],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    refused = as_nobody()
    assert refused.returncode == 2, refused.stderr
    assert "be root (CAP_SYS_ADMIN, CAP_NET_ADMIN) or start with --unprivileged" in refused.stderr
    if os.stat("/dev/net/tun").st_mode & 0o006 != 0o006:
        refused = as_nobody("--unprivileged")
        assert refused.returncode == 2, refused.stderr
        assert "/dev/net/tun: " in refused.stderr and "chmod 0666" in refused.stderr


@pytest.mark.parametrize("backend", ["tun"])
def test_links_in_a_user_namespace_of_their_own(links: Callable[..., Any], tmp_path: Path) -> None:
    if os.geteuid() != 0 or INSIDE in os.environ:
        pytest.skip("needs root, to look into it")
    before = sorted(os.listdir(FOLDER)) if FOLDER.is_dir() else []
    with links(plan_of(steady("a", "b", 20, 10)), "--unprivileged") as up:
        up.root = f"/proc/{up.process.pid}/root"
        assert (sorted(os.listdir(FOLDER)) if FOLDER.is_dir() else []) == before
        flow = up.flow("a", "b", 300, 2, 100)
        # There is no real-time priority in there, so only the middle is held to its bound.
        (one,) = exchange([flow], tmp_path, 0.3)
        assert one.reordered == 0 and not any(one.missing)
        errors = sorted(one.delay_errors_ns(flow, 20 * MS, 10_000_000))
        assert errors[0] >= 0 and errors[len(errors) // 2] < 2 * MS


def test_in_a_user_namespace_where_this_host_allows_no_more() -> None:
    inside = ["unshare", "-Urnm", sys.executable, "-m", "pytest", "-q", str(HERE), "-m", "not full"]
    run = subprocess.run(
        inside,
        cwd=ROOT,
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]


@pytest.mark.full
@pytest.mark.parametrize("backend", ["tun"])
def test_twenty_links_at_a_thousand_packets_a_second_are_what_the_plan_says(
    links: Callable[..., Any], tmp_path: Path
) -> None:
    names = [(a, b) for n in range(10) for a, b in ((f"a{n}", f"b{n}"), (f"b{n}", f"a{n}"))]
    states = [(2 + 298 * n / 19, 2 + 48 * (n * 7 % 20) / 19) for n in range(20)]
    plan = plan_of(*(steady(*link, *state) for link, state in zip(names, states, strict=True)))
    with links(plan) as up:
        flows = [up.flow(*link, 5000, 1, 100) for link in names]
        one_of_three(lambda: delay_complaints(flows, exchange(flows, tmp_path, 0.5), states))
        account = up.end()
    assert account["kernel_drops"] == account["refused"] == 0
    print({key: account[key] for key in ("cpu_s", "lateness", "unread", "priority")})
