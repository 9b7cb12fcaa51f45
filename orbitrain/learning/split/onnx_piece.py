"""A frozen piece from an ONNX file, run by onnxruntime: what a satellite uses. Never imports torch.

On one thread and one shape of batch, so that a sample's result is the same bits whatever runs beside it.
Against torch the arithmetic is in another order: see `TOLERANCE`. On an accelerator it is in yet another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from orbitrain.learning.split.batching import MICRO_BATCH, Values, check_values, one_shape
from orbitrain.learning.split.blocks import BlockError
from orbitrain.learning.split.identity import Identity
from orbitrain.learning.tasks import one_line
from orbitrain.learning.tensors import MAX_MODEL_BYTES

TOLERANCE: Final = {"float32": 1e-5, "float64": 1e-12}
"""How far a result may be from torch's, as a share of the largest magnitude in it.

Measured with torch 2.13 and onnxruntime 1.31 on x86-64 (AVX-512), float32: at most 8e-7 for the embedding and
4e-7 for the backbone of each preset of `vit`, and the same for small ViT, DeiT and DINOv2 models.
"""

DIGEST_KEY: Final = "orbitrain.piece"
"""Under this key of its metadata a file says which piece it holds, by digest."""

DEVICES: Final = ("auto", "cpu", "cuda")
"""What a piece can be asked to run on; `auto`: cuda if it can be had, else cpu."""

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"

_EXACT: Final = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
"""On cuda: float32 in full, and no kernel chosen by how long it took."""

_TYPES: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class OnnxError(ValueError):
    """A file that is not the piece it should be, or cannot be run; the text is one line."""


class OnnxPiece:
    """A `batching.FrozenPiece`."""

    def __init__(
        self,
        path: Path,
        file_digest: str | None = None,
        micro_batch: int = MICRO_BATCH,
        device: str = "cpu",
    ) -> None:
        """Load the file; `file_digest`: the SHA-256 it must have, in hexadecimal digits.

        What the file says of itself is only as good as its source: give `file_digest`, or take it from the
        content-addressed store. `device` is one of `DEVICES`. Raises OnnxError, and OSError.
        """
        check_device(device)
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise OnnxError(f"{path.name} is larger than the allowed {MAX_MODEL_BYTES} bytes")
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if file_digest is not None and found != file_digest:
            raise OnnxError(f"{path.name} has digest {found[:12]}, not {file_digest[:12]}")
        try:
            self._session = _session(data, device)
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise OnnxError(f"{path.name} cannot be run by onnxruntime: {one_line(error)}") from error
        if device == "cuda" and self.device != "cuda":
            raise OnnxError("onnxruntime has CUDAExecutionProvider, and cannot start it on this host")
        self._digest: str = self._session.get_modelmeta().custom_metadata_map.get(DIGEST_KEY, "")
        if len(self._digest) != 64:
            raise OnnxError(f"{path.name} does not say which piece it holds")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in _TYPES:
            raise OnnxError(f"{path.name} does not take one array of floats and give one")
        if len(inputs[0].shape) < 2 or not all(type(size) is int for size in inputs[0].shape[1:]):
            raise OnnxError(f"{path.name} takes {inputs[0].shape}; all but the batch must be fixed")
        self._name = inputs[0].name
        self._dtype = np.dtype(_TYPES[inputs[0].type])
        self._takes = tuple(inputs[0].shape[1:])
        self._micro_batch = micro_batch

    @property
    def digest(self) -> str:
        """Of the piece, as the file says: `identity.piece_digest`."""
        return self._digest

    @property
    def device(self) -> str:
        """What it runs on: cpu or cuda."""
        return "cuda" if _CUDA in self._session.get_providers() else "cpu"

    @property
    def takes(self) -> tuple[int, ...]:
        """Shape of what it takes for one sample."""
        return self._takes

    def run(self, values: Values) -> Values:
        """(n, *takes) of floats to (n, ...). Raises BlockError for another shape, or if it cannot be run."""
        check_values(values, self._takes)
        return one_shape(self._run, values.astype(self._dtype, copy=False), self._micro_batch)

    def _run(self, values: Values) -> Values:
        try:
            result = self._session.run(None, {self._name: values})[0]
        except Exception as error:  # as above
            raise BlockError(f"onnxruntime failed: {one_line(error)}") from error
        return np.asarray(result)


def check_piece(piece: OnnxPiece, name: str, identity: Identity) -> None:
    """Raise OnnxError unless `piece` is the `name` ("embedding" or "backbone") of the model."""
    expected = getattr(identity.digests, name)
    if piece.digest != expected:
        raise OnnxError(f"another model: {name} (the file's {piece.digest[:12]}, not {expected[:12]})")
    takes = identity.shapes.inputs if name == "embedding" else identity.shapes.embedded
    if piece.takes != takes:
        raise OnnxError(f"the {name} takes {list(piece.takes)}, not {list(takes)}")


def check_device(device: str) -> None:
    """Raise OnnxError for what is none of `DEVICES`, and for cuda where onnxruntime does not offer it."""
    offered = onnxruntime.get_available_providers()
    if device not in DEVICES or (device == "cuda" and _CUDA not in offered):
        allowed = " or ".join(repr(name) for name in DEVICES if name != "cuda" or _CUDA in offered)
        raise OnnxError(
            f"must be {allowed} here, not {device[:40]!r}: onnxruntime offers {', '.join(offered)} "
            f"({_CUDA} comes with onnxruntime-gpu)"
        )


def _session(data: bytes, device: str) -> Any:
    if device != "cpu" and _CUDA in onnxruntime.get_available_providers():
        try:
            return onnxruntime.InferenceSession(data, _options(), providers=[(_CUDA, _EXACT), _CPU])
        except Exception:  # as below; without a GPU it raises or falls back, by its version
            if device == "cuda":
                raise
    return onnxruntime.InferenceSession(data, _options(), providers=[_CPU])


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    return options
