"""FedMeld in one process and forty lines: what every other implementation is measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Model: TypeAlias = dict[str, np.ndarray[Any, Any]]
Train: TypeAlias = Callable[[str, Model, int], tuple[Model, int]]
"""(device, model, round) to (update, samples): eq. (1)."""


def combined(parts: Sequence[tuple[float, Model]]) -> Model:
    """sum_k p_k v_k in float64, term by term, rounded once."""
    first = parts[0][1]
    total = {name: np.zeros(value.shape) for name, value in first.items()}
    for weight, model in parts:
        for name, value in model.items():
            total[name] = total[name] + weight * value.astype(np.float64)
    return {name: value.astype(first[name].dtype) for name, value in total.items()}


def meld(
    regions: Mapping[str, Sequence[str]],
    initial: Model,
    train: Train,
    rounds: int,
    delta: int,
    alpha: float,
    carry: str = "post",
) -> list[list[Model]]:
    """Models by round (from 1) and region: the reference core of the notes, section 7."""
    models, carried, history = [initial] * len(regions), None, []
    for number in range(1, rounds + 1):
        aggregates = []
        for model, devices in zip(models, regions.values(), strict=True):
            updates = [train(device, model, number) for device in sorted(devices)]
            samples = sum(n for _, n in updates)
            aggregates.append(combined([(n / samples, update) for update, n in updates]))
        models = aggregates
        if number % delta == 0 and len(regions) > 1:
            if carried is not None and alpha > 0:
                models = [
                    combined([(1 - alpha, own), (alpha, carried[i - 1])]) for i, own in enumerate(aggregates)
                ]
            carried = models if carry == "post" else aggregates
        history.append(models)
    return history
