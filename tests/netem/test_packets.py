"""Both back ends with real packets: what programs in the namespaces see is the plan."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from netem.syscalls import CLONE_NEWNET, network_kept, unshare
from netem.tun.device import QUEUE_PACKETS, open_device
from tests.netem.measures import L2_BYTES, delay_complaints, one_of_three
from tests.netem.traffic import exchange
from tests.unit.netem.plans import MS, S, contact, plan_of, steady


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


def test_nothing_overtakes_when_the_delay_falls(links: Callable[..., Any], tmp_path: Path) -> None:
    samples = [(0, 60 * MS, 50_000_000), (2 * S, 20 * MS, 50_000_000)]
    with links(plan_of(contact("a", "b", 0, 900 * S, *samples)), "--step-ms", "100") as up:
        (one,) = exchange([up.flow("a", "b", 2500, 1, 60)], tmp_path, 0.3)
    assert one.reordered == 0 and not any(one.missing)


def test_scaled_links_are_as_much_shorter_and_faster(links: Callable[..., Any], tmp_path: Path) -> None:
    with links(plan_of(steady("a", "b", 200, 2)), "--rate", "10") as up:
        flow = up.flow("a", "b", 400, 1, 100)
        one_of_three(lambda: delay_complaints([flow], exchange([flow], tmp_path, 0.2), [(20.0, 20.0)]))


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
