"""The jobs of a mixture of experts, with a small one of a user's own that has no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orbitrain.learning.job_params import MAX_TASKS
from orbitrain.learning.jobs import run_job
from orbitrain.learning.moe.jobs import _tasks
from orbitrain.learning.outcome import JobError
from orbitrain.learning.tensors import encode_tensors, read_tensors, write_tensors

TASK = """
import numpy
from orbitrain.learning.moe.parts import Parts
from orbitrain.learning.moe.task import MoeTrained
class Mine:
    experts, layers, top_k = 3, 2, 2
    made = 0
    def __init__(self, options, clusters, seed):
        Mine.made += 1
        if "top_k" in options:
            self.top_k = options["top_k"]
        if options.get("bad"):
            raise ValueError("take less\\nsecond line")
        self.options, self.seed = options, seed
    def initial(self):
        def full(value): return {"w": numpy.full((2, 2), value, dtype=numpy.float32)}
        experts = {n: full(n) for n in range(self.options.get("returned", 3))}
        return Parts(full(7), full(8) if not self.options.get("gateless") else {}, experts)
    def counts(self, device, parts):
        if device == "short":
            return numpy.ones((2, 3), dtype=numpy.int64), 4
        if device == "flat":
            return numpy.array([4, 4, 0]), 4
        return numpy.array([[4, 4, 0], [2, 3, 3]]), 4
    def train(self, device, parts, wanted, round_number, seed):
        if device == "broken":
            raise RuntimeError("no battery\\nsecond line")
        def grown(tensors): return {"w": tensors["w"] + numpy.float32(round_number)}
        experts = {n: grown(parts.experts[n]) for n in wanted.experts}
        if device == "diverged":
            experts[wanted.experts[0]]["w"][0, 0] = numpy.nan
        if device == "reshaped":
            experts[wanted.experts[0]]["w"] = numpy.zeros(3, dtype=numpy.float32)
        if device == "eager":
            experts = {n: grown(tensors) for n, tensors in parts.experts.items()}
        backbone = grown(parts.backbone) if wanted.backbone else {}
        new = Parts(backbone, grown(parts.gate) if wanted.gate else {}, experts)
        if device == "untyped":
            return new
        loss = float("inf") if device == "inf" else 0.5
        held = 0 if device == "weightless" else 16 * (2 + len(parts.experts) + len(wanted.experts))
        return MoeTrained(new, 0 if device == "idle" else 10, held, {"loss": loss})
    def evaluate(self, parts):
        return {} if self.options.get("blind") else {"accuracy": 0.5, "experts": float(len(parts.experts))}
