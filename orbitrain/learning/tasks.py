"""Bring your own model and data: the `Task` a user writes, how it is found, and how samples are dealt out.

A scenario names a task as `package.module:Name` and gives it options. Only worker processes load it.
The smallest task is a class with a constructor and three methods; `orbitrain.learning.digits` is an example.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from orbitrain.learning.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Trained:
    """What one device learned in one round."""

    weights: Tensors
    """Names, shapes and dtypes of the weights it started from; finite."""

    n_samples: int
    """Samples it trained on, at least 1: its weight in the region's mean."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Finite numbers for the report, such as the training loss."""


class Task(Protocol):
    """A model and its data, spread over the devices of a federation.

    Every result must follow from the arguments alone, to the last bit and in any process: take randomness
    from `derive_seed`, never from the time or a global generator. Anything raised by a method fails the job
    that called it, with the exception's type and first line as the reason. What is printed goes to the log
    of the node.

    A task may have an attribute `classes` (int), how many classes it tells apart; `orbitrain` only shows it.
    """

    def __init__(
        self, options: Mapping[str, object], regions: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        """Check `options` (from the scenario) and get the data ready.

        `regions`: names of the devices of each region, regions in ring order. `seed`: the scenario's.
        Raises ValueError, with one line that says what to change, for options it cannot use.
        """
        ...

    def initial(self) -> Tensors:
        """Return the weights that every region starts from, a function of the seed."""
        ...

    def train(self, device: str, weights: Tensors, round_number: int, seed: int) -> Trained:
        """Train on the data of `device`, from `weights` (not changed), in round `round_number` (from 1).

        `seed` is the scenario's seed: draw from `derive_seed(seed, device, round_number, "what for")`.
        """
        ...

    def evaluate(self, weights: Tensors) -> dict[str, float]:
        """Return metrics of `weights` on one held-out set, common to all regions and balanced over classes.

        Must contain `accuracy`, between 0 and 1.
        """
        ...


_METHODS = ("initial", "train", "evaluate")


class TaskError(ValueError):
    """The task that a scenario names cannot be used; the text is one line."""


def load_task(
    spec: str,
    options: Mapping[str, object],
    regions: Mapping[str, Sequence[str]],
    seed: int,
    search_path: Path | None = None,
) -> Task:
    """Import the class that `spec` (`package.module:Name`) names and construct it.

    `search_path` as for `find_named`. Raises TaskError for a spec that names no task, or options that the
    task refuses; other exceptions of the constructor pass through.
    """
    candidate = find_named(spec, search_path, "task")
    class_name = spec.partition(":")[2]
    missing = [name for name in _METHODS if not callable(getattr(candidate, name, None))]
    if not inspect.isclass(candidate):
        raise TaskError(f"task {spec!r}: {class_name!r} is not a class")
    if missing:
        raise TaskError(f"task {spec!r}: class {class_name!r} has no method {', '.join(missing)}")
    construct = cast(Callable[[Mapping[str, object], Mapping[str, Sequence[str]], int], Task], candidate)
    try:
        return construct(options, regions, seed)
    except ValueError as error:
        raise TaskError(f"task {spec!r}: {first_line(error)}") from error


def find_named(spec: str, search_path: Path | None, what: str) -> object:
    """Import what `spec` (`package.module:Name`) names, the user's `what`: "task", "model".

    `search_path`, the scenario's folder, is put first on `sys.path` and stays there. Raises TaskError.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in module_name.split(".")):
        raise TaskError(f"{what} {spec!r} is not of the form package.module:Name")
    if search_path is not None:
        _search_first(search_path)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code: this is the worker's edge
        raise TaskError(f"{what} {spec!r}: cannot import {module_name!r}: {one_line(error)}") from error
    if search_path is not None:
        _check_found_in(search_path, module_name, f"{what} {spec!r}")
    found = getattr(module, name, None)
    if found is None:
        raise TaskError(f"{what} {spec!r}: module {module_name!r} has no {name!r}")
    return found


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed of 63 bits for one purpose; randomness comes from (seed, node, round, purpose) alone.

    The first 8 bytes, big-endian and shifted right by one bit, of the SHA-256 of the JSON list
    `[seed, *names]` written without spaces in ASCII. The list keeps ("ab", "c") apart from ("a", "bc").
    """
    text = json.dumps([seed, *names], separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") >> 1


def dirichlet_split(
    labels: np.ndarray[Any, np.dtype[Any]],
    regions: Mapping[str, Sequence[str]],
    region_beta: float,
    device_beta: float,
    seed: int,
    min_samples: int = 8,
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Deal training samples out to devices with skewed labels; return each device's sample numbers, sorted.

    `labels`: class of each sample, shape (samples,). For each class, its samples are dealt to the regions in
    proportions drawn from Dirichlet(`region_beta`), then those of a region to its devices in proportions
    drawn from Dirichlet(`device_beta`): the smaller beta, the fewer places share a class. Every sample goes
    to exactly one device. A device left with fewer than `min_samples` takes from the largest device of its
    region that can spare some, else from the largest of all. Regions are taken in the order of their names,
    so the split does not depend on the order of the mapping.

    Raises ValueError for a beta that is not positive, a device named twice, a region without devices, or too
    few samples. Source: Li et al., "Federated learning on non-IID data silos", arXiv 2102.02079,
    "distribution-based label imbalance", used at two levels.
    """
    for name, beta in (("region_beta", region_beta), ("device_beta", device_beta)):
        if not 0.0 < beta < float("inf"):
            raise ValueError(f"{name} is {beta!r}; it must be a positive number")
    names = sorted(regions)
    devices = [device for region in names for device in regions[region]]
    if len(set(devices)) != len(devices):
        raise ValueError("a device is named twice in the regions")
    if not devices or not all(regions[region] for region in names):
        raise ValueError("every region needs at least one device")
    if len(labels) < min_samples * len(devices):
        raise ValueError(f"{len(labels)} samples cannot give {len(devices)} devices {min_samples} each")

    held: dict[str, list[int]] = {device: [] for device in devices}
    for label in np.unique(labels):
        random = np.random.default_rng(derive_seed(seed, "split", int(label)))
        samples = random.permutation(np.flatnonzero(labels == label))
        shares = _deal(samples, random.dirichlet([region_beta] * len(names)))
        for region, share in zip(names, shares, strict=True):
            parts = _deal(share, random.dirichlet([device_beta] * len(regions[region])))
            for device, part in zip(regions[region], parts, strict=True):
                held[device].extend(part.tolist())
    _fill_up(held, regions, min_samples, seed)
    return {device: np.array(sorted(held[device]), dtype=np.int64) for device in devices}


def _deal(
    samples: np.ndarray[Any, np.dtype[Any]], proportions: np.ndarray[Any, np.dtype[np.float64]]
) -> list[np.ndarray[Any, np.dtype[Any]]]:
    """Cut `samples` into consecutive parts as close to `proportions` as whole samples allow."""
    cuts = np.rint(np.cumsum(proportions)[:-1] * len(samples)).astype(np.int64)
    return np.split(samples, np.clip(cuts, 0, len(samples)))


def _fill_up(
    held: dict[str, list[int]], regions: Mapping[str, Sequence[str]], min_samples: int, seed: int
) -> None:
    # Shuffled first, so that what is taken from the end is a fair draw of the donor's classes.
    for device, samples in held.items():
        order = np.random.default_rng(derive_seed(seed, "fill", device)).permutation(len(samples))
        samples[:] = [samples[position] for position in order]
    for region in sorted(regions):
        for device in regions[region]:
            while len(held[device]) < min_samples:
                neighbours = [name for name in regions[region] if len(held[name]) > min_samples]
                donor = max(neighbours or held, key=lambda name: len(held[name]))
                held[device].append(held[donor].pop())


def first_line(error: BaseException) -> str:
    """Return the first line of the exception's text, bounded."""
    return (str(error).strip().splitlines() or [""])[0][:400]


def one_line(error: BaseException) -> str:
    """Return the exception's type and the first line of its text, bounded."""
    line = first_line(error)
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _search_first(search_path: Path) -> None:
    entry = str(search_path.resolve())
    if sys.path[:1] != [entry]:
        sys.path[:] = [entry, *(other for other in sys.path if other != entry)]
    importlib.invalidate_caches()


def _check_found_in(search_path: Path, module_name: str, asked: str) -> None:
    """A module already loaded from elsewhere under this name would silently be another task."""
    top = module_name.partition(".")[0]
    expected = importlib.machinery.PathFinder.find_spec(top, [str(search_path.resolve())])
    found = getattr(sys.modules.get(top), "__file__", None)
    if expected is not None and expected.origin is not None and found != expected.origin:
        raise TaskError(f"{asked}: this process has already loaded {top!r} from {found}")
