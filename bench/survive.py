"""Which update survives what: an outage, a slow link, a kill. Ours beside federated learning frameworks.

    .venv/bin/python bench/survive.py [--cases NAME,...] [--systems NAME,...] [--json FILE]

Every system moves one file, a model update, over a link of its own between two network namespaces (back end
`tun`, 20 ms one way), silently cut where the case says so: packets vanish, nobody is told. Ours runs without
a plan (`--no-plan`), so that it knows no more of the link than the others; in the case `pass` it has one, of
two contacts 90 minutes apart, and time runs at rate 20.

A system has come through if its server has the file, whole, within the case's limit. Memory is the most
anonymous memory of all processes at an end of the link. Needs root, /dev/net/tun and pip for the peers, each
of which has an environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.peers.daemons import Daemons
from bench.peers.flower import Flower
from bench.peers.system import Node, System, running_in
from bench.transfer import Cell, Course, Outcome, allowed, measured
from bench.tun import host
from netem.namespaces import HostError, check_rights
from netem.tun.device import probe
from orbitrain.runtime.clock import SECOND_NS, ClockFile, unix_ns
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.supervisor import DaemonFailed

MIB: Final = 1024 * 1024
LEAD_S: Final = 20.0
"""Wall seconds in which servers and clients find each other over a link that is up."""

OUTAGE_AT_S: Final = 20.0
"""Wall seconds from the start to the outage, or the kill: all systems are pushing by then, none is done."""

DOWN_S: Final = 2.0
"""Wall seconds in which whatever was killed is down."""

SAMPLE_S: Final = 0.5


class WrongClock(Daemons):
    """The sender's clock is an hour ahead."""

    def _clock(self, node: Node) -> Path:
        if node.name != self._place.source.name:
            return self._place.clock
        path = self._place.folder / "ahead.json"
        ClockFile(unix_ns() - 3600 * SECOND_NS, 0, 1.0, 0).write(path)
        return path


SYSTEMS: Final[dict[str, Callable[[], System]]] = {
    "orbitrain": lambda: Daemons(no_plan=True),
    "flower": Flower,
}


@dataclass(frozen=True, slots=True)
class Case(Cell):
    """A cell with one outage; `kills` is the end of the link whose processes are killed, if any."""

    title_text: str = ""
    outage_s: float = 0.0
    kills: str = ""
    memory: dict[str, dict[str, int]] = field(default_factory=dict, compare=False)
    done: set[str] = field(default_factory=set, compare=False)

    @property
    def title(self) -> str:
        return self.title_text

    def windows(self, *, true: bool) -> Iterator[tuple[int, int]]:
        end_s = self.lead_s + self.limit_s
        cut_s = self.lead_s + OUTAGE_AT_S
        if not self.outage_s:
            yield 0, round(end_s * SECOND_NS)
            return
        yield 0, round(cut_s * SECOND_NS)
        yield round((cut_s + self.outage_s) * SECOND_NS), round(end_s * SECOND_NS)

    def act(self, courses: Sequence[Course], seconds: float) -> None:
        if self.kills and seconds >= OUTAGE_AT_S and "kill" not in self.done:
            self.done.add("kill")
            for course in courses:
                end = course.place.source if self.kills == "sender" else course.place.destination
                programs = course.system.programs  # type: ignore[attr-defined]
                threading.Thread(target=programs.kill, args=(end, DOWN_S)).start()
        if seconds >= len(self.done) * SAMPLE_S:
            self.done.add(f"sample {len(self.done)}")
            for course in courses:
                ends = (("sender", course.place.source), ("receiver", course.place.destination))
                most = self.memory.setdefault(course.name, {})
                for label, node in ends:
                    most[label] = max(most.get(label, 0), anonymous_bytes(node))


def anonymous_bytes(node: Node) -> int:
    """Of all processes at a node."""
    total = 0
    for pid in running_in([node.netns]):
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
        total += 1024 * int(found[0]) if found else 0
    return total


def case(
    text: str, *, size: int, rate: float, limit_s: float, outage_s: float = 0.0, kills: str = ""
) -> Case:
    return Case(
        contact_s=limit_s,
        gap_s=0.0,
        loss=0.0,
        burst=1.0,
        congestion="bbr",
        size=size,
        rate_bps=round(rate),
        delay_ms=20.0,
        cuts=0.0,
        seed=1,
        limit_s=limit_s,
        lead_s=LEAD_S,
        title_text=text,
        outage_s=outage_s,
        kills=kills,
    )


