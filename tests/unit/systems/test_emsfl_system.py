"""EMS-FL for a scenario: what is refused before anything starts, and when a run of it is over."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from orbitrain.contacts.always import DURATION_NS
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.node import PlanNode
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest, Severity
from orbitrain.runtime.config import NodeConfig, dump_toml
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.scenario import Scenario, ScenarioError, parse_scenario
from orbitrain.setting import Setting
from orbitrain.step import Event
from orbitrain.systems.choice import system_of
from orbitrain.systems.emsfl import EmsflSystem
from orbitrain.systems.watches import ExpertWatch

FILE = Path(__file__).parents[3] / "deploy" / "scenarios" / "emsfl-demo.toml"


class Mixture:
    """A worker that knows a mixture of experts, or says why it does not."""

    def __init__(self, trouble: str, experts: int) -> None:
        self.trouble = trouble
        self.experts = experts

    def work(
        self, kind: str, params: Mapping[str, Any], objects: Mapping[str, Digest]
    ) -> tuple[Mapping[str, Any], dict[str, Digest]]:
        if self.trouble:
            raise JobError(self.trouble)
        if kind == "moe.describe":
            return {"experts": self.experts, "layers": 2, "top_k": 1}, {}
        items = ["backbone", "gate", *(f"expert/{number}" for number in range(self.experts))]
        return {"experts": self.experts}, {item: f"{number:064x}" for number, item in enumerate(items)}


def scenario(**protocol: Any) -> Scenario:
    values = tomllib.loads(FILE.read_text(encoding="utf-8"))
    values["protocol"] |= protocol
    return parse_scenario(dump_toml(values), "demo.toml")


def system(*blind: str, **protocol: Any) -> EmsflSystem:
    """For a plan in which every region but `blind` sees the satellite throughout."""
    loaded = scenario(**protocol)
    seen = [device for region in loaded.regions if region.name not in blind for device in region.device_names]
    contacts = tuple(
        Contact(*ends, "service", 0, DURATION_NS, (Sample(0, 1_000_000, 5_000_000, 0.0, 1.0),))
        for device in seen
        for ends in ((device, "sat-0"), ("sat-0", device))
    )
    nodes = tuple(PlanNode(name, kind) for name, kind in loaded.nodes())
    plan = ContactPlan(PLAN_VERSION, loaded.sha256, "2026-01-01T00:00:00Z", DURATION_NS, nodes, contacts)
    found = system_of(Setting(loaded, "demo.toml", FILE.parent, 7, plan))
    assert isinstance(found, EmsflSystem)
    return found


def engine(trouble: str = "", experts: int = 3) -> WorkerEngine:
    return cast(WorkerEngine, Mixture(trouble, experts))


def test_a_cluster_that_never_sees_the_satellite_is_refused() -> None:
    with pytest.raises(ScenarioError) as refusal:
        system("nairobi").objects(engine())
    assert str(refusal.value) == "demo.toml: regions[1].site: must see sat-0 at some time; nairobi never does"


def test_a_host_without_what_a_split_needs_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbitrain.splitting.epochs.find_spec", lambda name: None)
    with pytest.raises(ScenarioError) as refusal:
        system().objects(engine())
    assert str(refusal.value) == (
        "demo.toml: protocol.name: scipy is not installed, which pip install 'orbitrain[emsfl]' brings"
    )
    assert system(algorithm="synchronous").objects(engine())  # nothing is given out


def test_a_task_that_is_no_mixture_is_refused() -> None:
    with pytest.raises(ScenarioError) as refusal:
        system().objects(engine("task 'a:b': no class of a mixture of experts"))
    assert str(refusal.value) == "demo.toml: task.task: task 'a:b': no class of a mixture of experts"


def test_a_capacity_without_room_for_all_experts_is_refused() -> None:
    of = system(capacity=1)
    assert of.objects(engine())  # three clusters have room for three experts
    with pytest.raises(ScenarioError) as refusal:
        of.objects(engine(experts=4))
    assert str(refusal.value) == (
        "demo.toml: protocol.capacity: must give 3 clusters room for 4 experts, not 1 each"
    )


def test_what_a_node_is_configured_with_can_be_read_by_it() -> None:
    of = system(rank=4, shared="gate")
    objects = of.objects(engine())
    assert of.files()["expert/2"] == "expert-2.safetensors"
    for name, kind in of_nodes():
        values = NodeConfig(
            name=name,
            kind=cast(Any, kind),
            seed=7,
            link=cast(Any, {"listen": "127.0.0.1:0"}),
            operator=cast(Any, {"listen": "unix:/tmp/desk"}),
            **of.configured(objects, kind, name),
        ).model_dump(exclude_none=True)
        config = NodeConfig.model_validate(tomllib.loads(dump_toml(values)))
        assert len(config.preload) == (0 if kind == "ground" else 5)
        params = config.emsfl_params(FILE.parent)
        assert params == of.cast(objects).params


def of_nodes() -> list[tuple[str, str]]:
    return [(name, kind) for name, kind in scenario().nodes()]


def test_the_baseline_trains_everything_once_a_pass() -> None:
    of = system(rounds_max=9, resplit_cycles=2, rank=4)
    objects = of.objects(engine())
    mine, baseline = (of.cast(objects, baseline=which).params for which in (False, True))
    assert (mine.work.algorithm, mine.work.masked, mine.pace.rounds_max) == ("ems_fl", True, 9)
    assert (baseline.work.algorithm, baseline.work.masked, baseline.pace.rounds_max) == (
        *("synchronous", False),
        1,
    )
    assert baseline.work.rank == mine.work.rank == 4 and baseline.task == mine.task


def event(kind: str, **fields: Any) -> Event:
    return Event(0, "emsfl.satellite", Severity.ACTIVITY_LO, kind, fields)


def test_a_run_is_over_when_the_satellite_says_so_and_each_model_is_measured() -> None:
    watch = ExpertWatch(["a", "b"])
    assert watch.see(event("model_assembled", cluster="b", cycle=1, digest="m1"), "sat-0") == ("m1",)
    assert watch.see(event("pass_ended", cluster="b", cycle=1), "sat-0") == ()
    assert watch.shown({"m1": 0.5}) == {"rounds": {"a": 0, "b": 1}, "accuracy": {"b": 0.5}}
    assert not watch.finished
    watch.see(event("finished", cycles=1), "sat-0")
    assert watch.finished and watch.newest() == ("m1",)
