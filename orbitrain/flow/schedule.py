"""A schedule: how many chunks of which plane go over which satellite and station in which slot; and which
ones.

Counts come from a scheduler. `assign` makes chunk numbers of them, so that no chunk is handed out twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orbitrain.flow.instance import Link
from orbitrain.transport.objects import Range, split


@dataclass(frozen=True, slots=True, order=True)
class Share:
    """One link's part of one slot, in chunks of the satellite's plane (1 or more)."""

    slot: int
    plane: str
    satellite: str
    station: str
    chunks: int

    @property
    def link(self) -> Link:
        return self.satellite, self.station


@dataclass(frozen=True, slots=True)
class Schedule:
    """Shares by slot, plane, satellite and station. `left` are planes with chunks that no slot carries."""

    shares: tuple[Share, ...]
    left: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(sorted(self.shares)))

    def in_slot(self, index: int) -> tuple[Share, ...]:
        first = bisect_left(self.shares, index, key=_slot)
        return self.shares[first : bisect_left(self.shares, index + 1, key=_slot)]

    @property
    def last_slot(self) -> int | None:
        """The slot of the last share; None without any."""
        return self.shares[-1].slot if self.shares else None


@dataclass(frozen=True, slots=True)
class Handout:
    """Chunks of a plane that a link is to carry: ascending, disjoint, half-open ranges of chunk numbers."""

    plane: str
    satellite: str
    station: str
    ranges: tuple[Range, ...]

    @property
    def link(self) -> Link:
        return self.satellite, self.station

    @property
    def chunks(self) -> int:
        return count(self.ranges)


def count(ranges: Iterable[Range]) -> int:
    """Chunks in disjoint ranges."""
    return sum(end - start for start, end in ranges)


def assign(shares: Iterable[Share], free: Mapping[str, Sequence[Range]]) -> tuple[Handout, ...]:
    """A handout for each share, in its order: each takes the lowest chunks of its plane that are still free.

    Low chunks go first, so that whole samples are there early. ValueError for a share of more than is free.
    """
    left = {plane: list(ranges) for plane, ranges in free.items()}
    handouts = []
    for share in shares:
        first, others = split(left.get(share.plane, ()), share.chunks)
        if count(first) < share.chunks:
            raise ValueError(
                f"plane {share.plane!r}: has {count(first)} chunks free, not the {share.chunks} of slot "
                f"{share.slot}"
            )
        left[share.plane] = others
        handouts.append(Handout(share.plane, share.satellite, share.station, tuple(first)))
    return tuple(handouts)


def _slot(share: Share) -> int:
    return share.slot
