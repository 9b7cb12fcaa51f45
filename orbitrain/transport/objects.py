"""Which bytes of an object are held, which are to be sent, and in what pieces. Pure.

Bytes are half-open ranges of offsets. What a receiver has acknowledged is on its disk: `Sending` never sends
it again. What is in the air when a link goes is what a cut can cost, so `Pace` bounds it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

CHUNK_BYTES_MIN: Final = 64 * 1024
CHUNK_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bounds of a chunk: below, headers and answers cost more than a cut does; above, gRPC's message is too
large."""

CHUNK_S: Final = 2.0
"""Seconds of the link that a chunk takes, within those bounds."""

MEASURED_S: Final = 1.0
"""Seconds over which a rate is measured: several answers of all but the slowest links."""

WINDOW_CHUNKS: Final = 2
"""Chunks in the air at least: one under way while the answer to the other is."""

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


def split(ranges: Iterable[Range], nbytes: int) -> tuple[list[Range], list[Range]]:
    """The first `nbytes` bytes of ranges, in their order, and the others. Empty ones are among the first."""
    first, others = [], []
    for start, end in ranges:
        stop = min(end, start + max(nbytes, 0))
        if stop > start or start == end:
            first.append((start, stop))
        if stop < end:
            others.append((stop, end))
        nbytes -= stop - start
    return first, others


@dataclass(frozen=True, slots=True)
class Pace:
    """How an object is cut for a link: bytes of a chunk, and bytes that may be in the air unanswered."""

    chunk_bytes: int
    window_bytes: int

    @staticmethod
    def of(rate_bps: float, round_trip_s: float) -> Pace:
        """For a link of this rate, in the seconds that it is of.

        The window holds twice what the link carries in a round trip, so that it is never idle for want of an
        answer, and WINDOW_CHUNKS.
        """
        per_s = rate_bps / 8
        chunk = min(max(int(per_s * CHUNK_S), CHUNK_BYTES_MIN), CHUNK_BYTES_MAX)
        return Pace(chunk, max(WINDOW_CHUNKS * chunk, int(2 * per_s * round_trip_s)))


class Meter:
    """What a link carries, measured by what is acknowledged over it."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, int]] = deque()

    def heard(self, now_s: float, total_bytes: int) -> None:
        """By now so many bytes in all have been acknowledged."""
        heard = self._heard
        if heard and total_bytes < heard[-1][1]:  # of another connection
            heard.clear()
        if heard and total_bytes == heard[-1][1]:  # nothing came: the next that does has taken since then
            return
        heard.append((now_s, total_bytes))
        while len(heard) > 2 and now_s - heard[1][0] >= MEASURED_S:
            heard.popleft()

    @property
    def rate_bps(self) -> float | None:
        """Of the last MEASURED_S or little more; None before."""
        if not self._heard or self._heard[-1][0] - self._heard[0][0] < MEASURED_S:
            return None
        (first_s, first_bytes), (last_s, last_bytes) = self._heard[0], self._heard[-1]
        return 8 * (last_bytes - first_bytes) / (last_s - first_s)


class Sending:
    """What is still to be sent of one object over one call: chunks in order, a window of them in the air."""

    def __init__(self, missing: Iterable[Range], window_bytes: int) -> None:
        """`missing` are the ranges that the receiver has asked for, in the order in which it wants them."""
        self._left = deque((start, end) for start, end in missing if start < end)
        self.window_bytes = window_bytes
        """Bytes in the air at most; it may change."""
        self._answered = 0
        self._kept = RangeSet()
        """What the receiver has said to keep."""
        self.sent_bytes = 0
        """Bytes given to the link, repeats included."""

    @property
    def left_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return sum(end - start for start, end in self._left)

    @property
    def in_air_bytes(self) -> int:
        """Bytes sent of which no answer has told yet."""
        return self.sent_bytes - self._answered

    def next(self, chunk_bytes: int) -> Range | None:
        """The chunk to send now, of at most `chunk_bytes`; None while the window is full, or nothing is
        left."""
        if not self._left:
            return None
        start, end = self._left[0]
        stop = min(end, start + chunk_bytes)
        if self.in_air_bytes and self.in_air_bytes + stop - start > self.window_bytes:
            return None
        if stop == end:
            self._left.popleft()
        else:
            self._left[0] = (stop, end)
        self.sent_bytes += stop - start
        return (start, stop)

    def answered(self, total_bytes: int, damaged: Iterable[Range] = ()) -> None:
        """The receiver has had so many bytes of this call by now, of which these arrived damaged.

        Raises ValueError for more than were sent, or fewer than it has said before.
        """
        if not self._answered <= total_bytes <= self.sent_bytes:
            raise ValueError(f"{total_bytes} bytes of {self.sent_bytes} are said to have come")
        self._answered = total_bytes
        for start, end in damaged:
            self._left.extendleft(reversed(self._kept.missing(start, end)))

    def committed(self, ranges: Iterable[Range]) -> None:
        """The receiver keeps these, whoever sent them: they need not be sent any more."""
        for start, end in ranges:
            self._kept.add(start, end)
        self._strike()

    def _strike(self) -> None:
        """Nothing is left of what the receiver keeps."""
        self._left = deque(gap for start, end in self._left for gap in self._kept.missing(start, end))
