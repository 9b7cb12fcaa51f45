"""The board: of each plane, which chunks are acknowledged, handed out to a link, or free.

Each chunk is one of the three at any time. It leaves only by being acknowledged: what is handed out and not
acknowledged when the contact ends is free again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orbitrain.flow.instance import Link
from orbitrain.flow.schedule import Handout, Share, assign, count
from orbitrain.transport.objects import Range, RangeSet


class Board:
    """Chunks of all planes. `acknowledged` and `outstanding` are those of an earlier board, to go on with."""

    def __init__(
        self,
        chunks: Mapping[str, int],
        acknowledged: Mapping[str, Iterable[Range]] | None = None,
        outstanding: Iterable[Handout] = (),
    ) -> None:
        """`chunks` has how many each plane has. ValueError for chunks that a plane does not have, or that are
        handed out twice, and for a satellite with chunks of two planes."""
        self._chunks = dict(sorted(chunks.items()))
        self._acknowledged = {plane: RangeSet() for plane in self._chunks}
        self._handed: dict[Link, Handout] = {}
        for plane, ranges in sorted((acknowledged or {}).items()):
            self.acknowledged(plane, ranges)
        for handout in outstanding:
            self._check(handout.plane, handout.ranges)
            if count(handout.ranges) != count(_within(handout.ranges, self.free(handout.plane))):
                raise ValueError(
                    f"plane {handout.plane!r}: has chunks on {handout.satellite} to {handout.station} that "
                    "are not free"
                )
            self._hand(handout)

    # --- what is where --------------------------------------------------------------------------------------

    def free(self, plane: str) -> tuple[Range, ...]:
        """The plane's chunks that may be handed out. KeyError for a plane that is not on the board."""
        taken = RangeSet(self._acknowledged[plane])
        for handout in self._handed.values():
            if handout.plane == plane:
                for start, end in handout.ranges:
                    taken.add(start, end)
        return tuple(taken.missing(0, self._chunks[plane]))

    def left(self) -> dict[str, int]:
        """How many chunks of each plane are free."""
        return {plane: count(self.free(plane)) for plane in self._chunks}

    def kept(self, plane: str) -> tuple[Range, ...]:
        """The plane's chunks that are acknowledged."""
        return tuple(self._acknowledged[plane])

    def unacknowledged(self, plane: str) -> int:
        """How many chunks of the plane are not acknowledged."""
        return self._chunks[plane] - self._acknowledged[plane].total_bytes

    def outstanding(self) -> tuple[Handout, ...]:
        """What each link has been handed and has not acknowledged, by satellite and station."""
        return tuple(handout for _, handout in sorted(self._handed.items()))

    # --- what happens ---------------------------------------------------------------------------------------

    def hand_out(self, shares: Iterable[Share]) -> tuple[Handout, ...]:
        """Give a slot's shares their chunks. ValueError, and nothing is given, for more than are free."""
        handouts = assign(shares, {plane: self.free(plane) for plane in self._chunks})
        for handout in handouts:
            self._hand(handout)
        return handouts

    def acknowledged(self, plane: str, ranges: Iterable[Range]) -> tuple[Range, ...]:
        """The receiver keeps these chunks, whoever sent them; which of them are news.

        They leave whatever link they are handed to: what it has not sent of them it need not send. ValueError
        for chunks that the plane does not have.
        """
        ranges = tuple(ranges)
        self._check(plane, ranges)
        kept = self._acknowledged[plane]
        news = []
        for start, end in ranges:
            news += kept.missing(start, end)
            kept.add(start, end)
        for link, handout in sorted(self._handed.items()):
            if handout.plane == plane:
                self._keep(link, handout, [gap for piece in handout.ranges for gap in kept.missing(*piece)])
        return tuple(news)

    def contact_ended(self, satellite: str, station: str) -> tuple[Range, ...]:
        """What the link has not acknowledged is free again; these are the chunks."""
        handout = self._handed.pop((satellite, station), None)
        return handout.ranges if handout else ()

    def _hand(self, handout: Handout) -> None:
        held = self._handed.get(handout.link)
        if held is not None and held.plane != handout.plane:
            raise ValueError(
                f"{handout.satellite}: carries chunks of {held.plane!r}, not of {handout.plane!r}"
            )
        ranges = RangeSet((*held.ranges, *handout.ranges) if held else handout.ranges)
        self._keep(handout.link, handout, ranges)

    def _keep(self, link: Link, handout: Handout, ranges: Iterable[Range]) -> None:
        ranges = tuple(ranges)
        if ranges:
            self._handed[link] = Handout(handout.plane, *link, ranges)
        else:
            self._handed.pop(link, None)

    def _check(self, plane: str, ranges: Iterable[Range]) -> None:
        if plane not in self._chunks:
            raise ValueError(f"plane {plane!r}: is not on the board")
        for start, end in ranges:
            if not 0 <= start <= end <= self._chunks[plane]:
                raise ValueError(
                    f"plane {plane!r}: has chunks 0 to {self._chunks[plane]}, not [{start}, {end})"
                )


def _within(ranges: Iterable[Range], free: Iterable[Range]) -> list[Range]:
    """The parts of `ranges` that are in `free`."""
    others = RangeSet(free)
    wanted = RangeSet(ranges)
    return [gap for start, end in wanted for gap in RangeSet(others.missing(start, end)).missing(start, end)]