LARGE: Final = 60 * MIB
FAST: Final = 16e6

CASES: Final[dict[str, Callable[[], Case]]] = {
    "none": lambda: case("60 MiB at 16 Mbit/s, no outage", size=LARGE, rate=FAST, limit_s=120),
    "30": lambda: case("outage of 30 s", size=LARGE, rate=FAST, limit_s=200, outage_s=30),
    "120": lambda: case("outage of 120 s", size=LARGE, rate=FAST, limit_s=300, outage_s=120),
    "300": lambda: case("outage of 300 s", size=LARGE, rate=FAST, limit_s=480, outage_s=300),
    "400k": lambda: case("20 MiB at 400 kbit/s, no outage", size=20 * MIB, rate=4e5, limit_s=600),
    "64k": lambda: case("2 MiB at 64 kbit/s, no outage", size=2 * MIB, rate=64e3, limit_s=480),
    "sender": lambda: case("SIGKILL of the sender", size=LARGE, rate=FAST, limit_s=180, kills="sender"),
    "receiver": lambda: case("SIGKILL of the receiver", size=LARGE, rate=FAST, limit_s=180, kills="receiver"),
}


def table(rows: Sequence[dict[str, Any]], systems: Sequence[str]) -> str:
    """Markdown."""
    lines = ["| case | " + " | ".join(systems) + " |", "| --- |" + " --- |" * len(systems)]
    for row in rows:
        cells = []
        for name in systems:
            one: Outcome | None = row["outcomes"].get(name)
            if one is None:
                cells.append("not run")
            elif one.completed:
                extra = (
                    f", {one.offered_bytes / row['size'] - 1:+.1%} at L2"
                    if one.offered_bytes is not None
                    else ""
                )
                memory = row["memory"].get(name, {})
                held = "/".join(f"{memory.get(end, 0) / MIB:.0f}" for end in ("sender", "receiver"))
                cells.append(f"complete, {one.seconds:.1f} s{extra}; {held} MiB")
            else:
                why = one.failed or f"not within {row['limit_s']:.0f} s"
                cells.append(f"**lost**: {why}")
        lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    return text.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(description="Which update survives what.")
    add = parser.add_argument
    add("--cases", type=_words, default=["30", "sender"], help=f"of {', '.join(CASES)}; all (30,sender)")
    add("--systems", type=_words, default=list(SYSTEMS), help=f"of {', '.join(SYSTEMS)}; all of them")
    add("--keep", type=Path, metavar="DIR", help="leaves what programs wrote there")
    add("--json", type=Path, metavar="FILE", help="all figures")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    wanted = list(CASES) if options.cases == ["all"] else options.cases
    for given, known, option in ((wanted, CASES, "--cases"), (options.systems, SYSTEMS, "--systems")):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{option}: must be of {', '.join(known)}, not {', '.join(unknown)}")
    try:
        check_rights()
        probe()
    except HostError as error:
        print(f"survive: not measured here: {error}")
        return 0
    systems = []
    for name in options.systems:
        why = SYSTEMS[name]().obstacle()
        if why:
            print(f"{name}: not measured here: {why}")
        else:
            systems.append(name)
    print(host())
    rows: list[dict[str, Any]] = []
    try:
        with allowed(["bbr"]):
            for name in wanted:
                rows.append(_measured(CASES[name](), systems, options.keep))
                print(table(rows[-1:], systems).splitlines()[-1], flush=True)
                if options.json is not None:
                    figures = [
                        {**row, "outcomes": {n: asdict(one) for n, one in row["outcomes"].items()}}
                        for row in rows
                    ]
                    options.json.write_text(json.dumps({"host": host(), "rows": figures}, indent=2) + "\n")
    except (HostError, ScenarioError, DaemonFailed) as error:
        print(f"survive: {error}", file=sys.stderr)
        return 1
    print(f"\n{table(rows, systems)}")
    return 0


def _measured(one: Case, systems: Sequence[str], keep: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder:
        outcomes, _ = asyncio.run(measured(one, systems, Path(folder), SYSTEMS))
        if keep is not None:
            shutil.copytree(
                folder,
                keep / one.title.replace(" ", "-").replace("/", "-"),
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("file", "object", "out"),
            )
    return {
        "title": one.title,
        "size": one.size,
        "limit_s": one.limit_s,
        "outcomes": {outcome.system: outcome for outcome in outcomes},
        "memory": one.memory,
    }


if __name__ == "__main__":
    sys.exit(main())
