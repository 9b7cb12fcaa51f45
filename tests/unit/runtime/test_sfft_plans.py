"""What of the plan an SFFT node must be given: all of it, or a slice with what its role asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orbitrain.contacts.slices import slice_for
from orbitrain.roles import SfftAsks, Way
from orbitrain.runtime.config import ConfigError, NodeConfig
from orbitrain.runtime.daemon import load_plans
from tests.trace.sfft_world import NumpyEngine, backhaul, params_of, plan_of, rings

PARAMS = params_of([4, 3], NumpyEngine())
CROSSING = [("inter_isl", ("a-1", "b-0", 20.0, 50.0)), ("inter_isl", ("a-3", "b-2", 60.0, 90.0))]
PASSES = [("feeder", ("a-0", "gs", 0.0, 30.0)), ("feeder", ("b-1", "gs", 40.0, 80.0))]
PLAN = plan_of(PARAMS, [*rings(PARAMS, 100.0), *backhaul(PARAMS, 100.0), *CROSSING, *PASSES], 100.0)
WAY = Way("teg", 1_000, 1_000, 10**9, 10**9)


def config(name: str) -> NodeConfig:
    values: dict[str, Any] = {
        "name": name,
        "kind": "satellite" if name in PARAMS.satellites else "ground",
        "seed": 7,
        "link": {"listen": "127.0.0.1:0"},
        "operator": {"listen": "unix:/tmp/desk"},
        "task": {"spec": "own.tides:Tides"},
        "sfft": {
            "planes": [list(members) for members in PARAMS.planes],
            "stations": ["gs"],
            "server": "server",
            **dict.fromkeys(("embedding", "backbone", "head"), "b" * 64),
            **dict.fromkeys(("head_bytes", "chunk_bytes", "feature_bytes", "ring_bps"), 1_000),
            "ring_delay_s": 0.01,
            "work": {"rounds": 1, "samples": 2, "chunk_samples": 2, "learning_rate": 0.5},
            "times": dict.fromkeys(
                ("embed_s", "backbone_s", "head_s", "add_s", "step_s", "commit_s", "patience_s"), 1.0
            ),
        },
    }
    return NodeConfig.model_validate(values)


def load(folder: Path, name: str, members: tuple[str, ...]) -> None:
    (folder / "plan.json").write_bytes(slice_for(PLAN, name, members).to_json())
    load_plans(config(name), folder / "node.toml")


@pytest.mark.parametrize("name", PARAMS.satellites)
def test_a_slice_with_its_plane_answers_a_satellite_as_the_whole_plan_does(tmp_path: Path, name: str) -> None:
    number = PARAMS.plane_of(name)
    members = PARAMS.planes[number]
    load(tmp_path, name, members)
    whole, part = (SfftAsks(plan, PARAMS, WAY) for plan in (PLAN, slice_for(PLAN, name, members)))
    for one in members:
        for other in members:
            assert whole.neighbours(one, other, 0) == part.neighbours(one, other, 0)
    target = 1 - number
    assert (
        part.crossings(PARAMS.satellites).neighbours(number)
        == whole.crossings(PARAMS.satellites).neighbours(number)
        == (target,)
    )
    for ready_ns in range(0, 100 * 10**9, 7 * 10**9):
        asked = [
            asks.crossings(PARAMS.satellites).earliest(number, target, ready_ns) for asks in (whole, part)
        ]
        assert asked[0] == asked[1]


def test_a_slice_without_its_plane_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'a-3' is not a node of the plan"):
        load(tmp_path, "a-1", ())


def test_a_station_needs_its_own_contacts_only_and_the_server_the_whole_plan(tmp_path: Path) -> None:
    load(tmp_path, "gs", ())
    with pytest.raises(ConfigError, match=r"for_node: the server needs the whole plan"):
        load(tmp_path, "server", ("gs",))
