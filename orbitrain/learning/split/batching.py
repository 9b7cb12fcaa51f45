"""A frozen piece over the samples of several owners, so that no sample's result depends on its neighbours.

Libraries choose kernels by the shape of a batch, so the last bits of a result can change with the number of
samples beside it: measured with onnxruntime 1.31 on a CPU (2e-7), not with torch 2.13. So a piece is always
run on one shape: `micro_batch` samples, the last ones padded with zeros.

With the default of 1 a sample is alone and the equality needs no argument. More is faster by some tenths on a
CPU, by much on an accelerator, and rests on kernels that treat the rows of one shape alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

from orbitrain.learning.split.blocks import Block, BlockError, check_block

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MICRO_BATCH: Final = 1
"""Samples that a piece is run on at once."""


class FrozenPiece(Protocol):
    """An embedding or a backbone that can be run: `cut.TorchPiece` or `onnx_piece.OnnxPiece`."""

    @property
    def digest(self) -> str:
        """Of the piece: `identity.piece_digest`."""
        ...

    @property
    def takes(self) -> tuple[int, ...]:
        """Shape of what it takes for one sample."""
        ...

    def run(self, values: Values) -> Values:
        """(n, *takes) to (n, ...), in order; each sample's result depends on that sample alone."""
        ...


def one_shape(run: Callable[[Values], Values], values: Values, micro_batch: int) -> Values:
    """Return `run` of `values` (n, ...), called on (micro_batch, ...) only; n is at least 1.

    Raises ValueError for a micro-batch below 1, or a `run` that gives another number of results.
    """
    if micro_batch < 1:
        raise ValueError(f"micro_batch is {micro_batch!r}; it must be at least 1")
    results = []
    for start in range(0, len(values), micro_batch):
        part = values[start : start + micro_batch]
        lacking = micro_batch - len(part)
        if lacking:
            part = np.concatenate([part, np.zeros((lacking, *values.shape[1:]), values.dtype)])
        result = run(np.ascontiguousarray(part))
        if result.shape[:1] != (micro_batch,):
            raise ValueError(f"{micro_batch} samples gave results of shape {list(result.shape)}")
        results.append(result[: micro_batch - lacking])
    return np.concatenate(results)


def embed(
    piece: FrozenPiece, owner: str, samples: np.ndarray[Any, np.dtype[np.int64]], inputs: Values
) -> Block:
    """Embed an owner's inputs (n, *takes), which are its `samples` (n,). Raises BlockError."""
    check_values(inputs, piece.takes)
    return Block(owner, samples, piece.run(inputs), piece.digest)


def check_values(values: Values, takes: tuple[int, ...]) -> None:
    """Raise BlockError unless values are floats of shape (n, *takes), n at least 1."""
    if values.dtype.kind != "f" or values.shape[1:] != takes or not values.size:
        raise BlockError(f"a piece takes floats (n, {takes}), not {values.dtype} {list(values.shape)}")


def run_blocks(piece: FrozenPiece, blocks: Sequence[Block], made_by: str) -> list[Block]:
    """Run `piece` over the samples of all `blocks` at once; return each block's results, in the same order.

    `made_by`: digest of the piece that the values must come from. Raises BlockError for values of another
    piece or shape; nothing is run then.
    """
    for block in blocks:
        check_block(block, made_by, piece.takes)
    if not blocks:
        return []
    if len({block.values.dtype for block in blocks}) != 1:
        raise BlockError("blocks of different dtypes cannot be run together")
    results = piece.run(np.concatenate([block.values for block in blocks]))
    done: list[Block] = []
    start = 0
    for block in blocks:
        stop = start + len(block.samples)
        done.append(Block(block.owner, block.samples, results[start:stop], piece.digest))
        start = stop
    return done
