"""Scenarios of EMS-FL: what they need, and what they have no use for."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime.config import dump_toml
from orbitrain.scenario import ScenarioError, parse_scenario

FILE = Path(__file__).parents[3] / "deploy" / "scenarios" / "emsfl-demo.toml"
VALUES: dict[str, Any] = tomllib.loads(FILE.read_text(encoding="utf-8"))


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    values = deepcopy(VALUES)
    table = values
    for key in path[:-1]:
        table = table[key]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return values


def test_the_demonstration_has_one_satellite_and_three_clusters_of_two_devices() -> None:
    scenario = parse_scenario(FILE.read_text(encoding="utf-8"), "demo.toml")
    kinds = [kind for _, kind in scenario.nodes()]
    assert (kinds.count("satellite"), kinds.count("ground"), kinds.count("device")) == (1, 1, 6)
    assert scenario.emsfl.algorithm == "ems_fl" and scenario.emsfl.masked


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("sites",), None, "sites: must be a list of tables, at least one, for emsfl"),
        (("regions",), None, "regions: must be a list of tables, at least one, for emsfl"),
        (
            ("constellation",),
            [{**VALUES["constellation"][0], "satellites": 2}],
            "constellation: must have one satellite for emsfl, not 2",
        ),
        (
            ("model",),
            {"model": "a:b"},
            "model: must not be given for emsfl, whose task has its model",
        ),
        (
            ("task", "init"),
            "w",
            "task.init: must not be given for emsfl, whose experts come with its task",
        ),
        (
            ("protocol", "algorithm"),
            "x",
            "protocol.algorithm: must be 'ems_fl' or 'synchronous', not 'x'",
        ),
        (
            ("protocol", "shared"),
            "all",
            "protocol.shared: must be 'none' or 'gate' or 'gate_and_backbone', not 'all'",
        ),
        (("protocol", "rank"), 0, "protocol.rank: must be a whole number from 1 to 256, not 0"),
        (("protocol", "rank"), 257, "protocol.rank: must be a whole number from 1 to 256, not 257"),
        (
            ("protocol", "threshold"),
            1.5,
            "protocol.threshold: must be a number at least 0 and below 1, not 1.5",
        ),
        (("protocol", "capacity"), 0, "protocol.capacity: must be a whole number from 1 to 256, not 0"),
        (("protocol", "greedy"), 1, "protocol.greedy: must be true or false, not 1"),
        (("protocol", "decay"), -1, "protocol.decay: must be a number from 0 to 1, not -1"),
        (("protocol", "clip"), 0, "protocol.clip: must be a number above 0 and at most 1000000000.0, not 0"),
        (("protocol", "slot_s"), 0, "protocol.slot_s: must be a number above 0 and at most 31622400, not 0"),
        (
            ("protocol", "rounds_max"),
            0,
            "protocol.rounds_max: must be a whole number from 1 to 100000, not 0",
        ),
        (("protocol", "delta"), 1, "protocol.delta: unknown key, allowed are algorithm, capacity, clip, "),
        (
            ("protocol", "gate_cycles"),
            VALUES["rounds"] + 1,
            f"protocol.gate_cycles: must be at most rounds ({VALUES['rounds']}), not {VALUES['rounds'] + 1}",
        ),
        (("compute", "pack_s"), -1, "compute.pack_s: must be a number at least 0, not -1"),
        (("compute", "survey_s"), "x", "compute.survey_s: must be a number at least 0, not 'x'"),
    ],
)
def test_what_it_needs_or_has_no_use_for_is_named(path: tuple[str, ...], value: Any, line: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        parse_scenario(dump_toml(changed(path, value)), "demo.toml")
    assert str(refusal.value).startswith(f"demo.toml: {line}")
