"""One object over several connections at once: which of them sends what. Pure.

TCP that takes every loss for a full queue leaves a lossy radio empty; several connections fill it, as each of
them slows down for its own losses alone. They are dealt chunks as they come free, so that none waits for a
slower one, and the receiver gets the bytes about in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from orbitrain.transport.objects import CHUNK_BYTES_MIN, WINDOW_CHUNKS, Pace, Range, RangeSet, Sending

FLOWS: Final = 8
"""Connections where congestion control is by loss. One of Reno's carries 1.2 segments / (round trip x
sqrt(loss)) (Mathis et al., 1997): at 40 ms and a loss of 1 % 3.5 Mbit/s, of which eight fill 20 Mbit/s."""

FLOWS_MAX: Final = 32
"""Connections of one node to one peer that can be asked for: each costs both ends some 100 KiB and a call."""


def flows_for(congestion: str) -> int:
    """How many connections an object is sent over where this is TCP's congestion control."""
    return 1 if congestion.startswith("bbr") else FLOWS


def divided(pace: Pace, flows: int) -> tuple[int, Pace]:
    """How many connections share a pace, of `flows` at most, and what each has of it.

    All together have no more in the air than one would. So on a slow link they are fewer, and fewer do there:
    what losses leave to a connection does not depend on the link's rate.
    """
    most = max(1, min(flows, pace.window_bytes // (WINDOW_CHUNKS * CHUNK_BYTES_MIN)))
    if most == 1:
        return 1, pace
    chunk_bytes = max(CHUNK_BYTES_MIN, pace.chunk_bytes // most)
    return most, Pace(chunk_bytes, max(WINDOW_CHUNKS * chunk_bytes, pace.window_bytes // most))


class Stripes:
    """What is still to be sent of one object, and the flows that send it."""

    def __init__(self, missing: Iterable[Range], pace: Pace) -> None:
        """`pace` is that of one flow."""
        self._left = deque((start, end) for start, end in missing if start < end)
        self._pace = pace
        self._stripes: list[Stripe] = []
        self.kept = RangeSet()
        """What the receiver has said to any flow to keep."""
        self.stopped = False
        """Nothing more is to be sent, by any of them."""

    @property
    def in_air_bytes(self) -> int:
        """Bytes that any flow has sent and that no answer has told of."""
        return sum(stripe.in_air_bytes for stripe in self._stripes)

    @property
    def left_bytes(self) -> int:
        """Bytes that no flow has been dealt yet."""
        return sum(end - start for start, end in self._left)

    @property
    def heard(self) -> bool:
        """The receiver has answered a flow."""
        return any(stripe.heard for stripe in self._stripes)

    def open(self) -> Stripe | None:
        """A further flow, with its first chunk; None where nothing is left for one."""
        first = self.deal(self._pace.chunk_bytes)
        if first is None:
            return None
        stripe = Stripe(self, first, self._pace.window_bytes)
        self._stripes.append(stripe)
        return stripe

    def shut(self, stripe: Stripe) -> bool:
        """A flow has failed: others go on with what it had, if it never was answered. Whether that is so.

        Otherwise only the receiver can tell what has come of it.
        """
        if stripe.heard or stripe not in self._stripes:
            return False
        self._stripes.remove(stripe)
        again = [gap for start, end in stripe.dealt for gap in self.kept.missing(start, end)]
        self._left.extendleft(reversed(again))
        return True

    def deal(self, nbytes: int) -> Range | None:
        """The next bytes, `nbytes` at most."""
        if not self._left or nbytes <= 0:
            return None
        start, end = self._left.popleft()
        if end - start > nbytes:
            self._left.appendleft((start + nbytes, end))
            end = start + nbytes
        return (start, end)

    def back(self, piece: Range) -> None:
        """It was dealt, and is not sent after all."""
        self._left.appendleft(piece)

    def strike(self, held: Iterable[Range]) -> None:
        """The receiver keeps these: no flow needs to send them."""
        for start, end in held:
            self.kept.add(start, end)
        self._left = deque(gap for start, end in self._left for gap in self.kept.missing(start, end))
        for stripe in self._stripes:
            stripe.strike()


class Stripe(Sending):
    """What one flow sends: chunk by chunk what the flows have in common. Made by `Stripes.open`."""

    def __init__(self, stripes: Stripes, first: Range, window_bytes: int) -> None:
        super().__init__([first], window_bytes)
        self._stripes = stripes
        self._kept = stripes.kept
        self.heard = False
        """The receiver has answered."""
        self.dealt: list[Range] = [first]
        """All that it was dealt, until the receiver has answered."""

    @property
    def left_bytes(self) -> int:
        return super().left_bytes + self._stripes.left_bytes

    def next(self, chunk_bytes: int) -> Range | None:
        dealt = None if super().left_bytes else self._stripes.deal(chunk_bytes)
        if dealt is not None:
            self._left.append(dealt)
        piece = super().next(chunk_bytes)
        if dealt is not None and piece is None:
            self._left.clear()
            self._stripes.back(dealt)
        elif dealt is not None and not self.heard:
            self.dealt.append(dealt)
        return piece

    def answered(self, total_bytes: int, damaged: Iterable[Range] = ()) -> None:
        super().answered(total_bytes, damaged)
        self.heard = True
        self.dealt.clear()

    def committed(self, ranges: Iterable[Range]) -> None:
        held = list(ranges)
        if held:
            self._stripes.strike(held)

    def strike(self) -> None:
        """See `Stripes.strike`."""
        if self._left:
            self._strike()
