"""What a change of a link costs, beside tc and pyroute2 on the same qdiscs in the same run; then a replay.

    .venv/bin/python bench/links.py [--quick] [--only changes|replay] [--links N] [--nodes N] [--seconds S]

Needs root or a user namespace; what is not there (tc, pyroute2, a kind of qdisc) is named and left out. Where
the kernel lacks netem, run it inside User-Mode Linux: python tools/run_in_uml.py -- .venv/bin/python
bench/links.py. All devices are in network namespaces that end with this process.

Changes: a hundred devices with a qdisc of the same kind, and for each contender in turn new values for all of
them, some rounds of it; what the kernel then holds is read back, and a contender is named that has not set
all of it. From values to the kernel's answers:

- `orbitrain` is the back end `kernel`, a call of `apply` a round; every change is acknowledged, or refused by
  name. `written ahead` is one call for all rounds, its messages made before the clock starts, as a replay
  makes them before their instant;
- `tc -batch -` is one process for all rounds, fed one text through a pipe: what it would not do it could
  tell only at the end;
- `pyroute2` is its `IPRoute.tc`, one socket for all. It cannot tell netem a rate (the kernel answers ERANGE)
  nor losses in runs, so there it does less: delay, jitter, limit, and single losses;
- `tc` is a process for each change.

Wanted: at least 100 times tc, 10 times pyroute2, not slower than tc -batch.

Replay: a plan's directed links, delay and rate of each changing ten times a second, by the product's schedule
and back end, netem where the kernel has it, else token buckets. Lateness is from a step's planned instant
until the kernel has acknowledged the last of its links. First all links at the same instants, then the
sources in turns. Wanted: 99 % at most 10 ms late, no change left out. User-Mode Linux counts processor time
in ticks, which come in step with a replay: there that column says nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from netem import syscalls
from netem.kernel.backend import HANDLES, KernelBackend, Port, Shaping
from netem.kernel.encoder import Netem
from netem.kernel.network import KernelNetwork, probe
from netem.kernel.token_bucket import BURST_BYTES, TokenBucket
from netem.link_state import MTU_BYTES, Link, LinkState, Loss, up_state
from netem.loop import TimerLoop
from netem.namespaces import HostError, check_rights, enter_unprivileged
from netem.netlink import Netlink, VethEnd
from netem.replay import Replay, Timeline
from netem.schedule import Change, Schedule, Stepped
from netem.tun.relay import raise_priority
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode

DEVICES = 100
REPEATS = 5
LINKS, NODES, HZ, SECONDS, TURNS = 4000, 100, 10, 20, 10
LATE_MS = 10.0
SECOND_NS = 1_000_000_000
HANDLE = f"{HANDLES[0] >> 16:x}:"

Told = Netem | TokenBucket
Round = Sequence[Change]


@dataclass(frozen=True, slots=True)
class Contender:
    """`prepared` makes, outside the clock, what sets some rounds of changes of the first `devices`."""

    name: str
    rounds: int
    devices: int
    prepared: Callable[[Sequence[Round]], Callable[[], None]]
    wanted: float = 0.0
    """How many times as fast ours is to be."""


class Bench:
    """Devices in the namespace that the thread is in."""

    def __init__(self, shaping: Shaping) -> None:
        self.shaping = shaping
        self.netlink = Netlink()
        self.backend = KernelBackend(shaping=shaping)
        self.devices: dict[Link, tuple[str, int]] = {}
        own = os.open(syscalls.OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        for number in range(0, DEVICES, 2):
            names = f"bench{number}", f"bench{number + 1}"
            ends = [VethEnd(name, b"\x02b" + name[5:].encode().rjust(4), MTU_BYTES) for name in names]
            self.netlink.add_veth(ends[0], ends[1], own)
            for name in names:
                index = self.netlink.index_of(name)
                self.devices[name, "peer"] = name, index
                self.backend.install((name, "peer"), Port(self.netlink, index, name))
                self.netlink.set_up(index)
        os.close(own)

    def rounds(self, count: int, devices: int, random: Random) -> list[list[Change]]:
        """Values that none has had before, rates of whole bytes and delays of whole ticks and us."""
        links = list(self.devices)[:devices]
        return [[Change(link, a_state(random), False) for link in links] for _ in range(count)]

    def told(self, change: Change) -> Told:
        return self.shaping.of(change.state, change.link)

    def left_out(self, changes: Round) -> list[str]:
        """Names of the fields that the kernel does not hold as told."""
        held = {one.index: one for one in self.netlink.qdiscs() if one.handle == HANDLES[0]}
        names: set[str] = set()
        for change in changes:
            found = held[self.devices[change.link][1]]
            for difference in self.shaping.read(found.options).differences(self.told(change)):  # type: ignore[arg-type]
                names.add(difference.partition(":")[0])
        return sorted(names)

    # --- contenders -----------------------------------------------------------------------------------------

    def ours(self, rounds: Sequence[Round]) -> Callable[[], None]:
        def run() -> None:
            for changes in rounds:
                self.backend.apply(changes, time.monotonic_ns())

        return run

    def ours_ahead(self, rounds: Sequence[Round]) -> Callable[[], None]:
        (changes,) = [[change for one in rounds for change in one]]
        self.backend.prepare(changes)
        return self.ours([changes])

    def batch(self, rounds: Sequence[Round]) -> Callable[[], None]:
        def run() -> None:
            text = "".join(f"{self.words(change)}\n" for changes in rounds for change in changes)
            subprocess.run(["tc", "-batch", "-"], input=text.encode(), check=True)

        return run

    def processes(self, rounds: Sequence[Round]) -> Callable[[], None]:
        def run() -> None:
            for changes in rounds:
                for change in changes:
                    subprocess.run(["tc", *self.words(change).split()], check=True)

        return run

    def pyroute2(self, route: Any, rounds: Sequence[Round]) -> Callable[[], None]:
        def run() -> None:
            for changes in rounds:
                for change in changes:
                    index = self.devices[change.link][1]
                    route.tc("change", self.shaping.KIND, index, HANDLES[0], **self.arguments(change))

        return run

    def words(self, change: Change) -> str:
        """For tc, in units that it does not round."""
        told, device = self.told(change), self.devices[change.link][0]
        head = f"qdisc change dev {device} root handle {HANDLE} {told.KIND}"
        rate = f"rate {told.rate_bytes_per_s * 8}bit"
        if isinstance(told, TokenBucket):
            return f"{head} {rate} burst {burst_bytes(told)}b limit {told.limit_bytes}b"
        to_bad, to_good = change.state.loss.transitions()
        loss = f"loss gemodel {to_bad * 100:.12f}% {to_good * 100:.12f}% 100% 0%"
        delay = f"delay {told.delay_ns // 1000}us {told.jitter_ns // 1000}us"
        return f"{head} limit {told.limit_packets} {delay} {loss} {rate}"

    def arguments(self, change: Change) -> dict[str, Any]:
        """For pyroute2: rates in bytes a second, times in us."""
        told = self.told(change)
        if isinstance(told, TokenBucket):
            return {
                "rate": told.rate_bytes_per_s,
                "burst": burst_bytes(told),
                "limit": told.limit_bytes,
            }
        return {
            "delay": told.delay_ns // 1000,
            "jitter": told.jitter_ns // 1000,
            "limit": told.limit_packets,
            "loss": change.state.loss.mean * 100,
        }


def a_state(random: Random) -> LinkState:
    delay_ns = random.randrange(250, 5_000) * 8_000
    loss = Loss.of(random.uniform(0.01, 0.05), random.uniform(2, 8))
    return up_state(
        delay_ns, random.randrange(10**5, 10**6) * 8, loss, jitter_ns=random.randrange(125) * 8000
    )


def burst_bytes(told: TokenBucket) -> int:
    """As the product sets it."""
    return max(BURST_BYTES, told.rate_bytes_per_s // 1000)


def clocked(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor with those of processes that were waited for."""
    gc.collect()
    begun_s, used_s = time.perf_counter(), used()
    run()
    return time.perf_counter() - begun_s, used() - used_s


