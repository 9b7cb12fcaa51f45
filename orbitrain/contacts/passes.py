"""Passes as people read them: who rises and sets when over a site, how high it comes and how near.

Times are UTC, elevations geometric (WGS84, straight line, no refraction). Satellites and sites are enough; no
scenario is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import numpy as np

from orbitrain.contacts.channel import volume_bits
from orbitrain.contacts.crossings import GOLDEN, SECTIONS
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.finder import LONGEST_STEP_S, Passes, find_all_passes
from orbitrain.contacts.geometry import (
    Floats,
    Site,
    SiteFrame,
    Tracks,
    propagated,
    range_km,
    sine_of_elevation,
)
from orbitrain.contacts.lines import NS_PER_S, GroundLine
from orbitrain.contacts.network import Duplex, Progress
from orbitrain.contacts.validity import outside_validity

# Memory of the tracks is 48 bytes a satellite and grid point, and as much again while they are made: more go
# in several rounds (about 200 MB).
_POINTS_AT_ONCE: Final = 2_000_000
_BUDGETS_AT_ONCE: Final = 50

Clipped = Literal["start", "end", "both"]


@dataclass(frozen=True, slots=True)
class PassRow:
    """One pass. `clipped` says which of its ends is the window's own, the pass being in progress there.

    Greatest elevation and shortest range are of the part within the window. So is `volume_bits`: what can be
    sent in the scarcer direction by one that has the satellite to itself; None where no budget is known.
    """

    satellite: str
    site: str
    aos: str
    los: str
    max_elevation_degrees: float
    min_range_km: float
    clipped: Clipped | None
    volume_bits: int | None = None


@dataclass(frozen=True, slots=True)
class PassTable:
    """Passes in the order of their rise (then satellite, site), and a line for each satellite left out."""

    rows: tuple[PassRow, ...]
    errors: tuple[str, ...]


def passes(
    satellites: Sequence[Satellite],
    sites: Sequence[Site],
    start: datetime,
    duration_s: float,
    *,
    skip_bad: bool = False,
    budgets: Mapping[str, Duplex] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PassTable:
    """All passes of the satellites over the sites from `start` (aware) on.

    Satellites whose elements are too old for the window, or which SGP4 gives up on within it, raise
    ValueError with one line; with `skip_bad` they are left out and told. `budgets` are by site. `progress` is
    told ("satellites", how many are done, how many there are).
    """
    if start.utcoffset() is None:
        raise ValueError(f"start: must be a datetime with a time zone, not {start.isoformat()}")
    too_old = outside_validity(satellites, start, start + timedelta(seconds=duration_s))
    _refuse(too_old, skip_bad)
    errors = list(too_old.values())
    fresh = [satellite for index, satellite in enumerate(satellites) if index not in too_old]
    found: list[tuple[float, PassRow]] = []
    at_once = max(1, int(_POINTS_AT_ONCE / (duration_s / LONGEST_STEP_S + 10)))
    if budgets:  # volumes take a hundred times longer than passes
        at_once = min(at_once, _BUDGETS_AT_ONCE)
    for first in range(0, len(fresh), at_once):
        group = fresh[first : first + at_once]
        flown, failed = propagated(group, start, duration_s, LONGEST_STEP_S)
        _refuse(failed, skip_bad)
        errors += failed.values()
        for site, over in zip(sites, find_all_passes(flown, sites), strict=True):
            found += _rows(group, flown, site, over, start, (budgets or {}).get(site.name))
        progress("satellites", first + len(group), len(fresh))
    found.sort(key=lambda item: (item[0], item[1].satellite, item[1].site))
    return PassTable(tuple(row for _, row in found), tuple(errors))


def _refuse(errors: dict[int, str], skip_bad: bool) -> None:
    if errors and not skip_bad:
        raise ValueError(errors[min(errors)])


def _rows(
    group: Sequence[Satellite],
    flown: Tracks,
    site: Site,
    over: Passes,
    start: datetime,
    duplex: Duplex | None,
) -> Iterator[tuple[float, PassRow]]:
    frame = SiteFrame.of(site)
    sine, distance_km = highest_and_nearest(flown, site, over)
    columns = (over.satellite, over.start_s, over.end_s, np.degrees(np.arcsin(sine)), distance_km)
    for satellite, rise_s, set_s, degrees, km in zip(*(column.tolist() for column in columns), strict=True):
        clipped = _CLIPPED[rise_s <= 0.0, set_s >= flown.duration_s]
        row = PassRow(
            group[satellite].name,
            site.name,
            _stamp(start, rise_s),
            _stamp(start, set_s),
            round(degrees, 4),
            round(km, 3),
            clipped,
            None
            if duplex is None
            else _volume_bits(duplex, GroundLine(flown, satellite, frame), rise_s, set_s),
        )
        yield rise_s, row


def _volume_bits(duplex: Duplex, line: GroundLine, rise_s: float, set_s: float) -> int:
    window = (round(rise_s * NS_PER_S), round(set_s * NS_PER_S))
    if window[0] >= window[1]:
        return 0
    return min(volume_bits(budget, line, *window) for budget in {duplex.up, duplex.down})


_CLIPPED: Final[dict[tuple[bool, bool], Clipped | None]] = {
    (False, False): None,
    (True, False): "start",
    (False, True): "end",
    (True, True): "both",
}


def _stamp(start: datetime, t_s: float) -> str:
    moment = start.astimezone(UTC).replace(tzinfo=None) + timedelta(milliseconds=round(t_s * 1e3))
    return moment.isoformat(timespec="milliseconds") + "Z"


def highest_and_nearest(flown: Tracks, site: Site, over: Passes) -> tuple[Floats, Floats]:
    """For each pass, the greatest sine of the elevation and the shortest distance in km within it."""
    frame = SiteFrame.of(site)
    sine = _greatest(flown, over, lambda position_km: sine_of_elevation(frame, position_km))
    nearest = _greatest(flown, over, lambda position_km: -range_km(frame, position_km))
    return np.minimum(sine, 1.0), -nearest


def _greatest(flown: Tracks, over: Passes, value_of: Callable[[Floats], Floats]) -> Floats:
    # The best of points no further apart than a grid step (so that of several culminations the highest is
    # taken), both ends among them, and then a golden section between its neighbours.
    if not len(over.satellite):
        return np.empty(0)
    length_s = over.end_s - over.start_s
    pieces = np.ceil(length_s / flown.step_s).astype(np.int64) + 1
    first = np.concatenate(([0], np.cumsum(pieces + 1)[:-1]))
    owner = np.repeat(np.arange(len(pieces)), pieces + 1)
    apart_s = length_s / pieces
    t_s = over.start_s[owner] + (np.arange(len(owner)) - first[owner]) * apart_s[owner]
    value = value_of(flown.at(over.satellite[owner], t_s))
    best = np.maximum.reduceat(value, first)
    hits = np.flatnonzero(value == best[owner])
    top = hits[np.searchsorted(owner[hits], np.arange(len(pieces)))]
    low_s = np.maximum(over.start_s, t_s[top] - apart_s)
    high_s = np.minimum(over.end_s, t_s[top] + apart_s)
    for _ in range(SECTIONS):
        inner_s = high_s - GOLDEN * (high_s - low_s)
        outer_s = low_s + GOLDEN * (high_s - low_s)
        rises = value_of(flown.at(over.satellite, inner_s)) < value_of(flown.at(over.satellite, outer_s))
        low_s, high_s = np.where(rises, inner_s, low_s), np.where(rises, high_s, outer_s)
    refined = value_of(flown.at(over.satellite, (low_s + high_s) / 2.0))
    return np.maximum(best, refined)
