"""Real samples for trials: scikit-learn's 1,797 handwritten digits, split unevenly over satellites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from orbitrain.learning.tasks import derive_seed, dirichlet_split

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

RESERVED: Final = 900
"""Images that no satellite has, by default."""

_OPTIONS: Final = {"beta": 1.0, "held_out": 297, "reserved": RESERVED}


class Digits:
    """`beta`: Dirichlet parameter of the split over satellites; `held_out` images to measure on; the first
    `reserved` ones are nobody's: a backbone may have been trained on them."""

    classes = 10

    def __init__(self, options: Mapping[str, object], satellites: Sequence[str], seed: int) -> None:
        unknown = sorted(options.keys() - _OPTIONS.keys())
        if unknown:
            raise ValueError(f"{unknown[0]} is no option; the options are {', '.join(sorted(_OPTIONS))}")
        given = {**_OPTIONS, **options}
        beta, held_out, reserved = given["beta"], given["held_out"], given["reserved"]
        if not isinstance(beta, int | float):
            raise ValueError(f"beta is {beta!r}; it must be a number")
        for name, count in (("held_out", held_out), ("reserved", reserved)):
            if type(count) is not int or not 0 < count <= 1_500:
                raise ValueError(f"{name} is {count!r}; it must be a whole number from 1 to 1500")
        images, labels = shuffled()
        assert isinstance(held_out, int) and isinstance(reserved, int)
        self._held_out = images[-held_out:], labels[-held_out:]
        self._images, self._labels = images[reserved:-held_out], labels[reserved:-held_out]
        places = {satellite: [satellite] for satellite in satellites}
        self._of = dirichlet_split(self._labels, places, float(beta), 1.0, seed)
        self._seed = seed

    def batch(self, satellite: str, round_number: int, count: int) -> Numbers:
        """Drawn anew each round, without repetition as far as the satellite has as many."""
        own = self._of[satellite]
        if count > len(own):
            raise ValueError(f"{satellite} has {len(own)} samples, not the {count} that a round takes")
        random = np.random.default_rng(derive_seed(self._seed, satellite, round_number, "batch"))
        return np.sort(random.choice(own, count, replace=False)).astype(np.int64)

    def inputs(self, satellite: str, numbers: Numbers) -> Values:
        return self._images[numbers]

    def labels(self, satellite: str, numbers: Numbers) -> Numbers:
        return self._labels[numbers]

    def held_out(self) -> tuple[Values, Numbers]:
        return self._held_out


def shuffled() -> tuple[Values, Numbers]:
    """All images (1797, 1, 8, 8), float32 from 0 to 1, and their labels, in one fixed order.

    Read from scikit-learn's own file: to import it takes a satellite longer than all its work. Raises
    ValueError where it is not installed.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("scikit-learn, which has the digits, is not installed (extra digits)")
    rows = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    images = (rows[:, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return images, rows[:, -1].astype(np.int64)
