"""The head that satellites train: a linear layer with softmax cross-entropy, in numpy. Never imports torch.

With one step over all samples, and heads averaged by their sample counts, a round equals one step of gradient
descent over everyone's samples together (our derivation; in float64 to 1e-12).

A row is one pooled sample, or one token of a sample where the head answers for each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np

from orbitrain.learning.split.identity import LINEAR, piece_digest
from orbitrain.learning.tasks import derive_seed
from orbitrain.learning.tensors import Tensors, check_like, encode_tensors

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

DTYPES: Final = ("float32", "float64")


class HeadError(ValueError):
    """A head, features or labels that do not fit together; the text is one line."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Training on a satellite between two averagings: plain gradient descent on the mean loss."""

    count: int
    """At least 1."""

    learning_rate: float

    batch: int | None = None
    """Samples a step takes, drawn without repetition until all had their turn; None: all of them."""

    def __post_init__(self) -> None:
        """Raises HeadError for a value out of range."""
        if self.count < 1 or (self.batch is not None and self.batch < 1):
            raise HeadError(f"{self.count} steps of {self.batch} samples: both must be at least 1")
        if not 0.0 < self.learning_rate < float("inf"):
            raise HeadError(f"learning_rate is {self.learning_rate!r}; it must be a positive number")


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Scores are features @ weight.T + bias, as in `torch.nn.Linear`; arrays are not written to."""

    weight: Values
    """(classes, F), float32 or float64."""

    bias: Values
    """(classes,), of the same dtype."""

    def __post_init__(self) -> None:
        """Raises HeadError for shapes or dtypes that are not those of a head."""
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise HeadError(f"weight {list(self.weight.shape)} and bias {list(self.bias.shape)} are no head")
        if self.weight.dtype.name not in DTYPES or self.weight.dtype != self.bias.dtype:
            raise HeadError(f"a head of {self.weight.dtype} and {self.bias.dtype}; {' or '.join(DTYPES)}")

    @classmethod
    def initial(cls, width: int, classes: int, seed: int, dtype: str = "float32") -> Self:
        """Draw a head from the seed: uniform within 1/sqrt(width), as `torch.nn.Linear` is by default."""
        random = np.random.default_rng(derive_seed(seed, "split", "head"))
        bound = 1.0 / np.sqrt(width)
        weight = random.uniform(-bound, bound, (classes, width)).astype(dtype)
        return cls(weight, random.uniform(-bound, bound, classes).astype(dtype))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Values], like: LinearHead) -> Self:
        """Raises TensorError unless these are finite and those of a head `like` the given one."""
        check_like(tensors, like.tensors())
        return cls(tensors["weight"], tensors["bias"])

    def tensors(self) -> Tensors:
        """By name, as in torch's `state_dict`."""
        return {"weight": self.weight, "bias": self.bias}

    def digest(self) -> str:
        """Of this piece: `identity.piece_digest`."""
        return piece_digest("head", LINEAR, encode_tensors(self.tensors()))

    def scores(self, features: Values) -> Values:
        """(n, [N,] F) to (n, [N,] classes). Raises HeadError for features of another width."""
        return self._rows(features) @ self.weight.T + self.bias

    def accuracy(self, features: Values, labels: Labels) -> float:
        """Share of the labels (n, [N]) that have the highest score, 0 to 1; the first of equals counts."""
        self._check(features, labels)
        return float((self.scores(features).argmax(axis=-1) == labels).mean())

    def loss(self, features: Values, labels: Labels) -> float:
        """Mean cross-entropy over all rows, in nats."""
        self._check(features, labels)
        rows, of = self._flat(features, labels)
        logs = _log_softmax(rows @ self.weight.T + self.bias)
        return float(-logs[np.arange(len(of)), of].mean())

    def gradient(self, features: Values, labels: Labels) -> LinearHead:
        """Return the gradient of `loss`, by weight and bias.

        Raises HeadError for features or labels that do not fit.
        """
        self._check(features, labels)
        return self._gradient(*self._flat(features, labels))

    def trained(self, features: Values, labels: Labels, steps: Steps, seed: int) -> LinearHead:
        """Return the head after `steps` from this one; `seed` decides the order of batches.

        Derive the seed from owner and round: `derive_seed(seed, owner, round, "order")`. Features are used in
        the dtype of the head. Raises HeadError for features or labels that do not fit, or a head that is not
        finite at the end.
        """
        self._check(features, labels)
        features = features.astype(self.weight.dtype, copy=False)
        random = np.random.default_rng(seed)
        rate = self.weight.dtype.type(steps.learning_rate)
        head: LinearHead = self
        batch = len(labels) if steps.batch is None else steps.batch
        order = np.empty(0, np.int64)
        for _ in range(steps.count):
            if not len(order):
                # All samples keep their order: a sum over another one rounds otherwise.
                order = np.arange(len(labels)) if steps.batch is None else random.permutation(len(labels))
            chosen, order = order[:batch], order[batch:]
            gradient = head._gradient(*head._flat(features[chosen], labels[chosen]))
            head = LinearHead(head.weight - rate * gradient.weight, head.bias - rate * gradient.bias)
        if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
            raise HeadError(f"the head is not finite after {steps.count} steps; take a lower learning_rate")
        return head

    def _rows(self, features: Values) -> Values:
        if features.ndim not in (2, 3) or features.shape[-1] != self.weight.shape[1]:
            raise HeadError(f"features of shape {list(features.shape)} for a head of {self.weight.shape[1]}")
        return features.astype(self.weight.dtype, copy=False)

    def _check(self, features: Values, labels: Labels) -> None:
        self._rows(features)
        if labels.dtype.kind not in "iu" or labels.shape != features.shape[:-1] or not labels.size:
            found = f"labels of {labels.dtype} {list(labels.shape)}"
            raise HeadError(f"{found} for features of shape {list(features.shape)}")
        if labels.min() < 0 or labels.max() >= len(self.bias):
            raise HeadError(f"labels from {labels.min()} to {labels.max()} for {len(self.bias)} classes")

    def _flat(self, features: Values, labels: Labels) -> tuple[Values, Labels]:
        rows = self._rows(features)
        return rows.reshape(-1, rows.shape[-1]), labels.reshape(-1)

    def _gradient(self, rows: Values, labels: Labels) -> LinearHead:
        errors = np.exp(_log_softmax(rows @ self.weight.T + self.bias))
        errors[np.arange(len(labels)), labels] -= 1
        errors /= len(labels)
        return LinearHead(errors.T @ rows, errors.sum(axis=0))


def _log_softmax(scores: Values) -> Values:
    shifted: Values = scores - scores.max(axis=-1, keepdims=True)
    logs: Values = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
