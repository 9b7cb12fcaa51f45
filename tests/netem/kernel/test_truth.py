"""The truth probe on the kernel's netem: true links are called so, tampered ones are not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from netem.kernel.backend import HANDLES
from netem.kernel.encoder import Netem
from netem.link_state import up_state
from netem.namespaces import FOLDER
from netem.netlink import HowQdisc, Netlink, root_qdisc
from netem.syscalls import network_of
from tests.netem.test_probe import Probed, a_few_links, holds, probed, with_a_full_link
from tests.unit.netem.plans import MS, plan_of, steady

pytestmark = pytest.mark.netem


def test_links_of_netem_are_as_flown(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    def measure() -> dict[str, Any]:
        with probed(tmp_path, a_few_links(), seconds=14, backend="kernel") as up:
            found.update(up.result())
        return found

    holds(measure, "as_flown")
    truth = found["links_truth"]
    print(truth)
    assert truth["backend"] == "kernel"
    assert truth["loss_ok"] is True and truth["reordered"] == 0
    assert truth["checked"]["edges"] == 2 and truth["checked"]["links"] == 4


def test_links_of_netem_with_another_delay_than_the_plans_are_untrue(tmp_path: Path) -> None:
    plan = plan_of(steady("a", "b", 20, 10), steady("b", "a", 20, 10))
    told = plan_of(steady("a", "b", 40, 10), steady("b", "a", 20, 10))
    with probed(tmp_path, plan, told, seconds=5, backend="kernel") as up:
        truth = up.result()["links_truth"]
    assert truth["verdict"] == "untrue"
    assert "delay: a to b (-" in truth["reason"]


def test_packets_that_wait_behind_a_runs_own_are_no_untruth(tmp_path: Path) -> None:
    found = with_a_full_link(tmp_path, "kernel")
    assert found["links_truth"]["queue_drops"] is None  # netem does not tell them from losses


def test_a_probe_ends_with_the_links_and_calls_that_no_loss(tmp_path: Path) -> None:
    with probed(tmp_path, plan_of(steady("a", "b", 20, 10)), backend="kernel") as up:
        time.sleep(3)
        up.tun.terminate()
        found = up.result()
    assert found["probe"]["links_gone"] is True
    assert "loss:" not in found["links_truth"]["reason"]


def test_a_qdisc_that_somebody_else_has_changed_is_told(tmp_path: Path) -> None:
    plan = plan_of(steady("a", "b", 20, 10), steady("b", "a", 20, 10))
    with probed(tmp_path, plan, seconds=8, backend="kernel") as up:
        _tamper(up)
        truth = up.result()["links_truth"]
    assert truth["verdict"] == "untrue"
    assert "not as it was set: link a b: delay_ns: 5000000, not 20000000" in truth["reason"]
    assert "a to b (-1" in truth["reason"]  # 15 ms, but for the first moments


def _tamper(up: Probed) -> None:
    """As by hand with tc: another delay on the way from a to b, after both are up."""
    assert up.tun.stdout is not None
    while b'"cue"' not in up.tun.stdout.readline().encode():
        pass
    told = Netem.of(up_state(5 * MS, 10_000_000), ("a", "b"), packet_overhead=0)
    with network_of(f"{FOLDER}/{up.places['a']['netns']}"), Netlink() as netlink:
        (found,) = [one for one in netlink.qdiscs() if one.handle in HANDLES]
        body = root_qdisc(found.index, found.handle, "netem", told.options(None))
        assert netlink.set_qdiscs(netlink.composed([(HowQdisc.CHANGE, body)])) == []


def test_bringing_seventy_nodes_up_and_down_takes_seconds(tmp_path: Path) -> None:
    """A satellite of a shell has four neighbours; time runs when all are there."""
    n = 70
    links = [(f"s{k}", f"s{(k + step) % n}") for k in range(n) for step in (1, 7)]
    plan = plan_of(*(steady(*both, 5, 10) for one in links for both in (one, one[::-1])))
    with probed(tmp_path, plan, seconds=2, backend="kernel") as up:
        assert len(up.places) >= n
        assert up.result()["probe"]["links_gone"] is False
    assert not [name for name in os.listdir(FOLDER) if name.startswith(f"ob-p{os.getpid()}-")]
