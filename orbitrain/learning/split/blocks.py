"""Embedded samples and features on the wire: values, whose they are, and which piece made them. Pure numpy.

What comes back must belong to what was sent: `check_features` says what does not fit.

Bytes are safetensors with these tensors (n samples): `owner` (uint8, its name in UTF-8), `piece` (uint8
(32,), the digest of what made the values), `samples` (int64 (n,), the owner's numbers of them), `values`, and
for int8 `scale` (float32 (n, [N,] 1)). Values are decoded to float32, or float64 if they were sent so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from orbitrain.learning.split.identity import MAX_VALUES
from orbitrain.learning.tensors import TensorError, check_finite, decode_tensors, encode_tensors

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

WIRE_BYTES: Final = {"float64": 8, "float32": 4, "float16": 2, "int8": 1}
"""What values can be on the wire, and the bytes of one. float32 is exact for float32 models. float16 rounds
to 11 significant bits, and refuses what exceeds 65,504. int8 takes steps of the row's largest magnitude / 127
(a row is one token, or one pooled feature vector) and 4 bytes more a row."""

SCALE_BYTES: Final = 4
"""Of an int8 row's scale."""

MAX_OWNER_BYTES: Final = 255
"""Longest name of an owner, in UTF-8."""


class BlockError(ValueError):
    """Values that cannot be sent, or are not what they should be; the text is one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What a piece made of some of an owner's samples."""

    owner: str
    """The satellite whose samples they are."""

    samples: np.ndarray[Any, np.dtype[np.int64]]
    """The owner's own numbers of the samples, (n,), no two alike."""

    values: Values
    """(n, N, D) embedded or (n, F) pooled, in the order of `samples`."""

    made_by: str
    """Digest of the piece that made the values."""

    def __post_init__(self) -> None:
        """Raises BlockError for samples that are no numbers, or named twice, or not as many as values."""
        if not 0 < len(self.owner.encode("utf-8")) <= MAX_OWNER_BYTES:
            raise BlockError(f"an owner's name has 1 to {MAX_OWNER_BYTES} bytes, not {self.owner[:80]!r}")
        if self.samples.dtype != np.int64 or self.samples.ndim != 1 or not len(self.samples):
            raise BlockError(f"the samples of {self.owner!r} are not numbered")
        if len(np.unique(self.samples)) != len(self.samples):
            raise BlockError(f"a sample of {self.owner!r} is in the block twice")
        if self.values.shape[:1] != self.samples.shape:
            found = list(self.values.shape)
            raise BlockError(f"{len(self.samples)} samples of {self.owner!r} have values of shape {found}")
        if len(self.made_by) != 64:
            raise BlockError(f"the values of {self.owner!r} do not say which piece made them")


def values_bytes(wire: str, shape: tuple[int, ...]) -> int:
    """Of one sample's values on the wire, and their scales; its row is the last dimension of `shape`."""
    scales = math.prod(shape[:-1]) * SCALE_BYTES if wire == "int8" else 0
    return math.prod(shape) * WIRE_BYTES[wire] + scales


def check_block(block: Block, made_by: str, shape: tuple[int, ...]) -> None:
    """Raise BlockError unless the block's values are `made_by` that piece and of `shape` for each sample."""
    if block.made_by != made_by:
        raise BlockError(
            f"the values of {block.owner!r} were made by piece {block.made_by[:12]}, not {made_by[:12]}"
        )
    if block.values.shape[1:] != shape:
        found = list(block.values.shape[1:])
        raise BlockError(f"the values of {block.owner!r} have shape {found} a sample, not {list(shape)}")


def check_features(features: Block, sent: Block, backbone: str, shape: tuple[int, ...]) -> None:
    """Raise BlockError unless `features` are those of the samples in `sent`, in that order.

    `backbone`: digest of the piece that must have made them; `shape`: of one sample's features.
    """
    if features.owner != sent.owner:
        raise BlockError(f"the features are of {features.owner!r}, not of {sent.owner!r}")
    if len(features.samples) != len(sent.samples):
        raise BlockError(
            f"{sent.owner!r} sent {len(sent.samples)} samples and got features of {len(features.samples)}"
        )
    different = np.flatnonzero(features.samples != sent.samples)
    if len(different):
        place = int(different[0])
        raise BlockError(
            f"features {place} of {sent.owner!r} are of its sample {features.samples[place]}, "
            f"not {sent.samples[place]} ({len(different)} differ)"
        )
    check_block(features, backbone, shape)


