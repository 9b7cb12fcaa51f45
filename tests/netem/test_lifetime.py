"""How the emulator begins and ends on both back ends, and what is cleaned up after one that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netem.namespaces import FOLDER, owned
from tests.netem.emulator import netem
from tests.netem.traffic import exchange
from tests.unit.netem.plans import MS, S, contact, plan_of, steady


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
                # Without an id dead runs' go, also such as others have left here; those of the living stay.
                everything = json.loads(netem("clean").stdout)
                own = [name for name in everything["removed"] if name.startswith(f"ob-{mine}-")]
                assert sorted(own) == [f"ob-{mine}-{node}" for node in ("a", "b", "unborn")]
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
