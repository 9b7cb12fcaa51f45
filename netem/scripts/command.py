"""`python -m netem script` and `theaterq`: schedules as files for others to replay."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from netem.namespaces import HostError
from netem.schedule import Schedule
from netem.schedule_options import add_schedule_options, schedule_of
from netem.scripts.replay_script import Egress, replay_script, timed_lines, undo_script
from netem.scripts.theaterq import trace_lines
from orbitrain.contacts.compact import read_plan


def add(commands: Any) -> None:
    """Both subcommands; `commands` is what `ArgumentParser.add_subparsers` gave."""
    script = commands.add_parser(
        "script", help="a node's links as a shell script for tc, and its undo", allow_abbrev=False
    )
    _add_schedule(script)
    script.add_argument("--node", required=True, metavar="NAME", help="whose outgoing links")
    script.add_argument("--dev", required=True, metavar="DEVICE", help="the device by which they leave")
    script.add_argument(
        "--peer", action="append", default=[], metavar="NAME=ADDRESS", help="of each node that it sends to"
    )
    script.add_argument("--seed", type=int, default=0, help="of the states in which losses begin (0)")
    script.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new or empty")
    trace = commands.add_parser(
        "theaterq", help="a directed link as a trace file for TheaterQ", allow_abbrev=False
    )
    _add_schedule(trace)
    trace.add_argument("--link", nargs=2, required=True, metavar=("SOURCE", "DESTINATION"))
    trace.add_argument("--out", type=Path, required=True, metavar="FILE", help="the trace, CSV")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=Path, metavar="PLAN", help="the contact plan, JSON or compact")
    parser.add_argument("--rate", type=float, default=1.0, help="scenario seconds a second (1)")
    parser.add_argument(
        "--from-s", type=float, default=0.0, metavar="S", help="scenario time to start at (0)"
    )
    add_schedule_options(parser)


def main(options: argparse.Namespace) -> int:
    """Exit code 0. HostError for what the user gave, OSError."""
    try:
        schedule, from_ns = _schedule(options)
        if options.command == "theaterq":
            source, destination = options.link
            _write(options.out, trace_lines(schedule, (source, destination), from_ns), 0o644)
        else:
            _write_scripts(options, schedule, from_ns)
    except ValueError as error:
        raise HostError(str(error)) from None
    return 0


def _schedule(options: argparse.Namespace) -> tuple[Schedule, int]:
    plan = read_plan(options.plan.read_bytes())
    if not 0 <= options.from_s < plan.duration_ns / 1e9:
        raise ValueError(f"--from-s: must be within the plan, 0 to {plan.duration_ns / 1e9:g}")
    return schedule_of(options, plan, options.rate), round(options.from_s * 1e9)


def _write_scripts(options: argparse.Namespace, schedule: Schedule, from_ns: int) -> None:
    egress = Egress.of(schedule, options.node, options.dev, _addresses(options.peer))
    out: Path = options.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out: {out}: must be a new or empty folder")
    title = ascii(f"orbitrain: {egress.node}, plan {schedule.plan.sha256[:12]}, rate {schedule.clock_rate:g}")
    lines = timed_lines(schedule, egress, from_ns, options.seed)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        _write(out / "replay.sh", replay_script(lines, egress, title), 0o755)
        _write(out / "undo.sh", [undo_script(egress, title)], 0o755)
    except BaseException:
        (out / "replay.sh").unlink(missing_ok=True)
        if made:
            out.rmdir()
        raise


def _addresses(given: Iterable[str]) -> dict[str, IPv4Address]:
    found: dict[str, IPv4Address] = {}
    for text in given:
        name, sign, address = text.rpartition("=")
        if not sign or not name or name in found:
            raise ValueError(f"--peer: must be NAME=ADDRESS, each name once, not {text!r}")
        try:
            found[name] = IPv4Address(address)
        except ValueError:
            raise ValueError(f"--peer: {name}: must have an IPv4 address, not {address!r}") from None
    return found


def _write(path: Path, parts: Iterable[str], mode: int) -> None:
    """All or nothing."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.writelines(parts)
        os.chmod(fresh, mode)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