def encode_block(block: Block, wire: str) -> bytes:
    """Return the block's bytes with its values as `wire`, one of `WIRE_BYTES`.

    Raises BlockError for values that are not finite, or too large for float16.
    """
    if wire not in WIRE_BYTES:
        raise BlockError(f"values cannot be sent as {wire[:80]!r}; they can as {', '.join(WIRE_BYTES)}")
    if not np.isfinite(block.values).all():
        raise BlockError(f"the values of {block.owner!r} are not all finite")
    tensors: dict[str, Values] = {
        "owner": np.frombuffer(block.owner.encode("utf-8"), np.uint8),
        "piece": np.frombuffer(bytes.fromhex(block.made_by), np.uint8),
        "samples": block.samples,
    }
    if wire == "int8":
        tensors["values"], tensors["scale"] = _quantized(block.values)
    else:
        with np.errstate(over="ignore"):
            tensors["values"] = block.values.astype(wire)
        if not np.isfinite(tensors["values"]).all():
            largest = float(np.abs(block.values).max())
            raise BlockError(f"the values of {block.owner!r} reach {largest:g}, too large for {wire}")
    return encode_tensors(tensors)


def decode_block(data: bytes, shape: tuple[int, ...], max_samples: int) -> Block:
    """Return the block in `data`; `shape`: of one sample's values.

    Raises BlockError for anything else than a block of at most `max_samples` of that shape.
    """
    if math.prod(shape) * max_samples > MAX_VALUES * 4:
        raise BlockError(f"{max_samples} samples of {list(shape)} are more than a block can hold")
    try:
        tensors = decode_tensors(data)
        quantized = "scale" in tensors
        names = {"owner", "piece", "samples", "values"} | ({"scale"} if quantized else set())
        if tensors.keys() != names:
            raise BlockError(f"a block has tensors {', '.join(sorted(names))} only")
        values, samples = tensors["values"], tensors["samples"]
        if values.shape[1:] != shape or len(values.shape) != len(shape) + 1 or len(values) > max_samples:
            found = list(values.shape)
            raise BlockError(f"values of shape {found}, not up to {max_samples} of {list(shape)}")
        if values.dtype.name not in WIRE_BYTES or quantized != (values.dtype == np.int8):
            raise BlockError(f"values of dtype {values.dtype} {'with' if quantized else 'without'} scale")
        check_finite("values", values)
        if quantized:
            values = _restored(values, tensors["scale"])
        elif values.dtype != np.float64:
            values = values.astype(np.float32)
        if tensors["piece"].dtype != np.uint8 or tensors["piece"].shape != (32,):
            raise BlockError("the digest of the piece is not 32 bytes")
        if tensors["owner"].dtype != np.uint8:
            raise BlockError("the owner's name is no bytes")
        owner = tensors["owner"].tobytes().decode("utf-8")
        return Block(owner, samples, values, tensors["piece"].tobytes().hex())
    except TensorError as error:
        raise BlockError(str(error)) from error
    except UnicodeDecodeError as error:
        raise BlockError("the owner's name is not UTF-8") from error


def _quantized(values: Values) -> tuple[Values, Values]:
    largest = np.abs(values).max(axis=-1, keepdims=True).astype(np.float32)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    # The smallest floats make a scale of 0: they are 0 at this resolution.
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def _restored(values: Values, scale: Values) -> Values:
    if scale.dtype != np.float32 or scale.shape != (*values.shape[:-1], 1):
        raise BlockError(f"a scale of {scale.dtype} {list(scale.shape)} for values {list(values.shape)}")
    check_finite("scale", scale)
    restored = values * scale
    check_finite("values", restored)
    return restored
