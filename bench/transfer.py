"""A file over a link that comes and goes: ours beside what else moves files, all at once on links alike.

    .venv/bin/python bench/transfer.py [--grid] [--systems NAME,...] [--json FILE] ...

One cell is one plan: contacts of a length with gaps between, a rate at L2, a delay, losses one by one or in
runs. Every system has a link of its own (back end `tun`), between two network namespaces; all of a cell run
at the same time, so that a slow moment of the host is everybody's. Time is the host's, from the start of the
first contact, at which transfers are asked for unless --early-s says otherwise. `--cuts` lets contacts end
early, drawn from the seed, which the plan that ours believes does not know. Without options one small cell;
--grid is the large table, which takes an hour and a half.

Reported of each: whether the file came, seconds, bytes handed to TCP by the sender, how many of them were
repeats, bytes offered to the link, and the contact utilisation: bytes of the file to what the plan could
carry at L2 from the start to the end of the transfer.

Needs root, /dev/net/tun and the peers' programs; a system whose programs are not there is left out, and said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.peers import SYSTEMS
from bench.peers.system import Node, Place, System
from bench.tun import host
from netem.namespaces import HostError, check_rights
from netem.syscalls import network_of
from netem.tun.device import probe
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.runtime.clock import SECOND_NS, ClockFile, monotonic_ns, unix_ns
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.emulator import ANY_ADDRESSES, Emulator, Wiring
from orbitrain.testbed.supervisor import DaemonFailed

LEAD_S: Final = 3.0
"""Wall seconds from when time begins to run to the first contact, at which transfers start."""

LOOK_S: Final = 0.05
SETTLE_S: Final = 2.0
"""Wall seconds more for systems that do not say when they are ready."""

_ALLOWED: Final = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_CHOSEN: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")


@dataclass(frozen=True, slots=True)
class Cell:
    """`burst`: the mean run of losses in packets, 1 for losses of their own. `cuts`: the share of contacts
    that end early, somewhere from a fifth to nine tenths of their length. `limit_s`: of the whole, from the
    first contact on. `early_s`: so long before it transfers are asked for. `clock_rate`: seconds of the plan
    that pass in one of the host. `warm_s`: wall seconds of link before the first contact."""

    contact_s: float
    gap_s: float
    loss: float
    burst: float
    congestion: str
    size: int
    rate_bps: int
    delay_ms: float
    cuts: float
    seed: int
    limit_s: float
    early_s: float
    clock_rate: float
    warm_s: float = 0.0

    @property
    def lead_s(self) -> float:
        """Seconds of the plan before the first contact."""
        return (LEAD_S + self.warm_s) * self.clock_rate

    @property
    def title(self) -> str:
        runs = f" in runs of {self.burst:g}" if self.loss and self.burst > 1 else ""
        cuts = f", {self.cuts:.0%} of them cut" if self.cuts else ""
        fast = f", time {self.clock_rate:g} times as fast" if self.clock_rate != 1 else ""
        early = f", asked for {self.early_s:g} s before" if self.early_s else ""
        return (
            f"{self.size / 1e6:g} MB over {self.rate_bps / 1e6:g} Mbit/s, {2 * self.delay_ms:g} ms round "
            f"trip, contacts of {self.contact_s:g} s with gaps of {self.gap_s:g} s{cuts}, "
            f"loss {self.loss:.1%}{runs}, {self.congestion}{early}{fast}"
        )

    def windows(self, *, true: bool) -> Iterator[tuple[int, int]]:
        """Scenario ns of each contact, as believed or as it is."""
        drawn = random.Random(f"{self.seed} {self.contact_s} {self.gap_s}")
        start_s = self.lead_s
        while start_s < self.lead_s + self.limit_s:
            cut, share = drawn.random() < self.cuts, drawn.uniform(0.2, 0.9)
            length_s = self.contact_s * (share if true and cut else 1.0)
            warm_s = self.warm_s * self.clock_rate if start_s == self.lead_s else 0.0
            yield round((start_s - warm_s) * SECOND_NS), round((start_s + length_s) * SECOND_NS)
            start_s += self.contact_s + self.gap_s

    def plan(self, pairs: Sequence[tuple[str, str]], *, true: bool) -> ContactPlan:
        # A run of losses that come each for themselves is 1 / (1 - mean) long.
        burst = self.burst if self.burst > 1 else 1 / (1 - self.loss)
        contacts = []
        for start_ns, end_ns in self.windows(true=true):
            state = Sample(start_ns, round(self.delay_ms * 1e6), self.rate_bps, self.loss, burst)
            for pair in pairs:
                for ends in (pair, pair[::-1]):
                    contacts.append(Contact(*ends, "service", start_ns, end_ns, (state,)))
        names = sorted({name for pair in pairs for name in pair})
        return ContactPlan(
            version=1,
            scenario_sha256="0" * 64,
            epoch="2026-01-01T00:00:00Z",
            duration_ns=max(contact.end_ns for contact in contacts),
            nodes=tuple(PlanNode(name, "satellite") for name in names),
            contacts=tuple(sorted(contacts, key=lambda c: (c.start_ns, c.end_ns, c.source, c.destination))),
        )

    def volume_bytes(self, seconds: float) -> float:
        """What the link could carry from the first contact's start on, at L2."""
        zero_ns, until_ns = round(self.lead_s * SECOND_NS), round((self.lead_s + seconds) * SECOND_NS)
        up_ns = sum(
            max(0, min(end_ns, until_ns) - max(start_ns, zero_ns))
            for start_ns, end_ns in self.windows(true=True)
        )
        return up_ns / SECOND_NS * self.rate_bps / 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """`failed`: why nothing can be said of it. What is None is not known."""

    system: str
    completed: bool
    seconds: float | None
    sent_bytes: int | None
    repeated_bytes: int | None
    offered_bytes: int | None
    utilisation: float | None
    failed: str = ""


