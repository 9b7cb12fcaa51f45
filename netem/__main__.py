"""The link emulator's command: `python -m netem up`, `probe`, `script`, `theaterq` and `clean`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from netem.backends import BACKENDS
from netem.namespaces import ADDRESSES, HostError, clean, enter_unprivileged, tag_of
from netem.netlink import NetlinkError
from netem.probe import command as probe
from netem.replay import TooLate
from netem.schedule_options import add_schedule_options, schedule_of
from netem.scripts import command as scripts
from netem.session import STATS_S, Options, Session
from netem.tun.fifo import ETHERNET_BYTES
from orbitrain.contacts.compact import read_plan
from orbitrain.runtime.clock import ClockError, ClockFile

EXIT_USAGE: Final = 2
EXIT_LATE: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "clean":
            return _clean(options)
        if options.command == "probe":
            return probe.main(options)
        if options.command in ("script", "theaterq"):
            return scripts.main(options)
        try:
            wanted = _options(options)
        except ValueError as error:  # a plan, a clock, a number: what the user gave
            raise HostError(str(error)) from None
        with contextlib.closing(Session(wanted)) as session:
            session.run()
        return 0
    except TooLate as error:
        print(f"netem: {error}", file=sys.stderr)
        return EXIT_LATE
    except (HostError, ClockError) as error:
        print(f"netem: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NetlinkError as error:  # by the kernel, of a link's new state
        print(f"netem: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        if error.filename is None:
            raise
        print(f"netem: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE


def _options(options: argparse.Namespace) -> Options:
    """What is to be done. ValueError, ClockError, OSError, HostError."""
    tag_of(options.run_id)
    if options.unprivileged:
        enter_unprivileged()
    rate = 1.0 if options.rate is None else options.rate
    if options.clock is not None:
        clock_rate = ClockFile.read(options.clock).rate
        if options.rate is not None and options.rate != clock_rate:
            raise ValueError(f"--rate: must be the clock's, {clock_rate:g}, or be left out")
        rate = clock_rate
    if options.seed < 0 or options.stats_s <= 0 or options.late_ms <= 0 or options.overhead < 0:
        raise ValueError("--seed, --overhead: must be 0 or more; --stats-s, --late-ms: more than 0")
    schedule = schedule_of(options, read_plan(options.plan.read_bytes()), rate)
    BACKENDS[options.links].check(schedule)
    demand = schedule.demand()
    limits = BACKENDS[options.links].limits
    too_much = limits.beyond(demand)
    if too_much and options.beyond == "refuse":
        raise ValueError(
            f"{'; '.join(too_much)} (back end {options.links}); a lower --rate, or --beyond mark"
        )
    return Options(
        backend=options.links,
        run_id=options.run_id,
        schedule=schedule,
        addresses=options.addresses,
        overhead_bytes=options.overhead,
        seed=options.seed,
        clock=options.clock,
        from_ns=round(options.from_s * 1e9),
        stats=options.stats,
        stats_s=options.stats_s,
        late_ns=round(options.late_ms * 1e6),
        on_late=options.late,
        marks=too_much + limits.doubtful(demand),
    )


def _clean(options: argparse.Namespace) -> int:
    try:
        removed, kept = clean(options.run_id)
    except ValueError as error:
        raise HostError(str(error)) from None
    print(
        json.dumps(
            {
                "removed": [one.path.name for one in removed],
                "in_use": [one.path.name for one in kept],
            }
        )
    )
    return 0


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m netem", description="Replays a contact plan on real packets.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up", help="links that follow a plan, until interrupted or standard input closes", allow_abbrev=False
    )
    up.add_argument(
        "--links", choices=tuple(BACKENDS), required=True, help="the kernel's netem, or through user space"
    )
    up.add_argument(
        "--plan", type=Path, required=True, metavar="FILE", help="the contact plan, JSON or compact"
    )
    up.add_argument("--run-id", required=True, metavar="ID", help="whose namespaces they are")
    up.add_argument(
        "--clock", type=Path, metavar="FILE", help="the run's clock.json; without it time starts when ready"
    )
    up.add_argument("--rate", type=float, help="scenario seconds a second, without --clock (1)")
    up.add_argument(
        "--from-s", type=float, default=0.0, metavar="S", help="scenario time to start at, without --clock"
    )
    add_schedule_options(up)
    up.add_argument(
        "--addresses", type=_network, default=ADDRESSES, metavar="NET", help=f"of the nodes ({ADDRESSES})"
    )
    up.add_argument(
        "--overhead", type=int, default=ETHERNET_BYTES, metavar="BYTES", help="link layer's, a packet (14)"
    )
    up.add_argument("--seed", type=int, default=0, help="of the losses (0)")
    up.add_argument("--stats", type=Path, metavar="FILE", help="keeps the latest full account there")
    up.add_argument("--stats-s", type=float, default=STATS_S, metavar="S", help=f"how often ({STATS_S:g})")
    up.add_argument(
        "--late-ms", type=float, default=20.0, metavar="MS", help="bound of a step's lateness (20)"
    )
    up.add_argument("--late", choices=("mark", "abort"), default="mark", help="what is done beyond it")
    up.add_argument(
        "--beyond",
        choices=("refuse", "mark"),
        default="refuse",
        help="a schedule that asks too much of the host",
    )
    up.add_argument(
        "--unprivileged", action="store_true", help="in user, network and mount namespaces of its own"
    )
    probe.add(commands)
    scripts.add(commands)
    cleaning = commands.add_parser("clean", help="remove what ended runs have left", allow_abbrev=False)
    cleaning.add_argument("--run-id", metavar="ID", help="of this run alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
