"""Frozen pieces as ONNX files, written on the ground for satellites without torch. Extra `export`.

The same piece and libraries give the same bytes: what torch adds of file names and line numbers is taken out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from orbitrain.learning.split.cut import TorchPiece
from orbitrain.learning.split.onnx_piece import DIGEST_KEY
from orbitrain.learning.tasks import one_line
from orbitrain.learning.tensors import MAX_MODEL_BYTES

OPSET: Final = 20
"""The operators that torch's exporter writes by itself, `Gelu` and layer norm whole among them. Run with
onnxruntime 1.31; one of before 2024 may not know them."""

_NEEDED: Final = ("onnx", "onnxscript")


class ExportError(ValueError):
    """A piece that cannot be exported; the text is one line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file of a piece."""

    path: Path
    piece_digest: str
    """Also in the file's metadata."""

    file_digest: str
    """SHA-256 of the file."""

    size_bytes: int


def export(piece: TorchPiece, path: Path) -> Exported:
    """Write `piece` to `path`, replacing it, with a batch of any size.

    Raises ExportError for libraries that are missing, or a module that torch cannot export; OSError.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"export needs {' and '.join(missing)}: pip install 'orbitrain[export]'")
    example = torch.zeros((2, *piece.takes), dtype=piece.dtype)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    # It warns of operators of torchvision that nobody asked for.
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                piece.module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["values"],
                output_names=["results"],
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
            if program is None:
                raise ExportError("torch wrote no ONNX program")
            data = _bytes(program.model_proto, piece.digest)
    except ExportError:
        raise
    except Exception as error:  # torch's exporter runs the user's code, and wraps what it raises
        raise ExportError(f"torch cannot export {type(piece.module).__name__}: {_cause(error)}") from error
    finally:
        logger.setLevel(level)
    path.write_bytes(data)
    return Exported(path, piece.digest, hashlib.sha256(data).hexdigest(), len(data))


def _bytes(model: Any, digest: str) -> bytes:
    for name in ("metadata_props", "doc_string"):
        model.ClearField(name)
    _strip(model.graph)
    for function in model.functions:
        _strip(function)
    entry = model.metadata_props.add()
    entry.key, entry.value = DIGEST_KEY, digest
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise ExportError(f"a file of {model.ByteSize()} bytes is larger than the allowed {MAX_MODEL_BYTES}")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _strip(graph: Any) -> None:
    """Take out comments: they hold paths of source files, which differ between machines."""
    for name in ("metadata_props", "doc_string", "value_info"):
        graph.ClearField(name)
    for group in ("input", "output", "initializer", "node"):
        for part in getattr(graph, group, ()):
            if isinstance(part, str):  # a function names its inputs only
                continue
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
            for attribute in getattr(part, "attribute", ()):
                attribute.ClearField("doc_string")
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    _strip(inner)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)
