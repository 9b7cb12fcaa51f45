"""The jobs that make updates of a model's parts and merge them into it; numpy only, files to files.

    kind       params                                    inputs                              outputs
    moe.pack   items: [ITEM, ...], rank: int | null      base/ITEM, now/ITEM                 update/ITEM
                                                         [, residual/ITEM]                   [, residual/ITEM]
    moe.merge  items: {ITEM: {weights: [float, ...],     base/ITEM, update/ITEM/0..          ITEM
                       clips: [float | null, ...],       [, residual/ITEM]                   [, step/ITEM]
                       rank: int | null}}                                                    [, residual/ITEM]

An item is `backbone`, `gate` or `expert/N`. The result of `pack` is {update_bytes: {ITEM: of its file}}, that
of `merge` empty. The arithmetic is fixed to the last bit: each operation is one IEEE 754 float64 operation
per element, in the order written, rounded once to nearest even, to the tensor's own dtype. (Finding factors
is not: see `lora`.)

pack, for each tensor, wanted = (now - base) + residual, without a residual now - base:

    dense:     update = wanted.astype(base.dtype)
    factored:  update = the float32 factors of `lora.factor(wanted, rank)`
    residual = wanted - what was sent, in the base's dtype but at least float32

A residual is made where a rank is asked for, of every tensor; one that is given is always added. A tensor is
factored where that makes it smaller (`lora.is_factored`). Of float32, base + update is `now` to one unit in
the last place of the larger of the two, and bit for bit while they are within a factor of two of each other.

merge without a rank, eq. (35) on deltas (EMS-FL, section 2 of our notes), for each tensor, n over the updates
as given:

    total = 0.0
    for n: total = total + share_n * values_n
    merged = (base + total).astype(base.dtype)

values_n are the dense update's, or of factors ((0.0 + B[:, 0] A[0, :]) + B[:, 1] A[1, :]) + ... share_n is
weight_n, or weight_n * (clip_n / norm_n) where norm_n > clip_n: norm_n is the L2 norm of the update over all
tensors of the item, the root of the exactly rounded sum (`math.fsum`) of the values' squares.

merge with a rank: the step and the residual of these updates and the residual that is given, see `steps`.
The item is what a merge without a rank makes of the step alone, with weight 1 and no clip, so who has the
base and the step has the item, bit for bit.

Updates are a peer's, and checked: see `update_files`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from orbitrain.learning.aggregation import PIECE, BadModel, Labelled, finite_elements
from orbitrain.learning.model_file import Elements, ModelFile, ModelWriter
from orbitrain.learning.moe import lora
from orbitrain.learning.moe.parts import BACKBONE, GATE, expert_number, file_name
from orbitrain.learning.moe.steps import write_step
from orbitrain.learning.moe.update_files import Checked, Update, blocks, weighted
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tensors import MAX_MODEL_BYTES, Spec, TensorError, check_same


def pack(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Make the update of each item, from what it was to what it is. Raises JobError and TensorError."""
    items = params.get("items")
    if not isinstance(items, list) or not items:
        raise JobError(f"the job's parameter 'items' is {items!r}, not a list of items")
    names = [_named(item) for item in items]
    if len(set(names)) < len(names):
        raise JobError(f"the job's parameter 'items' is {items!r}: an item is there twice")
    rank = _rank("the job's parameter 'rank'", params.get("rank"))
    _check_inputs(inputs, {f"{kind}/{item}" for kind in ("base", "now", "residual") for item in items})
    outputs: dict[str, Path] = {}
    for item, name in zip(items, names, strict=True):
        residual = _file(inputs, f"residual/{item}") if f"residual/{item}" in inputs else None
        change = _Change(_file(inputs, f"base/{item}"), _file(inputs, f"now/{item}"), residual)
        change.check()
        path = outputs[f"update/{item}"] = out_dir / f"update-{name}"
        rest = None
        if rank is not None:
            rest = outputs[f"residual/{item}"] = out_dir / f"residual-{name}"
        _write_update(item, change, rank, path, rest)
    sizes = {item: outputs[f"update/{item}"].stat().st_size for item in items}
    return JobResult({"update_bytes": sizes}, outputs)


