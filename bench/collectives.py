"""A ring's gather and reduce on real daemons over shaped links, against their closed forms.

    .venv/bin/python bench/collectives.py [--rate R] [--rounds N] [--round-trips N] [--congestion NAME]
        [--only NAME ...]

Nine satellites of one orbit, two stations and a server, one process each, over the back end `tun`. A block
takes a link about N round trips (40), and so does each part of a head. Gathers are measured with a small head
and reduces with kept features, both from the second round on, whose head all satellites have before it
begins: so they begin nearly at once. A gather is from the last satellite that has embedded to the last that
has all blocks, a reduce from the last that has stepped its head to the last that has the sum. The closed
forms (`orbitrain/protocols/sfft/costs.py`) know bytes over a link and its delay, and for gathers in turn the
letters of a block; to a reduce the declared seconds of the additions on its way are added.

All members end a hop at the same time, and all are processes of this host: a rate below 1 tells how much its
cores weigh.

Needs root and /dev/net/tun.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orbitrain.planning import build_plan, planes_of
from orbitrain.protocols.sfft.costs import block_letters, gather_cost, reduce_cost
from orbitrain.protocols.sfft.ring import Gather, Reduce, Ring
from orbitrain.scenario import SECOND_NS, load_scenario

ROOT = Path(__file__).resolve().parents[1]
RATE_BPS = 4_000_000
WIDTH, TOKENS = 768, 16
ROUND_TRIP_S = 0.032
"""Over the longest link of such a ring; its propagation only."""
HEAD_S = {"gather": 15.0, "reduce": 4.0}
"""So that no heads are under way during a gather."""
ADD_S = 0.1
MESSAGE_S = 0.02
"""Daemons take in a message in about that."""
CHUNKS = 2
"""Of a block."""

SCENARIO = """
name = "collectives"
epoch = "2026-01-01T00:00:00Z"
seed = 7
rounds = {rounds}
duration_s = 7200
constellation = [{{ walker = "S:550:97.6:9/1/0" }}]
stations = [
    {{ name = "svalbard", latitude_degrees = 78.23, longitude_degrees = 15.39, mask_degrees = 5 }},
    {{ name = "troll", latitude_degrees = -72.01, longitude_degrees = 2.53, mask_degrees = 5 }},
]
links.acquisition_s = 2
links.congestion = "{congestion}"
links.feeder = {{ rate_bps = 20_000_000 }}
links.intra_isl = {{ rate_bps = {rate_bps} }}
links.backhaul = {{ rate_bps = 50_000_000 }}
compute = {{ message_s = {message_s}, embed_s = 4, backbone_s = 0.5, head_s = {head_s}, add_s = {add_s} }}
task = {{ task = "orbitrain.learning.split.digits:Digits", beta = 100.0, reserved = 50 }}

[protocol]
name = "sfft"
samples = {samples}
chunk_samples = {chunk_samples}
cache = {cache}
gather = "{gather}"
head_reduce = "{reduce}"

[model]
model = "orbitrain.learning.split.vit:reference"
preset = "micro"
width = {width}
depth = 1
classes = {classes}
"""


@dataclass(frozen=True)
class Sizes:
    """So that blocks, and a ninth of a head, take a link so many round trips; and how many rounds."""

    round_trips: float
    rounds: int

    @property
    def samples(self) -> int:
        return 2 * math.ceil(self._link_bytes / (TOKENS * WIDTH * 4) / 2)

    def classes(self, what: str) -> int:
        return 10 if what == "gather" else math.ceil(9 * self._link_bytes / ((WIDTH + 1) * 8))

    @property
    def _link_bytes(self) -> float:
        return self.round_trips * ROUND_TRIP_S * RATE_BPS / 8


def scenario_of(what: str, how: str, sizes: Sizes, congestion: str, folder: Path) -> Path:
    text = SCENARIO.format(
        congestion=congestion,
        rounds=sizes.rounds,
        rate_bps=RATE_BPS,
        head_s=HEAD_S[what],
        add_s=ADD_S,
        message_s=MESSAGE_S,
        width=WIDTH,
        classes=sizes.classes(what),
        samples=sizes.samples,
        chunk_samples=sizes.samples // CHUNKS,
        cache=str(what == "reduce").lower(),
        gather=how if what == "gather" else "two_way",
        reduce=how if what == "reduce" else "gather",
    )
    file = folder / "collectives.toml"
    file.write_text(text, encoding="utf-8")
    return file


def closed_form_s(what: str, how: str, sizes: Sizes, file: Path) -> float:
    scenario = load_scenario(file)
    (plane,) = planes_of(scenario)
    links = [one for one in build_plan(scenario).contacts if one.link_class == "intra_isl"]
    delay_s = max(one.delay_ns_at(one.start_ns) for one in links) / SECOND_NS
    ring, rate = Ring(tuple(plane)), RATE_BPS / 8
    if what == "gather":
        block_bytes = sizes.samples * TOKENS * WIDTH * 4
        letters = min(CHUNKS, block_letters(block_bytes / rate, MESSAGE_S))
        return gather_cost(ring, Gather(how), CHUNKS, letters).seconds(block_bytes, rate, delay_s)
    head_bytes, reduce = (WIDTH + 1) * sizes.classes(what) * 8, Reduce(how)
    added_s = ADD_S * (1 if reduce is Reduce.GATHER else len(ring) - 1 + (reduce is Reduce.RING))
    return reduce_cost(ring, reduce).seconds(head_bytes, rate, delay_s) + added_s


def measured_s(what: str, file: Path, out: Path, rate: float) -> list[float]:
    """Of each round from the second on."""
    command = [sys.executable, "-m", "orbitrain", "run", file, "--out", out, "--links", "tun"]
    command += ["--rate", str(rate), "--no-baseline", "--quiet"]
    subprocess.run([str(each) for each in command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads((out / "result.json").read_bytes())
    first, last = ("embed", "gather") if what == "gather" else ("head", "reduce")
    return [row[last] - row[first] for row in result["phases"][1:] if row["attempts"] == 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-trips", type=float, default=40.0)
    parser.add_argument("--congestion", default="auto", help="TCP's, as in a scenario")
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    sizes = Sizes(options.round_trips, options.rounds)
    kinds = [("gather", how) for how in ("two_way", "one_way", "sequential")]
    kinds += [("reduce", how) for how in ("ring", "gather", "chain")]
    print(f"{'':20} {'closed form':>12} {'measured':>9} {'ratio':>6}  of each round")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for what, how in kinds:
            if options.only is not None and f"{what}/{how}" not in options.only:
                continue
            file = scenario_of(what, how, sizes, options.congestion, folder)
            wanted_s = closed_form_s(what, how, sizes, file)
            found_s = measured_s(what, file, folder / f"{what}-{how}", options.rate)
            each = " ".join(f"{seconds / wanted_s:.2f}" for seconds in found_s)
            middle_s = median(found_s)
            name = f"{what} {how}"
            line = f"{name:20} {wanted_s:10.2f} s {middle_s:7.2f} s {middle_s / wanted_s:6.2f}  {each}"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
