"""`orbitrain passes`: passes of a scenario's satellites or an element file's, over its sites or others."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from orbitrain.contacts.element_files import read_elements
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.network import Duplex
from orbitrain.contacts.passes import PassRow, passes
from orbitrain.display import working
from orbitrain.fleet import satellites as satellites_of
from orbitrain.planning import duplex_of, site_of
from orbitrain.runtime.clock import SECOND_NS, unix_ns
from orbitrain.scenario import Scenario, ScenarioError, load_scenario

DEFAULT_MASK_DEGREES = 10.0
DEFAULT_HOURS = 24.0
LONGEST_HOURS = 31 * 24.0
"""Elements are of no use for longer, and the table is no longer one to read."""

LINE_WIDTH = 120
"""Columns of the table where the output is no terminal."""


def passes_command(
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="SCENARIO", help="The scenario's TOML file.", show_default=False),
    ] = None,
    elements: Annotated[
        Path | None,
        typer.Option(
            "--elements", metavar="FILE", help="OMM (JSON, CSV, XML) or TLE; for the scenario's own."
        ),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site",
            metavar="NAME|LAT,LON,ALT_M",
            help="A site of the scenario, or a place in degrees and metres; may be repeated.",
        ),
    ] = None,
    mask: Annotated[
        float | None,
        typer.Option("--mask", metavar="DEG", help="Lowest elevation, for the site's own; 10 for a place."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="ISO-UTC", help="Begin; the scenario's epoch, or now without one."),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", metavar="H", help="Length; the scenario's duration, or 24 without one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects for other programs.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out elements that cannot be used, and say which.")
    ] = False,
) -> None:
    """List when satellites rise and set over sites."""
    loaded = load_scenario(scenario) if scenario is not None else None
    if loaded is None and elements is None:
        raise ScenarioError("passes: must have a SCENARIO or --elements FILE")
    begin = _begin(start, loaded)
    duration_s = _duration_s(hours, loaded)
    sites = _sites(site or [], mask, loaded)
    if elements is not None:
        satellites, errors = _from_file(elements, skip_bad)
        what = str(elements)
    else:
        assert loaded is not None
        satellites, errors, what = satellites_of(loaded), loaded.left_out, str(scenario)
    try:
        with working(Console(stderr=True)) as progress:
            table = passes(
                satellites,
                sites,
                begin,
                duration_s,
                skip_bad=skip_bad,
                budgets=_budgets(loaded, sites),
                progress=progress,
            )
    except ValueError as error:
        raise ScenarioError(f"{what}: {error}") from None
    errors = (*errors, *(f"{what}: {line}" for line in table.errors))
    if errors and len(satellites) == len(table.errors):
        raise ScenarioError(f"{errors[0]} (and nothing is left of {len(errors)})")
    for line in errors:
        print(f"orbitrain: left out: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(row) for row in table.rows], indent=1))
    else:
        _show(table.rows, begin, duration_s)


def _begin(start: str | None, scenario: Scenario | None) -> datetime:
    if start is None:
        if scenario is not None:
            return scenario.epoch
        return datetime.fromtimestamp(unix_ns() // SECOND_NS, UTC)
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise ScenarioError(
            f"--start: must be an ISO 8601 instant of UTC such as 2026-01-01T00:00:00Z, not {start!r}"
        ) from None
    # The option says UTC, so an instant without an offset is UTC.
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if not 1957 <= moment.year < 2100:
        raise ScenarioError(f"--start: must be in the years 1957 to 2099, not {start!r}")
    return moment


def _duration_s(hours: float | None, scenario: Scenario | None) -> float:
    if hours is None:
        if scenario is None:
            return DEFAULT_HOURS * 3600.0
        hours = scenario.duration_s / 3600.0
        if hours > LONGEST_HOURS:
            raise ScenarioError(
                f"--hours: must be given, as the scenario is longer than {LONGEST_HOURS:g} hours"
            )
    if not (math.isfinite(hours) and 0 < hours <= LONGEST_HOURS):
        raise ScenarioError(f"--hours: must be more than 0 and at most {LONGEST_HOURS:g}, not {hours:g}")
    # Whole microseconds, as datetimes have them.
    return max(1e-6, timedelta(hours=hours) / timedelta(seconds=1))


def _sites(wanted: Sequence[str], mask: float | None, scenario: Scenario | None) -> list[Site]:
    if mask is not None and not 0 <= mask < 90:
        raise ScenarioError(f"--mask: must be 0 to less than 90, not {mask:g}")
    known = (
        {s.name: site_of(s) for s in (*scenario.sites, *scenario.stations)} if scenario is not None else {}
    )
    if not wanted and scenario is None:
        raise ScenarioError("--site: must be given as LAT,LON,ALT_M without a scenario")
    sites = [known[name] if name in known else _place(name, known) for name in wanted or known]
    if len({site.name for site in sites}) < len(sites):
        raise ScenarioError("--site: must differ from one another")
    return sites if mask is None else [replace(site, mask_degrees=mask) for site in sites]


def _place(text: str, known: dict[str, Site]) -> Site:
    parts = text.split(",")
    try:
        latitude, longitude, altitude = (float(part) for part in parts)
    except ValueError:
        names = f" or one of {', '.join(known)}" if known else ""
        raise ScenarioError(
            f"--site: must be LAT,LON,ALT_M (degrees, degrees, metres){names}, not {text!r}"
        ) from None
    try:
        return Site(text, latitude, longitude, altitude, DEFAULT_MASK_DEGREES)
    except ValueError as error:
        raise ScenarioError(f"--site: {error}") from None


def _from_file(file: Path, skip_bad: bool) -> tuple[tuple[Satellite, ...], tuple[str, ...]]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        found = read_elements(data, str(file), skip_bad=skip_bad)
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    return found.satellites, found.errors


def _budgets(scenario: Scenario | None, sites: Sequence[Site]) -> dict[str, Duplex]:
    """By site: the budget of feeder links for a station, of service links for any other place."""
    if scenario is None:
        return {}
    service, feeder = duplex_of(scenario), scenario.links.feeder
    stations = {station.name for station in scenario.stations}
    found = {site.name: service for site in sites if site.name not in stations}
    if feeder is not None:
        found |= {site.name: Duplex(*feeder.budgets) for site in sites if site.name in stations}
    return found


def _show(rows: Sequence[PassRow], begin: datetime, duration_s: float) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, LINE_WIDTH)
    sites = sorted({row.site for row in rows})
    over = f" over {sites[0]}" if len(sites) == 1 else ""
    table = Table(
        title=f"{len(rows)} passes{over} in {duration_s / 3600:g} h from {begin:%Y-%m-%d %H:%M:%S} UTC",
        title_justify="left",
        box=SIMPLE,
    )
    table.add_column("satellite")
    if len(sites) > 1:
        table.add_column("site")
    volumes = any(row.volume_bits is not None for row in rows)
    right = ("minutes", "highest", "nearest", "megabytes")
    for name in ("rises (UTC)", "sets", *right[:3], *(right[3:] if volumes else ()), "clipped"):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        rise, down = datetime.fromisoformat(row.aos), datetime.fromisoformat(row.los)
        days = (down.date() - rise.date()).days
        table.add_row(
            row.satellite,
            *([row.site] if len(sites) > 1 else []),
            f"{rise:%Y-%m-%d %H:%M:%S}",
            f"{down:%H:%M:%S}" + (f" +{days}d" if days else ""),
            f"{(down - rise) / timedelta(minutes=1):.1f}",
            f"{row.max_elevation_degrees:.1f} deg",
            f"{row.min_range_km:.0f} km",
            *([] if not volumes else ["" if row.volume_bits is None else f"{row.volume_bits / 8e6:.1f}"]),
            row.clipped or "",
        )
    console.print(table)