def used() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def bench_changes(shaping: Shaping, quick: bool) -> None:
    kind = shaping.KIND
    try:
        probe(shaping)
    except HostError as error:
        print(f"{kind}: not measured: {error}")
        return
    with syscalls.network_kept():
        syscalls.unshare(syscalls.CLONE_NEWNET)
        bench = Bench(shaping)
        route = pyroute2_socket()
        contenders = contenders_of(bench, route, 10 if quick else 1)
        took: dict[str, list[tuple[float, float]]] = {one.name: [] for one in contenders}
        missing: dict[str, list[str]] = {}
        random = Random(5)
        for _ in range(REPEATS):  # in turns, so that a slow moment of the machine hits all
            for one in contenders:
                rounds = bench.rounds(one.rounds, one.devices, random)
                wall_s, cpu_s = clocked(one.prepared(rounds))
                changes = one.rounds * one.devices
                took[one.name].append((wall_s / changes * 1e6, cpu_s / changes * 1e6))
                missing[one.name] = bench.left_out(rounds[-1])
        if route is not None:
            route.close()
        bench.netlink.close()
    what = "rate, burst, limit" if kind == "tbf" else "delay, jitter, rate, loss in runs, limit"
    print(f"{kind} ({what}) on {DEVICES} devices, one change each, median of {REPEATS}:")
    print(f"{'':28}{'changes/s':>11}{'wall':>12}{'processor':>13}{'ours, wall':>13}{'processor':>11}")
    medians = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in took.items()}
    ours = medians["orbitrain"]
    for one in contenders:
        wall_us, cpu_us = medians[one.name]
        times = f"{wall_us / ours[0]:12.1f}x{cpu_us / ours[1]:10.1f}x" if one.wanted else ""
        wanted = f"  (wanted {one.wanted:g}x)" if one.wanted else ""
        print(f"{one.name:28}{1e6 / wall_us:11.0f}{wall_us:9.2f} us{cpu_us:10.2f} us{times}{wanted}")
    for name, fields in missing.items():
        if fields:
            print(f"{name} has not set all: the kernel does not hold its {', '.join(fields)}")


