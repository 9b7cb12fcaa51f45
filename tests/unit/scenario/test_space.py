"""Who flies and stands where: shells by code and by numbers, element files, masks; what is refused."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime.config import dump_toml
from orbitrain.scenario import Scenario, ScenarioError, parse_scenario

THREE = Path(__file__).resolve().parents[1] / "three-regions.toml"
VALUES = tomllib.loads(THREE.read_text(encoding="utf-8"))


def record(name: str, number: int, **changes: Any) -> dict[str, Any]:
    """An OMM of our own, of a satellite that does not exist."""
    return {
        "OBJECT_NAME": name,
        "OBJECT_ID": "2026-001A",
        "EPOCH": "2025-12-31T12:00:00.000000",
        "MEAN_MOTION": 15.2,
        "ECCENTRICITY": 0.001,
        "INCLINATION": 53.0,
        "RA_OF_ASC_NODE": 10.0,
        "ARG_OF_PERICENTER": 20.0,
        "MEAN_ANOMALY": 30.0,
        "EPHEMERIS_TYPE": 0,
        "CLASSIFICATION_TYPE": "U",
        "NORAD_CAT_ID": number,
        "ELEMENT_SET_NO": 1,
        "REV_AT_EPOCH": 1,
        "BSTAR": 0.0001,
        "MEAN_MOTION_DOT": 0.0,
        "MEAN_MOTION_DDOT": 0.0,
        **changes,
    }


def parsed(folder: Path, constellation: list[dict[str, Any]], **top: Any) -> Scenario:
    return parse_scenario(dump_toml({**VALUES, "constellation": constellation, **top}), "file.toml", folder)


def refused(folder: Path, constellation: list[dict[str, Any]], **top: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        parsed(folder, constellation, **top)
    line = str(caught.value)
    assert line.startswith("file.toml: ") and "\n" not in line
    return line.removeprefix("file.toml: ")


def satellites_in(scenario: Scenario) -> list[str]:
    return [name for name, kind in scenario.nodes() if kind == "satellite"]


def test_a_walker_code_is_the_same_scenario_as_its_numbers(tmp_path: Path) -> None:
    numbers = {"altitude_km": 550, "inclination_degrees": 53.0, "satellites": 72, "planes": 24, "phasing": 1}
    by_code = parsed(tmp_path, [{"walker": "D:550:53.0:72/24/1"}])
    assert by_code.sha256 == parsed(tmp_path, [numbers]).sha256
    assert satellites_in(by_code) == [f"sat-{n}" for n in range(72)]
    star = parsed(tmp_path, [{"walker": "S:550:53.0:72/24/1"}])
    assert star.constellation[0].pattern == "star" and star.sha256 != by_code.sha256


@pytest.mark.parametrize(
    "table, line",
    [
        (
            {"altitude_km": 550},
            "constellation[0].inclination_degrees: is missing, must be there where walker ",
        ),
        ({"walker": "550"}, "constellation[0].walker: shell 'sat': code must be D or S:altitude km:"),
        (
            {"walker": "D:550:53:5/2/0"},
            "constellation[0].walker: shell 'sat': planes must divide satellites (5)",
        ),
        (
            {"walker": "D:550:53:4/2/0", "planes": 2},
            "constellation[0].planes: must not be given with walker",
        ),
        (
            {"elements": "gp.json", "altitude_km": 550},
            "constellation[0].altitude_km: must not be given with elements",
        ),
        (
            {"walker": "D:550:53:4/2/0", "only": ["x"]},
            "constellation[0].only: must not be given with a Walker",
        ),
        ({"elements": "gp.json"}, "constellation[0].elements: gp.json cannot be read: No such file"),
        (
            {"elements": "gp.json", "only": []},
            "constellation[0].only: must be a list of strings, at least one",
        ),
    ],
)
def test_a_constellation_is_one_kind_and_whole(tmp_path: Path, table: dict[str, Any], line: str) -> None:
    assert refused(tmp_path, [table]).startswith(line)


def test_an_element_file_names_its_satellites(tmp_path: Path) -> None:
    records = [record("ALPHA 1", 100), record("BETA (TWO)", 101, INCLINATION=97.5)]
    (tmp_path / "gp.json").write_text(json.dumps(records))
    whole = parsed(tmp_path, [{"elements": "gp.json"}])
    assert satellites_in(whole) == ["alpha-1", "beta-two"]
    assert satellites_in(parsed(tmp_path, [{"elements": "gp.json", "only": ["beta-two"]}])) == ["beta-two"]
    assert refused(tmp_path, [{"elements": "gp.json", "only": ["gamma"]}]) == (
        "constellation[0].elements: gp.json: only: 'gamma' is none of its 2 satellites"
    )


def test_the_digest_is_of_the_elements_and_not_of_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record("ALPHA", 100)]))
    (tmp_path / "b.json").write_text(json.dumps([record("ALPHA", 100)]))
    first = parsed(tmp_path, [{"elements": "a.json"}]).sha256
    assert parsed(tmp_path, [{"elements": "b.json"}]).sha256 == first
    (tmp_path / "b.json").write_text(json.dumps([record("ALPHA", 100, MEAN_ANOMALY=31.0)]))
    assert parsed(tmp_path, [{"elements": "b.json"}]).sha256 != first


def test_elements_too_old_for_the_window_or_that_decay_in_it_are_left_out_where_asked(tmp_path: Path) -> None:
    records = [
        record("GOOD", 100),
        record("OLD", 101, EPOCH="2025-11-01T00:00:00.000000"),
        record("FALLING", 102, MEAN_MOTION=16.3, BSTAR=0.9),
    ]
    (tmp_path / "gp.json").write_text(json.dumps(records))
    table = {"elements": "gp.json"}
    assert refused(tmp_path, [table]).startswith(
        "constellation[0].elements: gp.json: satellite 'old': epoch 2025-11-01T00:00:00Z: must be "
    )
    left = parsed(tmp_path, [{**table, "skip_bad": True}])
    assert satellites_in(left) == ["good"]
    assert [line.split("'")[1] for line in left.left_out] == ["old", "falling"]
    only_bad = [{**table, "skip_bad": True, "only": ["old", "falling"]}]
    assert refused(tmp_path, only_bad).endswith("(and nothing is left of 2)")


def test_a_bad_record_is_named_by_file_and_field(tmp_path: Path) -> None:
    broken = record("ALPHA", 100)
    del broken["ECCENTRICITY"]
    (tmp_path / "gp.json").write_text(json.dumps([broken, record("BETA", 101)]))
    assert "ECCENTRICITY" in refused(tmp_path, [{"elements": "gp.json"}])
    scenario = parsed(tmp_path, [{"elements": "gp.json", "skip_bad": True}])
    assert satellites_in(scenario) == ["beta"] and len(scenario.left_out) == 1


def test_the_truth_is_of_the_same_satellites(tmp_path: Path) -> None:
    shell = {"walker": "D:550:53:4/2/0"}
    scenario = parsed(tmp_path, [shell], truth={"constellation": [{"walker": "D:551:53:4/2/0"}]})
    assert scenario.truth is not None and scenario.sha256 != parsed(tmp_path, [shell]).sha256
    assert refused(tmp_path, [shell], truth={"constellation": [{"walker": "D:551:53:6/2/0"}]}) == (
        "truth.constellation: must be of the scenario's own satellites, not differ by 'sat-4'"
    )
    assert refused(tmp_path, [shell], truth={"plan": "x.json", "drag_bstar": 0.1}) == (
        "truth.drag_bstar: must not be given with plan"
    )
    assert refused(tmp_path, [shell], truth={"constellation": []}).startswith("truth.constellation: must be")


def test_updates_are_in_order_within_the_scenario(tmp_path: Path) -> None:
    shell = [{"walker": "D:550:53:4/2/0"}]
    truth = {"along_track_km": 5.0}
    scenario = parsed(tmp_path, shell, truth=truth, updates=[{"at_s": 60, "plan": "truth"}])
    assert scenario.updates[0].at_s == 60
    two = [{"at_s": 60, "plan": "a.json"}, {"at_s": 60, "plan": "b.json"}]
    assert refused(tmp_path, shell, updates=two) == "updates[1].at_s: must be after the update before (60)"
    assert refused(tmp_path, shell, updates=[{"at_s": 43_200, "plan": "a.json"}]) == (
        "updates[0].at_s: must be below duration_s (43200)"
    )
    assert refused(tmp_path, shell, updates=[{"at_s": 1, "plan": "truth"}]) == (
        "updates[0].plan: must be a file where there is no [truth]"
    )


@pytest.mark.parametrize(
    "mask", [[], [[0, 95]], [[360, 5]], [[10, 5], [10, 6]], [[0, 5, 1]], [[True, 5]], "high", [["0", 5]]]
)
def test_a_horizon_mask_that_is_none_is_refused(tmp_path: Path, mask: Any) -> None:
    site = {"name": "rome", "latitude_degrees": 41.9, "longitude_degrees": 12.5, "mask": mask}
    line = refused(tmp_path, VALUES["constellation"], sites=[*VALUES["sites"], site])
    assert line.startswith("sites[3].mask: must be a list of [azimuth, elevation] in degrees")


def test_stations_have_names_of_their_own_and_masks(tmp_path: Path) -> None:
    station = {
        "name": "kiruna",
        "latitude_degrees": 67.86,
        "longitude_degrees": 20.96,
        "mask": [[0, 5], [90, 12.5]],
        "antennas": 2,
    }
    scenario = parsed(tmp_path, VALUES["constellation"], stations=[station])
    assert scenario.stations[0].mask == ((0.0, 5.0), (90.0, 12.5))
    assert "kiruna" not in [name for name, _ in scenario.nodes()]
    clash = {**station, "name": "sat-1"}
    assert refused(tmp_path, VALUES["constellation"], stations=[clash]) == (
        "stations[0].name: must differ, 'sat-1' is the name of 2 nodes"
    )


def test_an_epoch_of_published_elements_is_kept(tmp_path: Path) -> None:
    (tmp_path / "gp.json").write_text(json.dumps([record("ALPHA", 100)]))
    from orbitrain.fleet import satellites

    (one,) = satellites(parsed(tmp_path, [{"elements": "gp.json"}]))
    assert one.source == "omm" and one.epoch == datetime(2025, 12, 31, 12, tzinfo=UTC)
