"""Model files of any size, a piece at a time: read where they lie on disk, written as they are made.

A model of M bytes costs no M bytes of memory to read, and none to write, and no open file between two pieces.
Same rules and same bytes as `tensors`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from safetensors import SafetensorError, safe_open

from orbitrain.learning.tensors import Spec, TensorError, check_header, one_line, shown

DTYPES: Final[Mapping[str, str]] = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""The format's names of what numpy has, in the order in which the library lays tensors out in a file."""

_NAMES: Final = {np.dtype(code): name for name, code in DTYPES.items()}

Elements = np.ndarray[Any, np.dtype[Any]]


class ModelFile:
    """A model's file, whose header has been checked."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises TensorError as `read_tensors` does, and OSError."""
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            header_bytes = check_header(file, size_bytes, max_bytes)
            try:
                # The library checks what a peer may have written: offsets, lengths, the end of the file.
                with safe_open(path, framework="numpy") as checked:
                    checked.keys()
                entries = json.loads(file.read(header_bytes))
                entries.pop("__metadata__", None)
                placed = sorted((name, *_placed(entry)) for name, entry in entries.items())
            except (SafetensorError, KeyError, ValueError, OverflowError, RecursionError) as error:
                raise TensorError(
                    f"not readable safetensors: {type(error).__name__}: {one_line(error)}"
                ) from error
            self._identity = _identity(file.fileno())
        self._path = path
        self.specs = {name: spec for name, spec, _ in placed}
        """By name, sorted."""
        self._offsets = {name: 8 + header_bytes + offset for name, _, offset in placed}

    def elements(self, name: str, start: int, stop: int) -> Elements:
        """Elements of a tensor, in C order.

        Raises TensorError for a file that is not the one that was checked any more, and OSError.
        """
        dtype = self.specs[name].dtype
        size = (stop - start) * dtype.itemsize
        with self._path.open("rb", buffering=0) as file:
            same = _identity(file.fileno()) == self._identity
            data = os.pread(file.fileno(), size, self._offsets[name] + start * dtype.itemsize)
        if not same or len(data) < size:
            raise TensorError("the file has changed while it was read")
        return np.frombuffer(data, dtype)


def _identity(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino, status.st_size)


def _placed(entry: Mapping[str, Any]) -> tuple[Spec, int]:
    """What a tensor is, and where its bytes begin behind the header. Raises KeyError for a dtype that numpy
    lacks."""
    return Spec(np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])), int(entry["data_offsets"][0])


class ModelWriter:
    """A model's file as it is made; every element has to be put. A context manager."""

    def __init__(self, path: Path, specs: Mapping[str, Spec]) -> None:
        """Raises TensorError for a dtype that the format does not have, and OSError."""
        for name in sorted(specs):
            if specs[name].dtype not in _NAMES:
                raise TensorError(f"tensor {shown(name)} of dtype {specs[name].dtype} cannot be stored")
        ranks = list(DTYPES)
        order = sorted(specs, key=lambda name: (ranks.index(_NAMES[specs[name].dtype]), name))
        entries: dict[str, dict[str, Any]] = {}
        starts: dict[str, int] = {}
        end = 0
        for name in order:
            starts[name], end = end, end + specs[name].count * specs[name].dtype.itemsize
            entries[name] = {
                "dtype": _NAMES[specs[name].dtype],
                "shape": list(specs[name].shape),
                "data_offsets": [starts[name], end],
            }
        header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        header += b" " * (-len(header) % 8)
        self._specs = dict(specs)
        self._offsets = {name: 8 + len(header) + start for name, start in starts.items()}
        self._file = path.open("wb", buffering=0)
        self._file.write(len(header).to_bytes(8, "little") + header)
        self._file.truncate(8 + len(header) + end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def put(self, name: str, start: int, elements: Elements) -> None:
        """Elements of a tensor from `start` on, of its dtype."""
        dtype = self._specs[name].dtype
        data = np.ascontiguousarray(elements, dtype).reshape(-1).view(np.uint8).data
        offset = self._offsets[name] + start * dtype.itemsize
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written
