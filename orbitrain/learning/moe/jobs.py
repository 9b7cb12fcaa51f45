"""The jobs of a mixture of experts. Items are the parts' names: `backbone`, `gate`, `expert/0` ..

    kind          params                inputs                  outputs    result
    moe.describe  task                  -                       -          name, experts, layers, top_k,
                                                                           parameters, bytes by item
    moe.initial   task                  -                       all items  experts
    moe.check     task                  all items, or model     -          -
    moe.warm      task [, device]       -                       -          -
    moe.counts    task, device          all items               -          counts by layer and expert, samples
    moe.train     task, device, round,  backbone, gate, the     what was   n_samples, metrics, loaded_bytes,
                  seed, experts, gate,  experts to be loaded    trained    peak_bytes
                  backbone, masked
                  [, steps]
                  [, learning_rate]
    moe.assemble  -                     all items               model      -
    moe.evaluate  task                  model                   -          accuracy, ...

`moe.pack` and `moe.merge` are in `moe.updates`.

`task` is {spec, options, clusters, seed, search_path}: see `task.load_moe_task`; options and search_path may
be absent. `moe.train`: experts is a list of the numbers that are trained; gate, backbone and masked are
booleans, see `task.Wanted`. Only jobs with a task load the user's code (and so, perhaps, torch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orbitrain.learning.job_params import KeptTasks, param
from orbitrain.learning.jobs import checked_metrics, checked_scores, read_input
from orbitrain.learning.moe.assembly import assemble, read_items
from orbitrain.learning.moe.parts import (
    BACKBONE,
    GATE,
    Parts,
    bytes_of,
    check_complete,
    check_parts,
    expert_item,
    file_name,
    from_items,
    taken_apart,
)
from orbitrain.learning.moe.task import MoeTask, MoeTrained, Wanted, load_moe_task
from orbitrain.learning.moe.updates import UPDATE_KINDS
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tensors import TensorError, Tensors, encode_tensors, write_tensors

if TYPE_CHECKING:
    from orbitrain.learning.jobs import Job


def describe(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """What the model is, and how large its parts are as files."""
    task, initial = _tasks.of(params)
    result = {
        "name": type(task).__name__,
        "experts": task.experts,
        "layers": task.layers,
        "top_k": task.top_k,
        "parameters": sum(int(value.size) for part in initial.values() for value in part.values()),
        "bytes": {item: len(encode_tensors(tensors)) for item, tensors in initial.items()},
    }
    return JobResult(result, {})


def initial_parts(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """What all start from, an object for each part."""
    task, initial = _tasks.of(params)
    return JobResult({"experts": task.experts}, _written(initial, out_dir))


def check(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Compare parts that a user brings, or one file of all, with the task's own."""
    _, initial = _tasks.of(params)
    brought = _model(inputs).items() if "model" in inputs else read_items(inputs)
    _check_all(brought, initial)
    return JobResult({}, {})


