"""What a link that is real is given: how objects are cut for it, what still fits into the contact, how long
one waits."""

from __future__ import annotations

from typing import Final

from orbitrain.flights import is_begun
from orbitrain.runtime.clock import Clock
from orbitrain.runtime.outlook import Outlook
from orbitrain.runtime.peer import Peer
from orbitrain.transport.objects import CHUNK_BYTES_MIN, Pace

TRANSFER_FACTOR: Final = 3.0
TRANSFER_S: Final = 10.0
"""A call is given up after this many times what the plan's lowest rate takes, and wall seconds more for the
receiver's disk. A link that goes down is noticed by pings, long before."""

HOST_S: Final = 0.02
"""Wall seconds that the hosts add to a round trip of the link: two event loops under load."""

QUEUE_FACTOR: Final = 1.5
"""Of what a link's queue takes by the rate: it may have been measured or planned too high."""

UNKNOWN_BPS: Final = 256_000
"""Taken for the rate of a link that nobody has planned nor measured: its chunks are the smallest."""

TAIL_BYTES: Final = 16 * 1024
"""Towards the end of a contact chunks are cut shorter, so that little is lost with it, but not below this."""


class Allowance:
    """Of a node's links, by the plan that it believes, or without one by what is measured."""

    def __init__(self, outlook: Outlook, clock: Clock, handling_ns: int) -> None:
        """`handling_ns` is the declared time to take in a message."""
        self._outlook = outlook
        self._clock = clock
        self._handling_ns = handling_ns

    def rate_bps(self, here: Peer) -> float | None:
        """Of this link as it is now: as planned, or without a plan as measured, once it was."""
        if not self._outlook.real.planned:
            return here.meter.rate_bps
        believed = self._outlook.contact(here.name)
        if believed is None:
            return self._outlook.road(here.name).rate_bps
        return believed.rate_bps_at(self._outlook.now_ns())

    def pace(self, here: Peer) -> Pace:
        """How objects are cut for this link as it is now."""
        return Pace.of(*self._likely(here))

    def together_bytes(self, here: Peer) -> int:
        """What small letters that go together may have at once: what a round trip of the link carries, or a
        smallest chunk. Larger ones had better follow each other."""
        rate_bps, trip_s = self._likely(here)
        return max(CHUNK_BYTES_MIN, min(self.pace(here).chunk_bytes, int(rate_bps / 8 * trip_s)))

    def _likely(self, here: Peer) -> tuple[float, float]:
        """Rate, bits per second, and round trip, seconds, of this link as it is now."""
        host_s = HOST_S * self._clock.rate
        if not self._outlook.real.planned:
            trip_s = self._outlook.expected_trip_s(here.name, 0) * self._clock.rate
            return self.rate_bps(here) or UNKNOWN_BPS, trip_s + host_s
        rate_bps = self.rate_bps(here)
        assert rate_bps is not None
        return rate_bps, 2 * self._outlook.road(here.name).delay_s + host_s

    def queue_s(self, here: Peer) -> float:
        """Wall seconds for which an answer may wait behind a transfer, ours or the peer's.

        TCP puts all that it is given on the link at first, and a slow one takes that long for it.
        """
        rate_bps = self.rate_bps(here) or self._outlook.road(here.name).rate_bps
        return QUEUE_FACTOR * 8 * self.pace(here).window_bytes / rate_bps / self._clock.rate

    def is_begun(self, here: Peer, own_bytes: int, lacking_bytes: int) -> bool:
        """Whether letters of so many bytes can be answered in time, with what is lacking of their objects."""
        believed, now_ns = self._outlook.contact(here.name), self._outlook.now_ns()
        # Letters whose objects are there cost nothing if the contact ends sooner than this clock says.
        spare_ns = self._outlook.real.clock_error_ns if lacking_bytes else 0
        return is_begun(believed, now_ns, own_bytes + lacking_bytes, self._handling_ns, spare_ns)

    def room_bytes(self, here: Peer, in_air_bytes: int) -> int:
        """How large the next chunk may be so that it arrives before the contact ends; 0 for none."""
        chunk_bytes = here.client.pace.chunk_bytes
        believed = self._outlook.contact(here.name)
        if believed is None:
            return chunk_bytes
        now_ns = self._outlook.now_ns()
        until_ns = believed.end_ns - believed.delay_ns_at(now_ns)
        left_bytes = believed.volume_bytes(now_ns, until_ns) - in_air_bytes
        return 0 if left_bytes < TAIL_BYTES else min(chunk_bytes, max(left_bytes // 2, TAIL_BYTES))

    def patience_s(self, here: Peer, nbytes: int) -> float:
        """Wall seconds after which a call that moves so many bytes is given up."""
        return TRANSFER_S + TRANSFER_FACTOR * self._outlook.trip_wall_s(here.name, nbytes)
