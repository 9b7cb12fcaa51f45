"""Scenarios of SFFT: what they need, and what they have no use for."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime.config import dump_toml
from orbitrain.scenario import ScenarioError, parse_scenario

FILE = Path(__file__).parents[3] / "deploy" / "scenarios" / "sfft-demo.toml"
VALUES: dict[str, Any] = tomllib.loads(FILE.read_text(encoding="utf-8"))


def test_the_demonstration_has_a_daemon_for_each_satellite_and_station_and_the_server() -> None:
    scenario = parse_scenario(FILE.read_text(encoding="utf-8"), "demo.toml")
    kinds = [kind for _, kind in scenario.nodes()]
    assert (kinds.count("satellite"), kinds.count("ground"), kinds.count("device")) == (18, 3, 0)
    assert scenario.sfft.samples == 16


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("stations",), None, "stations: must be a list of tables, at least one, for sfft"),
        (("links", "feeder"), None, "links.feeder: must be a table for sfft"),
        (("links", "intra_isl"), None, "links.intra_isl: must be a table for sfft"),
        (("links", "backhaul"), None, "links.backhaul: must be a table for sfft"),
        (("links", "backhaul", "delay_ms"), -1, "links.backhaul.delay_ms: must be a number"),
        (("model",), None, "model: must be a table for sfft"),
        (("model", "model"), "vit", "model.model: must be of the form package.module:Name, not 'vit'"),
        (("task", "init"), "w", "task.init: must not be given for sfft, whose head comes with its model"),
        (("sites",), [VALUES["stations"][0] | {"antennas": None}], "sites: must not be given for sfft"),
        (("protocol", "samples"), 0, "protocol.samples: must be a whole number from 1 to 1000000, not 0"),
        (("protocol", "gather"), "x", "protocol.gather: must be 'two_way' or 'one_way' or 'sequential'"),
        (("protocol", "delta"), 1, "protocol.delta: unknown key, allowed are backbone_device, between_p"),
        (("compute", "on_board_flops"), 0.0, "compute.on_board_flops: must be a number above 0"),
        (("compute", "on_board_flops"), 1e9, "compute.embed_s: must not be given with on_board_flops, from"),
        (("compute", "ground_flops"), 1e9, "compute.backbone_s: must not be given with ground_flops, from"),
        (
            ("protocol", "backbone_device"),
            "tpu",
            "protocol.backbone_device: must be 'auto' or 'cpu' or 'cuda'",
        ),
        (("protocol", "samples"), 5_000, "protocol.chunk_samples: must cut 5000 samples into 256 chunks"),
    ],
)
def test_what_it_needs_or_has_no_use_for_is_named(path: tuple[str, ...], value: Any, line: str) -> None:
    values = deepcopy(VALUES)
    table = values
    for key in path[:-1]:
        table = table[key]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    with pytest.raises(ScenarioError) as refusal:
        parse_scenario(dump_toml(values), "demo.toml")
    assert str(refusal.value).startswith(f"demo.toml: {line}")
