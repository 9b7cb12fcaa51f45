"""The jobs that a worker runs: one function for each kind, in the table `KINDS`.

    kind       params                     inputs                           outputs        result
    describe   task                       -                                -              name, parameters,
                                                                                          model_bytes, classes
    initial    task                       -                                model          model_bytes
    train      task, device, round, seed  model                            update         n_samples, metrics
    aggregate  n_samples [, alpha]        update/0.. [, base] [, carried]  model [, pre]  n_samples
    evaluate   task                       model                            -              accuracy, ...

`task` is {spec, options, regions, seed, search_path}: see `tasks.load_task`; options and search_path may be
absent. Inputs and outputs are files of safetensors. Only the jobs with a task load the user's code (and so,
perhaps, torch); `aggregate` needs numpy alone, and is all that a carrying satellite ever asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from orbitrain.learning.aggregation import Labelled, Mixing, aggregate
from orbitrain.learning.job_params import KeptTasks, param
from orbitrain.learning.model_file import ModelFile
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tasks import Task, TaskError, Trained, load_task, one_line
from orbitrain.learning.tensors import (
    MAX_MODEL_BYTES,
    TensorError,
    Tensors,
    check_like,
    encode_tensors,
    read_tensors,
    write_tensors,
)

Job: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Path], Path], JobResult]
"""A kind of job: (params, input files by name, an existing folder for outputs) to a result.

