"""How models are combined: the weighted mean inside a region, and mixing with a carried model.

Source: FedMeld (arXiv 2412.17231) as reconstructed in our notes, section 1.3, equation (2).
The arithmetic is fixed to the last bit, so that every node, the simulator and a five-line reference agree:
each operation is one IEEE 754 float64 operation per element, in the order written below, and the result is
rounded once, to nearest even, to the tensor's own dtype. Tensors of integers and booleans (step counters) are
combined the same way and rounded to the nearest integer; they are exact up to 2**53. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orbitrain.learning.tensors import TensorError, Tensors, check_like


def weighted_mean(
    updates: Sequence[tuple[Mapping[str, np.ndarray[Any, np.dtype[Any]]], int]],
) -> Tensors:
    """Return sum_k p_k v_k with p_k = n_k / sum_j n_j: FedMeld 1.3, vbar in equation (2), full participation.

    `updates` holds (v_k, n_k): tensors of the same names, shapes and dtypes, and the number of samples they
    were trained on, at least 1. For each tensor exactly

        total = sum(n for _, n in updates)                                   # integers
        mean = 0.0
        for v, n in updates:                                                 # in the order given
            mean = mean + (n / total) * v[name].astype(numpy.float64)
        mean = mean.astype(v[name].dtype)

    The order matters to the last bit: callers sort by device. Raises ValueError for no updates or a weight
    below 1, TensorError for tensors that do not match the first update's.
    """
    if not updates:
        raise ValueError("there is no update to average")
    for index, (_, n_samples) in enumerate(updates):
        if type(n_samples) is not int or n_samples < 1:
            raise ValueError(f"update {index} has weight {n_samples!r}; it must be an integer of at least 1")
    first = updates[0][0]
    for tensors, _ in updates:
        check_like(tensors, first)
    total = sum(n_samples for _, n_samples in updates)
    mean: Tensors = {}
    for name in sorted(first):
        accumulated = np.zeros(first[name].shape, dtype=np.float64)
        for tensors, n_samples in updates:
            accumulated += (n_samples / total) * tensors[name].astype(np.float64)
        mean[name] = _rounded(accumulated, first[name].dtype)
    return mean


def mix(
    own: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
    carried: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
    alpha: float,
) -> Tensors:
    """Return (1 - alpha) own + alpha carried: FedMeld 1.3, equation (2), third case (t+1 in I_dE).

    For each tensor exactly `((1 - alpha) * own.astype(float64) + alpha *
    carried.astype(float64)).astype(dtype)`. alpha = 0 returns the values of `own` and alpha = 1 those of
    `carried`, bit for bit (the formula would turn -0.0 into 0.0). Raises ValueError unless 0 <= alpha <= 1,
    TensorError for tensors that do not match.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha!r}; it must lie between 0 and 1")
    check_like(own, own)
    check_like(carried, own)
    if alpha in (0.0, 1.0):
        kept = own if alpha == 0.0 else carried
        return {name: kept[name].copy() for name in sorted(kept)}
    mixed: Tensors = {}
    for name in sorted(own):
        value = (1.0 - alpha) * own[name].astype(np.float64) + alpha * carried[name].astype(np.float64)
        mixed[name] = _rounded(value, own[name].dtype)
    return mixed


def _rounded(value: np.ndarray[Any, np.dtype[Any]], dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype.kind == "f":
        # asarray: arithmetic on a tensor of shape () gives a numpy scalar.
        return np.asarray(value).astype(dtype)
    if dtype.kind in "iub":
        return np.asarray(np.rint(value)).astype(dtype)
    raise TensorError(f"tensors of dtype {dtype} cannot be averaged")
