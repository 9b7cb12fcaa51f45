"""Model weights as bytes: `dict[str, numpy.ndarray]` to and from safetensors. Never imports torch.

The same tensors always give the same bytes (names sorted, no metadata), so a digest names a model.
What comes off a link is hostile until checked: sizes are bounded before anything is allocated for them, and
`check_like` compares a model with one that is known to be good.

Source of the format: https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON
header, then the data).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

Tensors: TypeAlias = dict[str, np.ndarray[Any, np.dtype[Any]]]
"""Weights by tensor name, named as in torch's `state_dict`."""

MAX_MODEL_BYTES = 1 << 30
"""Largest model file a job reads: well below the memory of the smallest board we run on (4 GB)."""

MAX_HEADER_BYTES = 1 << 20
"""Largest header: about 10,000 tensors. The library's own bound (100 MB) is too much for JSON from a peer."""

_LENGTH_BYTES = 8


class TensorError(ValueError):
    """These are not the tensors they should be; the text is one line."""


def encode_tensors(tensors: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> bytes:
    """Return the safetensors bytes of `tensors`, a pure function of names, shapes, dtypes and values.

    Raises TensorError for a dtype that the format does not have.
    """
    for name in sorted(tensors):
        if tensors[name].dtype.kind not in "fiub":
            raise TensorError(f"tensor {shown(name)} of dtype {tensors[name].dtype} cannot be stored")
    # The library reads raw memory: anything but C order would be written scrambled.
    ordered = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    try:
        return save(ordered)
    except SafetensorError as error:
        raise TensorError(f"cannot be stored as safetensors: {one_line(error)}") from error


def decode_tensors(data: bytes) -> Tensors:
    """Return the tensors in `data`, as read-only arrays that share its memory, in the order of their names.

    Raises TensorError unless `data` is one complete safetensors file of dtypes that numpy has.
    """
    _check_header_length(data[:_LENGTH_BYTES], len(data))
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, OverflowError, RecursionError) as error:
        # KeyError: a dtype numpy lacks (BF16, F8_*). The rest: a header that contradicts itself.
        raise TensorError(f"not readable safetensors: {type(error).__name__}: {one_line(error)}") from error
    return {name: tensors[name] for name in sorted(tensors)}


def read_tensors(path: Path, max_bytes: int) -> Tensors:
    """Return the tensors in the file `path`.

    Raises TensorError if the file is larger than `max_bytes`, or is not one complete safetensors file;
    OSError if it cannot be read. No more than `max_bytes` are ever read.
    """
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        check_header(file, size_bytes, max_bytes)
        file.seek(0)
        data = file.read(size_bytes)
    return decode_tensors(data)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> None:
    """Write `tensors` to the file `path`, replacing it. Raises TensorError or OSError."""
    path.write_bytes(encode_tensors(tensors))


@dataclass(frozen=True, slots=True)
class Spec:
    """What a tensor is, apart from its values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)


def check_same(specs: Mapping[str, Spec], reference: Mapping[str, Spec]) -> None:
    """Raise TensorError unless these have the names, shapes and dtypes of `reference`."""
    missing = sorted(reference.keys() - specs.keys())
    if missing:
        raise TensorError(f"tensor {shown(missing[0])} is missing ({len(missing)} missing in all)")
    unknown = sorted(specs.keys() - reference.keys())
    if unknown:
        raise TensorError(f"tensor {shown(unknown[0])} is unknown ({len(unknown)} unknown in all)")
    for name in sorted(reference):
        found, like = specs[name], reference[name]
        if found.shape != like.shape:
            raise TensorError(f"tensor {shown(name)} has shape {list(found.shape)}, not {list(like.shape)}")
        if found.dtype != like.dtype:
            raise TensorError(f"tensor {shown(name)} has dtype {found.dtype}, not {like.dtype}")


def check_finite(name: str, values: np.ndarray[Any, np.dtype[Any]]) -> None:
    """Raise TensorError for floats of a tensor that are not finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise TensorError(f"tensor {shown(name)} has values that are not finite")


def check_like(
    tensors: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
    reference: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
) -> None:
    """Raise TensorError unless `tensors` has the names, shapes and dtypes of `reference` and is finite."""
    check_same(*({name: Spec(v.dtype, v.shape) for name, v in each.items()} for each in (tensors, reference)))
    for name in sorted(tensors):
        check_finite(name, tensors[name])


def check_header(file: BinaryIO, size_bytes: int, max_bytes: int) -> int:
    """Bytes of the header of a file of `size_bytes`, which is read up to there. Raises TensorError for a file
    or a header that is too large, or cut short."""
    if size_bytes > max_bytes:
        raise TensorError(f"file of {size_bytes} bytes is larger than the allowed {max_bytes}")
    return _check_header_length(file.read(_LENGTH_BYTES), size_bytes)


def _check_header_length(length_field: bytes, size_bytes: int) -> int:
    if len(length_field) < _LENGTH_BYTES:
        raise TensorError(f"file of {size_bytes} bytes is too short to be safetensors")
    header_bytes = int.from_bytes(length_field, "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise TensorError(f"header of {header_bytes} bytes is larger than the allowed {MAX_HEADER_BYTES}")
    if header_bytes > size_bytes - _LENGTH_BYTES:
        raise TensorError(f"header of {header_bytes} bytes does not fit in a file of {size_bytes}")
    return header_bytes


def shown(name: str) -> str:
    """A peer chooses the names: quoted, on one line, and short."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


def one_line(error: Exception) -> str:
    """What another library says, short."""
    return (str(error).splitlines() or [""])[0][:200]
