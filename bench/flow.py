"""How long a schedule takes to compute, and how much later than the optimum the others are done.

    .venv/bin/python bench/flow.py [--draws N]

Planes of nine satellites at 550 km and two stations over a day, in slots of 10 s, with 20 Mbit/s on each
link and at each station. The first table is of two planes with 1,000 chunks each, of some sizes. The second
is of six planes, which contend more, and N seeded draws (20) of when each is ready, how much it has, and
how large chunks are: the time from the first plane ready to the last chunk, over that of `teg`. Draws that
the day is too short for are left out, and said.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orbitrain.contacts.plan import ContactPlan
from orbitrain.flow.capacity import Limits, Terms, instance_of
from orbitrain.flow.instance import Instance, Plane
from orbitrain.flow.scheduler import SCHEDULERS
from orbitrain.planning import build_plan
from orbitrain.scenario import parse_scenario

S = 1_000_000_000
SLOT_NS = 10 * S
MIB = 1 << 20
STATIONS = ("kourou", "weilheim")
RATE_BPS = 20_000_000
PER_PLANE = 9
PLANES = 6
"""In the second table."""

SCENARIO = """
name = "flow"
epoch = "2026-01-01T00:00:00Z"
duration_s = 86400
seed = 7
rounds = 1
regions = [{{ name = "quito", site = "quito", devices = 1 }}]
constellation = [{{ walker = "D:550:53.0:{walker}" }}]
sites = [{{ name = "quito", latitude_degrees = -0.18, longitude_degrees = -78.47 }}]
stations = [
    {{ name = "kourou", latitude_degrees = 5.25, longitude_degrees = -52.8, antennas = 8 }},
    {{ name = "weilheim", latitude_degrees = 47.88, longitude_degrees = 11.08, antennas = 8 }},
]
links.feeder = {{ rate_bps = {rate_bps}, retarget_s = 30 }}
protocol = {{ name = "fedmeld", delta = 1, alpha = 0.5 }}
task = {{ task = "orbitrain.learning.digits:Digits" }}
"""


def plan_of(planes: int) -> ContactPlan:
    text = SCENARIO.format(walker=f"{planes * PER_PLANE}/{planes}/1", rate_bps=RATE_BPS)
    return build_plan(parse_scenario(text, "flow.toml"))


def instance(plan: ContactPlan, chunks: list[int], ready_ns: list[int], chunk_bytes: int) -> Instance:
    planes = [
        Plane(f"p{n}", tuple(f"sat-{n * PER_PLANE + k}" for k in range(PER_PLANE)), chunks[n], ready_ns[n])
        for n in range(len(chunks))
    ]
    terms = Terms(chunk_bytes, SLOT_NS, acquisition_ns=5 * S, answer_ns=S, overhead=1.05)
    limits = Limits(station_bps=dict.fromkeys(STATIONS, RATE_BPS))
    return instance_of(plan, planes, STATIONS, terms, limits=limits)


def solved(one: Instance) -> dict[str, tuple[float, int | None]]:
    """For each scheduler the seconds it took, and the slot in which all is done."""
    found = {}
    for name, scheduler in SCHEDULERS.items():
        begun = time.perf_counter()
        schedule = scheduler(one, {plane.name: plane.chunks for plane in one.planes})
        found[name] = time.perf_counter() - begun, None if schedule.left else schedule.last_slot
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    plan = plan_of(2)
    solved(instance(plan, [1, 1], [0, 0], MIB))  # loads scipy

    print(f"{'chunk':>8}  " + "  ".join(f"{name:>24}" for name in SCHEDULERS))
    for size in (1, 8, 16, 32):
        found = solved(instance(plan, [1000, 1000], [0, 0], size * MIB))
        cells = (f"{took_s * 1000:.0f} ms, slot {slot}" for took_s, slot in found.values())
        print(f"{size:>4} MiB  " + "  ".join(f"{cell:>24}" for cell in cells))

    random = Random(11)
    plan = plan_of(PLANES)
    ratios: dict[str, list[float]] = {name: [] for name in SCHEDULERS}
    unfinished = 0
    for _ in range(draws):
        chunks = [random.randint(100, 2000) for _ in range(PLANES)]
        ready_ns = [random.randint(0, 3600) * S for _ in range(PLANES)]
        found = solved(instance(plan, chunks, ready_ns, random.randint(1, 8) * MIB))
        begin = min(ready_ns) // SLOT_NS - 1
        best = found["teg"][1]
        if best is None:
            unfinished += 1
            continue
        for name, (_, slot) in found.items():
            ratios[name].append(float("inf") if slot is None else (slot - begin) / (best - begin))
    print(f"\n{draws} draws, {unfinished} too much for the day; time to the last chunk, over that of teg:")
    for name, values in ratios.items():
        later = sum(value > 1 for value in values)
        print(f"{name:>14}: mean {fmean(values):.3f}, worst {max(values):.2f}, later {later} times")


if __name__ == "__main__":
    main()
