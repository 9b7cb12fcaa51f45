"""Whether a node's programs sent anything beside the probes, by the kernel's own counters of IP packets.

Where they did, a probe may have waited behind them, which is no fault of the link.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import Enum
from typing import Final

TICK_NS: Final = 500_000_000
"""How often counters are read."""

LOOK_BACK_NS: Final = 1_000_000_000
"""A queue that was filled earlier than this (or than it takes to drain) has drained."""

LIGHT: Final = 0.5
"""Of the link's rate: below this a queue runs empty again and again, so that some probes wait for nothing."""

_KEPT: Final = 512


class Load(Enum):
    """Of other traffic than probes. Unknown is `BUSY`."""

    QUIET = "quiet"
    LIGHT = "light"
    BUSY = "busy"


class Traffic:
    """Bytes that one node has sent beside the probes, over time. Pure."""

    __slots__ = ("_bytes", "_times_ns", "own_bytes")

    def __init__(self) -> None:
        self.own_bytes = 0
        """IP bytes of probes that were sent."""
        self._times_ns: list[int] = []
        self._bytes: list[int] = []

    def add(self, now_ns: int, sent_bytes: int) -> None:
        """The kernel's counter of bytes. Probes that it has not counted yet make the rest look smaller, never
        larger, and what others sent never shrinks: so the largest difference so far holds.
        """
        other = sent_bytes - self.own_bytes
        if self._bytes:
            other = max(other, self._bytes[-1])
        self._times_ns.append(now_ns)
        self._bytes.append(other)
        if len(self._bytes) > 2 * _KEPT:
            del self._times_ns[:_KEPT], self._bytes[:_KEPT]

    def load(self, from_ns: int, to_ns: int, rate_bps: int) -> Load:
        """Between two instants, against a link's rate. Other links of the node count, too: with care."""
        first = bisect_right(self._times_ns, from_ns) - 1
        last = bisect_left(self._times_ns, to_ns)
        if first < 0 or last >= len(self._times_ns):
            return Load.BUSY
        other = self._bytes[last] - self._bytes[first]
        if other == 0:
            return Load.QUIET
        span_ns = self._times_ns[last] - self._times_ns[first]
        return Load.LIGHT if other * 8e9 < LIGHT * rate_bps * span_ns else Load.BUSY

    @property
    def quiet(self) -> bool:
        """Nothing else was sent in the last second, as far as is known."""
        if len(self._bytes) < 2:
            return False
        before = max(0, len(self._bytes) - 1 - LOOK_BACK_NS // TICK_NS)
        return self._bytes[-1] == self._bytes[before]


def sent_octets(text: str) -> int:
    """IP bytes that programs of a namespace have sent, of its /proc/net/netstat (IpExt OutOctets).

    Counted as they are sent, before any queue; what a device counts has waited in netem, and is not lost.
    """
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("IpExt:"))
    return int(values[names.index("OutOctets")])
