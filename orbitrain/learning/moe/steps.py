"""What a merge serves where a rank is asked for: a step of that rank; what it leaves out is kept.

A merged change has a rank up to the sum of its updates', so as factors it would grow with each of them, and
so it would go whole. A step has the rank asked for and no more. Nothing is lost by it: the rest is part of
the next merge, and the steps and the last rest add up to all weighted updates, to float32's precision.

For each tensor, (share_n, update_n) as given and last, with share 1.0, what former steps left out:

    factored: step, rest = `lora.recompress` of all, float32 factors; the step's with zeros up to the rank
    dense:    wanted = 0.0 + share_0 values_0 + ...; step = wanted.astype(base.dtype); rest = wanted - step

A tensor is factored where that makes the step smaller (`lora.is_factored`); a dense update of such a tensor
counts as exact factors of itself (`lora.exact`). The step is an update as `moe.merge` takes it, so whoever
has the base makes the same item of it, to the last bit, by merging it with weight 1.

The rest of a factored tensor is kept as factors of the rank it has (0: nothing is left), or dense where
those would be no fewer numbers: its rank grows merge by merge to the shorter side, its file to the size of
a dense residual (`lora.residual_specs`: of the base's dtype, but at least float32) and no further. From then
on a merge costs what the singular values of a dense matrix do.

In memory are one tensor's factors at a time. A matrix of (rows, cols) is among them only where an update or
the rest is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orbitrain.learning.aggregation import PIECE, BadModel, Labelled
from orbitrain.learning.model_file import ModelFile, ModelWriter
from orbitrain.learning.moe import lora
from orbitrain.learning.moe.update_files import Checked, Update, blocks, weighted
from orbitrain.learning.tensors import MAX_MODEL_BYTES, Spec, TensorError


def write_step(
    item: str, base: Labelled, parts: Sequence[tuple[Update, float]], rank: int, step: Path, rest: Path
) -> None:
    """Write the step of these parts, (update, share), and what it leaves out. Raises BadModel and OSError."""
    specs = base.model.specs
    sent = lora.update_specs(specs, rank)
    with ModelWriter(step, sent) as file, np.errstate(over="ignore", invalid="ignore"):  # checked by put
        writer = Checked(item, file, sent)
        rests: list[tuple[Path, ModelFile]] = []
        for name, spec in specs.items():
            if lora.is_factored(spec.shape, rank):
                served, left = _recompressed(item, parts, name, spec, rank)
                writer.put_factors(name, lora.padded(served, rank))
                path = rest.with_name(f"{rest.name}-{len(rests)}")
                rests.append((path, _kept(item, name, spec, left, path)))
        _write_dense(item, base, parts, writer, rests, rest)


def _recompressed(
    item: str, parts: Sequence[tuple[Update, float]], name: str, spec: Spec, rank: int
) -> tuple[lora.Factors, lora.Factors]:
    factors = [(share, update.factors(name, spec)) for update, share in parts]
    try:
        return lora.recompress(factors, rank)
    except TensorError as error:
        raise BadModel(item, f"what comes out is too large: {error}") from None


def _kept(item: str, name: str, spec: Spec, left: lora.Factors, path: Path) -> ModelFile:
    """The rest of one tensor in a file of its own, until it is known how large all of them are."""
    factored = lora.is_factored(spec.shape, left.rank)
    specs = lora.factor_specs(name, spec, left.rank) if factored else lora.residual_specs({name: spec})
    with ModelWriter(path, specs) as file:
        writer = Checked(item, file, specs)
        if factored:
            writer.put_factors(name, left)
        else:
            for block in blocks(spec):
                total = np.zeros(block.shape)
                rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
                lora.add_product(total, left.b[rows], left.a[:, columns])
                writer.put(name, block.start, total)
    return ModelFile(path, MAX_MODEL_BYTES)


def _write_dense(
    item: str,
    base: Labelled,
    parts: Sequence[tuple[Update, float]],
    step: Checked,
    rests: Sequence[tuple[Path, ModelFile]],
    path: Path,
) -> None:
    """The tensors of the step that are no factors, and the file of what is left of all."""
    specs = base.model.specs
    dense = {name: spec for name, spec in lora.residual_specs(specs).items() if name in step.specs}
    left = {name: spec for _, rest in rests for name, spec in rest.specs.items()} | dense
    with ModelWriter(path, left) as file:
        for piece, rest in rests:
            _copy(rest, file)
            piece.unlink()
        writer = Checked(item, file, left)
        for name in dense:
            for block in blocks(specs[name]):
                wanted = weighted(parts, name, block)
                sent = wanted.astype(specs[name].dtype)
                step.put(name, block.start, sent)
                writer.put(name, block.start, wanted - sent)


def _copy(source: ModelFile, to: ModelWriter) -> None:
    for name, spec in source.specs.items():
        for start in range(0, spec.count, PIECE):
            to.put(name, start, source.elements(name, start, min(start + PIECE, spec.count)))
