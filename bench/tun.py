"""Twenty links between 2 and 50 Mbit/s and 2 and 300 ms over the back end `tun`, against their plan.

    .venv/bin/python bench/tun.py [--seconds N] [--repeats N]

Every link carries a packet of 100 bytes each ms, all at once: for the one-way delay. Some lose packets in
bursts, some are down for 1 s of every 4. Then each link in turn is offered twice its rate: for the rate. Sent
is when the sender's call began, arrived when the kernel took the packet off the node's device; a packet whose
call took longer than 0.5 ms was sent nobody knows when, and is left out of the delays and told apart. An
edge's error is that of the packets sent next to it, 1 ms apart.

Needs root and /dev/net/tun. Sender and receiver are processes of this host; so is whatever else it does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from netem.namespaces import FOLDER, HostError, check_rights
from netem.tun.device import probe
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.runtime.clock import ClockFile, unix_ns
from tests.netem.traffic import IP_UDP_BYTES, Flow, Seen, exchange

ROOT = Path(__file__).resolve().parents[1]
S = 1_000_000_000
MS = 1_000_000
LINKS = 20
PLAN_S = 3600
SMALL_BYTES, LARGE_BYTES = 100, 1400
ETHERNET_BYTES = 14
LOSSES = {3: (0.02, 4.0), 8: (0.1, 2.0), 13: (0.05, 10.0), 18: (0.01, 20.0)}
OUTAGES = (6, 16)
UP_S, PERIOD_S = 3, 4
RATE_TURN_MS = 500
CERTAIN_NS = MS // 2
APART_NS = 20 * MS
CLOSE_NS = 5 * MS
SIGMAS_99 = 2.576


@dataclass(frozen=True)
class Link:
    """`edges_ns`: scenario times at which it comes up and goes down in turn."""

    source: str
    destination: str
    delay_ns: int
    rate_bps: int
    loss: tuple[float, float]
    edges_ns: tuple[int, ...]

    @staticmethod
    def number(n: int) -> Link:
        ends = (f"a{n // 2}", f"b{n // 2}")
        mbps = 2 + 48 * (n * 7 % LINKS) / (LINKS - 1)
        delay_ms = 2 + 298 * n / (LINKS - 1)
        edges = [0, PLAN_S * S]
        if n in OUTAGES:
            edges = [s * S for up in range(0, PLAN_S, PERIOD_S) for s in (up, up + UP_S)]
        places = ends if n % 2 == 0 else ends[::-1]
        return Link(*places, round(delay_ms * MS), round(mbps * 1e6), LOSSES.get(n, (0.0, 1.0)), tuple(edges))

    def contacts(self) -> Iterator[Contact]:
        for start_ns, end_ns in zip(self.edges_ns[::2], self.edges_ns[1::2], strict=True):
            sample = Sample(start_ns, self.delay_ns, self.rate_bps, *self.loss)
            yield Contact(self.source, self.destination, "service", start_ns, end_ns, (sample,))

    def sending_ns(self, payload: int) -> int:
        return (payload + IP_UDP_BYTES + ETHERNET_BYTES) * 8 * S // self.rate_bps


def plan_of(links: list[Link]) -> ContactPlan:
    contacts = sorted(
        (contact for link in links for contact in link.contacts()),
        key=lambda one: (one.start_ns, one.end_ns, one.source, one.destination),
    )
    nodes = sorted({end for link in links for end in (link.source, link.destination)})
    return ContactPlan(
        version=1,
        scenario_sha256="0" * 64,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=PLAN_S * S,
        nodes=tuple(PlanNode(name, "satellite") for name in nodes),
        contacts=tuple(contacts),
    )


class Emulator:
    """Running; `zero_ns` is the UTC of scenario time 0."""

    def __init__(self, folder: Path, plan: ContactPlan) -> None:
        clock = folder / "clock.json"
        (folder / "plan.json").write_bytes(plan.to_json())
        ClockFile(None, 0, 1.0, 0).write(clock)
        command = [sys.executable, "-m", "netem", "up", "--links", "tun"]
        command += [
            "--plan",
            str(folder / "plan.json"),
            "--run-id",
            f"bench{os.getpid()}",
            "--clock",
            str(clock),
        ]
        # As runs of daemons have it: an account in a file, now and then.
        command += ["--stats", str(folder / "stats.json"), "--stats-s", "1"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        ready = self._line("ready")
        self.places, self.priority = ready["ready"], ready["priority"]
        self.zero_ns = unix_ns() + S // 2
        ClockFile(self.zero_ns, 0, 1.0, 0).write(clock)

    def _line(self, key: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            document: dict[str, Any] = json.loads(text)
            if key in document:
                return document
        raise HostError(f"the emulator ended with {self.process.wait()}")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        account: dict[str, Any] = self._line("ended")["ended"]
        self.process.wait()
        return account


@contextmanager
def emulator(folder: Path, plan: ContactPlan) -> Iterator[Emulator]:
    made = Emulator(folder, plan)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.terminate()  # it removes its namespaces
        made.process.wait()
        assert made.process.stdin is not None and made.process.stdout is not None
        made.process.stdin.close()
        made.process.stdout.close()


# --- what the host does -------------------------------------------------------------------------------------


def host() -> str:
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), "?")
    uname = platform.uname()
    virtual = ", virtual" if " hypervisor" in info else ""
    return f"{uname.system} {uname.release} {uname.version}, {os.cpu_count()} x {model}{virtual}"


def machine_s() -> tuple[float, float, float]:
    """(busy, stolen, all) seconds of all processors so far."""
    counts = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    idle = counts[3] + counts[4]
    return (sum(counts) - idle) / ticks, counts[7] / ticks, sum(counts) / ticks


def children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- what was seen ------------------------------------------------------------------------------------------


def delays_ns(link: Link, flow: Flow, one: Seen, zero_ns: int) -> tuple[list[int], list[int]]:
    """(errors, those of packets of which nobody knows when they were sent)."""
    expected = one.expected_ns(flow, link.delay_ns, link.rate_bps)
    errors: list[int] = []
    unknown: list[int] = []
    for number, arrived_ns in one.arrived:
        t_ns = one.sent_ns[number] - zero_ns
        if min(abs(t_ns - edge_ns) for edge_ns in link.edges_ns) < APART_NS:
            continue
        certain = one.took_ns[number] <= CERTAIN_NS
        (errors if certain else unknown).append(arrived_ns - expected[number])
    return errors, unknown


def edge_errors_ns(link: Link, one: Seen, zero_ns: int) -> list[int]:
    """How much later than planned, of each edge that packets were sent close to on both sides."""
    there = {number for number, _ in one.arrived}
    sending_ns = link.sending_ns(SMALL_BYTES)
    found = []
    for edge_ns, up in zip(link.edges_ns, [True, False] * len(link.edges_ns), strict=False):
        # Up: when the first was sent that was taken. Down: when the last had left the transmitter.
        near = [
            (t_ns if up else t_ns + sending_ns, (number in there) == up)
            for number, t_ns in enumerate(sent_ns - zero_ns for sent_ns in one.sent_ns)
            if abs(t_ns - edge_ns) < S // 2
        ]
        first = next((index for index, (_, after) in enumerate(near) if after), 0)
        if first and near[first][0] - near[first - 1][0] <= CLOSE_NS:
            found.append(near[first if up else first - 1][0] - edge_ns)
    return found


def loss_line(link: Link, missing: list[bool]) -> str:
    """Mean and burst with their 99 % intervals about the plan's, of a Gilbert chain."""
    mean, burst = link.loss
    n = len(missing)
    rho = 1 - 1 / burst - mean / burst / (1 - mean)
    mean_off = SIGMAS_99 * math.sqrt(mean * (1 - mean) / n * (1 + rho) / (1 - rho))
    runs = [sum(1 for _ in run) for lost, run in groupby(missing) if lost]
    seen, seen_burst = sum(missing) / n, sum(runs) / max(1, len(runs))
    burst_off = SIGMAS_99 * math.sqrt(burst * (burst - 1) / max(1, len(runs)))
    inside = [abs(seen - mean) <= mean_off, abs(seen_burst - burst) <= burst_off]
    words = ["inside" if one else "OUTSIDE" for one in inside]
    return (
        f"  planned {mean:.3f} in runs of {burst:g}: {seen:.4f} ({words[0]} +- {mean_off:.4f}), "
        f"runs of {seen_burst:.2f} ({words[1]} +- {burst_off:.2f})"
    )


