"""EMS-FL in the simulator, with the workers' own jobs, against its equations in one process, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.node import PlanNode
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan
from orbitrain.learning.moe import lora
from orbitrain.learning.moe.parts import from_items, taken_apart
from orbitrain.learning.moe.task import Wanted
from orbitrain.learning.tensors import Tensors, read_tensors
from orbitrain.scenario import SECOND_NS, Scenario, parse_scenario
from orbitrain.setting import Setting
from orbitrain.virtual import Outcome, workshop
from tests.reference.mixtures import Pull

FOLDER = Path(__file__).parent
CLUSTERS = {"a": ("a-dev-0", "a-dev-1"), "b": ("b-dev-0", "b-dev-1")}
SEED, CYCLES, ROUNDS = 5, 3, 3
EVERY_S, PASS_S = 1_000, 120
SCENARIO = """
name = "pulls"
epoch = "2026-01-01T00:00:00Z"
seed = {seed}
rounds = {cycles}
duration_s = 9000

[[constellation]]
satellites = 1
altitude_km = 600
inclination_degrees = 0

[[sites]]
name = "here"
latitude_degrees = 0
longitude_degrees = 0

[[regions]]
name = "a"
site = "here"
devices = 2

[[regions]]
name = "b"
site = "here"
devices = 2

[links]
acquisition_s = 1

[compute]
train_s = 5
aggregate_s = 1
message_s = 1

[protocol]
name = "emsfl"
slot_s = 50
rounds_max = {rounds}
margin_s = 10
{protocol}

