"""`python -m netem probe`: measures a running emulator's links and keeps its findings in a file.

The file is replaced every ten seconds, so that a killed probe leaves what it knew, and at the end:
{"links_truth": {...}, "probe": {...}}. It ends on SIGTERM or SIGINT, when standard input (if it is a pipe or
terminal) closes, after `--seconds`, or when the links are gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import signal
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from netem.backends import BACKENDS
from netem.link_state import OUTAGES
from netem.namespaces import ADDRESSES, HostError, tag_of
from netem.probe.budget import SHARE, Budget
from netem.probe.endpoints import Endpoint, baseline_ns, open_endpoints
from netem.probe.findings import BackendAccount, Measured, findings
from netem.probe.prober import Prober, take_priority
from netem.probe.verdict import Verdict, document, judged
from netem.record import Record
from netem.replay import Timeline
from netem.tun.fifo import ETHERNET_BYTES
from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import POLL_S, SECOND_NS, Anchor, Clock, ClockFile, monotonic_ns

WRITE_NS: Final = 10 * SECOND_NS


class _Run:
    """One probing, from the clock's start to the last file. Raises HostError, ClockError, OSError."""

    def __init__(self, options: argparse.Namespace, plan: ContactPlan, budget: Budget) -> None:
        self._options = options
        self._plan = plan
        self._budget = budget
        self._endpoints: list[Endpoint] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = False
        self._prober: Prober | None = None
        self._baseline_ns = 0
        self._begun_ns = 0
        self._cpu_before_s = 0.0
        self._before: dict[str, Any] | None = None
        self._record = Record(options.out)

    def run(self) -> None:
        options = self._options
        nodes = [node.name for node in self._plan.nodes]
        self._endpoints = open_endpoints(options.run_id, nodes, options.addresses)
        self._baseline_ns = baseline_ns(self._endpoints)
        self._listen()
        anchor = self._await_clock()
        if anchor is None:
            nothing = Measured(rate=ClockFile.read(options.clock).rate, seconds=0.0)
            verdict = Verdict("unchecked", "the probe was ended before the run's clock started")
            self._record.close({"links_truth": document(nothing, verdict), "probe": None})
            return
        take_priority()
        prober = self._prober = Prober(
            self._plan,
            Timeline.of(Clock(anchor)),
            self._endpoints,
            self._baseline_ns,
            self._budget,
            options.outage,
            lost_take_time=BACKENDS[options.links].lost_take_time,
        )
        self._before = self._stats()
        self._begun_ns = monotonic_ns()
        self._cpu_before_s = _cpu_s()
        prober.watch(self._wake_read, prober.stop)
        prober.watch(sys.stdin.fileno(), self._stdin_told)
        prober.at(self._begun_ns + WRITE_NS, self._write_part)
        if options.seconds is not None:
            prober.at(self._begun_ns + round(options.seconds * SECOND_NS), self._end)
        prober.run()
        self._write(partial=False)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._prober is not None:
            self._prober.close()
        for endpoint in self._endpoints:
            endpoint.close()

    def _listen(self) -> None:
        def note(number: int, frame: object) -> None:
            self._stopped = True

        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, note)
        signal.signal(signal.SIGINT, note)

    def _await_clock(self) -> Anchor | None:
        """When the run has started its clock and its instant has come; None: ended before."""
        while not self._stopped:
            anchor = ClockFile.read(self._options.clock).anchor
            wait_s = POLL_S
            if anchor is not None:
                # Before, links are already as they are at the anchor.
                wait_s = Clock(anchor).wall_s_until(anchor.scenario_ns)
                if wait_s <= 0:
                    return anchor
            select.select((self._wake_read,), (), (), min(wait_s, POLL_S))
            if _input_closed():
                return None
        return None

    def _stdin_told(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096) and self._prober is not None:
            self._prober.stop()

    def _end(self, now_ns: int) -> None:
        assert self._prober is not None
        self._prober.stop()

    def _write_part(self, now_ns: int) -> int:
        self._write(partial=True)
        return now_ns + WRITE_NS

    def _stats(self) -> dict[str, Any] | None:
        """The back end's latest account, if it is of this run."""
        if self._options.stats is None:
            return None
        try:
            stats = json.loads(self._options.stats.read_bytes())
        except (OSError, ValueError):
            return None
        return stats if isinstance(stats, dict) and stats.get("run_id") == self._options.run_id else None

    def _write(self, *, partial: bool) -> None:
        prober = self._prober
        assert prober is not None
        rate = prober.timeline.rate
        seconds = (monotonic_ns() - self._begun_ns) / 1e9
        account = BackendAccount.of(self._stats(), self._before, rate)
        measured = findings(prober.ledgers, rate, seconds, account, prober.overflowed)
        text: dict[str, object] = {
            "links_truth": document(measured, judged(measured)),
            "probe": {
                "partial": partial,
                "links_gone": prober.gone,
                "seconds": round(seconds, 3),
                "clock_rate": rate,
                "budget": self._budget.share,
                "packets": prober.sent_packets,
                "bytes": prober.sent_bytes,
                "edges_unjudged": measured.edges_unjudged,
                "late": sum(ledger.late for ledger in prober.ledgers),
                "overflowed": prober.overflowed,
                "baseline_ms": self._baseline_ns / 1e6,
                "cpu_share": round((_cpu_s() - self._cpu_before_s) / max(seconds, 1e-9), 4),
                # A partial file is written between packets: without the longest part.
                "links": None if partial else {" ".join(one.link): one.document() for one in measured.links},
            },
        }
        if partial:
            self._record.put(text)
        else:
            self._record.close(text)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _input_closed() -> bool:
    """Of a pipe or terminal; a plain file or /dev/null is not looked at."""
    with select.epoll() as epoll:
        try:
            epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        except PermissionError:
            return False
        return bool(epoll.poll(0)) and not os.read(sys.stdin.fileno(), 4096)


