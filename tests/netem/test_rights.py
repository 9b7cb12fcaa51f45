"""The emulator without root: what it says, and links in a user namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netem.namespaces import FOLDER
from tests.netem.conftest import HERE, INSIDE
from tests.netem.emulator import ROOT
from tests.netem.traffic import exchange
from tests.unit.netem.plans import MS, plan_of, steady


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