def merge(params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path) -> JobResult:
    """Add the weighted updates to each item. Raises JobError and TensorError."""
    items = params.get("items")
    if not isinstance(items, dict) or not items:
        raise JobError(f"the job's parameter 'items' is {items!r}, not weights, clips and rank by item")
    names = {item: _named(item) for item in items}
    merges = {item: _merge(item, given) for item, given in items.items()}
    expected = {f"update/{item}/{n}" for item, how in merges.items() for n in range(len(how.weights))}
    expected |= {f"residual/{item}" for item, how in merges.items() if how.rank is not None}
    _check_inputs(inputs, expected | {f"base/{item}" for item in items})
    outputs: dict[str, Path] = {}
    for item, how in merges.items():
        base = _file(inputs, f"base/{item}")
        try:
            lora.check_base(base.model.specs)
        except TensorError as error:
            raise BadModel(base.label, str(error)) from None
        updates = [Update.of(_file(inputs, f"update/{item}/{n}"), base) for n in range(len(how.weights))]
        parts = [
            (update, _share(update, base.model.specs, weight, clip))
            for update, (weight, clip) in zip(updates, how.weights, strict=True)
        ]
        if how.rank is not None and f"residual/{item}" in inputs:
            parts.append((Update.left_out(_file(inputs, f"residual/{item}"), base), 1.0))
        made = {item: out_dir / f"merged-{names[item]}"}
        if how.rank is not None:
            made |= {f"{kind}/{item}": out_dir / f"{kind}-{names[item]}" for kind in ("step", "residual")}
        try:
            _write_next(item, base, parts, how.rank, made)
        except BadModel as error:
            if error.label != item:
                raise
            # Somebody is to blame, or it would fail as long as there is something to merge.
            reason = str(error).removeprefix(f"{item}: ")
            raise BadModel(_largest(parts, base.model.specs).labelled.label, reason) from None
        outputs |= made
    return JobResult({}, outputs)


UPDATE_KINDS: Final = {"moe.pack": pack, "moe.merge": merge}
"""As `learning.jobs.KINDS`."""


# --- pack ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Change:
    """An item before and after, and what former updates of it left out."""

    base: Labelled
    now: Labelled
    residual: Labelled | None

    def check(self) -> None:
        """Raise BadModel unless these have the same tensors, of floats."""
        specs = self.base.model.specs
        like = {self.now: specs}
        if self.residual is not None:
            like[self.residual] = lora.residual_specs(specs)
        for labelled, reference in like.items():
            try:
                check_same(labelled.model.specs, reference)
            except TensorError as error:
                raise BadModel(labelled.label, str(error)) from None

    def wanted(self, name: str, start: int, stop: int) -> Elements:
        """What the update should add, in float64."""
        wanted = finite_elements(self.now, name, start, stop).astype(np.float64)
        wanted -= finite_elements(self.base, name, start, stop)
        if self.residual is not None:
            wanted += finite_elements(self.residual, name, start, stop)
        return wanted


def _write_update(item: str, change: _Change, rank: int | None, path: Path, rest: Path | None) -> None:
    base = change.base.model.specs
    try:
        specs = lora.update_specs(base, rank)
    except TensorError as error:
        raise BadModel(change.base.label, str(error)) from None
    with ExitStack() as stack:
        stack.enter_context(np.errstate(over="ignore"))  # checked where it is put
        writer = Checked(item, stack.enter_context(ModelWriter(path, specs)), specs)
        left = lora.residual_specs(base)
        keeper = None
        if rest is not None:
            keeper = Checked(item, stack.enter_context(ModelWriter(rest, left)), left)
        for name, spec in base.items():
            if rank is not None and lora.is_factored(spec.shape, rank):
                matrix = change.wanted(name, 0, spec.count).reshape(spec.shape)
                factors, residual = lora.compress(matrix, None, rank)
                writer.put_factors(name, factors)
                if keeper is not None:
                    keeper.put(name, 0, residual)
                continue
            for start in range(0, spec.count, PIECE):
                wanted = change.wanted(name, start, min(start + PIECE, spec.count))
                sent = wanted.astype(spec.dtype)
                writer.put(name, start, sent)
                if keeper is not None:
                    keeper.put(name, start, wanted - sent)


# --- merge --------------------------------------------------------------------------------------------------


def _share(update: Update, base: Mapping[str, Spec], weight: float, clip: float | None) -> float:
    if clip is None:
        return weight
    pieces = (update.values(name, block) for name, spec in base.items() for block in blocks(spec))
    try:
        with np.errstate(over="ignore"):
            norm = math.sqrt(math.fsum(chain.from_iterable(np.square(piece).tolist() for piece in pieces)))
    except OverflowError:  # of finite squares
        norm = math.inf
    if norm == math.inf:
        raise BadModel(update.labelled.label, "its norm is not finite")
    return weight * (clip / norm) if norm > clip else weight


