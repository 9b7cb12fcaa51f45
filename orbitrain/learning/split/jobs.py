"""The jobs of split learning: what satellites and the ground server have their workers do.

    kind           params                        inputs                      outputs            result
    sfft.cut       model                         -                           embedding,          identity,
                                                                             backbone, head      flops
    sfft.device    backbone_device               [backbone]                  -                   device
    sfft.check     task, samples                 embedding, backbone, head   -                   -
    sfft.warm      task                          -                           -                   -
    sfft.embed     task, satellite, round,       embedding                   chunk/0..          -
                   samples, chunk_samples, wire
    sfft.features  as sfft.embed                 embedding, backbone         features/0..       -
    sfft.backbone  wire, backbone_device         backbone, chunk/OWNER/0..   features/OWNER/0.. -
    sfft.head      task, satellite, round,       head, features/0..          part/0..           loss,
                   samples, parts, steps,                                                       accuracy
                   learning_rate, batch
    sfft.add       -                             sum/0..                     sum                -
    sfft.join      -                             part/0..                    sum                -
    sfft.mean      weight                        sum/0.., like               head               -
    sfft.evaluate  task                          embedding, backbone, head   -                  accuracy, loss

`task` is {spec, options, satellites, seed, search_path}: see `data.load_samples`. Pieces are ONNX files,
chunks and features `blocks`, heads safetensors. A part is a run of the values of a head times its samples, in
float64: weight, then bias. Only onnxruntime and numpy are needed, beside what the samples themselves load.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.split.batching import embed, run_blocks
from orbitrain.learning.split.blocks import Block, BlockError, check_block, decode_block, encode_block
from orbitrain.learning.split.data import Samples, load_samples
from orbitrain.learning.split.linear_head import HeadError, LinearHead, Steps
from orbitrain.learning.split.onnx_piece import OnnxError, OnnxPiece, check_device
from orbitrain.learning.tasks import derive_seed
from orbitrain.learning.tensors import (
    MAX_MODEL_BYTES,
    TensorError,
    Tensors,
    check_finite,
    read_tensors,
    write_tensors,
)

PIECES_MAX: Final = 4
"""Pieces and samples kept loaded in one worker: a node has two, an evaluation three."""

BLOCK_SAMPLES_MAX: Final = 4_096
"""Samples of one chunk: of a ViT-B/16 these are 2.5 GB, more than any link's contact takes."""

_SUM: Final = "sum"
_loaded: dict[str, Any] = {}