# --- one cell -----------------------------------------------------------------------------------------------


class Course:
    """One system on its link."""

    def __init__(self, name: str, system: System, place: Place, sha256: str) -> None:
        self.name, self.system, self.place = name, system, place
        self.seconds: float | None = None
        self.failed = ""
        self._sha256 = sha256

    def look(self, seconds: float) -> None:
        if not self.over and self.system.is_complete():
            self.seconds = seconds

    @property
    def over(self) -> bool:
        return self.seconds is not None or bool(self.failed)

    def outcome(self, cell: Cell, offered_bytes: int | None) -> Outcome:
        sent = None if self.failed else self.system.sent_bytes()
        if self.seconds is None:
            return Outcome(self.name, False, None, sent, None, offered_bytes, None, self.failed)
        with self.system.received().open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == self._sha256
        return Outcome(
            self.name,
            same,
            round(self.seconds, 2),
            sent,
            None if sent is None else max(0, sent - cell.size),
            offered_bytes,
            round(cell.size / cell.volume_bytes(self.seconds), 4),
            "" if same else "the file that came is another one",
        )


async def measured(
    cell: Cell,
    names: Sequence[str],
    folder: Path,
    systems: Mapping[str, Callable[[], System]] = SYSTEMS,
) -> tuple[list[Outcome], dict[str, Any]]:
    """Every system on a link of its own; and what the emulator says of itself. Raises HostError,
    ScenarioError, DaemonFailed."""
    pairs = [(f"a-{name}", f"b-{name}") for name in names]
    true, believed, clock = folder / "true.json", folder / "believed.json", folder / "clock.json"
    true.write_bytes(cell.plan(pairs, true=True).to_json())
    believed.write_bytes(cell.plan(pairs, true=False).to_json())
    ClockFile(None, 0, cell.clock_rate, 0).write(clock)
    file = folder / "file"
    data = random.Random(cell.seed).randbytes(cell.size)
    file.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    emulator = Emulator(Wiring("tun", f"cross{os.getpid()}", folder, clock, cell.seed, account_s=1.0))
    courses: list[Course] = []
    try:
        places = await emulator.start(true)
        for netns in emulator.namespaces.values():
            with network_of(str(netns)):
                _CHOSEN.write_text(cell.congestion)
        for name, pair in zip(names, pairs, strict=True):
            own = folder / name
            own.mkdir()
            ends = [Node(end, emulator.namespaces[end], places[end]["address"]) for end in pair]
            place = Place(own, file, cell.size, *ends, believed, clock, ANY_ADDRESSES, cell.rate_bps)
            course = Course(name, systems[name](), place, sha256)
            courses.append(course)
            await _tried(course, partial(course.system.prepare, place))
        await asyncio.sleep(SETTLE_S)
        anchor_ns = unix_ns() + SECOND_NS // 2
        ClockFile(anchor_ns, 0, cell.clock_rate, 0).write(clock)
        up_ns = monotonic_ns() + anchor_ns - unix_ns() + round(LEAD_S * SECOND_NS)
        zero_ns = up_ns + round(cell.warm_s * SECOND_NS)
        if cell.warm_s:
            await _until(up_ns)
            await asyncio.gather(
                *(_tried(one, one.system.greet) for one in courses if one.system.warm_s and not one.failed)
            )
        await _until(zero_ns - round(cell.early_s * SECOND_NS))
        await _run(cell, courses, zero_ns)
    finally:
        for course in courses:
            await asyncio.to_thread(course.system.stop)
        await emulator.stop()
    account = emulator.record.get("account", {})
    links = account.get("links", {})
    outcomes = []
    for course, pair in zip(courses, pairs, strict=True):
        offered = links.get(" ".join(pair), {}).get("offered_bytes")
        outcomes.append(course.outcome(cell, offered))
    return outcomes, {key: account.get(key) for key in ("lateness", "refused", "cpu_s", "running_s")}


