"""The plans that a daemon is started with: either form, whole or its own slice, and the true one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbitrain.contacts.compact import compact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.slices import slice_for
from orbitrain.roles import RegionServices
from orbitrain.runtime.config import ConfigError, NodeConfig
from orbitrain.runtime.daemon import load_plans
from tests.trace.world import plan_of, ring

REGIONS = ring("north", "south", devices=1)
PLAN = plan_of(REGIONS, {("sat-0", "north"): [(0, 10)], ("sat-0", "south"): [(20, 30)]}, 60)


def config(name: str = "north-0", kind: str = "device", **changes: Any) -> NodeConfig:
    values: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "seed": 7,
        "plan": "plan.bin",
        "scenario_sha256": PLAN.scenario_sha256,
        "initial_sha256": "b" * 64,
        "link": {
            "listen": "127.0.0.1:0",
            "peers": {"sat-0" if kind == "device" else "north-0": "127.0.0.1:9"},
        },
        "operator": {"listen": "unix:/tmp/desk"},
        "fedmeld": {
            "rounds": 3,
            "delta": 1,
            "alpha": 0.5,
            "train_s": 1.5,
            "aggregate_s": 0.25,
            "regions": [{"name": region.name, "devices": list(region.devices)} for region in REGIONS],
        },
        "task": {"spec": "own.tides:Tides"},
        **changes,
    }
    return NodeConfig.model_validate(values)


def loaded(
    folder: Path, data: bytes, one: NodeConfig, truth: bytes = b""
) -> tuple[ContactPlan, ContactPlan | None]:
    (folder / "plan.bin").write_bytes(data)
    (folder / "truth.bin").write_bytes(truth)
    return load_plans(one, folder / "node.toml")


def test_a_plan_may_be_of_either_form(tmp_path: Path) -> None:
    for data in (PLAN.to_json(), compact(PLAN)):
        assert loaded(tmp_path, data, config()) == (PLAN, None)


def test_a_node_may_hold_its_own_slice_with_what_it_has_to_know(tmp_path: Path) -> None:
    own = slice_for(PLAN, "north-0", ["north-0"])
    assert "south-0" not in [node.name for node in own.nodes]
    one = config()
    assert loaded(tmp_path, compact(own), one)[0] == own
    assert RegionServices(own, one.regions()).serving("north", 0) is not None
    wide = slice_for(PLAN, "sat-0", ["north-0", "south-0"])
    assert loaded(tmp_path, wide.to_json(), config("sat-0", "satellite"))[0] == wide
    assert [region.name for region in config("sat-0", "satellite").regions()] == ["north", "south"]


def test_the_true_plan_is_loaded_beside_the_believed_one(tmp_path: Path) -> None:
    truth = replace(PLAN, contacts=PLAN.contacts[:2])
    assert loaded(tmp_path, PLAN.to_json(), config(truth="truth.bin"), truth.to_json()) == (PLAN, truth)


@pytest.mark.parametrize(
    ("plan", "truth", "one", "line"),
    [
        (
            slice_for(PLAN, "sat-0", ["north-0"]),
            PLAN,
            config(),
            "plan.bin: for_node: is the slice for sat-0, this node is north-0",
        ),
        (
            slice_for(PLAN, "north-0"),
            PLAN,
            config("sat-0", "satellite"),
            "plan.bin: for_node: is the slice for north-0, this node is sat-0",
        ),
        (
            slice_for(PLAN, "sat-0", ["north-0"]),
            PLAN,
            config("sat-0", "satellite"),
            None,
        ),
        (
            PLAN,
            replace(PLAN, scenario_sha256="1" * 64),
            config(truth="truth.bin"),
            "truth.bin: scenario_sha256: is the plan of another scenario (111111111111, not 000000000000)",
        ),
        (
            PLAN,
            replace(PLAN, epoch="2026-01-02T00:00:00Z"),
            config(truth="truth.bin"),
            "truth.bin: epoch: must be the believed plan's, 2026-01-01T00:00:00Z, not 2026-01-02T00:00:00Z",
        ),
        (PLAN, PLAN, config("crow", "satellite"), "node.toml: 'crow' is not a node of the plan"),
    ],
    ids=["another's", "a device's", "all it meets", "truth elsewhere", "truth of a day later", "no node"],
)
def test_a_plan_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, plan: ContactPlan, truth: ContactPlan, one: NodeConfig, line: str | None
) -> None:
    if line is None:  # a satellite's contacts with south-0 are in its slice: the device is known
        assert loaded(tmp_path, plan.to_json(), one, truth.to_json())[0] == plan
        return
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, plan.to_json(), one, truth.to_json())
    assert str(caught.value).startswith(f"{tmp_path}/{line}")
    assert "\n" not in str(caught.value)