[task]
task = "mixtures:Pull"
columns = {columns}
"""
COLUMNS = 7

Items = dict[str, Tensors]


def scenario(protocol: str, columns: int) -> Scenario:
    text = SCENARIO.format(seed=SEED, cycles=CYCLES, rounds=ROUNDS, protocol=protocol, columns=columns)
    return parse_scenario(text, "pulls.toml", FOLDER)


def visits() -> Iterable[tuple[int, str]]:
    """When which cluster's passes begin, by turns."""
    names = list(CLUSTERS)
    return ((1 + n * EVERY_S // 2, names[n % 2]) for n in range(2 * CYCLES + 1))


def plan_of(one: Scenario) -> ContactPlan:
    contacts = []
    for start_s, cluster in visits():
        for device in CLUSTERS[cluster]:
            spell = start_s * SECOND_NS, (start_s + PASS_S) * SECOND_NS
            sample = Sample(spell[0], 1_000_000, 1_000_000, 0.0, 1.0)
            contacts += [
                Contact(*ends, "service", *spell, (sample,))
                for ends in (("sat-0", device), (device, "sat-0"))
            ]
    nodes = tuple(PlanNode(name, kind) for name, kind in one.nodes())
    epoch = "2026-01-01T00:00:00Z"
    return ContactPlan(PLAN_VERSION, one.sha256, epoch, one.duration_ns, nodes, tuple(contacts))


def simulated(protocol: str, columns: int = 0) -> tuple[Outcome, list[Items]]:
    """What virtual time comes to, and the whole models in the order in which they were put together."""
    one = scenario(protocol, columns)
    with workshop(Setting(one, "pulls.toml", FOLDER, SEED, plan_of(one))) as shop:
        objects = shop.objects()
        models: dict[str, Items] = {}

        def watch(node: str, event: object, progress: object, scores: Mapping[str, float]) -> None:
            for digest in scores:
                if digest not in models:
                    models[digest] = taken_apart(read_tensors(shop.engine.path(digest), 1 << 20)).items()

        done = shop.simulate(objects, watch=watch)
    assert done.dead_letters == 0
    told = [one.event for one in done.entries if one.event.kind == "model_assembled"]
    return done, [models[str(event.fields["digest"])] for event in told]


class Reference:
    """The equations in one process: experts are always the same clusters'. With a rank they are matrices."""

    def __init__(self, rank: int | None = None) -> None:
        self.task = Pull({"columns": COLUMNS} if rank else {}, CLUSTERS, SEED)
        self.rank = rank
        self.left: dict[str, np.ndarray] = {}
        """By device: what factors of its updates left out."""
        self.rests: dict[str, lora.Factors] = {}
        """By expert: what steps left out, at the satellite."""
        self.items: Items = self.task.initial().items()
        self.rounds = dict.fromkeys((device for devices in CLUSTERS.values() for device in devices), 0)

    def train(self, device: str, items: Items, wanted: Wanted) -> tuple[Items, int]:
        self.rounds[device] += 1
        done = self.task.train(device, from_items(items), wanted, self.rounds[device], SEED)
        return items | done.parts.items(), done.n_samples

    def commit(self, base: Items, trained: Sequence[tuple[Items, int]], names: Sequence[str]) -> None:
        """(35), (36): w + sum_m (n_m / n) (w_m - w), in the order of devices' names."""
        total = sum(samples for _, samples in trained)
        for item in names:
            if self.rank is not None and item.startswith("expert/"):
                self._step(item, base, [(now, samples / total) for now, samples in trained])
                continue
            start = base[item]["w"].astype(np.float64)
            added = np.zeros_like(start)
            for now, samples in trained:
                update = (now[item]["w"].astype(np.float64) - start).astype(np.float32)
                added = added + samples / total * update.astype(np.float64)
            self.items[item] = {"w": (self.items[item]["w"].astype(np.float64) + added).astype(np.float32)}

    def _step(self, item: str, base: Items, trained: Sequence[tuple[Items, float]]) -> None:
        """Section 5 of our notes: factors of updates with error feedback, merged into a step of the rank."""
        assert self.rank is not None
        start, parts = base[item]["w"].astype(np.float64), []
        for place, (now, share) in enumerate(trained):
            mine = f"{item} {place}"
            wanted = now[item]["w"].astype(np.float64) - start
            sent, left = lora.compress(wanted, self.left.get(mine), self.rank)
            self.left[mine] = left.astype(np.float32)
            parts.append((share, sent))
        if item in self.rests:
            parts.append((1.0, self.rests[item]))
        step, rest = lora.recompress(parts, self.rank)
        small = lora.is_factored(start.shape, rest.rank)
        self.rests[item] = rest if small else lora.exact(rest.product().astype(np.float32))
        new = self.items[item]["w"].astype(np.float64) + step.product()
        self.items[item] = {"w": new.astype(np.float32)}


def ems_fl(gate: bool, rank: int | None = None) -> list[Items]:
    """Algorithm 3, or 2 where the gate is trained in contact: the model after each commit."""
    of, found = Reference(rank), list[Items]()
    owner = {"a": 0, "b": 1}
    away: dict[str, tuple[Items, list[tuple[Items, int]]]] = {}
    for _, cluster in list(visits())[1:]:  # the first pass only tells what its data are for
        own = f"expert/{owner[cluster]}"
        if cluster in away:
            of.commit(*away[cluster], [own])
            found.append(dict(of.items))
        base, trained, tuned = dict(of.items), [], []
        for device in CLUSTERS[cluster]:
            items, samples = of.train(device, base, Wanted((owner[cluster],), gate=gate))
            tuned.append((items, samples))
            items = items | {"gate": base["gate"]}
            for _ in range(ROUNDS - 1):
                items, samples = of.train(device, items, Wanted((owner[cluster],)))
            trained.append((items, samples))
        away[cluster] = (base, trained)
        if gate:
            of.commit(base, tuned, ["gate"])
            found.append(dict(of.items))
    return found


def synchronous() -> list[Items]:
    """(26) to (28): the connected cluster trains everything."""
    of, found = Reference(), list[Items]()
    names = ["expert/0", "expert/1", "gate"]
    for _, cluster in list(visits())[: 2 * CYCLES]:
        base, trained = dict(of.items), []
        for device in CLUSTERS[cluster]:
            items, samples = dict(base), 0
            for _ in range(ROUNDS):
                items, samples = of.train(device, items, Wanted((0, 1), gate=True, masked=False))
            trained.append((items, samples))
        of.commit(base, trained, names)
        found.append(dict(of.items))
    return found


def equal(found: Sequence[Items], wanted: Sequence[Items]) -> bool:
    def told(models: Sequence[Items]) -> list[dict[str, bytes]]:
        return [{item: model[item]["w"].tobytes() for item in sorted(model)} for model in models]

    return told(found) == told(wanted)


@pytest.mark.parametrize("gate", [False, True])
def test_ems_fl_over_links_equals_its_equations_in_one_process(gate: bool) -> None:
    done, models = simulated('shared = "gate"' if gate else "")
    assert [one["owners"] for one in done.summary["owners"]] == [["a", "b"]]
    assert set(done.summary["rounds"].values()) == {CYCLES}
    wanted = ems_fl(gate)
    assert wanted and equal(models, wanted)


def test_experts_of_a_rank_over_links_equal_their_equations_in_one_process() -> None:
    """Devices go on from experts that they made of steps: another one would train to another model."""
    done, models = simulated("rank = 1", COLUMNS)
    assert set(done.summary["rounds"].values()) == {CYCLES}
    told = [one.event for one in done.entries]
    assert all(event.fields["step"] for event in told if event.kind == "expert_committed")
    assert not any(event.kind == "model_incomplete" for event in told)
    wanted = ems_fl(False, rank=1)
    assert wanted and equal(models, wanted)


def test_the_baseline_over_links_equals_its_equations_in_one_process() -> None:
    done, models = simulated('algorithm = "synchronous"')
    assert set(done.summary["rounds"].values()) == {CYCLES}
    wanted = synchronous()
    assert wanted and equal(models, wanted)