def add(commands: Any) -> None:
    """The subcommand's options; `commands` is what `ArgumentParser.add_subparsers` gave."""
    probe = commands.add_parser("probe", help="measure a run's links against its plan", allow_abbrev=False)
    probe.add_argument("--plan", type=Path, required=True, metavar="FILE", help="the plan that links follow")
    probe.add_argument("--clock", type=Path, required=True, metavar="FILE", help="the run's clock.json")
    probe.add_argument("--run-id", required=True, metavar="ID", help="whose namespaces they are")
    probe.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the findings go, JSON")
    probe.add_argument(
        "--addresses", type=_network, default=ADDRESSES, metavar="NET", help=f"of the nodes ({ADDRESSES})"
    )
    probe.add_argument("--links", choices=tuple(BACKENDS), default="tun", help="what moves the packets (tun)")
    probe.add_argument("--seconds", type=float, metavar="S", help="end after that long")
    probe.add_argument(
        "--budget", type=float, default=SHARE, metavar="SHARE", help=f"of each link's rate ({SHARE:g})"
    )
    probe.add_argument(
        "--outage", choices=OUTAGES, default="hold", help="the links' rule at a contact's end (hold)"
    )
    probe.add_argument(
        "--overhead", type=int, default=ETHERNET_BYTES, metavar="BYTES", help="link layer's, a packet (14)"
    )
    probe.add_argument("--stats", type=Path, metavar="FILE", help="the back end's account (up --stats)")


def main(options: argparse.Namespace) -> int:
    """Exit code 0. HostError (what the user gave, too), ClockError, OSError."""
    try:
        tag_of(options.run_id)
        budget = Budget(options.budget, options.overhead)
        if options.overhead < 0 or (options.seconds is not None and options.seconds <= 0):
            raise ValueError("--overhead: must be 0 or more; --seconds: more than 0")
        plan = read_plan(options.plan.read_bytes())
        if len(plan.nodes) > options.addresses.num_addresses - 2:
            raise ValueError(f"--addresses: {options.addresses} are too few for {len(plan.nodes)} nodes")
        ClockFile.read(options.clock)
    except ValueError as error:
        raise HostError(str(error)) from None
    with contextlib.closing(_Run(options, plan, budget)) as run:
        run.run()
    return 0


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
