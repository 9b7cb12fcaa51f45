"""Real netem: in place where the kernel has it, else inside User-Mode Linux, else skipped.

On a host without netem one test runs all the others again in there; the others are skipped outside. Where
`.ci/run` has installed User-Mode Linux it sets ORBITRAIN_NETEM to `required`: then nothing may be skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netem.kernel.network import KernelNetwork, probe
from netem.kernel.token_bucket import TokenBucket
from netem.namespaces import HostError, check_rights, owned
from netem.uml import guest
from tests.netem.conftest import INSIDE_GUEST, RERUN, no_netem

REQUIRED = "ORBITRAIN_NETEM"


@pytest.fixture(scope="session")
def _no_guest() -> str:
    return "inside of one" if INSIDE_GUEST in os.environ else _refusal(guest.check)


@pytest.fixture(scope="session")
def _no_buckets() -> str:
    return _refusal(lambda: probe(TokenBucket))


def _refusal(ask: Callable[[], None]) -> str:
    try:
        check_rights()
        ask()
    except HostError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _links_can_be_made(request: pytest.FixtureRequest, _no_guest: str, _no_buckets: str) -> None:
    """Instead of the one for `tun`."""
    without = no_netem()
    refuse = pytest.fail if os.environ.get(REQUIRED) == "required" else pytest.skip
    needs_guest = request.path.name == "test_guest.py"
    if request.node.get_closest_marker("netem") is None:
        if _no_buckets:
            refuse(_no_buckets)
    elif needs_guest and INSIDE_GUEST in os.environ:
        pytest.skip(_no_guest)
    elif request.node.name == RERUN and not without:
        pytest.skip("done in place")
    elif needs_guest and _no_guest:
        refuse(f"{without}; {_no_guest}")
    elif not needs_guest and without:
        if INSIDE_GUEST in os.environ:
            pytest.fail(without)
        pytest.skip(f"{without.partition(';')[0]}: done by {RERUN}")


@pytest.fixture
def up() -> Iterator[Callable[..., KernelNetwork]]:
    """Makes networks, and takes them down."""
    made: list[KernelNetwork] = []
    run_id = f"k{os.getpid()}"

    def make(*nodes: str, **more: Any) -> KernelNetwork:
        network = KernelNetwork.up(run_id, nodes or ("a", "b"), **more)
        made.append(network)
        return network

    yield make
    for network in made:
        network.close()
    assert owned(run_id) == []
