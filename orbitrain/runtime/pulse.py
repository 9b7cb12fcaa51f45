"""Whether a peer in contact still answers: by its pings, and by what transfers hear of it. Times are wall
seconds of whoever asks.

A ping that is not answered in time may have been lost, or wait behind what TCP has put on the link of a
transfer; only silence for longer than such a queue takes says that the link is gone.
"""

from __future__ import annotations

from typing import Final

STALE_MISSES: Final = 2
"""So many in a row, for longer than a queue takes, and then an answer: the link was down, and the connection
of transfers waits to repeat itself, for twice as long each time. It is given up for a fresh one."""

MISSES_MAX: Final = 4
"""Pings in a row without an answer that end a contact of which the plan does not say that it has ended, some
two to four wall seconds, if a queue cannot be the reason; where it says so, one is enough."""


class Pulse:
    """Of one contact."""

    def __init__(self, now_s: float, heard_bytes: int) -> None:
        """`heard_bytes` is what transfers have heard of the peer so far."""
        self.answered(now_s, heard_bytes)

    def answered(self, now_s: float, heard_bytes: int) -> None:
        """A sign of life."""
        self.misses = 0
        self._sign_s = now_s
        self._heard_bytes = heard_bytes

    def missed(self, now_s: float, heard_bytes: int) -> bool:
        """A ping was not answered; whether that counts: not if transfers have heard of the peer meanwhile."""
        if heard_bytes != self._heard_bytes:
            self.answered(now_s, heard_bytes)
            return False
        self.misses += 1
        return True

    def is_lost(self, now_s: float, queue_s: float, *, over: bool) -> bool:
        """Whether the contact has ended. `over`: by the plan it has."""
        if over:
            return self.misses >= 1
        return self.misses >= MISSES_MAX and now_s - self._sign_s >= queue_s

    def is_stale(self, now_s: float, queue_s: float) -> bool:
        """Whether, now that there is an answer again, connections from before are of no use."""
        return self.misses >= STALE_MISSES and now_s - self._sign_s >= queue_s
