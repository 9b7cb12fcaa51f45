"""The job that makes one file of a model's parts: numpy only, as a satellite runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orbitrain.learning.moe.parts import joined
from orbitrain.learning.outcome import JobResult
from orbitrain.learning.tensors import MAX_MODEL_BYTES, TensorError, Tensors, read_tensors, write_tensors


def assemble(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Backbone, gate and all experts, in one file of which evaluations are made.

    Raises TensorError for a part that is missing, unknown or unreadable.
    """
    path = out_dir / "model.safetensors"
    write_tensors(path, joined(read_items(inputs)))
    return JobResult({}, {"model": path})


def read_items(inputs: Mapping[str, Path]) -> dict[str, Tensors]:
    """The tensors of each input. Raises TensorError that names the input which cannot be read."""
    items: dict[str, Tensors] = {}
    for item in sorted(inputs):
        try:
            items[item] = read_tensors(inputs[item], MAX_MODEL_BYTES)
        except TensorError as error:
            raise TensorError(f"{item}: {error}") from error
    return items
