"""Scripts for tc, run for real: what the kernel holds is the schedule, step by step; undone, nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netem.kernel.encoder import Netem
from netem.link_state import LinkState
from netem.netlink import Netlink
from netem.schedule import Schedule, Stepped
from netem.syscalls import network_of
from orbitrain.contacts.plan import ContactPlan
from tests.netem.conftest import HERE
from tests.unit.netem.plans import MS, S, contact, plan_of

pytestmark = pytest.mark.netem

ROOT = HERE.parents[1]
MINE, THEIRS = f"scr{os.getpid()}a", f"scr{os.getpid()}b"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.fixture
def pair() -> Iterator[None]:
    """Two hosts on a wire, 10.9.0.1 with the device `wire`, and 10.9.0.2 and .3."""
    try:
        for name in (MINE, THEIRS):
            ip("netns", "add", name)
        ip("-n", MINE, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", THEIRS)
        ip("-n", MINE, "address", "add", "10.9.0.1/24", "dev", "wire")
        for address in ("10.9.0.2/24", "10.9.0.3/24", "10.9.0.4/24"):
            ip("-n", THEIRS, "address", "add", address, "dev", "wire")
        for name in (MINE, THEIRS):
            ip("-n", name, "link", "set", "wire", "up")
        yield
    finally:
        for name in (MINE, THEIRS):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(*command: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", MINE, *command], capture_output=True, text=True, timeout=60, check=False
    )


def written(folder: Path, plan: ContactPlan, *more: str) -> Path:
    (folder / "plan.json").write_bytes(plan.to_json())
    out = folder / "scripts"
    command = ["script", str(folder / "plan.json"), "--node", "a", "--dev", "wire", "--out", str(out), *more]
    done = subprocess.run([sys.executable, "-m", "netem", *command], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0
    return out


def looks() -> tuple[str, str]:
    """Of the device, what a script could have changed."""
    asked = ("tc", "qdisc", "show", "dev", "wire"), ("ip", "-d", "link", "show", "wire")
    shown, device = (inside(*command).stdout for command in asked)
    return shown, device


def held() -> list[Netem]:
    with network_of(f"/run/netns/{MINE}"), Netlink() as netlink:
        return [Netem.read(one.options) for one in netlink.qdiscs() if one.kind == "netem"]


def until(what: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def holds(state: LinkState) -> bool:
    """As exactly as tc reads: delays to the us."""
    found, told = held(), Netem.of(state, ("a", "b"))
    return (
        len(found) == 1
        and abs(found[0].delay_ns - told.delay_ns) <= 1000
        and not replace(found[0], delay_ns=told.delay_ns).differences(told)
    )


def test_the_kernel_holds_each_step_and_then_nothing_of_it(pair: None, tmp_path: Path) -> None:
    samples = ((S, 250 * S, 10_000_000, 0.1, 4.0), (2 * S, 30 * MS, 2_000_000, 0.0, 1.0))
    plan = plan_of(contact("a", "b", S, 3 * S, *samples), duration_ns=4 * S)
    scripts = written(tmp_path, plan)
    before = looks()
    assert "noqueue" in before[0]
    steps = [step.changes[0].state for step in Schedule(plan, 1.0, Stepped(S)).steps() if step.changes]
    process = subprocess.Popen(
        ["ip", "netns", "exec", MINE, "sh", scripts / "replay.sh"], stderr=subprocess.PIPE, text=True
    )
    for state in steps:
        until(lambda state=state: holds(state))  # type: ignore[misc]
    (said,) = json.loads(inside("tc", "-j", "qdisc", "show", "dev", "wire").stdout)
    assert (said["kind"], said["handle"], said["root"]) == ("netem", "b17:", True)
    assert "gso_max_segs 1 " in looks()[1]
    _, complained = process.communicate(timeout=30)
    assert process.returncode == 0, complained
    assert complained.startswith(f"replay.sh: {len(steps) + 1} lines, ")
    for _ in range(2):
        done = inside("sh", str(scripts / "undo.sh"))
        assert (done.returncode, done.stderr) == (0, "")
        assert looks() == before
    assert sorted(path.name for path in scripts.iterdir()) == ["replay.sh", "undo.sh"]


def test_of_several_peers_each_has_its_own_delay_and_others_none(pair: None, tmp_path: Path) -> None:
    plan = plan_of(
        contact("a", "b", 0, 900 * S, (0, 40 * MS, 10_000_000)),
        contact("a", "c", 0, 900 * S, (0, 80 * MS, 10_000_000)),
    )
    scripts = written(tmp_path, plan, "--peer", "b=10.9.0.2", "--peer", "c=10.9.0.3")
    before = looks()
    with subprocess.Popen(["ip", "netns", "exec", MINE, "sh", scripts / "replay.sh"]) as process:
        until(lambda: sorted(one.delay_ns // MS for one in held()) in ([40, 80], [39, 79]))
        for address, delay_ms in (("10.9.0.2", 40), ("10.9.0.3", 80), ("10.9.0.4", 0)):
            inside("ping", "-c1", "-W2", address)  # addresses are known from here on
            pinged = inside("ping", "-q", "-c5", "-i0.2", address).stdout
            least_ms = float(pinged.rsplit("= ", 1)[1].split("/")[0])
            assert delay_ms <= least_ms < delay_ms + 10
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
    assert looks() == before


def test_somebodys_qdisc_is_refused_and_left_as_it_is(pair: None, tmp_path: Path) -> None:
    scripts = written(tmp_path, plan_of(contact("a", "b", 0, 900 * S, (0, 40 * MS, 10_000_000))))
    assert inside("tc", "qdisc", "add", "dev", "wire", "root", "handle", "77:", "pfifo").returncode == 0
    before = looks()
    done = inside("sh", str(scripts / "replay.sh"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("replay.sh: wire: carries a qdisc (pfifo 77:)")
    assert inside("sh", str(scripts / "undo.sh")).returncode == 0
    assert looks() == before


def test_a_device_that_is_not_there_and_a_bad_instant_are_refused(pair: None, tmp_path: Path) -> None:
    scripts = written(tmp_path, plan_of(contact("a", "b", 0, 900 * S, (0, 40 * MS, 10_000_000))))
    assert (
        "--at: must be whole seconds, not noon"
        in inside("sh", str(scripts / "replay.sh"), "--at", "noon").stderr
    )
    before = looks()
    past = inside("sh", str(scripts / "replay.sh"), "--at", "1000000000")
    assert past.returncode == 2 and "--at: must not be in the past" in past.stderr
    assert looks() == before
    ip("-n", MINE, "link", "del", "wire")
    done = inside("sh", str(scripts / "replay.sh"))
    assert (done.returncode, done.stderr) == (2, "replay.sh: wire: there is no such device\n")