def cut_model(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """A model made, cut and exported: on the ground, with torch."""
    from orbitrain.learning.split.cut import CutError, cut
    from orbitrain.learning.split.export import export
    from orbitrain.learning.split.pieces import load_model

    model = params["model"]
    path = model.get("search_path")
    try:
        made = load_model(model["spec"], model.get("options") or {}, model["seed"], path and Path(path))
        pieces = cut(made)
    except CutError as error:
        raise JobError(str(error)) from error
    outputs = {}
    for name, piece in (("embedding", pieces.embedding), ("backbone", pieces.backbone)):
        outputs[name] = export(piece, out_dir / f"{name}.onnx").path
    outputs["head"] = out_dir / "head.safetensors"
    write_tensors(outputs["head"], pieces.head.tensors())
    result = {"identity": pieces.identity.to_json(), "flops": asdict(pieces.flops)}
    return JobResult(result, outputs)


def check_device_of_backbone(
    params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
) -> JobResult:
    """The backbone can be run on what is asked for; with its file it is tried, and told what it came to."""
    check_device(params["backbone_device"])
    device = _piece(inputs, "backbone", params["backbone_device"]).device if inputs else None
    return JobResult({"device": device}, {})


def check_samples(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Every satellite has its samples, and they are what the model takes."""
    samples, piece, head = _samples(params), _piece(inputs, "embedding"), _head(inputs, "head")
    for satellite in params["task"]["satellites"]:
        numbers = _batch({**params, "satellite": satellite, "round": 1})[1]
        labels = samples.labels(satellite, numbers)
        if labels.min() < 0 or labels.max() >= len(head.bias):
            raise JobError(
                f"{satellite} has labels up to {labels.max()}, the head has {len(head.bias)} classes"
            )
    first = samples.inputs(satellite, numbers[:1])
    if first.shape[1:] != piece.takes:
        raise JobError(f"inputs are {list(first.shape[1:])}, the model takes {list(piece.takes)}")
    return JobResult({}, {})


def warm_up(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """The samples are loaded."""
    _samples(params)
    return JobResult({}, {})


def embed_samples(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """A satellite's batch through the embedding."""
    return _saved("chunk", _embedded(params, inputs), params, out_dir)


def features_on_board(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """A satellite's batch through embedding and backbone."""
    backbone = _piece(inputs, "backbone")
    blocks = (run_blocks(backbone, [block], block.made_by)[0] for block in _embedded(params, inputs))
    return _saved("features", blocks, params, out_dir)


def _embedded(params: Mapping[str, Any], inputs: Mapping[str, Path]) -> Iterator[Block]:
    """A chunk at a time."""
    satellite, numbers = _batch(params)
    samples, piece, size = _samples(params), _piece(inputs, "embedding"), params["chunk_samples"]
    for start in range(0, len(numbers), size):
        some = numbers[start : start + size]
        yield embed(piece, satellite, some, samples.inputs(satellite, some))


def _saved(name: str, blocks: Iterable[Block], params: Mapping[str, Any], out_dir: Path) -> JobResult:
    wire = params.get("wire", "float32")
    outputs = {}
    for place, block in enumerate(blocks):
        path = outputs[f"{name}/{place}"] = out_dir / f"{name}-{place}"
        path.write_bytes(encode_block(block, wire))
    return JobResult({}, outputs)


def run_backbone(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Chunks of any owners through the backbone; no sample's result depends on the others."""
    piece = _piece(inputs, "backbone", params.get("backbone_device", "cpu"))
    wire = params.get("wire", "float32")
    names = sorted(name for name in inputs if name.startswith("chunk/"))
    outputs = {}
    for place, name in enumerate(names):
        block = _block(inputs[name], name, piece.takes)
        (done,) = run_blocks(piece, [block], block.made_by)
        owner = name.split("/")[1]
        if block.owner != owner:
            raise JobError(f"{name}: has samples of {block.owner[:64]!r}")
        path = outputs[f"features/{name.partition('/')[2]}"] = out_dir / f"features-{place}"
        path.write_bytes(encode_block(done, wire))
    return JobResult({}, outputs)


def step_head(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Local steps on one's own features and labels, the result times the samples, in parts."""
    satellite, numbers = _batch(params)
    head = _head(inputs, "head")
    shape = (head.weight.shape[1],)
    count = sum(name.startswith("features/") for name in inputs)
    blocks = [_block(inputs[f"features/{n}"], f"features/{n}", shape) for n in range(count)]
    found = np.concatenate([block.samples for block in blocks])
    if {block.owner for block in blocks} != {satellite} or not np.array_equal(found, numbers):
        raise JobError(f"the features are not those of {satellite}'s samples of round {params['round']}")
    for block in blocks:
        check_block(block, blocks[0].made_by, shape)
    features = np.concatenate([block.values for block in blocks])
    labels = _samples(params).labels(satellite, numbers)
    steps = Steps(params.get("steps", 1), params.get("learning_rate", 0.1), params.get("batch"))
    seed = derive_seed(params["task"]["seed"], satellite, params["round"], "order")
    stepped = head.trained(features, labels, steps, seed)
    weighted = np.concatenate([stepped.weight.ravel(), stepped.bias]).astype(np.float64) * len(numbers)
    outputs = {}
    for place, part in enumerate(np.array_split(weighted, params["parts"])):
        outputs[f"part/{place}"] = _values(out_dir / f"part-{place}", part)
    result = {"loss": head.loss(features, labels), "accuracy": head.accuracy(features, labels)}
    return JobResult(result, outputs)


def add(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """The sum of parts in the order given."""
    return JobResult({}, {_SUM: _values(out_dir / _SUM, _total(inputs))})


def join(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Parts one after the other."""
    parts = [_read(inputs, f"part/{n}") for n in range(len(inputs))]
    return JobResult({}, {_SUM: _values(out_dir / _SUM, np.concatenate(parts))})


def mean(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """The new head: the sum of all planes, divided once, in the dtype of the head `like` which it is."""
    like = _head(inputs, "like")
    values = _total({name: path for name, path in inputs.items() if name != "like"}) / params["weight"]
    if values.size != like.weight.size + like.bias.size:
        raise JobError(f"{values.size} values are not a head of {like.weight.size + like.bias.size}")
    dtype = like.weight.dtype
    weight = values[: like.weight.size].reshape(like.weight.shape).astype(dtype)
    head: Tensors = {"weight": weight, "bias": values[like.weight.size :].astype(dtype)}
    for name, tensor in head.items():
        check_finite(name, tensor)
    path = out_dir / "head.safetensors"
    write_tensors(path, head)
    return JobResult({}, {"head": path})


def evaluate(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """A head on samples that no satellite has; their features are computed once."""
    key = f"features {_identity(inputs['embedding'])} {_identity(inputs['backbone'])} {_task_key(params)}"
    if key not in _loaded:
        given, labels = _samples(params).held_out()
        features = _piece(inputs, "backbone").run(_piece(inputs, "embedding").run(given))
        _keep(key, (features, labels))
    features, labels = _loaded[key]
    head = _head(inputs, "head")
    return JobResult({"accuracy": head.accuracy(features, labels), "loss": head.loss(features, labels)}, {})


KINDS: Final = {
    "sfft.cut": cut_model,
    "sfft.device": check_device_of_backbone,
    "sfft.check": check_samples,
    "sfft.warm": warm_up,
    "sfft.embed": embed_samples,
    "sfft.features": features_on_board,
    "sfft.backbone": run_backbone,
    "sfft.head": step_head,
    "sfft.add": add,
    "sfft.join": join,
    "sfft.mean": mean,
    "sfft.evaluate": evaluate,
}
"""As `learning.jobs.KINDS`; errors of blocks and heads are turned into JobError by `run`."""


def run(kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """One of these jobs. Raises JobError, TaskError or TensorError with a reason of one line."""
    try:
        return KINDS[kind](params, inputs, out_dir)
    except KeyError as error:
        raise JobError(f"the job needs {error}") from error
    except (BlockError, HeadError, OnnxError) as error:
        raise JobError(str(error)) from error


# --- what jobs read -----------------------------------------------------------------------------------------


def _task_key(params: Mapping[str, Any]) -> str:
    return json.dumps(params["task"], sort_keys=True)


def _samples(params: Mapping[str, Any]) -> Samples:
    key = f"samples {_task_key(params)}"
    if key not in _loaded:
        task = params["task"]
        path = task.get("search_path")
        options = task.get("options") or {}
        found = load_samples(task["spec"], options, task["satellites"], task["seed"], path and Path(path))
        _keep(key, found)
    loaded: Samples = _loaded[key]
    return loaded


def _batch(params: Mapping[str, Any]) -> tuple[str, np.ndarray[Any, np.dtype[np.int64]]]:
    satellite = params["satellite"]
    numbers = _samples(params).batch(satellite, params["round"], params["samples"])
    if numbers.shape != (params["samples"],):
        raise JobError(f"the task gave {list(numbers.shape)} samples of {satellite}, not {params['samples']}")
    return satellite, numbers


def _piece(inputs: Mapping[str, Path], name: str, device: str = "cpu") -> OnnxPiece:
    key = f"piece {device} {_identity(inputs[name])}"
    if key not in _loaded:
        _keep(key, OnnxPiece(inputs[name], device=device))
    loaded: OnnxPiece = _loaded[key]
    return loaded


def _keep(key: str, value: object) -> None:
    while len(_loaded) >= PIECES_MAX:
        del _loaded[next(iter(_loaded))]
    _loaded[key] = value


def _identity(path: Path) -> str:
    """What tells a file of the store from another, as it is never written again; a hash would read it all."""
    status = path.stat()
    return f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _block(path: Path, name: str, shape: tuple[int, ...]) -> Block:
    try:
        return decode_block(path.read_bytes(), shape, BLOCK_SAMPLES_MAX)
    except BlockError as error:
        raise BlockError(f"{name}: {error}") from error


def _head(inputs: Mapping[str, Path], name: str) -> LinearHead:
    tensors = read_tensors(inputs[name], MAX_MODEL_BYTES)
    if tensors.keys() != {"weight", "bias"}:
        raise TensorError(f"{name}: must have tensors weight and bias")
    for each, tensor in tensors.items():
        check_finite(each, tensor)
    return LinearHead(tensors["weight"], tensors["bias"])


def _total(inputs: Mapping[str, Path]) -> np.ndarray[Any, np.dtype[np.float64]]:
    total = _read(inputs, "sum/0")
    for n in range(1, len(inputs)):
        more = _read(inputs, f"sum/{n}")
        if more.shape != total.shape:
            raise JobError(f"sum/{n}: has {more.size} values, not {total.size}")
        total = total + more
    return total


def _read(inputs: Mapping[str, Path], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    tensors = read_tensors(inputs[name], MAX_MODEL_BYTES)
    if tensors.keys() != {"values"} or tensors["values"].dtype != np.float64 or tensors["values"].ndim != 1:
        raise TensorError(f"{name}: must be one run of float64")
    check_finite(name, tensors["values"])
    return tensors["values"]


def _values(path: Path, values: np.ndarray[Any, np.dtype[Any]]) -> Path:
    write_tensors(path, {"values": values})
    return path
