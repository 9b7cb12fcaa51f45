"""Which bytes of an object are held: half-open ranges of offsets. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]
"""Half-open range of byte offsets: (start, end)."""


class RangeSet:
    """A set of byte offsets as sorted, disjoint ranges that do not touch."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        """How many ranges, not how many bytes."""
        return len(self._starts)

    @property
    def total_bytes(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Take in [start, end); an empty range changes nothing. Raises ValueError for what is no range."""
        if not 0 <= start <= end:
            raise ValueError(f"[{start}, {end}) is not a range of offsets")
        if start == end:
            return
        first = bisect_left(self._ends, start)  # the first range that reaches `start`
        last = bisect_right(self._starts, end)  # one past the last that begins by `end`
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def missing(self, start: int, end: int) -> list[Range]:
        """The parts of [start, end) that are not in the set, in order."""
        gaps: list[Range] = []
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[index] >= end:
                break
            if start < self._starts[index]:
                gaps.append((start, self._starts[index]))
            start = self._ends[index]
        if start < end:
            gaps.append((start, end))
        return gaps