async def _run(cell: Cell, courses: Sequence[Course], zero_ns: int) -> None:
    """Start all, and look until all are over or time is."""
    ready = [course for course in courses if not course.failed]
    starting = asyncio.gather(*(_tried(course, course.system.start) for course in ready))
    while (seconds := cell.clock_rate * (monotonic_ns() - zero_ns) / SECOND_NS) < cell.limit_s:
        for course in courses:
            course.look(seconds)
        if all(course.over for course in courses):
            break
        await asyncio.sleep(LOOK_S)
    await starting


async def _until(due_ns: int) -> None:
    await asyncio.sleep(max(0.0, (due_ns - monotonic_ns()) / SECOND_NS))


async def _tried(course: Course, doing: Callable[[], None]) -> None:
    """A system that fails does not take the others along."""
    try:
        await asyncio.to_thread(doing)
    except (OSError, subprocess.SubprocessError) as error:
        course.failed = str(error)


# --- all of them --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def allowed(congestion: Sequence[str]) -> Iterator[None]:
    """The host lets its namespaces have these congestion controls inside, and what it let them before after.

    Raises HostError for one that the kernel lacks.
    """
    before = _ALLOWED.read_text().split()
    more = [name for name in congestion if name not in before]
    try:
        if more:
            print(f"for namespaces meanwhile: {', '.join(more)}", file=sys.stderr)
            _ALLOWED.write_text(" ".join([*before, *more]))
    except OSError as error:
        raise HostError(f"congestion control {', '.join(more)}: {error.strerror}") from None
    try:
        yield
    finally:
        if more:
            _ALLOWED.write_text(" ".join(before))