def rate_error(link: Link, one: Seen) -> float | None:
    """Of a full link that loses nothing in the air: what a queue drops takes no time on it."""
    times = [at_ns for _, at_ns in one.arrived]
    if len(times) < 20:
        return None
    return (len(times) - 1) * link.sending_ns(LARGE_BYTES) / (times[-1] - times[0]) - 1


def quantiles_line(values_ns: list[int]) -> str:
    ordered = sorted(abs(value) for value in values_ns)
    shown = [ordered[min(len(ordered) - 1, round(share * len(ordered)))] for share in (0.5, 0.95, 0.99, 1)]
    return "p50 {:.3f}, p95 {:.3f}, p99 {:.3f}, max {:.3f} ms".format(*(value / MS for value in shown))


# --- one run ------------------------------------------------------------------------------------------------


def flow_of(up: Emulator, link: Link, n: int, packets: int, interval_ns: int, payload: int) -> Flow:
    at = {node: f"{FOLDER}/{place['netns']}" for node, place in up.places.items()}
    address = up.places[link.destination]["address"]
    return Flow(at[link.source], at[link.destination], address, 5000 + n, packets, interval_ns, payload)


def measure_delays(up: Emulator, links: list[Link], seconds: float, folder: Path) -> None:
    flows = [flow_of(up, link, n, round(seconds * 1000), MS, SMALL_BYTES) for n, link in enumerate(links)]
    before, cpu_before_s, children_before_s = machine_s(), up.cpu_s(), children_s()
    seen = exchange(flows, folder, 1.0)
    busy_s, stolen_s, all_s = (now - then for now, then in zip(machine_s(), before, strict=True))
    wall_s = all_s / (os.cpu_count() or 1)
    cpu_s, traffic_s = up.cpu_s() - cpu_before_s, children_s() - children_before_s
    both = [delays_ns(*rows, up.zero_ns) for rows in zip(links, flows, seen, strict=True)]
    errors = [error for found, _ in both for error in found]
    unknown = [error for _, found in both for error in found]
    print(f"one-way delay error: {quantiles_line(errors)} ({len(errors)} packets)")
    if unknown:
        print(f"  with those of interrupted calls: {quantiles_line(errors + unknown)} (and {len(unknown)})")
    worst = max(range(len(links)), key=lambda n: sorted(map(abs, both[n][0]))[len(both[n][0]) * 99 // 100])
    print(f"  the worst link, {links[worst].delay_ns / MS:.0f} ms: {quantiles_line(both[worst][0])}")
    print(f"reordered: {sum(one.reordered for one in seen)}")
    edges = [
        edge for link, one in zip(links, seen, strict=True) for edge in edge_errors_ns(link, one, up.zero_ns)
    ]
    if edges:
        print(f"edges: {len(edges)}, off by {min(edges) / MS:+.2f} to {max(edges) / MS:+.2f} ms")
    print("loss:")
    for link, one in zip(links, seen, strict=True):
        if link.loss[0]:
            print(loss_line(link, one.missing))
    lost = sum(
        sum(one.missing)
        for n, (link, one) in enumerate(zip(links, seen, strict=True))
        if not link.loss[0] and n not in OUTAGES
    )
    print(f"  on links that lose nothing: {lost}")
    print(
        f"of one core: emulator {cpu_s / wall_s:.0%}, sender and receiver {traffic_s / wall_s:.0%}, others "
        f"{max(0.0, busy_s - cpu_s - traffic_s - stolen_s) / wall_s:.0%}, stolen {stolen_s / wall_s:.1%} "
        f"({wall_s:.0f} s)"
    )


def measure_rates(up: Emulator, links: list[Link], folder: Path) -> None:
    lossless = [(n, link) for n, link in enumerate(links) if not link.loss[0] and n not in OUTAGES]
    flows = []
    for turn, (n, link) in enumerate(lossless):
        interval_ns = link.sending_ns(LARGE_BYTES) // 2
        flow = flow_of(up, link, n, RATE_TURN_MS * MS // interval_ns, interval_ns, LARGE_BYTES)
        flows.append(replace(flow, start_ns=turn * 2 * RATE_TURN_MS * MS))
    seen = exchange(flows, folder, 1.5)
    shown = []
    for (_, link), one in zip(lossless, seen, strict=True):
        error = rate_error(link, one)
        shown.append((link.rate_bps, "too few arrived" if error is None else f"{error:+.2%}"))
    print(f"rate at L2, Mbit/s: {', '.join(f'{bps / 1e6:.1f} {text}' for bps, text in sorted(shown))}")


def measure(links: list[Link], plan: ContactPlan, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as text, emulator(Path(text), plan) as up:
        measure_delays(up, links, seconds, Path(text))
        measure_rates(up, links, Path(text))
        account = up.end()
    print(f"priority {up.priority}; kernel drops {account['kernel_drops']}, refused {account['refused']}")
    for key in ("lateness", "unread"):
        print(f"  {key}: {', '.join(f'{name} {value:g}' for name, value in account[key].items())}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Twenty links over `tun`, against their plan.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the delays (10)")
    parser.add_argument("--repeats", type=int, default=1, help="how often (1)")
    options = parser.parse_args()
    try:
        check_rights()
        probe()
    except HostError as error:
        print(f"tun: not measured here: {error}")
        return 0
    links = [Link.number(n) for n in range(LINKS)]
    plan = plan_of(links)
    print(host())
    try:
        for _ in range(options.repeats):
            measure(links, plan, options.seconds)
    except HostError as error:
        print(f"tun: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