def _largest(parts: Sequence[tuple[Update, float]], base: Mapping[str, Spec]) -> Update:
    """The update with the largest single value, times its share."""

    def most(part: tuple[Update, float]) -> float:
        update, share = part
        values = (update.values(name, block) for name, spec in base.items() for block in blocks(spec))
        found = (float(np.nan_to_num(np.abs(each) * share, nan=np.inf).max(initial=0.0)) for each in values)
        return max(found, default=0.0)

    with np.errstate(over="ignore", invalid="ignore"):
        return max(parts, key=most)[0]


def _write_next(
    item: str,
    base: Labelled,
    parts: Sequence[tuple[Update, float]],
    rank: int | None,
    paths: Mapping[str, Path],
) -> None:
    """The next version, and where there is a rank its step and what that leaves out. Raises BadModel."""
    if rank is not None:
        write_step(item, base, parts, rank, paths[f"step/{item}"], paths[f"residual/{item}"])
        parts = [(Update.of(_file(paths, f"step/{item}"), base), 1.0)]
    _write_merged(item, base, parts, paths[item])


def _write_merged(item: str, base: Labelled, parts: Sequence[tuple[Update, float]], path: Path) -> None:
    specs = base.model.specs
    with ModelWriter(path, specs) as file, np.errstate(over="ignore", invalid="ignore"):  # checked by put
        writer = Checked(item, file, specs)
        for name, spec in specs.items():
            for block in blocks(spec):
                total = weighted(parts, name, block)
                total += finite_elements(base, name, block.start, block.stop)
                writer.put(name, block.start, total)


# --- params and files ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Merge:
    """How the updates of an item are merged."""

    weights: list[tuple[float, float | None]]
    """(weight, clip) of each."""

    rank: int | None


def _named(item: object) -> str:
    """What the files of an item are called."""
    if not isinstance(item, str) or (item not in (BACKBONE, GATE) and expert_number(item) is None):
        raise JobError(f"there is no item {item!r}; they are backbone, gate, expert/0 and so on")
    return file_name(item)


def _merge(item: str, given: object) -> _Merge:
    found = given if isinstance(given, dict) else {}
    weights, clips = found.get("weights"), found.get("clips")
    known = found.keys() == {"weights", "clips", "rank"}
    if not known or not isinstance(weights, list) or not isinstance(clips, list):
        raise JobError(f"{item}: {given!r} is not {{weights: [...], clips: [...], rank: ...}}")
    if not weights:
        raise JobError(f"{item}: there is no update to merge")
    if len(weights) != len(clips):
        raise JobError(f"{item}: {len(weights)} weights but {len(clips)} clips")
    for n, weight in enumerate(weights):
        if not _is_number(weight) or weight < 0:
            raise JobError(f"{item}: update {n} has weight {weight!r}; it must be finite and not negative")
    for n, clip in enumerate(clips):
        if clip is not None and (not _is_number(clip) or clip <= 0):
            raise JobError(f"{item}: update {n} has clip {clip!r}; it must be null, or finite and positive")
    pairs = [
        (float(w), None if clip is None else float(clip)) for w, clip in zip(weights, clips, strict=True)
    ]
    return _Merge(pairs, _rank(f"{item}: the rank", found["rank"]))


def _rank(what: str, given: object) -> int | None:
    if given is not None and (type(given) is not int or not 1 <= given <= lora.RANK_MAX):
        raise JobError(f"{what} is {given!r}; it is null, or from 1 to {lora.RANK_MAX}")
    return given


def _is_number(value: object) -> bool:
    """Finite, as a float64."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_inputs(inputs: Mapping[str, Path], expected: set[str]) -> None:
    unexpected = sorted(set(inputs) - expected)
    if unexpected:
        raise JobError(f"the job has an input {unexpected[0]!r} that its items do not explain")


def _file(inputs: Mapping[str, Path], name: str) -> Labelled:
    if name not in inputs:
        raise JobError(f"the job needs an input {name!r}")
    try:
        return Labelled(name, ModelFile(inputs[name], MAX_MODEL_BYTES))
    except TensorError as error:
        raise BadModel(name, str(error)) from error