"""
MASKED = {"experts": [1], "gate": False, "backbone": False, "masked": True}
OPEN = {"experts": [2, 0], "gate": True, "backbone": True, "masked": False}


@pytest.fixture
def task(tmp_path: Path):
    (tmp_path / "users_moe.py").write_text(TASK)
    path = list(sys.path)
    yield {
        "spec": "users_moe:Mine",
        "options": {},
        "clusters": {"b": ["b1"], "a": ["a1"]},
        "seed": 3,
        "search_path": str(tmp_path),
    }
    sys.path[:] = path
    sys.modules.pop("users_moe", None)
    _tasks.clear()


@pytest.fixture
def items(task: dict[str, Any], tmp_path: Path) -> dict[str, Path]:
    return dict(run_job("moe.initial", {"task": task}, {}, tmp_path / "initial").outputs)


def reason_of(kind: str, params: dict[str, Any], inputs: dict[str, Path], out_dir: Path) -> str:
    with pytest.raises(JobError) as caught:
        run_job(kind, params, inputs, out_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value_of(path: Path) -> float:
    return float(read_tensors(path, 10_000)["w"][0, 0])


def test_describe_and_initial_name_the_same_parts(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path
) -> None:
    assert list(items) == ["backbone", "gate", "expert/0", "expert/1", "expert/2"]
    result = run_job("moe.describe", {"task": task}, {}, tmp_path / "out").result
    size = len(encode_tensors({"w": np.zeros((2, 2), np.float32)}))
    assert result == {
        "name": "Mine",
        "experts": 3,
        "layers": 2,
        "top_k": 2,
        "parameters": 20,
        "bytes": dict.fromkeys(items, size),
    }
    assert {item: path.stat().st_size for item, path in items.items()} == result["bytes"]


def test_a_masked_round_takes_its_own_experts_and_gives_them_back(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path
) -> None:
    given = {item: items[item] for item in ("backbone", "gate", "expert/1")}
    params = {"task": task, "device": "a1", "round": 2, "seed": 3, **MASKED, "steps": 4, "learning_rate": 1}
    done = run_job("moe.train", params, given, tmp_path / "out")
    assert {item: value_of(path) for item, path in done.outputs.items()} == {"expert/1": 3.0}
    assert done.result == {"n_samples": 10, "metrics": {"loss": 0.5}, "loaded_bytes": 64, "peak_bytes": 64}


def test_an_open_round_gives_back_all_that_was_trained(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path
) -> None:
    params = {"task": task, "device": "a1", "round": 1, "seed": 3, **OPEN}
    done = run_job("moe.train", params, items, tmp_path / "out")
    new = {item: value_of(path) for item, path in done.outputs.items()}
    assert new == {"backbone": 8, "gate": 9, "expert/0": 1, "expert/2": 3}


def test_counts_come_as_lists_by_layer(task: dict[str, Any], items: dict[str, Path], tmp_path: Path) -> None:
    result = run_job("moe.counts", {"task": task, "device": "a1"}, items, tmp_path / "out").result
    assert result == {"counts": [[4, 4, 0], [2, 3, 3]], "samples": 4}


def test_an_assembled_model_is_checked_and_evaluated(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path
) -> None:
    model = run_job("moe.assemble", {}, items, tmp_path / "out").outputs
    assert list(read_tensors(model["model"], 10_000)) == [f"{item}:w" for item in sorted(items)]
    result = run_job("moe.evaluate", {"task": task}, dict(model), tmp_path / "e").result
    assert result == {"accuracy": 0.5, "experts": 3.0}
    for given in (items, dict(model)):
        assert run_job("moe.check", {"task": task}, given, tmp_path / "c").result == {}
    for more in ({}, {"device": "a1"}):
        run_job("moe.warm", {"task": task, **more}, {}, tmp_path / "w")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("broken", "RuntimeError: no battery"),
        (
            "diverged",
            "train returned parts that are not like its input: expert/1: tensor 'w' has values that",
        ),
        ("reshaped", "train returned parts that are not like its input: expert/1: tensor 'w' has shape [3]"),
        ("eager", "train returned ['expert/0', 'expert/1', 'expert/2']; it must return what was to be"),
        ("untyped", "train returned Parts, not MoeTrained"),
        ("idle", "train returned n_samples 0"),
        ("weightless", "train returned loaded_bytes 0"),
        ("inf", "train returned 'loss' = inf"),
    ],
)
def test_what_goes_wrong_in_a_users_round_becomes_a_reason(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path, device: str, reason: str
) -> None:
    params = {"task": task, "device": device, "round": 1, "seed": 3, **MASKED}
    assert reason_of("moe.train", params, items, tmp_path / "out").startswith(reason)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"experts": [3]}, "'experts' is [3]; there are experts 0 to 2"),
        ({"experts": [True]}, "there are experts 0 to 2"),
        ({"experts": [1, 1]}, "names one twice"),
        ({"experts": []}, "a masked gate needs at least one expert"),
        ({"experts": [], "masked": False}, "nothing is to be trained"),
        ({"gate": 1}, "'gate' is 1"),
        ({"masked": None}, "'masked' is None"),
        ({"steps": 0}, "'steps' 0; it must be a whole number of at least 1"),
        ({"learning_rate": 0}, "'learning_rate' is 0.0; it must be a positive number"),
        ({"round": 0}, "'round' 0"),
        ({"device": 5}, "'device' is 5"),
        ({"experts": [0]}, "the job needs an input 'expert/0'"),
        ({"masked": False}, "the job needs an input 'expert/0'"),
    ],
)
def test_a_round_that_cannot_be_is_refused(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    given = {item: items[item] for item in ("backbone", "gate", "expert/1")}
    params = {"task": task, "device": "a1", "round": 1, "seed": 3, **MASKED, **changed}
    assert reason in reason_of("moe.train", params, given, tmp_path / "out")


def test_parts_of_another_model_are_refused_by_name(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path
) -> None:
    write_tensors(tmp_path / "other", {"w": np.zeros((2, 3), np.float32)})
    other = {**items, "expert/1": tmp_path / "other"}
    reason = "expert/1: tensor 'w' has shape [2, 3], not [2, 2]"
    params = {"task": task, "device": "a1", "round": 1, "seed": 3, **MASKED}
    for kind in ("moe.check", "moe.counts", "moe.train"):
        assert reason_of(kind, params, other, tmp_path / "out") == reason
    model = dict(run_job("moe.assemble", {}, other, tmp_path / "m").outputs)
    assert reason_of("moe.evaluate", {"task": task}, model, tmp_path / "out") == reason
    (tmp_path / "junk").write_bytes(b"junk")
    junk = {**items, "gate": tmp_path / "junk"}
    assert reason_of("moe.assemble", {}, junk, tmp_path / "out").startswith("gate: file of 4 bytes")
    del items["expert/2"]
    assert "there are 2 experts, the task has 3" in reason_of("moe.check", params, items, tmp_path / "out")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("short", "counts of a layer add up to 3, not to 2 for each of 4 samples"),
        ("flat", "counts returned int64 [3]; they must be integers [2, 3]"),
    ],
)
def test_counts_that_do_not_add_up_are_refused(
    task: dict[str, Any], items: dict[str, Path], tmp_path: Path, device: str, reason: str
) -> None:
    assert reason_of("moe.counts", {"task": task, "device": device}, items, tmp_path / "out") == reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bad": True}, "task 'users_moe:Mine': take less"),
        ({"top_k": 4}, "task 'users_moe:Mine': top_k is 4, but there are 3 experts"),
        ({"top_k": 0}, "task 'users_moe:Mine': top_k is 0; it must be a whole number"),
        ({"returned": 2}, "initial returned 2 experts; the task has 3"),
        ({"gateless": True}, "'gate' is missing (1 missing in all)"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(
    task: dict[str, Any], tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    params = {"task": {**task, "options": options}}
    assert reason_of("moe.describe", params, {}, tmp_path).startswith(reason)


def test_what_is_no_mixture_is_refused(task: dict[str, Any], tmp_path: Path) -> None:
    params = {"task": {**task, "spec": "orbitrain.learning.tasks:Trained"}}
    assert "no method initial, counts, train" in reason_of("moe.describe", params, {}, tmp_path)
    assert "there is no job 'moe.dance'" in reason_of("moe.dance", params, {}, tmp_path)


def test_a_task_is_constructed_once_and_the_order_of_its_clusters_counts(
    task: dict[str, Any], tmp_path: Path
) -> None:
    for _ in range(3):
        run_job("moe.describe", {"task": dict(reversed(task.items()))}, {}, tmp_path)
    made = sys.modules["users_moe"].Mine
    assert made.made == 1
    run_job("moe.describe", {"task": {**task, "clusters": {"a": ["a1"], "b": ["b1"]}}}, {}, tmp_path)
    assert made.made == 2
    for seed in range(6):
        run_job("moe.describe", {"task": {**task, "seed": seed}}, {}, tmp_path)
    assert len(_tasks) == MAX_TASKS


def test_to_assemble_takes_no_torch(items: dict[str, Path], tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from orbitrain.learning.jobs import run_job
inputs = {{item: Path(path) for item, path in { {k: str(v) for k, v in items.items()}!r}.items()}}
run_job("moe.assemble", {{}}, inputs, Path({str(tmp_path / "out")!r}))
print([name for name in ("torch", "sklearn", "scipy", "onnxruntime") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_documented_example_learns(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "moe.md").read_text(encoding="utf-8")
    (tmp_path / "documented_moe.py").write_text(page.split("```python\n")[1].split("```")[0])
    path = list(sys.path)
    clusters = {"a": ["a1"], "b": ["b1"]}
    task = {"spec": "documented_moe:Stripes", "clusters": clusters, "seed": 1, "search_path": str(tmp_path)}
    try:
        items = dict(run_job("moe.initial", {"task": task}, {}, tmp_path / "0").outputs)
        for number, device in enumerate(("a1", "b1")):
            counted = run_job("moe.counts", {"task": task, "device": device}, items, tmp_path / "c").result
            assert counted["counts"][0][number] == counted["samples"]
            for round_number in range(1, 11):
                wanted = {**MASKED, "experts": [number], "device": device, "round": round_number, "seed": 1}
                folder = tmp_path / f"{device}-{round_number}"
                items |= run_job("moe.train", {"task": task, **wanted}, items, folder).outputs
        model = dict(run_job("moe.assemble", {}, items, tmp_path / "m").outputs)
        assert run_job("moe.evaluate", {"task": task}, model, tmp_path / "e").result["accuracy"] > 0.85
    finally:
        sys.path[:] = path
        sys.modules.pop("documented_moe", None)
        _tasks.clear()
