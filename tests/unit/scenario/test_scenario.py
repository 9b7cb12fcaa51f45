"""The scenario file: what is allowed, how it is named, and which scenario a digest names."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.runtime.config import dump_toml
from orbitrain.scenario import DEVICES_MAX, Scenario, ScenarioError, load_scenario, parse_scenario

THREE = Path(__file__).resolve().parents[1] / "three-regions.toml"
VALUES = tomllib.loads(THREE.read_text(encoding="utf-8"))


def parsed(values: dict[str, Any]) -> Scenario:
    return parse_scenario(dump_toml(values), "file.toml")


def with_value(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    values: Any = copy.deepcopy(VALUES)
    inner = values
    for part in path[:-1]:
        inner = inner.setdefault(part, {}) if isinstance(part, str) else inner[part]
    inner[path[-1]] = value
    return values  # type: ignore[no-any-return]


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(ScenarioError) as caught:
        parsed(values)
    line = str(caught.value)
    assert line.startswith("file.toml: ") and "\n" not in line
    return line.removeprefix("file.toml: ")


def test_every_scenario_that_ships_is_valid() -> None:
    for path in (Path(__file__).resolve().parents[3] / "deploy" / "scenarios").glob("*.toml"):
        assert load_scenario(path).nodes()


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("clock", "rate"), 0, "clock.rate: must be a number above 0 and at most 100000, not 0"),
        (("clock", "rate"), True, "clock.rate: must be a number above 0 and at most 100000, not True"),
        (("rounds",), 40.0, "rounds: must be a whole number from 1 to 1000000, not 40.0"),
        (("duration_s",), float("inf"), "duration_s: must be a number above 0 and at most 31622400, not inf"),
        (("epoch",), "soon", "epoch: must be an ISO 8601 instant such as 2026-01-01T00:00:00Z"),
        (
            ("epoch",),
            "2026-01-01T00:00:00",
            "epoch: must say its offset from UTC, such as 2026-01-01T00:00:00Z",
        ),
        (
            ("name",),
            "A b",
            "name: must be 1 to 40 lower-case letters, digits and hyphens, the first no hyphen, not 'A b'",
        ),
        (
            ("constellation", 0, "altitude_km"),
            40_001,
            "constellation[0].altitude_km: must be a number from 160 to 40000, not 40001",
        ),
        (("constellation", 0, "planes"), 4, "constellation[0].planes: must divide satellites (6), not 4"),
        (("constellation", 0, "phasing"), 1, "constellation[0].phasing: must be less than planes (1), not 1"),
        (
            ("constellation", 0, "pattern"),
            "x",
            "constellation[0].pattern: must be 'delta' or 'star', not 'x'",
        ),
        (("constellation",), [], "constellation: must be a list of tables, at least one, not []"),
        (("sites", 1, "name"), "quito", "sites[1].name: must differ, 'quito' is the name of 2 sites"),
        (("regions", 1, "name"), "quito", "regions[1].name: must differ, 'quito' is the name of 2 regions"),
        (
            ("regions", 0, "site"),
            "rome",
            "regions[0].site: must be one of the sites (quito, nairobi, singapore), not 'rome'",
        ),
        (
            ("regions", 0, "devices"),
            ["A"],
            "regions[0].devices: must be a list of names, each 1 to 40 lower-case letters, digits "
            "and hyphens, the first no hyphen, not 'A'",
        ),
        (("regions", 0, "devices"), ["quito-1\n"], None),
        (("regions", 0, "devices"), True, None),
        (("ground", "name"), "sat-3", "ground.name: must differ, 'sat-3' is the name of 2 nodes"),
        (
            ("links", "congestion"),
            "BBR",
            "links.congestion: must be 'auto' or a kernel's name for a congestion control, such as 'bbr' or "
            "'cubic', not 'BBR'",
        ),
        (("protocol", "name"), "isl", "protocol.name: must be 'fedmeld' or 'sfft' or 'emsfl', not 'isl'"),
        (("protocol", "late"), "skip", "protocol.late: must be 'wait', not 'skip'"),
        (("task", "task"), "digits", "task.task: must be of the form package.module:Name, not 'digits'"),
        (("task", "init"), 3, "task.init: must be a string, not 3"),
        (("task", "inner"), {"x": [1.0, float("nan")]}, "task.inner.x[1]: must be a finite number, not nan"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(
    path: tuple[str | int, ...], value: Any, line: str | None
) -> None:
    found = refused(with_value(path, value))
    assert line is None or found == line


FIELDS = [
    *[(key,) for key in VALUES],
    *[("constellation", 0, key) for key in (*VALUES["constellation"][0], "phasing", "pattern")],
    *[("sites", 0, key) for key in VALUES["sites"][0]],
    *[("regions", 0, key) for key in VALUES["regions"][0]],
    *[(table, key) for table in ("clock", "links", "compute", "protocol", "task") for key in VALUES[table]],
    ("task", "init"),
    ("ground", "name"),
    ("nonsense",),
]
ANYTHING = st.recursive(
    st.none().map(lambda _: [])
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(FIELDS), ANYTHING)
def test_whatever_stands_in_a_field_gives_a_scenario_or_one_line(
    path: tuple[str | int, ...], value: Any
) -> None:
    try:
        parsed(with_value(path, value))
    except ScenarioError as error:
        assert str(error).startswith("file.toml: ")
        assert len(str(error).splitlines()) == 1


# ---------------------------------------------------------------------------------------------- meaning


def test_nodes_are_satellites_then_devices_then_the_ground() -> None:
    values = with_value(("regions", 0, "devices"), ["anna", "berta"])
    names = [name for name, _ in parsed(values).nodes()]
    assert names == [
        *(f"sat-{n}" for n in range(6)),
        "anna",
        "berta",
        *(f"{region}-dev-{n}" for region in ("nairobi", "singapore") for n in range(2)),
        "ground",
    ]


def test_a_region_may_have_as_many_devices_as_its_bound() -> None:
    scenario = parsed(with_value(("regions", 0, "devices"), DEVICES_MAX))
    assert len(scenario.regions[0].device_names) == DEVICES_MAX
    refused(with_value(("regions", 0, "devices"), DEVICES_MAX + 1))


def test_the_digest_is_not_of_what_the_command_line_overrides_nor_of_what_is_the_hosts() -> None:
    demo = parsed(VALUES)
    assert parsed(with_value(("seed",), 8)).sha256 == demo.sha256
    assert parsed(with_value(("clock", "rate"), 3)).sha256 == demo.sha256
    assert parsed(with_value(("links", "congestion"), "cubic")).sha256 == demo.sha256
    assert parsed(with_value(("rounds",), 41)).sha256 != demo.sha256
    assert parsed(with_value(("task", "hidden"), 8)).sha256 != demo.sha256


def test_a_default_that_is_spelled_out_is_the_same_scenario() -> None:
    assert parsed(with_value(("ground", "name"), "ground")).sha256 == parsed(VALUES).sha256


def test_an_epoch_is_the_same_in_any_offset() -> None:
    assert parsed(with_value(("epoch",), "2026-01-01T02:00:00+02:00")).sha256 == parsed(VALUES).sha256


def test_what_the_task_table_holds_beside_task_and_init_are_options() -> None:
    values = with_value(("task", "init"), "first.safetensors")
    assert parsed(values).task.options == {"region_beta": 0.1}
