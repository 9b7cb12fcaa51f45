"""What mixing does to the mean of the regions and to their disagreement (notes, 1.4), through the simulator.

Models are vectors of float64 and training adds a constant; everything else is the real protocol.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from orbitrain.machine import Digest
from orbitrain.results import aggregates
from orbitrain.step import Job
from tests.reference.meld import meld
from tests.trace.world import SECOND_NS, params_of, plan_of, ring, rotation, world

Vector = np.ndarray[Any, np.dtype[np.float64]]
SLOT_S = 12


class Numbers:
    """Training adds `start` in round 1, which tells the regions apart, and `gradient` in every round."""

    def __init__(self, start: Mapping[str, Vector], gradient: float) -> None:
        self.start, self.gradient = start, gradient
        self.values: dict[Digest, Vector] = {}

    def put(self, value: Vector) -> Digest:
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        self.values[digest] = value
        return digest

    def size_of(self, digest: Digest) -> int:
        return self.values[digest].nbytes

    def keep(self, digests: set[Digest]) -> None:
        pass

    def trained(self, device: str, model: Vector, number: int) -> Vector:
        return model + self.gradient + (self.start[device] if number == 1 else 0.0)

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        inputs = {name: self.values[digest] for name, digest in job.objects.items()}
        if job.kind == "train":
            update = self.trained(job.params["device"], inputs["model"], job.params["round"])
            return {"n_samples": 1}, {"update": self.put(update)}
        total = sum(job.params["n_samples"])
        mean = np.zeros_like(inputs["update/0"])
        for n, samples in enumerate(job.params["n_samples"]):
            mean = mean + (samples / total) * inputs[f"update/{n}"]
        if "carried" not in inputs:
            return {}, {"model": self.put(mean)}
        alpha = job.params["alpha"]
        mixed = (1 - alpha) * mean + alpha * inputs["carried"]
        return {}, {"model": self.put(mixed), "pre": self.put(mean)}


def models(n_regions: int, cycles: int, alpha: float, carry: str, gradient: float, start: Vector) -> Vector:
    """Models by cycle and region, each a vector; delta is 1, so every round is a cycle."""
    names = [f"r{n}" for n in range(n_regions)]
    regions = ring(*names, devices=1)
    engine = Numbers({f"{name}-0": value for name, value in zip(names, start, strict=True)}, gradient)
    slots = cycles + 2
    plan = plan_of(regions, rotation(names, slots, SLOT_S), slots * SLOT_S)
    initial = engine.put(np.zeros(start.shape[1]))
    params = params_of(regions, initial, rounds=cycles, delta=1, alpha=alpha, carry=carry, train_ns=SECOND_NS)
    run = world(plan, params, engine).run()
    assert run.finished
    found = aggregates(run.simulation.entries())
    ours = np.array([[engine.values[found[name, n][0]] for name in names] for n in range(1, cycles + 1)])
    history = meld(
        {region.name: region.devices for region in regions},
        {"x": np.zeros(start.shape[1])},
        lambda device, model, n: ({"x": engine.trained(device, model["x"], n)}, 1),
        cycles,
        1,
        alpha,
        carry,
    )
    theirs = np.array([[model["x"] for model in row] for row in history])
    assert np.array_equal(ours, theirs), "and the simulator is the reference, to the last bit"
    return ours


def spread(n_regions: int) -> Vector:
    """One orthogonal direction for each region: whole numbers, so that sums are exact."""
    return np.eye(n_regions) * 1024


def disagreement(row: Vector) -> float:
    return float(np.linalg.norm(row - row.mean(axis=0)))


def rho_post(alpha: float, n: int) -> float:
    return float(np.sqrt(1 - 2 * alpha * (1 - alpha) * (1 - np.cos(2 * np.pi / n))))


def rho_pre(alpha: float, n: int) -> float:
    roots = [np.roots([1, -(1 - alpha), -alpha * np.exp(2j * np.pi * k / n)]) for k in range(n)]
    sizes = [abs(root) for pair in roots for root in pair if abs(root - 1) > 1e-9]
    return float(max(sizes))


@pytest.mark.parametrize(("n_regions", "alpha"), [(2, 0.25), (3, 0.5), (5, 0.75)])
def test_post_keeps_the_exact_mean_of_the_regions_when_nothing_is_learned(
    n_regions: int, alpha: float
) -> None:
    cycles = 6  # so few that every mixture is still a whole number of 1/4**5 of 1024
    found = models(n_regions, cycles, alpha, "post", 0.0, spread(n_regions))
    totals = found.sum(axis=1)
    assert (totals == totals[0]).all()


@pytest.mark.parametrize(
    ("n_regions", "alpha", "table"),
    [(2, 0.1, 0.800), (2, 0.3, 0.400), (3, 0.5, 0.500), (3, 0.9, 0.854), (5, 0.3, 0.842), (5, 0.5, 0.809)],
)
def test_post_shrinks_disagreement_by_rho_every_cycle(n_regions: int, alpha: float, table: float) -> None:
    assert rho_post(alpha, n_regions) == pytest.approx(table, abs=5e-4)
    found = models(n_regions, 40, alpha, "post", 0.0, spread(n_regions))
    sizes = [disagreement(row) for row in found]
    for before, after in itertools.pairwise(sizes):
        if before < 1e-7:
            break  # rounding is as large
        assert after <= before * rho_post(alpha, n_regions) * (1 + 1e-9) + 1e-9
    last = next(n for n in range(len(sizes) - 1, 0, -1) if sizes[n] > 1e-6)
    first = last // 2
    measured = (sizes[last] / sizes[first]) ** (1 / (last - first))
    assert measured == pytest.approx(rho_post(alpha, n_regions), rel=2e-2)


@pytest.mark.parametrize(
    ("n_regions", "alpha", "table"), [(2, 0.1, 0.770), (2, 0.3, 0.548), (3, 0.5, 0.850), (5, 0.3, 0.924)]
)
def test_pre_shrinks_disagreement_as_its_characteristic_roots_say(
    n_regions: int, alpha: float, table: float
) -> None:
    assert rho_pre(alpha, n_regions) == pytest.approx(table, abs=5e-4)
    found = models(n_regions, 40, alpha, "pre", 0.0, spread(n_regions))
    sizes = [disagreement(row) for row in found]
    # Complex roots make it swing: without the decay, its peaks stay as they are.
    steady = [size / rho_pre(alpha, n_regions) ** n for n, size in enumerate(sizes)]
    last = next(n for n in range(len(sizes) - 9, 0, -1) if sizes[n] > 1e-6)
    assert max(steady[last : last + 9]) == pytest.approx(max(steady[last // 2 : last // 2 + 9]), rel=0.1)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize(("carry", "n_regions"), [("post", 2), ("post", 3), ("pre", 2), ("pre", 3)])
def test_the_mean_moves_at_the_speed_that_the_notes_say(alpha: float, carry: str, n_regions: int) -> None:
    found = models(n_regions, 50, alpha, carry, 1.0, np.zeros((n_regions, 1)))
    means = found.mean(axis=(1, 2))
    speed = (means[-1] - means[-21]) / 20
    expected = 1 - alpha if carry == "post" else 1 / (1 + alpha)
    assert speed == pytest.approx(expected, abs=1e-4)
