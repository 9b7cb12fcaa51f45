"""Masks: passes cut to what stands above a horizon that depends on the azimuth (hills, masts, buildings).

Azimuth is clockwise from true north, elevation above the plane normal to the WGS84 ellipsoid, as everywhere
in `geometry`. The mask is linear in azimuth between its points, and from the last one round to the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from orbitrain.contacts.crossings import Brackets, Changes, Spans, refined, spans_at
from orbitrain.contacts.geometry import Floats, Integers, Site, SiteFrame, Tracks, dot

# A mask may have any shape, so view is looked at this often at least; what lasts shorter may be missed.
GLIMPSE_S: Final = 1.0
# What the ends of a pass may be below the mask: the finder puts them within a microsecond of it.
_END_DEGREES: Final = 1e-6
# Of a pass that a rounding error has left at the foot of the mask.
_SHORTEST_S: Final = 1e-3
# Memory: some 300 bytes for each instant looked at. High orbits are in view for days: they go in stretches.
_INSTANTS_AT_ONCE: Final = 1 << 18
_STRETCH_S: Final = 36_000.0


@dataclass(frozen=True, slots=True)
class Horizon:
    """A site's horizon in ITRS: how far above the mask a position stands."""

    frame: SiteFrame
    east: Floats
    north: Floats
    floor_degrees: float
    azimuth_degrees: Floats
    elevation_degrees: Floats

    @staticmethod
    def of(site: Site) -> Horizon:
        latitude, longitude = math.radians(site.latitude_degrees), math.radians(site.longitude_degrees)
        points = site.mask or ((0.0, site.mask_degrees),)
        azimuths, elevations = zip(*points, strict=True)
        return Horizon(
            SiteFrame.of(site),
            np.array([-math.sin(longitude), math.cos(longitude), 0.0]),
            np.array(
                [
                    -math.sin(latitude) * math.cos(longitude),
                    -math.sin(latitude) * math.sin(longitude),
                    math.cos(latitude),
                ]
            ),
            site.mask_degrees,
            # The last point before north and the first one after it, so that the circle closes.
            np.array([azimuths[-1] - 360.0, *azimuths, azimuths[0] + 360.0]),
            np.array([elevations[-1], *elevations, elevations[0]]),
        )

    def mask_degrees(self, azimuth_degrees: Floats) -> Floats:
        """The lowest elevation in view at azimuths of 0 to 360 degrees."""
        ahead = np.interp(azimuth_degrees, self.azimuth_degrees, self.elevation_degrees)
        lowest: Floats = np.maximum(ahead, self.floor_degrees)
        return lowest

    def clearance_degrees(self, position_km: Floats) -> Floats:
        """How far above the mask ITRS positions of shape (..., 3) stand, (...); below it is negative."""
        line = position_km - self.frame.position_km
        east, north, up = dot(line, self.east), dot(line, self.north), dot(line, self.frame.up)
        elevation = np.degrees(np.arctan2(up, np.hypot(east, north)))
        azimuth = np.degrees(np.arctan2(east, north)) % 360.0
        clearance: Floats = elevation - self.mask_degrees(azimuth)
        return clearance


def cut(tracks: Tracks, site: Site, passes: Spans) -> Spans:
    """What of each pass (its owner is the satellite) is above the site's mask: none, one or several.

    `passes` are those above `site.lowest_mask_degrees`. Edges are within a millisecond; views and gaps that
    last less than `GLIMPSE_S` may be missed.
    """
    horizon = Horizon.of(site)
    stretches = _stretches(passes)
    instants = np.cumsum((stretches.end_s - stretches.start_s) / GLIMPSE_S + 3.0)
    group = (instants / _INSTANTS_AT_ONCE).astype(np.int64)
    parts = []
    for one in np.unique(group):
        some = group == one
        chosen = Spans(stretches.owner[some], stretches.start_s[some], stretches.end_s[some])
        parts.append(_changes(tracks, horizon, passes.owner[chosen.owner], chosen))
    found = spans_at(Changes.joined(parts), 1)
    long = found.end_s - found.start_s >= _SHORTEST_S
    return Spans(passes.owner[found.owner[long]], found.start_s[long], found.end_s[long])


def _stretches(passes: Spans) -> Spans:
    # The owner of a stretch is the pass: what goes on from one to the next is joined again, but two passes
    # that touch stay two.
    length_s = passes.end_s - passes.start_s
    pieces = np.maximum(1, np.ceil(length_s / _STRETCH_S).astype(np.int64))
    owner = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start_s = passes.start_s[owner] + piece * _STRETCH_S
    is_last = piece == pieces[owner] - 1
    end_s = np.where(is_last, passes.end_s[owner], start_s + _STRETCH_S)
    return Spans(owner, start_s, end_s)


def _changes(tracks: Tracks, horizon: Horizon, satellites: Integers, stretches: Spans) -> Changes:
    start_s, end_s = stretches.start_s, stretches.end_s
    pieces = np.maximum(2, np.ceil((end_s - start_s) / GLIMPSE_S).astype(np.int64))
    nodes = pieces + 1
    first = np.cumsum(nodes) - nodes
    last = first + nodes - 1
    owner = np.repeat(np.arange(len(nodes)), nodes)
    apart_s = ((end_s - start_s) / pieces)[owner]
    t_s = start_s[owner] + (np.arange(len(owner)) - first[owner]) * apart_s
    t_s[last] = end_s

    def value(stretch: Integers, at_s: Floats) -> Floats:
        return horizon.clearance_degrees(tracks.at(satellites[stretch], at_s))

    clearance = value(owner, t_s)
    clearance[first] += _END_DEGREES
    clearance[last] += _END_DEGREES
    above = clearance > 0
    left = np.flatnonzero((above[1:] != above[:-1]) & (owner[1:] == owner[:-1]))
    slope = (clearance[left + 1] - clearance[left]) / apart_s[left]
    rises = above[left + 1]
    guess_s = np.clip(t_s[left] - clearance[left] / slope, t_s[left], t_s[left + 1])
    edge_s = refined(value, Brackets(owner[left], t_s[left], t_s[left + 1], rises, guess_s, slope))
    begun, ended = np.flatnonzero(above[first]), np.flatnonzero(above[last])
    return Changes(
        stretches.owner[np.concatenate((begun, owner[left], ended))],
        np.concatenate((start_s[begun], edge_s, end_s[ended])),
        np.concatenate((np.ones_like(begun), np.where(rises, 1, -1), -np.ones_like(ended))),
    )
