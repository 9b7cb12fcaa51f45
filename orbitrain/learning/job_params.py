"""What a job's parameters say: values of a type, and the task that they name, kept from job to job."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from orbitrain.learning.outcome import JobError

T = TypeVar("T")

MAX_TASKS: Final = 4
"""Tasks kept constructed in one worker: a node serves one, a sweep of simulations a few; each holds data."""

Load: TypeAlias = Callable[[str, Mapping[str, object], Mapping[str, Sequence[str]], int, Path | None], T]
"""From (spec, options, names of the devices of each group, seed, search path)."""


def param(params: Mapping[str, Any], name: str, kind: Any) -> Any:
    """A parameter, of this type (`bool` is none). Raises JobError."""
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise JobError(f"the job's parameter {name!r} is {value!r}")
    return value


class KeptTasks(Generic[T]):
    """What is made of the parameter `task`, {spec, options, groups, seed, search_path}: once, and kept."""

    def __init__(self, groups: str, load: Load[T]) -> None:
        """`groups` is what the task calls them: regions, clusters."""
        self._groups = groups
        self._load = load
        self._kept: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def of(self, params: Mapping[str, Any]) -> T:
        """Raises JobError for parameters that are none, and what `load` raises."""
        given = param(params, "task", dict)
        groups = param(given, self._groups, dict)
        search_path = given.get("search_path")
        # As a list of pairs, because their order counts: of regions it is the ring.
        key = json.dumps({**given, self._groups: list(groups.items())}, sort_keys=True)
        task = self._kept.pop(key, None)
        if task is None:
            task = self._load(
                param(given, "spec", str),
                given.get("options") or {},
                groups,
                param(given, "seed", int),
                Path(search_path) if search_path else None,
            )
        while len(self._kept) >= MAX_TASKS:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = task
        return task