Raises JobError, TaskError or TensorError with a reason of one line; other exceptions are the user's task's.
"""

_tasks: KeptTasks[Task] = KeptTasks("regions", load_task)


def run_job(kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Run one job. `out_dir` is created if absent. Raises JobError, whatever goes wrong in it."""
    job = _job_of(kind)
    if job is None:
        raise JobError(
            f"there is no job {kind!r}; the kinds are {', '.join(sorted(KINDS))}, {SPLIT}..., {MIXTURE}..."
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        return job(params, inputs, out_dir)
    except JobError:
        raise
    except (TaskError, TensorError) as error:
        raise JobError(str(error)) from error
    except (Exception, SystemExit) as error:  # the worker's edge: a user's exit() fails a job, not the worker
        raise JobError(one_line(error)) from error


def _describe(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    task = _tasks.of(params)
    weights = _initial_weights(task)
    classes = getattr(task, "classes", None)
    result = {
        "name": type(task).__name__,
        "parameters": sum(int(value.size) for value in weights.values()),
        "model_bytes": len(encode_tensors(weights)),
        "classes": classes if isinstance(classes, int) else None,
    }
    return JobResult(result, {})


def _initial(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    path = out_dir / "model.safetensors"
    write_tensors(path, _initial_weights(_tasks.of(params)))
    return JobResult({"model_bytes": path.stat().st_size}, {"model": path})


def _check(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Compare weights that a user brings with the task's own: names, shapes, types, finite values."""
    check_like(read_input(inputs, "model"), _initial_weights(_tasks.of(params)))
    return JobResult({}, {})


def _warm(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Load what the jobs to come need, and use it once: the first use of a library is the slow one."""
    if "samples" in params:
        run_job(f"{SPLIT}warm", {"task": params["samples"]}, {}, out_dir)
    if "experts" in params:
        device = {"device": params["device"]} if "device" in params else {}
        run_job(f"{MIXTURE}warm", {"task": params["experts"], **device}, {}, out_dir)
    if "task" in params:
        task = _tasks.of(params)
        weights = _initial_weights(task)
        if "device" in params:
            task.train(param(params, "device", str), weights, 1, param(params, "seed", int))
        else:
            task.evaluate(weights)
    return JobResult({}, {})


def _train(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    task = _tasks.of(params)
    model = read_input(inputs, "model")
    trained: object = task.train(
        param(params, "device", str), model, param(params, "round", int), param(params, "seed", int)
    )
    if not isinstance(trained, Trained):
        raise JobError(f"train returned {type(trained).__name__}, not Trained")
    n_samples: object = trained.n_samples
    if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer) or n_samples < 1:
        raise JobError(f"train returned n_samples {n_samples!r}; it must be an integer of at least 1")
    try:
        check_like(_weights(trained.weights, "train"), model)
    except TensorError as error:
        raise JobError(f"train returned a model that is not like its input: {error}") from error
    path = out_dir / "update.safetensors"
    write_tensors(path, trained.weights)
    result = {"n_samples": int(n_samples), "metrics": checked_metrics(trained.metrics, "train")}
    return JobResult(result, {"update": path})


def _aggregate(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    n_samples = param(params, "n_samples", list)
    names = [f"update/{index}" for index in range(len(n_samples))]
    unexpected = sorted(set(inputs) - {*names, "base", "carried"})
    if unexpected:
        raise JobError(f"there are {len(names)} weights in n_samples, but also an input {unexpected[0]!r}")
    if not names:
        raise JobError("there is no update to aggregate")
    outputs = {"model": out_dir / "model.safetensors"}
    updates = [(_model_file(inputs, name), n) for name, n in zip(names, n_samples, strict=True)]
    base = _model_file(inputs, "base") if "base" in inputs else updates[0][0]
    mixing = None
    if "carried" in inputs:
        outputs["pre"] = out_dir / "pre.safetensors"
        alpha = float(param(params, "alpha", int | float))
        mixing = Mixing(_model_file(inputs, "carried"), alpha, outputs["pre"])
    try:
        aggregate(updates, base.model.specs, outputs["model"], mixing)
    except TensorError as error:  # it names the input that is bad, so that its sender can be refused
        raise JobError(str(error)) from error
    return JobResult({"n_samples": sum(n_samples)}, outputs)


def _evaluate(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    return JobResult(checked_scores(_tasks.of(params).evaluate(read_input(inputs, "model"))), {})


KINDS: Mapping[str, Job] = {
    "describe": _describe,
    "initial": _initial,
    "check": _check,
    "warm": _warm,
    "train": _train,
    "aggregate": _aggregate,
    "evaluate": _evaluate,
}


SPLIT = "sfft."
"""How the kinds of split learning begin, which are in `split.jobs`, loaded where one is asked for."""

MIXTURE = "moe."
"""How the kinds of a mixture of experts begin, which are in `moe.jobs`."""


def _job_of(kind: str) -> Job | None:
    if kind.startswith(MIXTURE):
        from orbitrain.learning.moe.jobs import KINDS as MIXTURE_KINDS

        return MIXTURE_KINDS.get(kind)
    if not kind.startswith(SPLIT):
        return KINDS.get(kind)
    from orbitrain.learning.split.jobs import KINDS as SPLIT_KINDS  # needs onnxruntime
    from orbitrain.learning.split.jobs import run

    return partial(run, kind) if kind in SPLIT_KINDS else None


def _initial_weights(task: Task) -> Tensors:
    weights = _weights(task.initial(), "initial")
    check_like(weights, weights)
    return weights


def _weights(value: object, method: str) -> Tensors:
    """What a user's code returns is checked at run time, whatever it is annotated with."""
    if not isinstance(value, dict) or not value:
        raise JobError(f"{method} returned {type(value).__name__}, not a dict of arrays")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, np.ndarray):
            raise JobError(f"{method} returned {name!r}: {type(tensor).__name__}, not a numpy array")
    return value


def checked_metrics(value: object, method: str) -> dict[str, float]:
    """Metrics that a user's `method` returned. Raises JobError unless they are finite numbers by name."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise JobError(f"{method} returned metrics that are not a dict of numbers by name")
    metrics = {name: float(value[name]) for name in sorted(value)}
    for name, number in metrics.items():
        if not math.isfinite(number):
            raise JobError(f"{method} returned {name!r} = {number}; metrics must be finite")
    return metrics


def checked_scores(value: object) -> dict[str, float]:
    """As `checked_metrics`, of `evaluate`. Raises JobError unless accuracy is among them."""
    metrics = checked_metrics(value, "evaluate")
    if "accuracy" not in metrics:
        raise JobError("evaluate returned no 'accuracy'")
    return metrics


def read_input(inputs: Mapping[str, Path], name: str) -> Tensors:
    """The tensors of an input. Raises JobError if it is absent or unreadable."""
    if name not in inputs:
        raise JobError(f"the job needs an input {name!r}")
    try:
        return read_tensors(inputs[name], MAX_MODEL_BYTES)
    except TensorError as error:
        raise JobError(f"{name}: {error}") from error


def _model_file(inputs: Mapping[str, Path], name: str) -> Labelled:
    if name not in inputs:
        raise JobError(f"the job needs an input {name!r}")
    try:
        return Labelled(name, ModelFile(inputs[name], MAX_MODEL_BYTES))
    except TensorError as error:
        raise JobError(f"{name}: {error}") from error
