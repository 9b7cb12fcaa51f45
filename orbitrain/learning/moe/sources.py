"""Real samples of domains that have nothing in common, from files that installed packages carry.

    name         what a sample is                                     classes  samples  features
    digits       a handwritten digit, 8x8 grey values                 10       1,797    64
    chess        a position, king and rook against king and pawn      2        3,196    40
    cells        measurements of a cell nucleus under a microscope    2        569      30
    photographs  a tile of one of two photographs, 8x8 grey values    2        8,480    64
    wine         a chemical analysis                                  3        178      13
    iris         a flower's four lengths                              3        150      4

All come with scikit-learn (BSD-3; extra digits), whose files are read without importing it: that would take
longer than the reading. The tables are of the UCI repository; chess is among the files of scikit-learn's own
tests. The photographs are CC BY 2.0 and need Pillow to be read. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_TILE: Final = 8
"""Side of a tile in pixels: as large as a digit."""

_CHESS: Final = "tests/data/openml/id_3/data-v1-dl-3.arff.gz"


@dataclass(frozen=True, slots=True)
class Source:
    """The samples of a domain, in the order of the file."""

    values: Values
    """(samples, features)."""

    labels: Labels
    """(samples,), from 0."""

    alike: bool = False
    """All features are of one kind, such as pixels, and are scaled together; otherwise each by itself."""

    only_tested: Flags | None = None
    """(samples,): the part to measure on, where a random one would be too much like the rest."""


def read_source(name: str) -> Source:
    """Read a domain. Raises ValueError, with one line, for another name, or files that are not there."""
    if name not in SOURCES:
        raise ValueError(f"there is no domain {name!r}; the domains are {', '.join(SOURCES)}")
    try:
        return SOURCES[name]()
    except OSError as error:
        raise ValueError(f"domain {name!r}: this scikit-learn has no {error.filename}") from error


def _digits() -> Source:
    table = np.loadtxt(_file("data/digits.csv.gz"), delimiter=",")
    return Source(table[:, :-1], table[:, -1].astype(np.int64), alike=True)


def _table(file: str) -> Callable[[], Source]:
    def read() -> Source:
        table = np.loadtxt(_file(file), delimiter=",", skiprows=1)
        return Source(table[:, :-1], table[:, -1].astype(np.int64))

    return read


def _chess() -> Source:
    """An attribute with two values is one column, one with three is three."""
    known: list[list[str]] = []
    rows: list[list[str]] = []
    with gzip.open(_file(_CHESS), "rt", encoding="ascii") as lines:
        for line in lines:
            fields = line.strip()
            if fields.startswith("@attribute"):
                known.append(_words(fields[fields.index("{") + 1 : fields.rindex("}")]))
            elif fields and fields[0] not in "@%":
                rows.append(_words(fields))
    columns = []
    for place, allowed in enumerate(known[:-1]):
        told = allowed[:1] if len(allowed) == 2 else allowed
        columns += [[float(row[place] == value) for row in rows] for value in told]
    labels = [known[-1].index(row[-1]) for row in rows]
    return Source(np.array(columns).T, np.array(labels, dtype=np.int64), alike=True)


def _words(text: str) -> list[str]:
    return [word.strip().strip("'") for word in text.split(",")]


def _photographs() -> Source:
    """Tiles of the right quarter of each picture are tested on alone: neighbours look alike."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError("domain 'photographs' needs Pillow, which is not installed") from error
    values, labels, right = [], [], []
    for label, name in enumerate(("china.jpg", "flower.jpg")):
        with Image.open(_file(f"images/{name}")) as picture:
            grey = np.asarray(picture.convert("L"), dtype=np.float64)
        high, wide = (side // _TILE for side in grey.shape)
        tiles = grey[: high * _TILE, : wide * _TILE].reshape(high, _TILE, wide, _TILE).swapaxes(1, 2)
        values.append(tiles.reshape(high * wide, _TILE * _TILE))
        labels.append(np.full(high * wide, label, dtype=np.int64))
        right.append(np.tile(np.arange(wide) >= wide * 3 // 4, high))
    return Source(np.concatenate(values), np.concatenate(labels), True, np.concatenate(right))


SOURCES: Final[Mapping[str, Callable[[], Source]]] = {
    "digits": _digits,
    "chess": _chess,
    "cells": _table("data/breast_cancer.csv"),
    "photographs": _photographs,
    "wine": _table("data/wine_data.csv"),
    "iris": _table("data/iris.csv"),
}
"""How each domain is read; the largest and those that need nothing more come first."""


def _file(relative: str) -> Path:
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("scikit-learn, which carries the domains' files, is not installed (extra digits)")
    return Path(found.origin).parent / "datasets" / relative
