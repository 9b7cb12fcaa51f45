"""How fast a plan of a million contacts opens and answers, beside JSON and a list on the same machine.

    .venv/bin/python bench/plan.py [--quick]

The plan has 1,000 satellites and 1,000 devices over a day, 500,000 passes of two directions and six samples
each; --quick is a twentieth of it. Opening is measured in a process of its own each time, so that its peak
memory is that of opening (the interpreter and the modules alone are the first line). JSON is measured with a
twentieth of the contacts and scaled, which the table says: with all of them it takes gigabytes.

- `json.load` of the same document is the peer for opening: objects without any check;
- a list of (source, destination, start, end), scanned for one node and instant, is the peer for `links_at`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orbitrain.contacts.compact import CompactPlan, compact
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
CONTACTS = 1_000_000
JSON_PART = 20
NODES = 1_000  # of either kind
QUERIES = 5_000
SCANS = 20


def plan_of(contacts: int) -> ContactPlan:
    random = Random(3)
    names = [[f"{kind}-{n}" for n in range(NODES)] for kind in ("sat", "device")]
    nodes = [PlanNode(name, "satellite") for name in names[0]]
    nodes += [PlanNode(name, "device") for name in names[1]]
    found = []
    passes = contacts // 2
    for n in range(passes):
        start_ns = n * (85_000 * SECOND_NS // passes)
        end_ns = start_ns + random.randrange(100, 400) * SECOND_NS
        samples = tuple(
            Sample(start_ns + (end_ns - start_ns) * k // 5, 4_000_000 + random.randrange(10**6), 10**7, 0, 1)
            for k in range(6)
        )
        a, b = names[0][n % NODES], names[1][(7 * n + n // NODES) % NODES]
        found += [Contact(*ends, "service", start_ns, end_ns, samples) for ends in ((a, b), (b, a))]
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DAY_NS, tuple(nodes), tuple(found))


OPENINGS = {
    "nothing": "",
    "compact": "CompactPlan(data)",
    "json": "ContactPlan.from_json(data)",
    "peer": "json.loads(data)",
}


def opened(how: str, file: Path) -> tuple[float, float]:
    """Seconds to open a file's bytes, and the peak memory of the process in MiB."""
    program = (
        "import json, resource, sys, time\n"
        "from orbitrain.contacts.compact import CompactPlan\n"
        "from orbitrain.contacts.plan import ContactPlan\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "begun_s = time.process_time()\n"
        f"kept = {OPENINGS[how] or None}\n"
        "print(time.process_time() - begun_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", program, str(file)]
    seconds, peak = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.split()
    unit = 1 << (20 if sys.platform == "darwin" else 10)  # bytes there, kilobytes elsewhere
    return float(seconds), float(peak) / unit


def scan(contacts: list[tuple[str, str, int, int]], node: str, t_ns: int) -> list[tuple[str, str, int, int]]:
    return [one for one in contacts if one[2] <= t_ns < one[3] and (one[0] == node or one[1] == node)]


def took_us(ask: list[tuple[str, int]], answer: Callable[[str, int], object]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    took = []
    for node, t_ns in ask:
        begun_ns = time.process_time_ns()
        answer(node, t_ns)
        took.append((time.process_time_ns() - begun_ns) / 1e3)
    cuts = quantiles(took, n=100)
    return cuts[49], cuts[98]


def make(folder: Path, count: int) -> float:
    """Write both files; the seconds that the compact one took."""
    (folder / "plan.json").write_bytes(plan_of(count // JSON_PART).to_json())
    plan = plan_of(count)
    begun_s = time.process_time()
    (folder / "plan.orbplan").write_bytes(compact(plan))
    return time.process_time() - begun_s


def main() -> None:
    parser = argparse.ArgumentParser(description="Opening and asking a large plan.")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the full size")
    parser.add_argument("--make", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    count = CONTACTS // 20 if arguments.quick else CONTACTS
    if arguments.make is not None:
        print(make(Path(arguments.make), count))
        return
    with tempfile.TemporaryDirectory() as folder:
        small, whole = Path(folder) / "plan.json", Path(folder) / "plan.orbplan"
        # In a process of its own: what is started by a large process counts as large from its start.
        command = [sys.executable, *sys.argv, "--make", folder]
        written_s = float(subprocess.run(command, capture_output=True, check=True).stdout)
        json_mb, compact_mb = small.stat().st_size * JSON_PART / 1e6, whole.stat().st_size / 1e6
        print(f"{count} contacts: {compact_mb:.1f} MB compact, written in {written_s:.1f} s with its digest")
        print("seconds are of processor time, so that other work on the machine disturbs them less")
        print(f"{'opening':44}{'seconds':>9}{'peak memory':>14}")
        bare_mib = opened("nothing", small)[1]
        print(f"{'the process before it':44}{'':9}{bare_mib:10.0f} MiB")
        seconds, peak_mib = min(opened("compact", whole) for _ in range(3))
        print(f"{'compact plan, best of 3':44}{seconds:9.2f}{peak_mib:10.0f} MiB")
        for how, name in (("json", "from_json, with all checks"), ("peer", "peer: json.loads, no checks")):
            part_s, part_mib = opened(how, small)
            scaled_mib = bare_mib + (part_mib - bare_mib) * JSON_PART
            told = f"{name}, scaled x{JSON_PART}"
            print(f"{told:44}{part_s * JSON_PART:9.2f}{scaled_mib:10.0f} MiB   ({json_mb:.0f} MB of text)")

        read = CompactPlan(whole.read_bytes())
    scanned = [(link.source, link.destination, link.start_ns, link.end_ns) for link in read.links()]
    begun_s = time.process_time()
    for name in (node.name for node in read.nodes):
        read.links_at(name, 0)
    first_us = (time.process_time() - begun_s) / len(read.nodes) * 1e6
    random = Random(4)
    names = [node.name for node in read.nodes]
    ask = [(random.choice(names), random.randrange(85_000 * SECOND_NS)) for _ in range(QUERIES)]
    for node, t_ns in ask[:3]:
        assert [(*link[:2], *link[3:5]) for link in read.links_at(node, t_ns)] == scan(scanned, node, t_ns)
    print(f"{'one node, one instant':44}{'median':>12}{'99th percentile':>18}")
    for name, some, answer in (
        ("links_at", ask, read.links_at),
        ("peer: scan of a list", ask[:SCANS], partial(scan, scanned)),
    ):
        median_us, worst_us = took_us(some, answer)
        print(f"{name:44}{median_us:9.1f} us{worst_us:15.1f} us")
    print(f"the first question about a node makes its index: {first_us:.0f} us")


if __name__ == "__main__":
    main()
