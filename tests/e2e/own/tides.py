"""A task of a user's own, the smallest that learns: logistic regression with numpy alone.

Sums are numpy's own and never BLAS: the same bits in every process, however many threads it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orbitrain.learning.tasks import Trained, derive_seed

STEPS = 5
RATE = np.float32(0.3)


class Tides:
    """Tells high from low tide by `inputs` gauges; each region sees a part of the sea of its own."""

    classes = 2

    def __init__(
        self, options: Mapping[str, object], regions: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        inputs = options.get("inputs", 6)
        if not isinstance(inputs, int) or isinstance(inputs, bool) or inputs < 1:
            raise ValueError(f"inputs: must be an integer of at least 1, not {inputs!r}")
        truth = np.random.default_rng(derive_seed(seed, "truth")).normal(size=inputs)
        self._inputs = inputs
        self._samples = {}
        for n, region in enumerate(regions):
            for k, device in enumerate(regions[region]):
                self._samples[device] = _samples(truth, 24 + 8 * k, n - 0.5, derive_seed(seed, device))
        self._held_out = _samples(truth, 200, 0.0, derive_seed(seed, "held out"))

    def initial(self) -> dict[str, np.ndarray]:
        return {"bias": np.zeros(1, np.float32), "weight": np.zeros(self._inputs, np.float32)}

    def train(self, device: str, weights: Mapping[str, np.ndarray], round_number: int, seed: int) -> Trained:
        inputs, tides = self._samples[device]
        chance = np.random.default_rng(derive_seed(seed, device, round_number, "batch"))
        weight, bias = weights["weight"].copy(), weights["bias"].copy()
        for _ in range(STEPS):
            batch = chance.choice(len(tides), size=16, replace=False)
            error = _high(inputs[batch], weight, bias) - tides[batch]
            weight -= RATE * np.mean(error[:, None] * inputs[batch], axis=0, dtype=np.float32)
            bias -= RATE * np.mean(error, dtype=np.float32)
        return Trained({"bias": bias, "weight": weight}, len(tides))

    def evaluate(self, weights: Mapping[str, np.ndarray]) -> dict[str, float]:
        inputs, tides = self._held_out
        guessed = _high(inputs, weights["weight"], weights["bias"]) > 0.5
        return {"accuracy": float(np.mean(guessed == (tides > 0.5)))}


def _high(inputs: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The probability of a high tide."""
    return (1 / (1 + np.exp(-(np.sum(inputs * weight, axis=1) + bias)))).astype(np.float32)


def _samples(truth: np.ndarray, count: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(seed).normal(shift, 1.0, size=(count, len(truth)))
    tides = np.sum(inputs * truth, axis=1) > 0
    return inputs.astype(np.float32), tides.astype(np.float32)
