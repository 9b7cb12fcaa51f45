"""How fast passes and inter-satellite windows are found, beside Skyfield on the same machine in the same run,
and whether they agree.

    .venv/bin/python bench/contacts.py [--quick] [--only passes|isl]

The full size is 1,584 satellites (D:550:53.0:1584/22/17) over 100 sites for 24 hours; --quick is a hundredth
of it. Skyfield takes minutes for that, so it does a sample of the same satellites and sites, and times are
compared per satellite-site-day:

- `find_events` is Skyfield's own search (rise, culmination, set), one call for each satellite and site;
- `tuned` is the fastest that we know with Skyfield's own elevations: one Time grid of 20 s shared by all,
  each satellite and each site placed on it once, altaz() for every pair, edges by a straight line between
  grid points. Placing is charged as for the full size, where more pairs share it.

Ours is everything from elements to passes; another line adds the highest elevation and the shortest range of
each pass, as `orbitrain passes` shows them (over a fifth of the sites, scaled). Propagation is shared by all
sites, so ratios grow with their number. Seconds are of processor time, so that other work on the machine
disturbs the ratios less; nothing here uses more than one thread.

Inter-satellite windows are of 1,584 satellites (D:550:53.0:1584/72/17) for 24 hours, neighbours in their
plane and all pairs of adjacent planes, by all rules. The peer, for a sample of the same pairs, is what one
writes first: Skyfield's ITRS positions and velocities on a grid of 10 s, every rule in numpy at every point
of it for pair after pair, edges by a straight line between grid points (ours are refined, and nothing shorter
than the grid is missed). Peak memory is of the process so far: --only keeps the two apart.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from skyfield.api import EarthSatellite, load, wgs84
from skyfield.framelib import itrs

from orbitrain.contacts.elements import Satellite, Shell, satellites_of
from orbitrain.contacts.finder import LONGEST_STEP_S, Passes, find_all_passes
from orbitrain.contacts.geometry import Site, tracks
from orbitrain.contacts.isl import IslRules, IslWindows, find_isl
from orbitrain.contacts.passes import highest_and_nearest
from orbitrain.contacts.planes import Pairs, Planes

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0
MASK_DEGREES = 10.0
TUNED_STEP_S = 20
# find_events stops searching at half a second; an event nearer to an end of the window than this may be on
# either side of it.
SAME_S = 0.6

RULES = IslRules(80.0, 5_000.0, 3.0, 0.1, 50.0)
PLAIN_STEP_S = 10
EARTH_TURN = np.array([0.0, 0.0, 7.2921150e-5])


def sites_of(count: int) -> list[Site]:
    """Sites spread evenly over the Earth (a Fibonacci lattice)."""
    golden_degrees = 180.0 * (3.0 - math.sqrt(5.0))
    return [
        Site(
            f"site-{i}",
            math.degrees(math.asin(-1.0 + (2 * i + 1) / count)),
            (i * golden_degrees) % 360.0 - 180.0,
            100.0,
            MASK_DEGREES,
        )
        for i in range(count)
    ]


def in_skyfield(site: Site) -> Any:
    return wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)


def time_find_events(
    satellites: Sequence[Satellite], sites: Sequence[Site]
) -> tuple[float, dict[tuple[int, int], list[tuple[float, int]]]]:
    """Seconds per satellite-site-day, and (second, +1 rise or -1 set) of each pair."""
    timescale = load.timescale(builtin=True)
    begin, end = timescale.from_datetime(EPOCH), timescale.from_datetime(EPOCH + timedelta(days=1))
    flyers = [EarthSatellite.from_satrec(s.satrec, timescale) for s in satellites]
    places = [in_skyfield(site) for site in sites]
    flyers[0].find_events(places[0], begin, end, altitude_degrees=MASK_DEGREES)  # warm
    raw = {}
    started = time.process_time()
    for i, flyer in enumerate(flyers):
        for j, place in enumerate(places):
            raw[i, j] = flyer.find_events(place, begin, end, altitude_degrees=MASK_DEGREES)
    seconds = (time.process_time() - started) / len(raw)
    events = {}
    for pair, (times, kinds) in raw.items():
        t_s = (times.tt - begin.tt) * DAY_S if len(kinds) else np.empty(0)
        events[pair] = [
            (t, 1 - kind) for t, kind in zip(t_s.tolist(), kinds.tolist(), strict=True) if kind != 1
        ]
    return seconds, events


def time_tuned(
    satellites: Sequence[Satellite], sites: Sequence[Site], all_satellites: int, all_sites: int
) -> float:
    """Seconds per satellite-site-day."""
    timescale = load.timescale(builtin=True)
    grid_s = np.arange(0, int(DAY_S) + 1, TUNED_STEP_S)
    started = time.process_time()
    grid = timescale.utc(EPOCH.year, EPOCH.month, EPOCH.day, 0, 0, grid_s)
    at_sites = [in_skyfield(site).at(grid) for site in sites]
    sites_s = (time.process_time() - started) / len(sites)
    started = time.process_time()
    at_satellites = [EarthSatellite.from_satrec(s.satrec, timescale).at(grid) for s in satellites]
    satellites_s = (time.process_time() - started) / len(satellites)
    started = time.process_time()
    for flown in at_satellites:
        for place in at_sites:
            above = (flown - place).altaz()[0].degrees - MASK_DEGREES
            left = np.flatnonzero((above[1:] > 0) != (above[:-1] > 0))
            _ = grid_s[left] + TUNED_STEP_S * above[left] / (above[left] - above[left + 1])
    pairs_s = (time.process_time() - started) / (len(sites) * len(satellites))
    return pairs_s + satellites_s / all_sites + sites_s / all_satellites


def differences(
    found: Sequence[Passes], events: dict[tuple[int, int], list[tuple[float, int]]], pairs: dict[int, int]
) -> tuple[int, int, float]:
    """Events of Skyfield's sample, how many of ours or theirs the other does not have, and the largest gap.

    `pairs` maps the sample's satellites to ours. Rises before the window and sets after it are no events.
    """
    count, unmatched, worst_s = 0, 0, 0.0
    for (i, j), theirs in events.items():
        mine = found[j].satellite == pairs[i]
        rises, sets = found[j].start_s[mine], found[j].end_s[mine]
        ours = sorted(
            [(t, 1) for t in rises.tolist() if t > 0] + [(t, -1) for t in sets.tolist() if t < DAY_S]
        )
        for kind in (1, -1):
            a = [t for t, k in ours if k == kind and SAME_S < t < DAY_S - SAME_S]
            b = [t for t, k in theirs if k == kind and SAME_S < t < DAY_S - SAME_S]
            count += len(b)
            if len(a) != len(b):
                unmatched += abs(len(a) - len(b))
            elif a:
                worst_s = max(worst_s, float(np.abs(np.array(a) - np.array(b)).max()))
    return count, unmatched, worst_s


def time_plain_isl(
    satellites: Sequence[Satellite], pairs: Pairs, all_satellites: int, all_pairs: int
) -> tuple[float, list[list[tuple[float, float]]]]:
    """Seconds per pair (placing charged as for the full size), and the windows of each pair."""
    timescale = load.timescale(builtin=True)
    grid_s = np.arange(0, int(DAY_S) + 1, PLAIN_STEP_S)
    grid = timescale.utc(EPOCH.year, EPOCH.month, EPOCH.day, 0, 0, grid_s)
    wanted = sorted({*pairs.first.tolist(), *pairs.second.tolist()})
    started = time.process_time()
    flown = {}
    for index in wanted:
        flyer = EarthSatellite.from_satrec(satellites[index].satrec, timescale)
        position, velocity = flyer.at(grid).frame_xyz_and_velocity(itrs)
        flown[index] = (
            position.km.T,
            velocity.km_per_s.T,
            np.abs(wgs84.latlon_of(flyer.at(grid))[0].degrees),
        )
    placed_s = (time.process_time() - started) / len(wanted)
    started = time.process_time()
    windows = []
    for first, second, intra in zip(
        *(c.tolist() for c in (pairs.first, pairs.second, pairs.intra)), strict=True
    ):
        margin = plain_margin(flown[first], flown[second], intra)
        left = np.flatnonzero((margin[1:] > 0) != (margin[:-1] > 0))
        edges = (grid_s[left] + PLAIN_STEP_S * margin[left] / (margin[left] - margin[left + 1])).tolist()
        edges = [0.0] * bool(margin[0] > 0) + edges + [DAY_S] * bool(margin[-1] > 0)
        windows.append(list(zip(edges[::2], edges[1::2], strict=True)))
    return (time.process_time() - started) / len(windows) + placed_s * all_satellites / all_pairs, windows


def plain_margin(one: tuple[Any, ...], other: tuple[Any, ...], intra: bool) -> Any:
    """The least of what is left of each limit, as a share of it, at every grid point."""
    (a, va, north_a), (b, vb, north_b) = one, other
    line, moving = b - a, vb - va
    distance = np.linalg.norm(line, axis=1)
    radius = np.array([6378.137, 6378.137, 6356.752]) + RULES.clearance_km
    p, q = a / radius, b / radius
    along = np.clip(-np.sum(p * (q - p), axis=1) / np.sum((q - p) ** 2, axis=1), 0.0, 1.0)
    lowest = np.linalg.norm(p + along[:, np.newaxis] * (q - p), axis=1)
    shares = [lowest - 1.0, 1.0 - distance / RULES.longest_km]
    if not intra:
        shares.append(1.0 - np.abs(np.sum(line * moving, axis=1)) / distance / RULES.range_rate_km_per_s)
        direction = line / distance[:, np.newaxis]
        for at, velocity in ((a, va), (b, vb)):
            turn = np.cross(at, velocity + np.cross(EARTH_TURN, at)) / np.sum(at * at, axis=1)[:, np.newaxis]
            seen = moving - np.cross(turn - EARTH_TURN, line)
            rate = np.linalg.norm(np.cross(direction, seen), axis=1) / distance
            shares.append(1.0 - np.degrees(rate) / RULES.angular_rate_degrees_per_s)
        shares += [1.0 - north / RULES.latitude_cut_degrees for north in (north_a, north_b)]
    return np.minimum.reduce(shares)


def bench_isl(quick: bool) -> None:
    shell = Shell("sat", 550.0, 53.0, 144, 12, 7) if quick else Shell.from_code("D:550:53.0:1584/72/17")
    satellites, planes = satellites_of(shell, EPOCH), Planes.of_shells([shell])
    pairs = planes.ring_pairs().joined(planes.adjacent_pairs())
    print(
        f"{len(satellites)} satellites, {len(pairs)} pairs (ring and adjacent planes) x 24 h: clearance "
        f"{RULES.clearance_km:g} km, range {RULES.longest_km:g} km, {RULES.range_rate_km_per_s:g} km/s, "
        f"{RULES.angular_rate_degrees_per_s:g} degrees/s, latitude {RULES.latitude_cut_degrees:g} degrees",
        flush=True,
    )
    wall_s, started = time.perf_counter(), time.process_time()
    windows = find_isl(tracks(satellites, EPOCH, DAY_S, LONGEST_STEP_S), pairs, RULES)
    ours_s, wall_s = time.process_time() - started, time.perf_counter() - wall_s
    peak = peak_mib()
    chosen = slice(0, None, len(pairs) // 60)
    sample = Pairs(pairs.first[chosen], pairs.second[chosen], pairs.intra[chosen])
    plain_s, theirs = time_plain_isl(satellites, sample, len(satellites), len(pairs))
    count, unmatched, worst_s = isl_differences(windows, sample, theirs)
    print(f"{'':34}{'per pair-day':>18}{'all, scaled':>14}{'plain /':>15}")
    for name, each_s in (
        (f"plain, 10 s ({len(sample)} pairs)", plain_s),
        ("orbitrain", ours_s / len(pairs)),
    ):
        print(f"{name:34}{each_s * 1e6:15.1f} us{each_s * len(pairs):12.1f} s{plain_s / each_s:14.1f}x")
    print(
        f"orbitrain: {len(windows)} windows in {ours_s:.2f} s (with propagation; {wall_s:.2f} s on the "
        f"wall), peak memory {peak:.0f} MiB"
    )
    print(f"same windows: {count} of the plain ones, {unmatched} unmatched, at most {worst_s:.2f} s apart")


def isl_differences(
    found: IslWindows, sample: Pairs, theirs: Sequence[Sequence[tuple[float, float]]]
) -> tuple[int, int, float]:
    """Windows of the sample, those that only one of both has, and the largest gap of an edge.

    What is shorter than the plain grid's step is not compared.
    """
    count, unmatched, worst_s = 0, 0, 0.0
    for first, second, plain in zip(sample.first.tolist(), sample.second.tolist(), theirs, strict=True):
        mine = (found.first == first) & (found.second == second)
        ours = list(zip(found.start_s[mine].tolist(), found.end_s[mine].tolist(), strict=True))
        a, b = ([w for w in some if w[1] - w[0] > PLAIN_STEP_S] for some in (ours, plain))
        count += len(b)
        if len(a) != len(b):
            unmatched += abs(len(a) - len(b))
        elif a:
            worst_s = max(worst_s, float(np.abs(np.array(a) - np.array(b)).max()))
    return count, unmatched, worst_s


def peak_mib() -> float:
    unit = 1 << (20 if sys.platform == "darwin" else 10)  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description="Passes and inter-satellite windows, beside Skyfield.")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the full size")
    parser.add_argument("--only", choices=("passes", "isl"), help="one of both")
    arguments = parser.parse_args()
    if arguments.only != "isl":
        bench_passes(arguments.quick)
    if arguments.only != "passes":
        bench_isl(arguments.quick)


def bench_passes(quick: bool) -> None:
    shell = Shell("sat", 550.0, 53.0, 144, 12, 7) if quick else Shell.from_code("D:550:53.0:1584/22/17")
    satellites, sites = satellites_of(shell, EPOCH), sites_of(10 if quick else 100)
    size = len(satellites) * len(sites)
    print(
        f"{len(satellites)} satellites x {len(sites)} sites x 24 h, mask {MASK_DEGREES:g} degrees", flush=True
    )

    tracks(satellites[:1], EPOCH, 60.0, LONGEST_STEP_S)  # loads tables, once in a process
    wall_s, started = time.perf_counter(), time.process_time()
    flown = tracks(satellites, EPOCH, DAY_S, LONGEST_STEP_S)
    flown_s = time.process_time() - started
    found = find_all_passes(flown, sites)
    ours_s, wall_s = time.process_time() - started, time.perf_counter() - wall_s
    passes = sum(len(over.satellite) for over in found)
    peak = peak_mib()

    every_satellite, every_site = (12, 2) if quick else (80, 5)
    started = time.process_time()
    for site, over in zip(sites[::every_site], found[::every_site], strict=True):
        highest_and_nearest(flown, site, over)
    rows_s = ours_s + (time.process_time() - started) * every_site

    chosen = range(0, len(satellites), every_satellite)
    sample, their_sites = [satellites[i] for i in chosen], sites[::every_site]
    events_s, events = time_find_events(sample, their_sites)
    tuned_s = time_tuned(sample, their_sites, len(satellites), len(sites))
    count, unmatched, worst_s = differences(found[::every_site], events, dict(enumerate(chosen)))

    print(
        f"Skyfield on a sample of {len(sample)} satellites x {len(their_sites)} sites, "
        "scaled per satellite-site-day; processor time"
    )
    print(f"{'':34}{'per sat-site-day':>18}{'all, scaled':>14}{'find_events /':>15}{'tuned /':>10}")
    for name, each_s in (
        ("Skyfield find_events", events_s),
        ("Skyfield tuned (shared grid)", tuned_s),
        ("orbitrain", ours_s / size),
        ("orbitrain with height and range", rows_s / size),
    ):
        against = f"{events_s / each_s:14.1f}x{tuned_s / each_s:9.1f}x"
        print(f"{name:34}{each_s * 1e6:15.1f} us{each_s * size:12.1f} s{against}")
    print(
        f"orbitrain: {passes} passes in {ours_s:.2f} s (propagation {flown_s:.2f} s; {wall_s:.2f} s on the "
        f"wall), peak memory {peak:.0f} MiB"
    )
    print(f"same passes: {count} edges of find_events, {unmatched} unmatched, at most {worst_s:.2f} s apart")


if __name__ == "__main__":
    main()
