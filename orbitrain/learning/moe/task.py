"""Bring your own mixture of experts and data: the `MoeTask` a user writes, and how it is found.

A scenario names a task as `package.module:Name` and gives it options. Only worker processes load it.
`orbitrain.learning.moe.domains:Domains` is an example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np

from orbitrain.learning.moe.parts import EXPERTS_MAX, Parts
from orbitrain.learning.tasks import TaskError, find_named, first_line

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a round is to train; everything else stays as it was given, bit for bit."""

    experts: tuple[int, ...]
    """Ascending; may be empty."""

    gate: bool = False

    backbone: bool = False

    masked: bool = True
    """The gate chooses among `experts` alone, and only these need be loaded. Otherwise it chooses among all,
    and all must be in the parts."""

    learning_rate: float | None = None
    """Of experts and backbone; None: the task's own."""

    steps: int | None = None
    """Of training in this round; None: the task's own number."""


@dataclass(frozen=True, slots=True)
class MoeTrained:
    """What one device learned in one round."""

    parts: Parts
    """Only what was trained: names, shapes and dtypes of the parts it started from; finite."""

    n_samples: int
    """Samples the device has, at least 1: its weight in the cluster's mean (35), (36)."""

    loaded_bytes: int
    """Of tensors: the weights that were loaded, and the state that training keeps for those it trains:
    gradients, and the optimizer's. With N_k of N experts it is less by (N - N_k)(expert + its state)."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Finite numbers for the report, such as the training loss."""

    peak_bytes: int = 0
    """Of all tensors that were there at once, as far as the task counts them; 0: it does not."""


class MoeTask(Protocol):
    """A mixture of experts and its data, spread over clusters of devices.

    Every result must follow from the arguments alone, to the last bit and in any process: take randomness
    from `tasks.derive_seed`. Anything raised by a method fails the job that called it, with the exception's
    type and first line as the reason. Arrays that are given must not be written to.
    """

    experts: int
    """N, in each layer."""

    layers: int
    """L, of layers with experts."""

    top_k: int
    """Experts that a sample passes in a layer, 1 to N."""

    def __init__(
        self, options: Mapping[str, object], clusters: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        """Check `options` (from the scenario) and get the data ready.

        `clusters`: names of the devices of each cluster, in the scenario's order. `seed`: the scenario's.
        Raises ValueError, with one line that says what to change, for options it cannot use.
        """
        ...

    def initial(self) -> Parts:
        """Return the model that all start from, with all experts: a function of the seed.

        Experts and gate should be specialised already; with a gate that is not, nothing is gained.
        """
        ...

    def counts(self, device: str, parts: Parts) -> tuple[Counts, int]:
        """Run the whole model on the device's trial data, and say how often each expert was chosen.

        Returns counts (layers, experts) of integers, and how many samples were routed (tokens, where a model
        routes those): each row adds up to `top_k` times that. Equation (29) without its division.
        """
        ...

    def train(self, device: str, parts: Parts, wanted: Wanted, round_number: int, seed: int) -> MoeTrained:
        """Train what is wanted on the data of `device`, from `parts`, in round `round_number` (from 1).

        `parts.experts` has at least `wanted.experts`, and all experts where the round is not masked.
        """
        ...

    def evaluate(self, parts: Parts) -> dict[str, float]:
        """Return metrics of the whole model on one held-out set, with as many samples of each domain.

        Must contain `accuracy`, 0 to 1; `accuracy.CLUSTER` for what a cluster's domain alone comes to.
        """
        ...


_METHODS: Final = ("initial", "counts", "train", "evaluate")


def load_moe_task(
    spec: str,
    options: Mapping[str, object],
    clusters: Mapping[str, Sequence[str]],
    seed: int,
    search_path: Path | None = None,
) -> MoeTask:
    """Import the class that `spec` names and construct it; `search_path` as for `tasks.find_named`.

    Raises TaskError for a spec that names no such class, options that it refuses, or a model whose numbers
    contradict one another; other exceptions of the constructor pass through.
    """
    found = find_named(spec, search_path, "task")
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if not inspect.isclass(found) or missing:
        lacking = f"no method {', '.join(missing)}" if missing else "no class"
        raise TaskError(f"task {spec!r}: {lacking} of a mixture of experts")
    construct = cast(Callable[[Mapping[str, object], Mapping[str, Sequence[str]], int], MoeTask], found)
    try:
        task = construct(options, clusters, seed)
    except ValueError as error:
        raise TaskError(f"task {spec!r}: {first_line(error)}") from error
    for name, most in (("experts", EXPERTS_MAX), ("layers", EXPERTS_MAX), ("top_k", EXPERTS_MAX)):
        value = getattr(task, name, None)
        if type(value) is not int or not 1 <= value <= most:
            raise TaskError(f"task {spec!r}: {name} is {value!r}; it must be a whole number from 1 to {most}")
    if task.top_k > task.experts:
        raise TaskError(f"task {spec!r}: top_k is {task.top_k}, but there are {task.experts} experts")
    return task
