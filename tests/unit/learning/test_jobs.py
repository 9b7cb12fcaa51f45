"""The job table, called directly, with a small task of a user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orbitrain.learning.job_params import MAX_TASKS
from orbitrain.learning.jobs import _tasks, run_job
from orbitrain.learning.outcome import JobError
from orbitrain.learning.tensors import encode_tensors, read_tensors, write_tensors
from tests.reference.meld import combined

TASK = """
import numpy
from orbitrain.learning.tasks import Trained
class Mine:
    classes = 2
    made = 0
    def __init__(self, options, regions, seed):
        Mine.made += 1
        self.options, self.regions, self.seed = options, regions, seed
    def initial(self):
        return {"w": numpy.full((2, 2), self.seed, dtype=numpy.float32)}
    def train(self, device, weights, round_number, seed):
        if device == "broken":
            raise RuntimeError("no battery\\nsecond line")
        if device == "long":
            raise RuntimeError("x" * 10_000)
        if device == "leaves":
            raise SystemExit("bye")
        grown = {"w": weights["w"] + numpy.float32(round_number)}
        if device == "diverged":
            grown["w"][0, 0] = numpy.nan
        if device == "untyped":
            return grown
        loss = float("inf") if device == "inf" else 0.5
        return Trained(grown, 0 if device == "idle" else 10, {"loss": loss})
    def evaluate(self, weights):
        return {} if self.options.get("blind") else {"accuracy": 0.5, "order": float(len(self.regions))}
