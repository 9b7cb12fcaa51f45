"""How models are combined: the weighted mean inside a region, and mixing with a carried model.

Source: FedMeld (arXiv 2412.17231) as reconstructed in our notes, section 1.3, equation (2).
The arithmetic is fixed to the last bit, so that every node, the simulator and a five-line reference agree:
each operation is one IEEE 754 float64 operation per element, in the order written below, and the result is
rounded once, to nearest even, to the tensor's own dtype. Tensors of integers and booleans (step counters) are
combined the same way and rounded to the nearest integer; they are exact up to 2**53. numpy only.

Elements do not know of each other, so they are taken a piece at a time, from files to files: however many
models there are and however large, the memory is that of a few pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from orbitrain.learning.model_file import Elements, ModelFile, ModelWriter
from orbitrain.learning.tensors import Spec, TensorError, check_finite, check_same

PIECE: Final = 1 << 17
"""Elements that are combined at once: 1 MiB as float64, so that a core's cache holds what is worked on."""


class BadModel(TensorError):
    """One of the models is not what it should be: `label` says which."""

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(f"{label}: {reason}")
        self.label = label


@dataclass(frozen=True, slots=True)
class Labelled:
    """A model as it is called in what is said of it."""

    label: str
    model: ModelFile


@dataclass(frozen=True, slots=True)
class Mixing:
    """A carried model, its share, and where the mean goes as it was before."""

    carried: Labelled
    alpha: float
    pre: Path


def aggregate(
    updates: Sequence[tuple[Labelled, int]],
    base: Mapping[str, Spec],
    out: Path,
    mixing: Mixing | None = None,
) -> None:
    """Write sum_k p_k v_k with p_k = n_k / sum_j n_j: FedMeld 1.3, vbar in equation (2), full participation.

    `updates` holds (v_k, n_k): models like `base`, and the number of samples they were trained on, at least
    1. For each tensor exactly

        total = sum(n for _, n in updates)                                   # integers
        mean = 0.0
        for v, n in updates:                                                 # in the order given
            mean = mean + (n / total) * v[name].astype(numpy.float64)
        mean = mean.astype(v[name].dtype)

    The order matters to the last bit: callers sort by device. With `mixing`, that is what goes to `pre`, and
    to `out` goes (1 - alpha) mean + alpha carried: equation (2), third case (t+1 in I_dE), exactly
    `((1 - alpha) * mean.astype(float64) + alpha * carried.astype(float64)).astype(dtype)`. alpha = 0 gives
    the mean and alpha = 1 the carried model, bit for bit (the formula would turn -0.0 into 0.0).

    Raises ValueError for no updates, a weight below 1 or an alpha that is not 0 to 1, BadModel for a model
    that is not like `base` or has values that are not finite, and OSError.
    """
    _check_weights([n_samples for _, n_samples in updates])
    models = [labelled for labelled, _ in updates]
    if mixing is not None:
        if not 0.0 <= mixing.alpha <= 1.0:
            raise ValueError(f"alpha is {mixing.alpha!r}; it must lie between 0 and 1")
        models.append(mixing.carried)
    for labelled in models:
        try:
            check_same(labelled.model.specs, base)
        except TensorError as error:
            raise BadModel(labelled.label, str(error)) from None
    total = sum(n_samples for _, n_samples in updates)
    shares = [(labelled, n_samples / total) for labelled, n_samples in updates]
    with ExitStack() as stack:
        writer = stack.enter_context(ModelWriter(out, base))
        before = writer if mixing is None else stack.enter_context(ModelWriter(mixing.pre, base))
        for name, spec in base.items():
            for start in range(0, spec.count, PIECE):
                stop = min(start + PIECE, spec.count)
                mean = _rounded(_mean(shares, name, start, stop), spec.dtype)
                before.put(name, start, mean)
                if mixing is not None:
                    carried = finite_elements(mixing.carried, name, start, stop)
                    writer.put(name, start, _mixed(mean, carried, mixing.alpha))


def _check_weights(weights: Sequence[int]) -> None:
    if not weights:
        raise ValueError("there is no update to average")
    for index, n_samples in enumerate(weights):
        if type(n_samples) is not int or n_samples < 1:
            raise ValueError(f"update {index} has weight {n_samples!r}; it must be an integer of at least 1")


def finite_elements(labelled: Labelled, name: str, start: int, stop: int) -> Elements:
    """Return elements of a model's tensor. Raises BadModel for values that are not finite."""
    try:
        found = labelled.model.elements(name, start, stop)
        check_finite(name, found)
    except TensorError as error:
        raise BadModel(labelled.label, str(error)) from None
    return found


def _mean(shares: Sequence[tuple[Labelled, float]], name: str, start: int, stop: int) -> Elements:
    mean = np.zeros(stop - start, dtype=np.float64)
    weighted = np.empty(stop - start, dtype=np.float64)
    for labelled, share in shares:
        np.multiply(finite_elements(labelled, name, start, stop), share, out=weighted, dtype=np.float64)
        mean += weighted
    return mean


def _mixed(own: Elements, carried: Elements, alpha: float) -> Elements:
    if alpha in (0.0, 1.0):
        return own if alpha == 0.0 else carried
    value = (1.0 - alpha) * own.astype(np.float64) + alpha * carried.astype(np.float64)
    return _rounded(value, own.dtype)


def _rounded(value: Elements, dtype: np.dtype[Any]) -> Elements:
    return value.astype(dtype) if dtype.kind == "f" else np.rint(value).astype(dtype)
