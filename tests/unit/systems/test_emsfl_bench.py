"""The rules by which bench/emsfl.py compares protocols, on runs made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.experts.course import CASES, PROTOCOLS, Trial, scenario_of
from bench.experts.table import Field, at_end, cost, table

CASE, RATES, SEEDS = "specialised", (0.1, 0.3), (1, 2)


def run(*accuracies: float, **changes: Any) -> dict[str, Any]:
    """Two clusters of a device each, a pass every 100 s, a model of each pass 50 s after its beginning."""
    count = len(accuracies)
    made: dict[str, Any] = {
        "initial": 0.5,
        "clusters": 2,
        "devices": 2,
        "passes": [100.0 * n for n in range(count)],
        "models": [[100.0 * n + 50, accuracy] for n, accuracy in enumerate(accuracies)],
        "announced": [[100.0 * n + 40, 3000] for n in range(count)],
        "moved": [[100.0 * n + 45, 2000] for n in range(count)],
        "repeated": [1, 4],
        "trained": [[100.0 * n + 20, 30.0, n % 2 == 0] for n in range(count)],
        "loaded_bytes": 1000,
        "expert_bytes": 100,
        "experts": 2,
        "gamma": {"mean": 2.0, "predicted_reduction": 0.5},
        "owned": [["a", "b"]],
        "refused": 0,
    }
    return made | changes


def field(**others: dict[str, Any]) -> Field:
    """The baseline gains 0.2 with step 0.3 and 0.1 with step 0.1."""
    runs = {}
    for seed in SEEDS:
        for protocol in PROTOCOLS:
            runs[Trial(CASE, protocol, 0.1, seed)] = run(0.55, 0.6, 0.6, 0.6)
            runs[Trial(CASE, protocol, 0.3, seed)] = run(0.55, 0.6, 0.7, 0.7)
    for key, other in others.items():
        protocol, step, seed = key.split("_")
        runs[Trial(CASE, protocol, int(step) / 10, int(seed))] = other
    return Field(CASE, runs, RATES, SEEDS)


def test_targets_are_of_the_baseline_with_the_step_that_ends_highest() -> None:
    assert field().targets() == [pytest.approx([0.6, 0.68])] * 2
    assert at_end(run(0.1, 0.6, 0.8)) == pytest.approx(0.7)


def test_what_a_target_took_is_counted_until_its_first_model() -> None:
    found = cost(run(0.55, 0.6, 0.7), 0.6)
    assert found is not None
    assert (found.cycles, found.hours * 3600) == (1.0, pytest.approx(150))
    assert (found.announced_kb, found.up_kb, found.contact_s) == (3.0, 2.0, 15.0)
    assert cost(run(0.55, 0.6), 0.61) is None


def test_a_step_that_does_not_come_to_the_target_is_not_chosen() -> None:
    assert field().best("FedAvg") == 0.3
    failing = field(FedAvg_3_2=run(0.55, 0.55, 0.55, 0.55), FedAvg_1_1=run(0.7, 0.7, 0.7, 0.7))
    assert failing.best("FedAvg") == 0.1


def test_a_target_that_was_not_reached_is_said_to_be() -> None:
    shown = field(FedAvg_3_2=run(0.55, 0.55, 0.55, 0.55))
    text = table(CASE, shown.runs, RATES, SEEDS)
    assert "| 90% | FedAvg | 0.3 | 1.5 (1.5, never) |" in text
    assert "best steps 0% / 0%" in text


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_scenarios_of_the_bench_are_valid(case: str, protocol: str) -> None:
    scenario = scenario_of(Trial(case, protocol, 0.3, 5), 1000)
    assert scenario.emsfl.rounds_max == (1 if protocol == "synchronous" else 10)
    assert (scenario.seed, scenario.task.options["learning_rate"]) == (5, 0.3)