def contenders_of(bench: Bench, route: Any, part: int) -> list[Contender]:
    """Those that are here; each does so many changes, over `part`, that its time can be told."""
    found = [
        Contender("orbitrain", 200 // part, DEVICES, bench.ours),
        Contender("orbitrain, written ahead", 200 // part, DEVICES, bench.ours_ahead),
    ]
    if shutil.which("tc"):
        found.append(Contender("tc -batch -", 200 // part, DEVICES, bench.batch, 1.0))
    if route is not None:
        found.append(Contender("pyroute2", 20 // part, DEVICES, partial(bench.pyroute2, route), 10.0))
    if shutil.which("tc"):
        found.append(Contender("tc", 1, DEVICES // 4, bench.processes, 100.0))
    return found


def pyroute2_socket() -> Any:
    """To the thread's namespace; None: not installed."""
    try:
        from pyroute2 import IPRoute
    except ImportError:
        return None
    return IPRoute()


# --- replay -------------------------------------------------------------------------------------------------


def plan_of(links: int, nodes: int, seconds: int) -> ContactPlan:
    """A ring in which each node has links to and from the next ones, all of them up all the time."""
    random = Random(6)
    names = [f"sat-{number}" for number in range(nodes)]
    end_ns = (seconds + 1) * SECOND_NS
    contacts = []
    for number in range(links // 2):
        one, other = names[number % nodes], names[(number + 1 + number // nodes) % nodes]
        for source, destination in ((one, other), (other, one)):
            delay_ns, rate_bps = random.randrange(2, 9) * 10**6, random.randrange(5, 50) * 10**6
            samples = (
                Sample(0, delay_ns, rate_bps, 0.01, 3),
                Sample(end_ns, delay_ns + 10**6, rate_bps * 2, 0.01, 3),  # so that no step finds it as it was
            )
            contacts.append(Contact(source, destination, "inter_isl", 0, end_ns, samples))
    return ContactPlan(
        1,
        "ab" * 32,
        "2026-01-01T00:00:00Z",
        end_ns,
        tuple(PlanNode(name, "satellite") for name in names),
        tuple(contacts),
    )


def bench_replay(links: int, nodes: int, seconds: int) -> None:
    shaping = shaping_here()
    if shaping is None:
        print("replay: not measured: this kernel has neither netem nor tbf")
        return
    plan = plan_of(links, nodes, seconds)
    ways = Schedule(plan).links()
    network = KernelNetwork.up(
        f"bench{os.getpid()}", [node.name for node in plan.nodes], ways, shaping=shaping
    )
    try:
        priority = raise_priority()
        print(
            f"replay: {len(ways)} links of {nodes} nodes, each set {HZ} times a second for {seconds} s, "
            f"{shaping.KIND}, priority {priority}"
        )
        print(
            f"{'lateness':28}{'p50':>9}{'p95':>9}{'p99':>9}{'largest':>10}{'late steps':>12}{'processor':>11}"
        )
        for turns in (1, TURNS):
            replay_once(plan, network, seconds, turns)
    finally:
        network.close()


def replay_once(plan: ContactPlan, network: KernelNetwork, seconds: int, turns: int) -> None:
    schedule = Schedule(plan, how=Stepped(SECOND_NS // HZ, turns))
    replay = Replay(schedule, network.backend, late_ns=round(LATE_MS * 1e6))
    replay.begin(0)
    gc.collect()
    gc.freeze()  # else the collector walks through the plan in the middle of a step
    gc.disable()
    begin_ns = time.monotonic_ns() + SECOND_NS // 5
    replay.follow(Timeline(begin_ns, 0, 1.0))
    before = replay.changes
    wall_s, cpu_s = clocked(partial(follow, replay, begin_ns + seconds * SECOND_NS))
    gc.enable()
    gc.unfreeze()
    late = replay.document()["lateness"]
    name = "all at the same instants" if turns == 1 else f"sources in {turns} turns"
    figures = "".join(f"{late[key]:6.2f} ms" for key in ("p50_ms", "p95_ms", "p99_ms"))
    print(
        f"{name:28}{figures}{late['max_ms']:7.2f} ms{replay.late_steps:6} of {late['count']}"
        f"{cpu_s / wall_s:8.0%}"
    )
    wanted = len(schedule.links()) * HZ * seconds
    wrong = network.backend.verify()
    print(
        f"  {replay.changes - before} of {wanted} changes made; "
        + (
            f"{len(wrong)} links are not as told: {wrong[0]}"
            if wrong
            else "every link is as it was told last"
        )
    )


def follow(replay: Replay, until_ns: int) -> None:
    """In the product's own loop."""
    loop = TimerLoop()

    def step(now_ns: int) -> int | None:
        due_ns = replay.step(min(now_ns, until_ns))
        if due_ns is None or due_ns > until_ns:
            loop.stop()
            return None
        return due_ns

    due_ns = replay.due_ns()
    assert due_ns is not None
    loop.at(due_ns, step)
    loop.run()
    loop.close()


def shaping_here() -> Shaping | None:
    for shaping in (Netem, TokenBucket):
        try:
            probe(shaping)
        except HostError:
            continue
        return shaping
    return None


def host() -> str:
    versions = [f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
    if shutil.which("tc"):
        said = subprocess.run(["tc", "-V"], capture_output=True, text=True, check=True).stdout
        versions.append(said.strip().removeprefix("tc utility, "))
    else:
        versions.append("tc: not measured: not installed (package iproute2)")
    try:
        versions.append(f"pyroute2 {importlib.metadata.version('pyroute2')}")
    except importlib.metadata.PackageNotFoundError:
        versions.append("pyroute2: not measured: not installed (make setup installs it)")
    return "; ".join(versions)


def main() -> None:
    parser = argparse.ArgumentParser(description="Changes of links, beside tc and pyroute2, and a replay.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the changes and of the links, 3 s")
    parser.add_argument("--only", choices=("changes", "replay"), help="one of both")
    parser.add_argument("--links", type=int, default=None, help=f"directed links of the replay ({LINKS})")
    parser.add_argument("--nodes", type=int, default=None, help=f"that they are of ({NODES})")
    parser.add_argument("--seconds", type=int, default=None, help=f"of each replay ({SECONDS})")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        print("links: nothing measured: queueing disciplines are Linux's")
        return
    try:
        check_rights()
    except HostError:
        try:
            enter_unprivileged()
        except HostError as error:
            print(f"links: nothing measured: {error}")
            return
    print(host())
    quick = arguments.quick
    links = arguments.links or (LINKS // 10 if quick else LINKS)
    nodes = arguments.nodes or NODES
    if not 0 < links // 2 <= nodes * ((nodes - 1) // 2):
        parser.error(f"--links: must be 2 to what {nodes} nodes can have, {nodes * ((nodes - 1) // 2 * 2)}")
    if arguments.only != "replay":
        for shaping in (TokenBucket, Netem):
            bench_changes(shaping, quick)
    if arguments.only != "changes":
        bench_replay(links, nodes, arguments.seconds or (3 if quick else SECONDS))


if __name__ == "__main__":
    main()
