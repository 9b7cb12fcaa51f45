"""Files of updates as jobs read and write them: a block of a tensor at a time, values checked on the way.

Updates are a peer's: nothing is allocated by what they say; their names, shapes and dtypes are checked before
anything is read of them, their values as they are read, and what is wrong begins with the input's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np

from orbitrain.learning.aggregation import PIECE, BadModel, Labelled, finite_elements
from orbitrain.learning.model_file import Elements, ModelWriter
from orbitrain.learning.moe import lora
from orbitrain.learning.tensors import Spec, TensorError, check_finite


@dataclass(frozen=True, slots=True)
class Block:
    """Part of a matrix whose elements lie one after the other: whole rows, or a part of one row."""

    top: int
    bottom: int
    left: int
    right: int
    cols: int

    @property
    def start(self) -> int:
        return self.top * self.cols + self.left

    @property
    def stop(self) -> int:
        return (self.bottom - 1) * self.cols + self.right

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


def blocks(spec: Spec) -> Iterator[Block]:
    """At most PIECE elements each; what is no matrix counts as one row."""
    rows, cols = spec.shape if len(spec.shape) == 2 else (1, spec.count)
    if not rows * cols:
        return
    tall, wide = max(1, PIECE // cols), min(cols, PIECE)
    for top in range(0, rows, tall):
        for left in range(0, cols, wide):
            yield Block(top, min(top + tall, rows), left, min(left + wide, cols), cols)


Ranks: TypeAlias = Callable[[Mapping[str, Spec], Mapping[str, Spec]], dict[str, int | None]]
"""Of the factors of each tensor of a base, as the tensors of an update or a residual say; None: dense."""


@dataclass(frozen=True, slots=True)
class Update:
    """An update, or what former ones left out, that has the tensors of its base."""

    labelled: Labelled
    ranks: Mapping[str, int | None]

    @classmethod
    def of(cls, labelled: Labelled, base: Labelled) -> Self:
        """As `lora.update_ranks` has it. Raises BadModel for what is no update of the base."""
        return cls._of_ranks(labelled, base, lora.update_ranks)

    @classmethod
    def left_out(cls, labelled: Labelled, base: Labelled) -> Self:
        """As `lora.residual_ranks` has it. Raises BadModel for what is no residual for the base."""
        return cls._of_ranks(labelled, base, lora.residual_ranks)

    @classmethod
    def _of_ranks(cls, labelled: Labelled, base: Labelled, ranks: Ranks) -> Self:
        try:
            return cls(labelled, ranks(labelled.model.specs, base.model.specs))
        except TensorError as error:
            raise BadModel(labelled.label, str(error)) from None

    def values(self, name: str, block: Block) -> Elements:
        """What it adds to a block of a tensor, in float64. Raises BadModel for values that are not finite."""
        rank = self.ranks[name]
        if rank is None:
            return finite_elements(self.labelled, name, block.start, block.stop).astype(np.float64)
        b = finite_elements(self.labelled, name + lora.LORA_B, block.top * rank, block.bottom * rank)
        rows_of_a = (
            finite_elements(
                self.labelled, name + lora.LORA_A, k * block.cols + block.left, k * block.cols + block.right
            )
            for k in range(rank)
        )
        total = np.zeros(block.shape)
        lora.add_product(total, b.reshape(len(total), rank), rows_of_a)
        return total.reshape(-1)

    def factors(self, name: str, spec: Spec) -> lora.Factors:
        """What it adds to a matrix, whole; of a dense one the exact factors. Raises BadModel as `values`."""
        rank, (rows, cols) = self.ranks[name], spec.shape
        if rank is None:
            return lora.exact(finite_elements(self.labelled, name, 0, spec.count).reshape(rows, cols))
        b = finite_elements(self.labelled, name + lora.LORA_B, 0, rows * rank)
        a = finite_elements(self.labelled, name + lora.LORA_A, 0, rank * cols)
        return lora.Factors(b.reshape(rows, rank), a.reshape(rank, cols))


def weighted(parts: Sequence[tuple[Update, float]], name: str, block: Block) -> Elements:
    """Return 0.0 + share_0 values_0 + share_1 values_1 + ... of a block, in the order given, in float64."""
    total = np.zeros(block.stop - block.start)
    for update, share in parts:
        values = update.values(name, block)
        values *= share
        total += values
    return total


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose tensors are rounded to their dtype and have to be finite."""

    item: str
    writer: ModelWriter
    specs: Mapping[str, Spec]

    def put(self, name: str, start: int, elements: Elements) -> None:
        """As `ModelWriter.put`. Raises BadModel."""
        rounded = elements.astype(self.specs[name].dtype, copy=False)
        try:
            check_finite(name, rounded)
        except TensorError as error:
            raise BadModel(self.item, f"what comes out is too large: {error}") from None
        self.writer.put(name, start, rounded)

    def put_factors(self, name: str, factors: lora.Factors) -> None:
        """Both sides of a tensor that has the rank of these. Raises BadModel."""
        self.put(name + lora.LORA_B, 0, factors.b)
        self.put(name + lora.LORA_A, 0, factors.a)
