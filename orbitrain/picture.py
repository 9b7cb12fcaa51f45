"""A contact plan as a picture: who is in contact when, and where nodes are, where the plan says that.

PNG, 1600 pixels wide. Above, a bar for each contact in rows by pair of nodes, or, where there are too many
pairs, a strip for each node that is the darker the more links it has at once. Below, ground tracks and sites
on a plain frame of longitude and latitude; no map is fetched. What had to be left out is said in the picture.

Only this module imports matplotlib, and only `orbitrain plan show --plot` this module.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from orbitrain.contacts.contact import LINK_CLASSES, LinkClass
from orbitrain.contacts.geometry import Floats
from orbitrain.contacts.node import NodeKind, PlanNode
from orbitrain.ground_tracks import GroundTracks, Marker, ground_tracks, markers

MOST_ROWS: Final = 48  # more are thinner than their names
LEAST_STRIPS: Final = 4
MOST_TRACKS: Final = 12  # more cannot be told apart
STRIP_PIXELS: Final = 1200

_DPI: Final = 100
_WIDTH_INCHES: Final = 16.0
_ABOVE_INCHES: Final = 0.92
_LEFT_INCHES: Final = 2.5
_RIGHT_INCHES: Final = 0.4
_ROW_INCHES: Final = 0.21
_LONGEST_NAME: Final = 32

# The colours of M. Okabe and K. Ito, Color Universal Design (2008), which most eyes tell apart.
_COLOURS: Final[dict[LinkClass, str]] = {
    "service": "#0072B2",
    "feeder": "#D55E00",
    "intra_isl": "#009E73",
    "inter_isl": "#CC79A7",
    "backhaul": "#56B4E9",
}
_TRACK_COLOURS: Final = ("#4477AA", "#228833", "#CC6677", "#AA7700", "#AA3377", "#117799")
_INK: Final = "#222222"
_FAINT: Final = "#D8D8D8"
_BAND: Final = "#F6F6F6"


class Spell(Protocol):
    """A contact, with or without its samples."""

    @property
    def source(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def link_class(self) -> LinkClass: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def margin_ns(self) -> int: ...
    @property
    def confidence(self) -> float: ...


@dataclass(frozen=True, slots=True)
class _Bar:
    start_s: float
    end_s: float
    margin_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class _Row:
    """Bars of one pair, or of one node with anybody; `first` is the first of its nodes."""

    link_class: LinkClass
    first: str
    label: str
    bars: tuple[_Bar, ...]

    @property
    def total_s(self) -> float:
        return sum(bar.end_s - bar.start_s for bar in self.bars)


def drawn(
    nodes: Sequence[PlanNode], contacts: Iterable[Spell], *, title: str, epoch: str, duration_ns: int
) -> bytes:
    """The PNG file of these contacts of a plan; tracks and sites of these nodes.

    `title` stands above it; `epoch` (UTC, ISO 8601) and `duration_ns` are the plan's.
    """
    data = io.BytesIO()
    figure = figure_of(nodes, contacts, title=title, epoch=epoch, duration_ns=duration_ns)
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def figure_of(
    nodes: Sequence[PlanNode], contacts: Iterable[Spell], *, title: str, epoch: str, duration_ns: int
) -> Figure:
    """What `drawn` writes, before it is pixels."""
    duration_s = duration_ns / 1e9
    rows, by_pair, left_out = _rows(nodes, contacts)
    heads = len({row.link_class for row in rows})
    chart_inches = max(1.2, _ROW_INCHES * (len(rows) + heads))
    tracks = ground_tracks(nodes, datetime.fromisoformat(epoch), duration_s, MOST_TRACKS)
    sites = markers(nodes)
    map_inches = (_WIDTH_INCHES - _LEFT_INCHES - _RIGHT_INCHES) / 2 if tracks.names or sites else 0.0
    # From above: title and notes, chart, its axis, map with its notes and axis.
    height = _ABOVE_INCHES + chart_inches + 0.75 + (map_inches + 1.25 if map_inches else 0.0)
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)  # which attaches itself
    chart = _axes(figure, height, _ABOVE_INCHES, chart_inches)
    _text(figure, height, 0.42, title, size=14, weight="bold")
    _text(figure, height, 0.72, _chart_notes(rows, by_pair, left_out, duration_s))
    _draw_chart(chart, rows, by_pair, duration_s, epoch)
    if map_inches:
        above = _ABOVE_INCHES + chart_inches + 0.75
        frame = _axes(figure, height, above + 0.5, map_inches)
        unlabelled = _draw_map(frame, tracks, sites)
        _text(figure, height, above + 0.32, _map_notes(tracks, sites, unlabelled))
    else:
        _text(figure, height, height - 0.12, "no map: no node has a place or an orbit")
    return figure


def _axes(figure: Figure, height: float, above_inches: float, inches: float) -> Axes:
    width = _WIDTH_INCHES - _LEFT_INCHES - _RIGHT_INCHES
    return figure.add_axes(
        (
            _LEFT_INCHES / _WIDTH_INCHES,
            1 - (above_inches + inches) / height,
            width / _WIDTH_INCHES,
            inches / height,
        )
    )


def _text(
    figure: Figure, height: float, above_inches: float, text: str, size: int = 11, weight: str = "normal"
) -> None:
    figure.text(
        0.35 / _WIDTH_INCHES, 1 - above_inches / height, text, fontsize=size, color=_INK, fontweight=weight
    )


# --- contacts -----------------------------------------------------------------------------------------------


def _rows(nodes: Sequence[PlanNode], contacts: Iterable[Spell]) -> tuple[list[_Row], bool, int]:
    """Rows class by class, whether they are pairs (and not nodes), and how many were left out."""
    kinds = {node.name: node.kind for node in nodes}
    rank = {"device": 0, "ground": 1, "satellite": 2}
    bars: dict[tuple[LinkClass, str, str], set[_Bar]] = {}
    for one in contacts:
        # Who stands on the ground first; both directions are one row, and one bar where they are the same.
        a, b = sorted((one.source, one.destination), key=lambda name: (rank[kinds[name]], name))
        bar = _Bar(one.start_ns / 1e9, one.end_ns / 1e9, one.margin_ns / 1e9, one.confidence)
        bars.setdefault((one.link_class, a, b), set()).add(bar)
    pairs: dict[tuple[LinkClass, str, str], list[_Bar]] = {key: list(some) for key, some in bars.items()}
    rows = _merged(pairs, kinds)
    by_pair = len(rows) <= MOST_ROWS
    if not by_pair:
        all_pairs = rows
        alone: dict[tuple[LinkClass, str, str], list[_Bar]] = {}
        for (link_class, a, b), some in pairs.items():
            for name in [a] if kinds[a] != "satellite" else [a, b]:
                alone.setdefault((link_class, name, ""), []).extend(some)
        rows = _merged(alone, kinds)
        if len(rows) < LEAST_STRIPS:  # of one node, whose partners say more than itself
            rows, by_pair = all_pairs, True
    order = {node.name: index for index, node in enumerate(nodes)}
    chosen = _fewer(rows)
    chosen.sort(key=lambda row: (LINK_CLASSES.index(row.link_class), order[row.first], _natural(row.label)))
    return chosen, by_pair, len(rows) - len(chosen)


def _merged(pairs: dict[tuple[LinkClass, str, str], list[_Bar]], kinds: dict[str, NodeKind]) -> list[_Row]:
    """A row for each pair (of a node and, where there is one, another).

    Nodes of the ground with the very same contacts, as devices at one place have, share one.
    """
    alike: dict[tuple[LinkClass, str, str, tuple[_Bar, ...]], list[str]] = {}
    for (link_class, a, b), some in pairs.items():
        bars = tuple(sorted(some, key=lambda bar: (bar.start_s, bar.end_s, bar.margin_s, bar.confidence)))
        alike.setdefault((link_class, b, a if kinds[a] == "satellite" else "", bars), []).append(a)
    rows = []
    for (link_class, b, _, bars), names in alike.items():
        label = _short(names[0], _LONGEST_NAME // 2 if b or len(names) > 1 else _LONGEST_NAME)
        label += f" + {len(names) - 1}" if len(names) > 1 else ""
        rows.append(_Row(link_class, names[0], label + (f" – {_short(b)}" if b else ""), bars))
    return rows


def _fewer(rows: list[_Row]) -> list[_Row]:
    """At most `MOST_ROWS`, those with most contact time, each class having an equal share if it needs it."""
    of_class: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda row: -row.total_s):
        of_class.setdefault(row.link_class, []).append(row)
    chosen: list[_Row] = []
    left = MOST_ROWS
    for index, some in enumerate(sorted(of_class.values(), key=len)):
        taken = some[: left // (len(of_class) - index)]
        left -= len(taken)
        chosen += taken
    return chosen


def _natural(label: str) -> tuple[tuple[int, int, str], ...]:
    """sat-10 after sat-9."""
    words = "".join(c if c.isdigit() else f"\0{c}\0" for c in label).split("\0")
    return tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in words if word)


def _chart_notes(rows: Sequence[_Row], by_pair: bool, left_out: int, duration_s: float) -> str:
    if not rows:
        return "no contacts"
    bars = [bar for row in rows for bar in row.bars]
    if by_pair:
        notes = ["a row is a pair of nodes, a bar a contact in either direction"]
        least = min(bar.confidence for bar in bars)
        if least < 1:
            notes.append(f"the paler, the less sure (confidence down to {least:.2f})")
        if max(bar.margin_s for bar in bars) > _whisker_s(duration_s):
            notes.append("thin lines: where an edge may be")
    else:
        notes = ["a row is a node, the darker the more links of its class it has at once"]
    if any(" + " in row.label for row in rows):
        notes.append("+ n: so many more nodes with the same contacts")
    if left_out:
        notes.append(f"{left_out:,} of {left_out + len(rows):,} rows left out, those with least contact time")
    return ";  ".join(notes)


def _whisker_s(duration_s: float) -> float:
    """Half a pixel: margins below cannot be seen."""
    return duration_s / (_WIDTH_INCHES - _LEFT_INCHES - _RIGHT_INCHES) / _DPI / 2


def _draw_chart(axes: Axes, rows: Sequence[_Row], by_pair: bool, duration_s: float, epoch: str) -> None:
    name, unit_s = next(
        (name, unit)
        for name, unit, longest in (
            ("seconds", 1, 300),
            ("minutes", 60, 3 * 3600),
            ("hours", 3600, 4 * 86_400),
            ("days", 86_400, math.inf),
        )
        if duration_s <= longest
    )
    ticks: list[float] = []
    at = 0
    before = ""
    for row in rows:
        colour = _COLOURS[row.link_class]
        if row.link_class != before:
            axes.text(
                0, at + 0.62, f" {row.link_class}", va="center", fontsize=11, color=colour, weight="bold"
            )
            before = row.link_class
            most = max((_strip(one, duration_s).max() for one in rows if one.link_class == before), default=1)
            at += 1
        if len(ticks) % 2 == 0:
            axes.axhspan(at, at + 1, color=_BAND, linewidth=0, zorder=0)
        if by_pair:
            _draw_bars(axes, row, at, unit_s, duration_s, colour)
        else:
            shade = np.clip(_strip(row, duration_s) / most, 0, 1)
            pixels = np.empty((1, len(shade), 4))
            pixels[..., :3] = to_rgb(colour)
            # From a third: a single link must be seen beside many.
            pixels[0, :, 3] = np.where(shade > 0, 0.3 + 0.7 * shade, 0)
            extent = (0, duration_s / unit_s, at + 0.88, at + 0.12)
            axes.imshow(pixels, aspect="auto", extent=extent, interpolation="nearest", zorder=2)
        ticks.append(at + 0.5)
        at += 1
    axes.set_xlim(0, duration_s / unit_s)
    axes.set_ylim(max(at, 1), 0)
    axes.set_yticks(ticks, [row.label for row in rows], fontsize=9, color=_INK)
    axes.set_xlabel(f"{name} from {epoch}", fontsize=11, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, steps=[1, 2, 3, 5, 6, 10]))
    axes.grid(axis="x", color=_FAINT, linewidth=0.7, zorder=1)
    _plain(axes)


def _draw_bars(axes: Axes, row: _Row, at: float, unit_s: float, duration_s: float, colour: str) -> None:
    spans = [(bar.start_s / unit_s, (bar.end_s - bar.start_s) / unit_s) for bar in row.bars]
    faces = [(*to_rgb(colour), 0.2 + 0.8 * bar.confidence) for bar in row.bars]
    axes.broken_barh(spans, (at + 0.14, 0.72), facecolors=faces, edgecolors=colour, linewidth=0.5, zorder=2)
    for bar in row.bars:
        if bar.margin_s > _whisker_s(duration_s):
            for edge_s in (bar.start_s, bar.end_s):
                ends = ((edge_s - bar.margin_s) / unit_s, (edge_s + bar.margin_s) / unit_s)
                axes.plot(ends, (at + 0.5, at + 0.5), color=_INK, linewidth=1.0, zorder=3)


def _strip(row: _Row, duration_s: float) -> Floats:
    """Links at once, the mean over each of `STRIP_PIXELS` parts of the plan."""
    edges_s = np.linspace(0, duration_s, STRIP_PIXELS + 1)
    until = np.zeros(STRIP_PIXELS + 1)
    for sign, times in ((1, [bar.start_s for bar in row.bars]), (-1, [bar.end_s for bar in row.bars])):
        ordered = np.sort(np.array(times))
        count = np.searchsorted(ordered, edges_s)
        until += sign * (count * edges_s - np.concatenate(([0.0], np.cumsum(ordered)))[count])
    strip: Floats = np.diff(until) / (duration_s / STRIP_PIXELS)
    return np.where(strip > 1e-9, strip, 0.0)


def _plain(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=9, color=_FAINT)
    axes.set_axisbelow(True)


def _short(name: str, most: int = _LONGEST_NAME // 2) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


# --- the ground ---------------------------------------------------------------------------------------------


def _map_notes(tracks: GroundTracks, sites: Sequence[Marker], unlabelled: int) -> str:
    notes = []
    if tracks.names:
        satellites, lines = len(tracks.names), len(tracks.tracks)
        if lines:
            some = f"{lines} of {satellites:,} satellites" if lines < satellites else "all satellites"
            notes.append(f"ground tracks of {some} over one revolution from the epoch")
        notes.append("dots: all at the epoch" if lines < satellites else "dots: at the epoch")
    if tracks.lost:
        notes.append(f"{tracks.lost:,} left out, SGP4 cannot fly them")
    kinds = {site.kind for site in sites}
    if "ground" in kinds:
        notes.append("squares: ground stations")
    if "device" in kinds:
        notes.append("triangles: devices")
    if unlabelled:
        notes.append(f"{unlabelled:,} name{'s' if unlabelled > 1 else ''} left out for room")
    return ";  ".join(notes)


def _draw_map(axes: Axes, tracks: GroundTracks, sites: Sequence[Marker]) -> int:
    """Returns how many names found no room."""
    axes.set_xlim(-180, 180)
    axes.set_ylim(-90, 90)
    axes.set_xticks(range(-180, 181, 30), [_degrees(d, "W", "E") for d in range(-180, 181, 30)])
    axes.set_yticks(range(-90, 91, 30), [_degrees(d, "S", "N") for d in range(-90, 91, 30)])
    axes.grid(color=_FAINT, linewidth=0.7)
    _plain(axes)
    size = 22.0 if len(tracks.names) <= 200 else 6.0
    axes.scatter(
        tracks.longitude_degrees, tracks.latitude_degrees, s=size, color="#888888", linewidths=0, zorder=3
    )
    starts = []
    for index, track in enumerate(tracks.tracks):
        colour = _TRACK_COLOURS[index % len(_TRACK_COLOURS)]
        axes.plot(
            track.longitude_degrees, track.latitude_degrees, color=colour, linewidth=1.3, alpha=0.75, zorder=2
        )
        start = (float(track.longitude_degrees[0]), float(track.latitude_degrees[0]))
        starts.append((track.name, start, colour))
        axes.scatter(*start, s=34, color=colour, edgecolors="white", linewidths=0.6, zorder=4)
    for site in sites:
        shape, colour = ("s", _COLOURS["feeder"]) if site.kind == "ground" else ("^", _COLOURS["service"])
        axes.scatter(*site.place, s=52, marker=shape, color=colour, edgecolors="white", zorder=5)
    names = _Names(axes, [site.place for site in sites] + [start for _, start, _ in starts])
    for site in sites:
        names.write(site.label, site.place, _INK, "bold")
    for name, start, colour in starts:
        names.write(name, start, colour, "normal", above=True)  # most tracks go on sideways
    return names.left_out


class _Names:
    """Writes names beside their points, where there is neither a point nor another name."""

    _BESIDE = ((8, 0, "left"), (-8, 0, "right"), (0, -11, "center"), (0, 11, "center"))  # points of 1/72 inch

    def __init__(self, axes: Axes, points: Sequence[tuple[float, float]]) -> None:
        self._axes = axes
        pixels = axes.transData.transform(np.array(points).reshape(-1, 2)).tolist()
        self._taken = [Bbox(((x - 5, y - 5), (x + 5, y + 5))) for x, y in pixels]
        self.left_out = 0

    def write(
        self, name: str, point: tuple[float, float], colour: str, weight: str, *, above: bool = False
    ) -> None:
        for x, y, align in self._BESIDE[::-1] if above else self._BESIDE:
            text = self._axes.annotate(
                _short(name, _LONGEST_NAME),
                point,
                (x, y),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=9,
                color=colour,
                fontweight=weight,
                zorder=6,
            )
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
            box = text.get_window_extent()
            inside = self._axes.bbox.x0 <= box.x0 and box.x1 <= self._axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in self._taken):
                self._taken.append(box)
                return
            text.remove()
        self.left_out += 1


def _degrees(value: int, below: str, above: str) -> str:
    return f"{abs(value)}°" + (below if value < 0 else above if value > 0 else "")