def warm(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Load what the jobs to come need, and use it once: the first use of a library is the slow one."""
    task, initial = _tasks.of(params)
    parts = from_items(initial)
    if "device" in params:
        wanted = Wanted(tuple(range(task.experts)), gate=True, backbone=True, masked=False, steps=1)
        task.train(param(params, "device", str), parts, wanted, 1, param(params["task"], "seed", int))
    else:
        task.evaluate(parts)
    return JobResult({}, {})


def counts(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """How often each expert was chosen for a device's trial data; the data stay where they are."""
    task, initial = _tasks.of(params)
    items = read_items(inputs)
    _check_all(items, initial)
    found: object = task.counts(param(params, "device", str), from_items(items))
    if not isinstance(found, tuple) or len(found) != 2:
        raise JobError(f"counts returned {type(found).__name__}, not (counts, samples)")
    table, samples = np.asarray(found[0]), _whole(found[1], "counts returned samples", 1)
    if table.shape != (task.layers, task.experts) or table.dtype.kind not in "iu":
        shape = f"{table.dtype} {list(table.shape)}"
        raise JobError(f"counts returned {shape}; they must be integers [{task.layers}, {task.experts}]")
    sums = table.sum(axis=1)
    if table.min() < 0 or not (sums == samples * task.top_k).all():
        raise JobError(
            f"counts of a layer add up to {sums[0]}, not to {task.top_k} for each of {samples} samples"
        )
    return JobResult({"counts": table.tolist(), "samples": samples}, {})


def train(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """One round of one device: the parts that were trained, and what memory that took."""
    task, initial = _tasks.of(params)
    wanted = _wanted(params, task.experts)
    items = read_items(inputs)
    needed = wanted.experts if wanted.masked else range(task.experts)
    for item in (BACKBONE, GATE, *(expert_item(number) for number in needed)):
        if item not in items:
            raise JobError(f"the job needs an input {item!r}")
    check_parts(items, initial)
    round_number = _whole(params.get("round"), "the job's parameter 'round'", 1)
    seed, device = param(params, "seed", int), param(params, "device", str)
    trained: object = task.train(device, from_items(items), wanted, round_number, seed)
    if not isinstance(trained, MoeTrained) or not isinstance(trained.parts, Parts):
        raise JobError(f"train returned {type(trained).__name__}, not MoeTrained with its Parts")
    loaded_bytes = _whole(trained.loaded_bytes, "train returned loaded_bytes", 1)
    result = {
        "n_samples": _whole(trained.n_samples, "train returned n_samples", 1),
        "metrics": checked_metrics(trained.metrics, "train"),
        "loaded_bytes": loaded_bytes,
        "peak_bytes": max(loaded_bytes, _whole(trained.peak_bytes, "train returned peak_bytes", 0)),
    }
    new = _checked(trained.parts, "train")
    asked = {*(expert_item(number) for number in wanted.experts)}
    asked |= {item for item, given in ((GATE, wanted.gate), (BACKBONE, wanted.backbone)) if given}
    if new.keys() != asked:
        raise JobError(
            f"train returned {sorted(new)}; it must return what was to be trained, {sorted(asked)}"
        )
    try:
        check_parts(new, initial)
    except TensorError as error:
        raise JobError(f"train returned parts that are not like its input: {error}") from error
    return JobResult(result, _written(new, out_dir))


def evaluate(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """A whole model on what is held out from all."""
    task, initial = _tasks.of(params)
    parts = _model(inputs)
    _check_all(parts.items(), initial)
    return JobResult(checked_scores(task.evaluate(parts)), {})


KINDS: Final[Mapping[str, Job]] = {
    "moe.describe": describe,
    "moe.initial": initial_parts,
    "moe.check": check,
    "moe.warm": warm,
    "moe.counts": counts,
    "moe.train": train,
    "moe.assemble": assemble,
    "moe.evaluate": evaluate,
    **UPDATE_KINDS,
}
"""As `learning.jobs.KINDS`."""


def _load(
    spec: str,
    options: Mapping[str, object],
    clusters: Mapping[str, Sequence[str]],
    seed: int,
    search_path: Path | None,
) -> tuple[MoeTask, dict[str, Tensors]]:
    task = load_moe_task(spec, options, clusters, seed, search_path)
    return task, _initial(task)


_tasks: KeptTasks[tuple[MoeTask, dict[str, Tensors]]] = KeptTasks("clusters", _load)
"""Of each also what it starts from."""


def _initial(task: MoeTask) -> dict[str, Tensors]:
    parts: object = task.initial()
    if not isinstance(parts, Parts):
        raise JobError(f"initial returned {type(parts).__name__}, not Parts")
    items = _checked(parts, "initial")
    check_complete(items)
    check_parts(items, items)
    if len(items) != task.experts + 2:
        raise JobError(f"initial returned {len(items) - 2} experts; the task has {task.experts}")
    if any(not bytes_of(tensors) for tensors in items.values()):
        raise JobError("initial returned a part without values")
    return items


def _checked(parts: Parts, method: str) -> dict[str, Tensors]:
    """What a user's code returns is checked at run time, whatever it is annotated with."""
    named: dict[object, object] = {BACKBONE: parts.backbone, GATE: parts.gate, "experts": parts.experts}
    if isinstance(parts.experts, dict):
        if any(type(number) is not int or number < 0 for number in parts.experts):
            raise JobError(f"{method} returned experts whose numbers are not whole")
        named |= {expert_item(number): tensors for number, tensors in parts.experts.items()}
    for item, tensors in named.items():
        if not isinstance(tensors, dict):
            raise JobError(f"{method} returned {item!r}: {type(tensors).__name__}, not a dict")
        if item != "experts":
            for name, tensor in tensors.items():
                if not isinstance(name, str) or not isinstance(tensor, np.ndarray):
                    raise JobError(f"{method} returned {item}: {name!r}, which is not a numpy array by name")
    return parts.items()


def _check_all(items: Mapping[str, Tensors], initial: Mapping[str, Tensors]) -> None:
    check_complete(items)
    if len(items) != len(initial):
        raise JobError(f"there are {len(items) - 2} experts, the task has {len(initial) - 2}")
    check_parts(items, initial)


def _model(inputs: Mapping[str, Path]) -> Parts:
    return taken_apart(read_input(inputs, "model"))


def _wanted(params: Mapping[str, Any], experts: int) -> Wanted:
    numbers = param(params, "experts", list)
    if any(type(number) is not int or not 0 <= number < experts for number in numbers):
        raise JobError(f"the job's parameter 'experts' is {numbers!r}; there are experts 0 to {experts - 1}")
    if len(set(numbers)) != len(numbers):
        raise JobError(f"the job's parameter 'experts' is {numbers!r}; it names one twice")
    flags = {}
    for name in ("gate", "backbone", "masked"):
        if not isinstance(params.get(name), bool):
            raise JobError(f"the job's parameter {name!r} is {params.get(name)!r}")
        flags[name] = params[name]
    if flags["masked"] and not numbers:
        raise JobError("a masked gate needs at least one expert to choose")
    if not numbers and not flags["gate"] and not flags["backbone"]:
        raise JobError("nothing is to be trained")
    steps, rate = params.get("steps"), params.get("learning_rate")
    if steps is not None:
        steps = _whole(steps, "the job's parameter 'steps'", 1)
    if rate is not None:
        rate = float(param(params, "learning_rate", int | float))
        if not 0.0 < rate < math.inf:
            raise JobError(f"the job's parameter 'learning_rate' is {rate!r}; it must be a positive number")
    return Wanted(tuple(sorted(numbers)), **flags, learning_rate=rate, steps=steps)


def _whole(value: object, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise JobError(f"{what} {value!r}; it must be a whole number of at least {least}")
    return int(value)


def _written(items: Mapping[str, Tensors], out_dir: Path) -> dict[str, Path]:
    outputs: dict[str, Path] = {}
    for item, tensors in items.items():
        outputs[item] = out_dir / file_name(item)
        write_tensors(outputs[item], tensors)
    return outputs