def table(cell: Cell, outcomes: Sequence[Outcome]) -> str:
    """Markdown."""

    def shown(value: float | None, scale: float, form: str) -> str:
        return "?" if value is None else format(value / scale, form)

    lines = [
        f"\n{cell.title}:\n",
        "| system | came | s | sent, MB | repeated, MB | offered to the link, MB | contact utilisation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        seconds = f"over {cell.limit_s:g}" if one.seconds is None else f"{one.seconds:.1f}"
        used = "" if one.utilisation is None else f"{one.utilisation:.1%}"
        lines.append(
            f"| {one.system} | {one.failed or ('yes' if one.completed else 'no')} | {seconds} "
            f"| {shown(one.sent_bytes, 1e6, '.1f')} | {shown(one.repeated_bytes, 1e6, '.1f')} "
            f"| {shown(one.offered_bytes, 1e6, '.1f')} | {used} |"
        )
    return "\n".join(lines)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A file over a link that comes and goes, ours beside others."
    )
    add = parser.add_argument
    add("--systems", type=_words, default=["orbitrain", "grpc", "curl", "rsync"], help=", ".join(SYSTEMS))
    add(
        "--grid",
        action="store_true",
        help="100 MB, contacts of 30 and 300 s, losses 0, 1, 3 %%, single and runs",
    )
    add("--contacts", type=_numbers, default=[6.0], metavar="S,...", help="lengths of contacts (6)")
    add("--gaps", type=_numbers, default=[6.0], metavar="S,...", help="gaps between them (6)")
    add("--losses", type=_numbers, default=[0.01], metavar="P,...", help="shares of packets lost (0.01)")
    add("--bursts", type=_numbers, default=[1.0], metavar="N,...", help="mean runs of losses, packets (1)")
    add("--congestion", type=_words, default=["bbr"], metavar="NAME,...", help="of TCP, both ends (bbr)")
    add("--size-mb", type=float, default=20.0, help="of the file (20)")
    add("--rate-mbps", type=float, default=20.0, help="of the link at L2 (20)")
    add("--delay-ms", type=float, default=20.0, help="one way (20)")
    add("--cuts", type=float, default=0.0, metavar="P", help="share of contacts that end early (0)")
    add("--seed", type=int, default=1)
    add("--limit-s", type=float, default=60.0, help="seconds for each cell (60)")
    add(
        "--clock-rate",
        type=float,
        default=1.0,
        metavar="R",
        help="seconds of the plan in one of the host (1)",
    )
    add("--early-s", type=float, default=0.0, help="seconds before the first contact at which all start (0)")
    add("--apart", action="store_true", help="one system after the other, not all at once")
    add("--keep", type=Path, metavar="DIR", help="leaves what programs wrote there, a folder a cell")
    add("--json", type=Path, metavar="FILE", help="all figures")
    options = parser.parse_args()
    unknown = [name for name in options.systems if name not in SYSTEMS]
    if unknown:
        parser.error(f"--systems: must be of {', '.join(SYSTEMS)}, not {', '.join(unknown)}")
    if options.grid:
        options.contacts, options.gaps, options.losses = [30.0, 300.0], [20.0], [0.0, 0.01, 0.03]
        options.bursts, options.size_mb, options.limit_s = [1.0, 8.0], 100.0, 300.0
        options.congestion = ["bbr", "cubic"]
    return options


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Losses that do not come have no runs: then once."""
    axes = product(options.contacts, options.gaps, options.losses, options.bursts, options.congestion)
    for contact_s, gap_s, loss, burst, congestion in axes:
        if not loss and burst != options.bursts[0]:
            continue
        yield Cell(
            contact_s=contact_s,
            gap_s=gap_s,
            loss=loss,
            burst=burst,
            congestion=congestion,
            size=round(options.size_mb * 1e6),
            rate_bps=round(options.rate_mbps * 1e6),
            delay_ms=options.delay_ms,
            cuts=options.cuts,
            seed=options.seed,
            limit_s=options.limit_s,
            early_s=min(options.early_s, LEAD_S),
            clock_rate=options.clock_rate,
            warm_s=max(SYSTEMS[name]().warm_s for name in options.systems),
        )


def _measure(
    cell: Cell, names: Sequence[str], apart: bool, keep: Path | None
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    outcomes: list[Outcome] = []
    emulators = []
    for group in [[name] for name in names] if apart else [names]:
        with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder:
            try:
                found, emulator = asyncio.run(measured(cell, group, Path(folder)))
            finally:
                if keep is not None:
                    shutil.copytree(folder, keep / Path(folder).name, ignore=shutil.ignore_patterns("file"))
        outcomes += found
        emulators.append(emulator)
    return outcomes, emulators


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        check_rights()
        probe()
    except HostError as error:
        print(f"transfer: not measured here: {error}")
        return 0
    names = []
    for name in options.systems:
        why = SYSTEMS[name]().obstacle()
        if why:
            print(f"{name}: not measured here: {why}")
        else:
            names.append(name)
    print(host())
    rows = []
    try:
        with allowed(options.congestion):
            for cell in cells(options):
                outcomes, emulators = _measure(cell, names, options.apart, options.keep)
                print(table(cell, outcomes), flush=True)
                rows.append(
                    {
                        "cell": asdict(cell),
                        "outcomes": [asdict(one) for one in outcomes],
                        "emulator": emulators,
                    }
                )
                if options.json is not None:
                    options.json.write_text(json.dumps({"host": host(), "cells": rows}, indent=2) + "\n")
    except (HostError, ScenarioError, DaemonFailed) as error:
        print(f"transfer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
