"""`orbitrain passes`: the rows, against Skyfield, and the command."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from skyfield.api import EarthSatellite, load, wgs84
from typer.testing import CliRunner

from orbitrain.contacts.element_files import read_elements
from orbitrain.contacts.elements import Shell, satellites_of
from orbitrain.contacts.geometry import Site
from orbitrain.contacts.passes import PassRow, passes
from orbitrain.passes_command import passes_command
from orbitrain.scenario import ScenarioError

THREE = Path(__file__).parents[1] / "three-regions.toml"
# Public: CelesTrak, 2008-09-20, of Wikipedia's article on two-line elements.
ISS = """\
ISS (ZARYA)
1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927
2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537
"""
START = datetime(2008, 9, 20, 12, tzinfo=UTC)
ZURICH = Site("zurich", 47.38, 8.54, 400.0, 10.0)
TIMESCALE = load.timescale(builtin=True)

app = typer.Typer(pretty_exceptions_enable=False)
app.command("passes")(passes_command)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, ScenarioError), result.output
    text = str(result.exception)
    assert "\n" not in text
    return text


@pytest.fixture
def iss(tmp_path: Path) -> Path:
    file = tmp_path / "iss.tle"
    file.write_text(ISS)
    return file


def over_zurich(file: Path) -> list[object]:
    return [
        "--elements",
        file,
        "--site",
        "47.38,8.54,400",
        "--start",
        "2008-09-20T12:00:00Z",
        "--hours",
        "12",
    ]


# --- rows -------------------------------------------------------------------------------------------------


def test_rows_have_skyfields_edges_heights_and_ranges() -> None:
    (satellite,) = read_elements(ISS.encode(), "iss").satellites
    table = passes([satellite], [ZURICH], START, 2 * 86_400.0)
    assert len(table.rows) >= 10 and table.errors == ()
    assert [row.aos for row in table.rows] == sorted(row.aos for row in table.rows)
    flyer = EarthSatellite.from_satrec(satellite.satrec, TIMESCALE)
    place = wgs84.latlon(ZURICH.latitude_degrees, ZURICH.longitude_degrees, elevation_m=ZURICH.altitude_m)
    for row in table.rows:
        rise, down = datetime.fromisoformat(row.aos), datetime.fromisoformat(row.los)
        since_s = np.linspace(0.0, (down - rise).total_seconds(), 4001)
        seconds = rise.second + rise.microsecond / 1e6 + since_s
        t = TIMESCALE.utc(rise.year, rise.month, rise.day, rise.hour, rise.minute, seconds)
        elevation, _, distance = (flyer - place).at(t).altaz()
        assert elevation.degrees[[0, -1]] == pytest.approx([10.0, 10.0], abs=1e-4)
        assert row.max_elevation_degrees == pytest.approx(elevation.degrees.max(), abs=2e-3)
        assert row.min_range_km == pytest.approx(distance.km.min(), abs=2e-3)
        assert row.clipped is None


def test_passes_in_progress_are_clipped_to_the_window_and_say_so() -> None:
    (satellite,) = read_elements(ISS.encode(), "iss").satellites
    whole = passes([satellite], [ZURICH], START, 86_400.0).rows[0]
    rise, down = datetime.fromisoformat(whole.aos), datetime.fromisoformat(whole.los)
    middle = rise + timedelta(seconds=round((down - rise).total_seconds() / 2))
    (first,) = passes([satellite], [ZURICH], START, (middle - START).total_seconds()).rows
    assert (first.clipped, first.aos) == ("end", whole.aos)
    assert datetime.fromisoformat(first.los) == middle
    (second,) = passes([satellite], [ZURICH], middle, 3600.0).rows
    assert (second.clipped, second.los) == ("start", whole.los)
    assert datetime.fromisoformat(second.aos) == middle
    assert max(first.max_elevation_degrees, second.max_elevation_degrees) == pytest.approx(
        whole.max_elevation_degrees, abs=1e-3
    )
    (both,) = passes([satellite], [ZURICH], middle, 10.0).rows
    assert both.clipped == "both"


def test_many_satellites_go_in_rounds_and_come_out_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    satellites = satellites_of(Shell.from_code("D:550:53.0:12/3/1"), START)
    sites = [ZURICH, Site("quito", -0.18, -78.47, 2850.0, 10.0)]
    at_once = passes(satellites, sites, START, 6 * 3600.0)
    monkeypatch.setattr("orbitrain.contacts.passes._POINTS_AT_ONCE", 1000)
    assert passes(satellites, sites, START, 6 * 3600.0) == at_once
    assert len(at_once.rows) > 10
    assert {row.site for row in at_once.rows} == {"zurich", "quito"}


def test_no_satellites_no_passes_and_a_start_without_a_zone_is_refused() -> None:
    assert passes([], [ZURICH], START, 3600.0).rows == ()
    with pytest.raises(ValueError, match=r"^start: must be a datetime with a time zone"):
        passes([], [ZURICH], START.replace(tzinfo=None), 3600.0)


# --- command ----------------------------------------------------------------------------------------------


def test_bare_elements_and_a_place_give_a_list_for_programs(iss: Path) -> None:
    result = call(*over_zurich(iss), "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    (satellite,) = read_elements(ISS.encode(), "iss").satellites
    site = Site("47.38,8.54,400", 47.38, 8.54, 400.0, 10.0)
    assert rows == [asdict(row) for row in passes([satellite], [site], START, 12 * 3600.0).rows]
    assert len(rows) == 4
    assert list(rows[0]) == list(PassRow.__slots__)
    assert rows[0]["aos"].startswith("2008-09-20T18:") and rows[0]["aos"].endswith("Z")
    assert len(rows[0]["aos"]) == len("2008-09-20T18:19:30.123Z")


def test_people_see_a_table(iss: Path) -> None:
    result = call(*over_zurich(iss))
    assert result.exit_code == 0
    assert "4 passes over 47.38,8.54,400 in 12 h from 2008-09-20 12:00:00 UTC" in result.stdout
    assert result.stdout.count("ISS (ZARYA)") == 4
    assert "74.1 deg" in result.stdout and "369 km" in result.stdout


def test_a_scenario_has_satellites_sites_and_a_window() -> None:
    result = call(THREE, "--json", "--hours", 3)
    rows = json.loads(result.stdout)
    assert {row["site"] for row in rows} == {"quito", "nairobi", "singapore"}
    assert {row["satellite"] for row in rows} == {f"sat-{n}" for n in range(6)}
    assert {row["clipped"] for row in rows} <= {None, "start", "end"}
    quito = json.loads(call(THREE, "--json", "--hours", 3, "--site", "quito").stdout)
    assert quito == [row for row in rows if row["site"] == "quito"]


def test_a_volume_is_the_rate_over_the_pass_where_a_budget_is_known(iss: Path) -> None:
    rows = json.loads(call(THREE, "--json", "--hours", 3).stdout)
    for row in rows:
        length = datetime.fromisoformat(row["los"]) - datetime.fromisoformat(row["aos"])
        assert row["volume_bits"] == pytest.approx(2_000_000 * length.total_seconds(), rel=1e-5)
    assert {row["volume_bits"] for row in json.loads(call(*over_zurich(iss), "--json").stdout)} == {None}


def test_a_volume_is_in_the_scarcer_direction(tmp_path: Path) -> None:
    text = THREE.read_text().replace("service_rate_bps = 2_000_000", "")
    table = "\n[links.service]\nrate_bps = 3000\nup = { rate_bps = 1000 }\n"
    file = tmp_path / "scarce.toml"
    file.write_text(text + table)
    for row in json.loads(call(file, "--json", "--hours", 2).stdout):
        length = datetime.fromisoformat(row["los"]) - datetime.fromisoformat(row["aos"])
        assert row["volume_bits"] == pytest.approx(1_000 * length.total_seconds(), rel=1e-4)


def test_a_place_south_and_west_is_read() -> None:
    result = call(THREE, "--json", "--hours", 3, "--site", "-0.18,-78.47,2850")
    quito = json.loads(call(THREE, "--json", "--hours", 3, "--site", "quito").stdout)
    assert json.loads(result.stdout) == [{**row, "site": "-0.18,-78.47,2850"} for row in quito]


def test_a_higher_mask_shortens_passes() -> None:
    low, high = (
        json.loads(call(THREE, "--json", "--hours", 2, "--site", "quito", "--mask", mask).stdout)
        for mask in (10, 40)
    )
    assert 0 < len(high) <= len(low)
    assert high[0]["aos"] > low[0]["aos"]
    assert all(row["max_elevation_degrees"] >= 40 for row in high)


def test_elements_fly_over_a_scenarios_sites(iss: Path) -> None:
    result = call(THREE, "--elements", iss, "--start", "2008-09-20", "--hours", 24, "--json")
    rows = json.loads(result.stdout)
    assert {row["satellite"] for row in rows} == {"ISS (ZARYA)"}
    assert {row["site"] for row in rows} == {"quito", "nairobi", "singapore"}


def test_bad_elements_are_left_out_and_told_where_asked(iss: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.tle"
    mixed.write_text(ISS.replace("2927", "2928") + "\n".join(ISS.splitlines()[1:]))
    arguments = [mixed, *over_zurich(iss)[2:]]
    assert refused("--elements", *arguments).startswith(f"{mixed}: line 2 (ISS (ZARYA)): checksum: must be 7")
    result = call("--elements", *arguments, "--json", "--skip-bad")
    assert result.exit_code == 0
    assert {row["satellite"] for row in json.loads(result.stdout)} == {"norad-25544"}
    assert result.stderr.startswith(f"orbitrain: left out: {mixed}: line 2 (ISS (ZARYA)): checksum")


def test_old_elements_are_refused_with_their_epoch(iss: Path) -> None:
    arguments = ["--elements", iss, "--site", "47.38,8.54,400", "--start", "2026-01-01T00:00:00Z"]
    message = refused(*arguments)
    assert message.startswith(
        f"{iss}: satellite 'ISS (ZARYA)': epoch 2008-09-20T12:25:40Z: must be within 30"
    )
    assert "nothing is left" in refused(*arguments, "--skip-bad")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "passes: must have a SCENARIO or --elements FILE"),
        (["--elements", "ISS"], "--site: must be given as LAT,LON,ALT_M without a scenario"),
        (
            ["--elements", "ISS", "--site", "quito"],
            "--site: must be LAT,LON,ALT_M (degrees, degrees, metres), not",
        ),
        ([THREE, "--site", "paris"], "or one of quito, nairobi, singapore, not 'paris'"),
        ([THREE, "--site", "91,0,0"], "--site: site '91,0,0': latitude_degrees must be -90 to 90, not 91.0"),
        ([THREE, "--site", "quito", "--site", "quito"], "--site: must differ from one another"),
        ([THREE, "--site", "nan,0,0"], "latitude_degrees must be -90 to 90, not nan"),
        ([THREE, "--mask", "90"], "--mask: must be 0 to less than 90, not 90"),
        ([THREE, "--hours", "0"], "--hours: must be more than 0 and at most 744, not 0"),
        ([THREE, "--hours", "nan"], "--hours: must be more than 0 and at most 744, not nan"),
        ([THREE, "--start", "noon"], "--start: must be an ISO 8601 instant of UTC such as"),
        ([THREE, "--start", "1900-01-01"], "--start: must be in the years 1957 to 2099, not '1900-01-01'"),
        (["--elements", "/nowhere/x", "--site", "0,0,0"], "/nowhere/x: cannot be read: No such file"),
        (["/nowhere/x.toml"], "/nowhere/x.toml: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[object], message: str, iss: Path) -> None:
    assert message in refused(*[iss if argument == "ISS" else argument for argument in arguments])
