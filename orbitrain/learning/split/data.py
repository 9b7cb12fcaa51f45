"""Bring your own samples: labelled inputs, of which each satellite has its own.

A class that a scenario names as `package.module:Name`, constructed with (options, satellites, seed).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from orbitrain.learning.tasks import TaskError, find_named, first_line

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class Samples(Protocol):
    """The samples of all satellites; each process asks for those of its own node alone."""

    classes: int

    def batch(self, satellite: str, round_number: int, count: int) -> Numbers:
        """The satellite's own numbers of the samples that it brings to a round (from 1).

        (count,), no two alike; the same for the same arguments.
        """
        ...

    def inputs(self, satellite: str, numbers: Numbers) -> Values:
        """(n, *input_shape) of floats."""
        ...

    def labels(self, satellite: str, numbers: Numbers) -> Numbers:
        """(n,), or (n, N) where the head answers for each token; 0 to `classes` - 1."""
        ...

    def held_out(self) -> tuple[Values, Numbers]:
        """Inputs and labels that no satellite has, to measure accuracy on."""
        ...


_METHODS = ("batch", "inputs", "labels", "held_out")


def load_samples(
    spec: str,
    options: Mapping[str, object],
    satellites: Sequence[str],
    seed: int,
    search_path: Path | None = None,
) -> Samples:
    """Import the class that `spec` names and construct it; `search_path` as for `tasks.load_task`.

    Raises TaskError for a spec that names no such class, or options that it refuses; other exceptions of the
    constructor pass through.
    """
    found = find_named(spec, search_path, "task")
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if not inspect.isclass(found) or missing:
        lacking = f"no method {', '.join(missing)}" if missing else "no class"
        raise TaskError(f"task {spec!r}: {lacking} of samples that satellites have")
    construct = cast(Callable[[Mapping[str, object], Sequence[str], int], Samples], found)
    try:
        return construct(options, satellites, seed)
    except ValueError as error:
        raise TaskError(f"task {spec!r}: {first_line(error)}") from error
