"""Real packets need root, or a user namespace. Where neither is to be had: skipped, but failed in CI."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netem.kernel.encoder import Netem
from netem.kernel.network import probe
from netem.namespaces import HostError, check_rights, owned
from orbitrain.contacts.plan import ContactPlan
from tests.netem.emulator import ROOT, Links

HERE = Path(__file__).parent
INSIDE = "ORBITRAIN_NETEM_INSIDE"
INSIDE_GUEST = "ORBITRAIN_NETEM_GUEST"
RERUN = "test_the_netem_tests_pass_inside_user_mode_linux"


def _works(prefix: list[str]) -> str:
    """Empty where links can be made after the prefix, else why not."""
    program = "import netem.namespaces as n, netem.tun.device as d; n.check_rights(); d.probe()"
    try:
        run = subprocess.run(
            [*prefix, sys.executable, "-c", program],
            cwd=HERE.parents[1],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError as error:
        return str(error)
    return "" if run.returncode == 0 else (run.stderr.strip().splitlines() or ["?"])[-1]


@functools.cache
def no_netem() -> str:
    """Why this kernel has none; empty: it has."""
    try:
        check_rights()
        probe(Netem)
    except HostError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def _host() -> str:
    """in place, in a user namespace, or why links cannot be made."""
    reason = _works([])
    if not reason:
        return "in place"
    inside = "no unshare" if shutil.which("unshare") is None else _works(["unshare", "-Urnm"])
    if not inside and INSIDE not in os.environ:
        return "in a user namespace"
    return f"{reason}; in a user namespace: {inside}"


@pytest.fixture(autouse=True)
def _links_can_be_made(_host: str, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    if request.node.get_closest_marker("netem") is not None and (why := no_netem()):
        if INSIDE_GUEST in os.environ:
            pytest.fail(why)
        pytest.skip(f"{why.partition(';')[0]}: done by {RERUN}")
    if name == "test_in_a_user_namespace_where_this_host_allows_no_more":
        if _host != "in a user namespace":
            pytest.skip("done in place, or not at all")
    elif _host == "in a user namespace":
        pytest.skip("done by test_in_a_user_namespace_where_this_host_allows_no_more")
    elif _host != "in place":
        (pytest.fail if os.environ.get("CI") else pytest.skip)(_host)


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
