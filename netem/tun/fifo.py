"""One directed link, packet by packet: queue, transmitter, loss, light time. Pure; time is an argument.

A packet waits for the transmitter, leaves it at the rate, flies for the delay, arrives. Nothing happens
between calls: when the transmitter will be free and each packet arrive is computed on entry, and computed
anew for what still waits when the state changes.

- The rate is that of the link layer: `overhead_bytes` are charged for every packet beyond its IP length, by
  default the 14 of an Ethernet header, as kernel shapers on Ethernet devices do.
- Delay and jitter are those at the entry, or at the last change before the packet left the transmitter. A
  packet never overtakes an earlier one: where the delay falls, later packets arrive together with the last
  one of the longer way.
- A change of rate holds from that instant, also for the rest of a packet that is being sent.
- Loss happens in the air: a lost packet has occupied the transmitter, and the sender is told nothing.
- The queue is bounded in bytes waiting; an empty queue takes any packet. A dropped packet costs no
  transmission.
- Down by `hold`: what has wholly left the transmitter arrives, what waits is dropped. By `cut`: both are
  dropped.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from netem.link_state import NO_LOSS, LinkState, Loss

ETHERNET_BYTES: Final = 14

LOST: Final = -1
OVERFLOW: Final = -2
DOWN: Final = -3

_BIT_NS_PER_BYTE: Final = 8_000_000_000

Flying = tuple[int, int, int, bytes]
"""(arrival ns, departure from the transmitter ns, jitter ns, packet)"""


class Fifo:
    """A link that is down until a state is applied. `now_ns` must not descend from call to call.

    Losses are drawn from `random.Random(seed)`, one number a packet that reaches the transmitter while there
    is loss (and one for jitter), so that the same packets at the same times are lost in every run. offered =
    delivered + lost + overflow + down + len(flight), in packets, at any time.
    """

    __slots__ = (
        "_bad",
        "_delay_ns",
        "_draw",
        "_free_ns",
        "_jitter_ns",
        "_last_ns",
        "_limit_ns",
        "_loss",
        "_overhead_bytes",
        "_rate_bps",
        "_to_bad",
        "_to_good",
        "_up",
        "delivered",
        "delivered_bytes",
        "down",
        "flight",
        "lost",
        "offered",
        "offered_bytes",
        "overflow",
    )

    def __init__(self, seed: int, overhead_bytes: int = ETHERNET_BYTES) -> None:
        self.flight: deque[Flying] = deque()
        """What waits or flies, in order of departure and of arrival."""
        self.offered = self.offered_bytes = self.delivered = self.delivered_bytes = 0
        self.lost = self.overflow = self.down = 0
        self._draw = Random(seed).random
        self._overhead_bytes = overhead_bytes
        self._up = False
        self._rate_bps = 1
        self._delay_ns = self._jitter_ns = self._limit_ns = 0
        self._free_ns = 0  # when the transmitter has sent everything that waits
        self._last_ns = 0  # latest arrival so far
        self._loss = NO_LOSS
        self._bad = False
        self._to_bad = self._to_good = 0.0

    def offer(self, packet: bytes, now_ns: int) -> int:
        """When the packet will arrive, or LOST, OVERFLOW, DOWN (all negative)."""
        size = len(packet)
        self.offered += 1
        self.offered_bytes += size
        if not self._up:
            self.down += 1
            return DOWN
        sending_ns = -(-(size + self._overhead_bytes) * _BIT_NS_PER_BYTE // self._rate_bps)  # rounded up
        departure_ns = self._free_ns
        if departure_ns > now_ns:
            departure_ns += sending_ns
            # The queue's bytes as the time that they take: they leave at one rate.
            if departure_ns - now_ns > self._limit_ns:
                self.overflow += 1
                return OVERFLOW
        else:
            departure_ns = now_ns + sending_ns
        self._free_ns = departure_ns
        if self._loss is not NO_LOSS and self._loses():
            self.lost += 1
            return LOST
        jitter_ns = 0
        if self._jitter_ns:
            jitter_ns = int((2.0 * self._draw() - 1.0) * self._jitter_ns)
        arrival_ns = departure_ns + self._delay_ns + jitter_ns
        if arrival_ns < self._last_ns:
            arrival_ns = self._last_ns
        self._last_ns = arrival_ns
        self.flight.append((arrival_ns, departure_ns, jitter_ns, packet))
        return arrival_ns

    def take(self) -> bytes:
        """The packet that arrives first; IndexError when nothing flies."""
        packet = self.flight.popleft()[3]
        self.delivered += 1
        self.delivered_bytes += len(packet)
        return packet

    def waiting_bytes(self, now_ns: int) -> int:
        """What has not left the transmitter, overhead included."""
        return max(0, self._free_ns - now_ns) * self._rate_bps // _BIT_NS_PER_BYTE

    def apply(self, state: LinkState, now_ns: int) -> None:
        """From now on the link is this. What has arrived by now but was not taken, stays to be taken."""
        if state.outage is not None:
            self._end(state, now_ns)
            return
        if self._up:
            self._replan(state, now_ns)
            if state.loss != self._loss:
                self._set_loss(state.loss, fresh=self._loss.kind != "gilbert_elliott")
        else:
            self._free_ns = now_ns
            self._set_loss(state.loss, fresh=True)
        self._up = True
        self._rate_bps, self._delay_ns, self._jitter_ns = state.rate_bps, state.delay_ns, state.jitter_ns
        self._limit_ns = state.limit_bytes * _BIT_NS_PER_BYTE // state.rate_bps

    def _end(self, state: LinkState, now_ns: int) -> None:
        flight = self.flight
        cut = state.outage == "cut"
        while flight and (flight[-1][0] if cut else flight[-1][1]) > now_ns:
            flight.pop()
            self.down += 1
        self._free_ns = now_ns
        self._last_ns = flight[-1][0] if flight else 0
        self._up = False

    def _replan(self, state: LinkState, now_ns: int) -> None:
        """The transmitter's backlog leaves at the new rate, and then flies for the new delay."""
        if self._free_ns <= now_ns or (state.rate_bps == self._rate_bps and state.delay_ns == self._delay_ns):
            return
        old_bps, new_bps = self._rate_bps, state.rate_bps
        flight = self.flight
        waiting: list[Flying] = []
        while flight and flight[-1][1] > now_ns:
            waiting.append(flight.pop())
        last_ns = flight[-1][0] if flight else now_ns
        # What waits departs without a gap, so each departure scales with the inverse of the rate; but never
        # sooner after the one before than its size takes, or the rounding of one change, which the next one
        # stretches, would add up.
        before_ns: int | None = None
        for _, departure_ns, jitter_ns, packet in reversed(waiting):
            departure_ns = now_ns - (now_ns - departure_ns) * old_bps // new_bps
            if before_ns is not None:
                departure_ns = max(departure_ns, before_ns + self._sending_ns(packet, new_bps))
            before_ns = departure_ns
            last_ns = max(last_ns, departure_ns + state.delay_ns + jitter_ns)
            flight.append((last_ns, departure_ns, jitter_ns, packet))
        self._last_ns = last_ns
        self._free_ns = max(now_ns - (now_ns - self._free_ns) * old_bps // new_bps, before_ns or 0)

    def _sending_ns(self, packet: bytes, rate_bps: int) -> int:
        # Rounded up: the rate is never exceeded.
        return -(-(len(packet) + self._overhead_bytes) * _BIT_NS_PER_BYTE // rate_bps)

    def _set_loss(self, loss: Loss, *, fresh: bool) -> None:
        self._loss = NO_LOSS if loss.kind == "none" else loss
        if loss.kind == "gilbert_elliott":
            self._to_bad, self._to_good = loss.transitions()
            if fresh:  # as if the chain had run for ever; else it goes on from where it is
                self._bad = self._draw() < loss.mean

    def _loses(self) -> bool:
        """The state decides, then it moves on: as the kernel's chain does."""
        if self._loss.kind == "uniform":
            return self._draw() < self._loss.mean
        bad = self._bad
        self._bad = self._draw() >= self._to_good if bad else self._draw() < self._to_bad
        return bad
