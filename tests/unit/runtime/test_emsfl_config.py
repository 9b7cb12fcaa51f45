"""The configuration of EMS-FL's nodes: what belongs together, and the parameters and roles that it gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orbitrain.contacts.always import DURATION_NS, always_in_contact
from orbitrain.contacts.node import PlanNode
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.slices import slice_for
from orbitrain.learning.moe.lora import RANK_MAX
from orbitrain.protocols import emsfl
from orbitrain.roles import PlanWindows, emsfl_machines
from orbitrain.runtime.config import ConfigError, NodeConfig, dump_toml, load_config
from orbitrain.runtime.daemon import load_plans
from orbitrain.runtime.emsfl_config import EmsflWork
from orbitrain.scenario.protocols import EmsflProtocol
from satellite_node import node as satellite_node

S = 1_000_000_000
GOOD: dict[str, Any] = {
    "name": "a-0",
    "kind": "device",
    "seed": 7,
    "link": {"listen": "127.0.0.1:0"},
    "operator": {"listen": "unix:/tmp/desk"},
    "task": {"spec": "own.mixture:Mixture", "search_path": "tasks", "options": {"width": 8}},
    "emsfl": {
        "satellite": "sat-0",
        "clusters": [{"name": "a", "devices": ["a-0", "a-1"]}, {"name": "b", "devices": ["b-0"]}],
        "work": {"cycles": 3, "shared": "gate", "rank": 4},
        "pace": {
            "slot_s": 1.5,
            "rounds_max": 2,
            "wait_s": 3,
            "margin_s": 4,
            "lease_s": 5,
            "resplit_cycles": 6,
        },
        "stale": {"decay": 0.5, "stale_most": 2, "clip": 1.0},
        "times": {"train_s": 10, "pack_s": 1, "aggregate_s": 2, "survey_s": 3},
        "split": {"threshold": 0.1, "capacity": 2, "greedy": True},
        "model": {
            "layers": 2,
            "experts": 2,
            "top_k": 1,
            "items": dict.fromkeys(("backbone", "gate", "expert/0", "expert/1"), "c" * 64),
        },
    },
}


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    values = copy.deepcopy(GOOD)
    inner = values
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return values


def written(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "node.toml"
    path.write_text(dump_toml(values), encoding="utf-8")
    return path


def test_a_configuration_is_read_back_as_it_was(tmp_path: Path) -> None:
    config = NodeConfig.model_validate(GOOD)
    assert load_config(written(tmp_path, config.model_dump(exclude_none=True)), "device") == config
    assert config.is_learning


def test_parameters_are_the_configurations_in_nanoseconds(tmp_path: Path) -> None:
    params = load_config(written(tmp_path, GOOD)).emsfl_params(tmp_path)
    assert [(one.name, one.devices) for one in params.clusters] == [("a", ("a-0", "a-1")), ("b", ("b-0",))]
    assert (params.work.algorithm, params.work.shared, params.work.rank) == ("ems_fl", "gate", 4)
    pace = params.pace
    assert (pace.slot_ns, pace.rounds_max, pace.wait_ns, pace.margin_ns, pace.lease_ns) == (
        *(1_500_000_000, 2),
        *(3 * S, 4 * S, 5 * S),
    )
    assert (params.stale.decay, params.stale.most, params.stale.clip) == (0.5, 2, 1.0)
    assert (params.times.train_ns, params.times.merge_ns) == (10 * S, 2 * S)
    assert params.task == {
        "spec": "own.mixture:Mixture",
        "options": {"width": 8},
        "seed": 7,
        "search_path": str(tmp_path.resolve() / "tasks"),
        "clusters": {"a": ["a-0", "a-1"], "b": ["b-0"]},
    }


@pytest.mark.parametrize(
    "name, role", [("sat-0", emsfl.SATELLITE_ROLE), ("b-0", emsfl.DEVICE_ROLE), ("ground", None)]
)
def test_a_node_has_the_role_that_its_name_says(tmp_path: Path, name: str, role: str | None) -> None:
    params = load_config(written(tmp_path, GOOD)).emsfl_params(tmp_path)
    windows = PlanWindows(always_in_contact("sat-0", "satellite", ["a-0"]), name)
    assert list(emsfl_machines(name, params, windows)) == ([] if role is None else [role])


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("name",), "c-0", "name: must be a device that [emsfl] speaks of, not 'c-0'"),
        (("kind",), "satellite", "name: must be a satellite that [emsfl] speaks of, not 'a-0'"),
        (("task",), {}, "task.spec: is missing, must be a string"),
        (("no_plan",), True, "emsfl: must stand beside a [task], without [fedmeld], [sfft] and no_plan"),
        (("emsfl", "clusters"), [], "emsfl.clusters: must be a list of tables, at least one, not []"),
        (("emsfl", "model", "top_k"), 3, "emsfl.model.top_k: must be at most experts (2), not 3"),
        (
            ("emsfl", "model", "experts"),
            3,
            "emsfl.model.items: must be backbone, gate and expert/0 to expert/2; 'expert/2' is missing",
        ),
        (
            ("emsfl", "model", "experts"),
            1,
            "emsfl.model.items: must be backbone, gate and expert/0 to expert/0; 'expert/1' is none of them",
        ),
        (
            ("emsfl", "work", "shared"),
            "all",
            "emsfl.work.shared: must be 'none' or 'gate' or 'gate_and_backbone', not 'all'",
        ),
        (("emsfl", "stale", "clip"), 0, "emsfl.stale.clip: must be a number above 0, not 0"),
    ],
)
def test_what_does_not_belong_together_is_named(
    tmp_path: Path, path: tuple[str, ...], value: Any, line: str
) -> None:
    file = written(tmp_path, changed(path, value))
    with pytest.raises(ConfigError) as refusal:
        load_config(file)
    assert str(refusal.value) == f"{file}: {line}"


def test_what_machines_ask_follows_the_plan_that_is_believed() -> None:
    windows = PlanWindows(always_in_contact("sat-0", "satellite", ["a-0"]), "sat-0")
    assert (windows.end_ns("a-0", S), windows.end_ns("b-0", S)) == (DURATION_NS, None)
    follow = windows.prepare(always_in_contact("sat-0", "satellite", ["b-0"]))
    assert windows.end_ns("b-0", S) is None
    follow()
    assert (windows.end_ns("a-0", S), windows.end_ns("b-0", S)) == (None, DURATION_NS)


def whole_plan(*devices: str) -> ContactPlan:
    plan = always_in_contact("sat-0", "satellite", devices)
    nodes = (PlanNode("sat-0", "satellite"), *(PlanNode(name, "device") for name in devices))
    return replace(plan, nodes=nodes)


def test_a_plan_must_know_the_satellite_and_a_whole_one_all_devices(tmp_path: Path) -> None:
    config, file = NodeConfig.model_validate(GOOD), tmp_path / "node.toml"
    for plan in (whole_plan("a-0", "a-1", "b-0"), slice_for(whole_plan("a-0", "a-1", "b-0"), "a-0")):
        (tmp_path / "plan.json").write_bytes(plan.to_json())
        assert load_plans(config, file)[1] is None
    (tmp_path / "plan.json").write_bytes(whole_plan("a-0", "a-1").to_json())
    with pytest.raises(ConfigError, match="'b-0' is not a node of the plan"):
        load_plans(config, file)


@pytest.mark.parametrize("algorithm", ["ems_fl", "synchronous"])
def test_a_satellite_says_before_it_starts_that_it_lacks_what_a_split_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr("orbitrain.splitting.epochs.find_spec", lambda name: None)
    values = {**changed(("emsfl", "work", "algorithm"), algorithm), "name": "sat-0", "kind": "satellite"}
    config = NodeConfig.model_validate(values)
    node: Any = SimpleNamespace(config=config, folder=tmp_path, windows=lambda: None)
    if algorithm == "synchronous":  # nothing is given out
        assert satellite_node.COMPOSITION.machines(node)
        return
    with pytest.raises(ConfigError) as refusal:
        satellite_node.COMPOSITION.machines(node)
    assert str(refusal.value) == (
        "sat-0: emsfl: scipy is not installed, which pip install 'orbitrain[emsfl]' brings"
    )


def test_ranks_that_are_allowed_are_those_that_a_job_takes() -> None:
    for table in (EmsflProtocol, EmsflWork):
        bounds = {type(one).__name__: one for one in table.model_fields["rank"].metadata}
        assert (bounds["Ge"].ge, bounds["Le"].le) == (1, RANK_MAX)
