"""What a directed link does to packets at one instant: delay, rate, loss, queue, up or down.

A back end is always given the full state (a kernel's update is not a partial one), in host units: already
scaled by the clock's rate. Integers: ns, bit/s, bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

LossKind = Literal["none", "uniform", "gilbert_elliott"]
Outage = Literal["hold", "cut"]
Link = tuple[str, str]
"""A directed link: names of source and destination."""

OUTAGES: Final = ("hold", "cut")

MTU_BYTES: Final = 1500
"""Largest IP packet on an emulated link."""

QUEUE_NS: Final = 50_000_000
"""Queueing allowance of scenario time beyond a round trip: room for bursts where the light time is small."""

LEAST_QUEUE_PACKETS: Final = 16
"""Full packets that any queue takes, so that TCP's initial window of 10 (RFC 6928) passes a slow, short link.
"""

MARGIN_PACKETS: Final = 16
"""Beyond the computed packets in `limit_packets`, for packets smaller than the MTU among full ones."""

LARGEST_RATE_BPS: Final = 10**12
LARGEST_NS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Loss:
    """How packets are lost: `mean` is the fraction lost, `burst` the mean run of losses, in packets.

    `uniform` loses each packet independently (its runs are 1 / (1 - mean) long). `gilbert_elliott` is
    Gilbert's chain: in the good state nothing is lost, in the bad one everything (E. N. Gilbert, "Capacity of
    a burst-noise channel", 1960, with h = 0).
    """

    kind: LossKind = "none"
    mean: float = 0.0
    burst: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= 1:
            raise ValueError(f"loss.mean: must be 0 to 1, not {self.mean}")
        if self.kind == "gilbert_elliott" and not 1 <= self.burst < float("inf"):
            raise ValueError(f"loss.burst: must be 1 or more packets, not {self.burst}")

    @staticmethod
    def of(mean: float, burst: float) -> Loss:
        """The loss of a plan's sample, as Gilbert's chain with exactly this mean and mean run of losses.

        A chain cannot lose `mean` in runs shorter than mean / (1 - mean): there the runs are made that long.
        A mean of 1 is uniform (every packet).
        """
        if mean <= 0:
            return NO_LOSS
        if mean >= 1:
            return Loss("uniform", 1.0, 0.0)
        return Loss("gilbert_elliott", mean, max(burst, 1.0, mean / (1.0 - mean)))

    def transitions(self) -> tuple[float, float]:
        """Gilbert's chain a packet: (P(good to bad), P(bad to good)).

        A run of losses ends with P(bad to good) after each lost packet, so its mean length is the inverse. In
        the long run as many packets enter the bad state as leave it: (1 - mean) P(good to bad) = mean P(bad
        to good).
        """
        to_good = 1.0 / self.burst
        return min(1.0, self.mean * to_good / (1.0 - self.mean)), to_good


NO_LOSS: Final = Loss()


@dataclass(frozen=True, slots=True)
class LinkState:
    """One directed link. `outage` None: it is up.

    `jitter_ns`: each packet's delay is drawn evenly from delay - jitter to delay + jitter, order kept.
    `limit_bytes` bounds what waits for the transmitter; `limit_packets` what waits and flies, for back ends
    (netem) that count both in packets. A link that is down keeps its last parameters. `hold`: visibility
    ends; nothing new enters, what has left arrives. `cut`: the modem is off; what is in flight is lost too.
    """

    delay_ns: int
    rate_bps: int
    loss: Loss
    limit_bytes: int
    limit_packets: int
    jitter_ns: int = 0
    outage: Outage | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay_ns <= LARGEST_NS:
            raise ValueError(f"delay_ns: must be 0 to {LARGEST_NS}, not {self.delay_ns}")
        if not 1 <= self.rate_bps <= LARGEST_RATE_BPS:
            raise ValueError(f"rate_bps: must be 1 to {LARGEST_RATE_BPS} on the host, not {self.rate_bps}")
        if not 0 <= self.jitter_ns <= self.delay_ns:
            raise ValueError(f"jitter_ns: must be 0 to delay_ns ({self.delay_ns}), not {self.jitter_ns}")
        if self.limit_bytes < 1 or self.limit_packets < 1:
            raise ValueError("limit_bytes, limit_packets: must be 1 or more")
        if self.outage not in (None, *OUTAGES):
            raise ValueError(f"outage: must be hold or cut, not {self.outage!r}")

    @property
    def up(self) -> bool:
        return self.outage is None

    def down(self, outage: Outage) -> LinkState:
        return replace(self, outage=outage)

    def document(self) -> dict[str, object]:
        """For a record: plain numbers and words."""
        return {
            "delay_ns": self.delay_ns,
            "jitter_ns": self.jitter_ns,
            "rate_bps": self.rate_bps,
            "loss": {"kind": self.loss.kind, "mean": self.loss.mean, "burst": self.loss.burst},
            "limit_bytes": self.limit_bytes,
            "limit_packets": self.limit_packets,
            "outage": self.outage,
        }


def queue_limits(delay_ns: int, rate_bps: int, queue_ns: int) -> tuple[int, int]:
    """(bytes that may wait for the transmitter, packets that may wait and fly).

            limit_bytes   = max(rate * (2 delay + queue) / 8, LEAST_QUEUE_PACKETS * MTU)
            limit_packets = (rate * delay / 8 + limit_bytes) / MTU, rounded up, + MARGIN_PACKETS

    One bandwidth-delay product of a round trip over links alike (the rule of thumb for a sender that halves
    its window, Villamizar and Song 1994) and an allowance. With delay and allowance divided by the clock's
    rate and the link's rate multiplied by it, the bytes stay the same.
    """
    waiting = max(-(-rate_bps * (2 * delay_ns + queue_ns) // 8_000_000_000), LEAST_QUEUE_PACKETS * MTU_BYTES)
    flying = -(-rate_bps * delay_ns // 8_000_000_000)
    return waiting, -(-(waiting + flying) // MTU_BYTES) + MARGIN_PACKETS


def up_state(
    delay_ns: int, rate_bps: int, loss: Loss = NO_LOSS, *, jitter_ns: int = 0, queue_ns: int = QUEUE_NS
) -> LinkState:
    """A link that is up, its queue computed from the rest (`queue_limits`); all in host units."""
    limit_bytes, limit_packets = queue_limits(delay_ns, rate_bps, queue_ns)
    return LinkState(delay_ns, rate_bps, loss, limit_bytes, limit_packets, jitter_ns)