"""


@pytest.fixture
def task(tmp_path: Path):
    (tmp_path / "users_jobs.py").write_text(TASK)
    path = list(sys.path)
    yield {
        "spec": "users_jobs:Mine",
        "options": {},
        "regions": {"b": ["b1"], "a": ["a1"]},
        "seed": 3,
        "search_path": str(tmp_path),
    }
    sys.path[:] = path
    sys.modules.pop("users_jobs", None)
    _tasks.clear()


def model(path: Path, value: float, dtype: type = np.float32) -> Path:
    write_tensors(path, {"w": np.full((2, 2), value, dtype=dtype)})
    return path


def reason_of(kind: str, params: dict[str, Any], inputs: dict[str, Path], out_dir: Path) -> str:
    with pytest.raises(JobError) as caught:
        run_job(kind, params, inputs, out_dir)
    reason = str(caught.value)
    assert "\n" not in reason
    assert len(reason) <= 500
    return reason


def test_describe_tells_what_the_task_is(task: dict[str, Any], tmp_path: Path) -> None:
    result = run_job("describe", {"task": task}, {}, tmp_path / "out").result
    expected = len(encode_tensors({"w": np.zeros((2, 2), dtype=np.float32)}))
    assert result == {"name": "Mine", "parameters": 4, "model_bytes": expected, "classes": 2}


def test_initial_train_and_evaluate_pass_models_as_files(task: dict[str, Any], tmp_path: Path) -> None:
    first = run_job("initial", {"task": task}, {}, tmp_path / "0").outputs
    params = {"task": task, "device": "a1", "round": 2, "seed": 3}
    trained = run_job("train", params, first, tmp_path / "1")
    assert trained.result == {"n_samples": 10, "metrics": {"loss": 0.5}}
    assert read_tensors(trained.outputs["update"], 10_000)["w"].tolist() == [[5, 5], [5, 5]]
    result = run_job("evaluate", {"task": task}, {"model": trained.outputs["update"]}, tmp_path / "2")
    assert result.result == {"accuracy": 0.5, "order": 2.0}


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("broken", "RuntimeError: no battery"),
        ("long", "RuntimeError: xxx"),
        ("leaves", "SystemExit: bye"),
        ("diverged", "train returned a model that is not like its input: tensor 'w' has values that are not"),
        ("untyped", "train returned dict, not Trained"),
        ("idle", "train returned n_samples 0"),
        ("inf", "train returned 'loss' = inf"),
    ],
)
def test_what_goes_wrong_in_a_users_task_becomes_a_reason(
    task: dict[str, Any], tmp_path: Path, device: str, reason: str
) -> None:
    inputs = {"model": model(tmp_path / "m", 1)}
    params = {"task": task, "device": device, "round": 2, "seed": 3}
    assert reason_of("train", params, inputs, tmp_path / "out").startswith(reason)


def test_an_evaluation_without_accuracy_fails(task: dict[str, Any], tmp_path: Path) -> None:
    task["options"] = {"blind": True}
    inputs = {"model": model(tmp_path / "m", 1)}
    assert "no 'accuracy'" in reason_of("evaluate", {"task": task}, inputs, tmp_path)


def test_a_task_is_constructed_once_and_the_order_of_its_regions_counts(
    task: dict[str, Any], tmp_path: Path
) -> None:
    for _ in range(3):
        run_job("describe", {"task": dict(reversed(task.items()))}, {}, tmp_path)
    made = sys.modules["users_jobs"].Mine
    assert made.made == 1
    run_job("describe", {"task": {**task, "regions": {"a": ["a1"], "b": ["b1"]}}}, {}, tmp_path)
    assert made.made == 2
    for seed in range(10):
        run_job("describe", {"task": {**task, "seed": seed}}, {}, tmp_path)
    assert len(_tasks) == MAX_TASKS


def test_aggregate_averages_and_mixes(tmp_path: Path) -> None:
    inputs = {f"update/{k}": model(tmp_path / f"u{k}", 0.1 * k) for k in range(3)}
    plain = run_job("aggregate", {"n_samples": [1, 2, 4]}, inputs, tmp_path / "plain")
    mean = combined([(n / 7, read_tensors(inputs[f"update/{k}"], 10_000)) for k, n in enumerate([1, 2, 4])])
    assert plain.outputs.keys() == {"model"}
    assert plain.result == {"n_samples": 7}
    assert plain.outputs["model"].read_bytes() == encode_tensors(mean)

    inputs |= {"carried": model(tmp_path / "c", 9), "base": model(tmp_path / "b", 0)}
    mixed = run_job("aggregate", {"n_samples": [1, 2, 4], "alpha": 0.3}, inputs, tmp_path / "mixed")
    carried = read_tensors(inputs["carried"], 10_000)
    assert mixed.outputs["pre"].read_bytes() == encode_tensors(mean)
    assert mixed.outputs["model"].read_bytes() == encode_tensors(combined([(1 - 0.3, mean), (0.3, carried)]))


@pytest.mark.parametrize(
    ("params", "changed", "reason"),
    [
        ({"n_samples": [1, 1]}, {"update/1": 2.0}, "update/1: tensor 'w' has dtype float64, not float32"),
        ({"n_samples": [1, 1]}, {"update/1": np.nan}, "update/1: tensor 'w' has dtype"),
        ({"n_samples": [1, 1], "alpha": 0.5}, {"carried": 1.0}, "carried: tensor 'w' has dtype"),
        ({"n_samples": [1]}, {}, "also an input 'update/1'"),
        ({"n_samples": [1, 1, 1]}, {}, "needs an input 'update/2'"),
        ({"n_samples": []}, {}, "also an input"),
        ({"n_samples": [1, 0]}, {}, "update 1 has weight 0"),
        ({}, {}, "parameter 'n_samples' is None"),
    ],
)
def test_aggregate_names_the_input_that_is_bad(
    tmp_path: Path, params: dict[str, Any], changed: dict[str, float], reason: str
) -> None:
    inputs = {name: model(tmp_path / name[-1], 1) for name in ("base", "update/0", "update/1")}
    inputs |= {name: model(tmp_path / "bad", value, np.float64) for name, value in changed.items()}
    assert reason in reason_of("aggregate", params, inputs, tmp_path / "out")


def test_aggregate_refuses_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff" * 100)
    reason = reason_of("aggregate", {"n_samples": [1]}, {"update/0": tmp_path / "junk"}, tmp_path / "out")
    assert reason.startswith("update/0: header of 18446744073709551615 bytes")


def test_mixing_needs_alpha(tmp_path: Path) -> None:
    inputs = {"update/0": model(tmp_path / "u", 1), "carried": model(tmp_path / "c", 1)}
    assert "'alpha' is None" in reason_of("aggregate", {"n_samples": [1]}, inputs, tmp_path / "out")


def test_an_unknown_kind_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    assert "the kinds are aggregate, check, describe" in reason_of("dance", {}, {}, tmp_path)


def test_aggregation_loads_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    model(tmp_path / "u", 1)
    program = f"""
import sys
from pathlib import Path
import orbitrain.runtime.worker
from orbitrain.learning.jobs import run_job
here = Path({str(tmp_path)!r})
inputs = {{"update/0": here / "u", "carried": here / "u", "base": here / "u"}}
run_job("aggregate", {{"n_samples": [1], "alpha": 0.5}}, inputs, here / "out")
print([name for name in ("torch", "sklearn", "scipy", "grpc", "orbitrain.machine") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
