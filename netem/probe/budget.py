"""How much probing a link is given: shares of its planned rate, and packets a second. Pure; host units.

Of a link's share half goes to single packets, a quarter to trains, a quarter to edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netem.link_state import MTU_BYTES
from netem.probe.planned import IP_UDP_BYTES, Expected

SHARE: Final = 0.02
"""Of a link's planned rate, for everything, in the mean over a pass; unless told otherwise."""

PAYLOAD_BYTES: Final = 24
"""Of a single probe."""

LINK_PER_S: Final = 50.0
TOTAL_PER_S: Final = 400.0
"""Single probes a second, of one link and of all that are up; each costs a relay some 0.1 ms."""

DOWN_LINK_PER_S: Final = 4.0
DOWN_TOTAL_PER_S: Final = 40.0
"""The same, while links are down."""

TRAIN_NS: Final = 40_000_000
"""How long a train keeps its link: long beside the host's own jitter, short beside a contact."""

SHORTEST_TRAIN_NS: Final = 3_000_000
"""Below that the host's jitter would be measured, not the rate."""

TRAIN_EVERY_NS: Final = 10_000_000_000
TRAIN_PACKETS: Final = (12, 256)
QUEUE_SHARE: Final = 0.8
"""Of the queue, that a train may fill."""

EDGE_WINDOW_NS: Final = 60_000_000
"""Edges are probed from that long before to that long after; other probes keep away as long."""

EDGE_SPACING_NS: Final = (1_000_000, 5_000_000)
EDGE_RATE_SHARE: Final = 0.1
"""Of the link's rate, while an edge is probed."""

EDGES_AT_ONCE: Final = 8
"""Edges that are probed together; when more come at the same time, the others are not."""

_LEAST_PAYLOAD: Final = PAYLOAD_BYTES
_LARGEST_PAYLOAD: Final = 1400


@dataclass(frozen=True, slots=True)
class Train:
    packets: int
    payload: int
    lasts_ns: int


@dataclass(frozen=True, slots=True)
class Budget:
    """`overhead_bytes`: of the link layer, beyond IP. ValueError for a share that is none."""

    share: float = SHARE
    overhead_bytes: int = 14

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5:
            raise ValueError(f"--budget: must be more than 0 and at most 0.5, not {self.share}")

    def layer2_bytes(self, payload: int) -> int:
        return payload + IP_UDP_BYTES + self.overhead_bytes

    def interval_ns(self, rate_bps: int, links_up: int) -> int:
        """Mean time between single probes of a link that is up."""
        bits = self.layer2_bytes(PAYLOAD_BYTES) * 8
        return round(1e9 * max(bits / (rate_bps * self.share / 2), 1 / LINK_PER_S, links_up / TOTAL_PER_S))

    def down_interval_ns(self, links_down: int) -> int:
        return round(1e9 * max(1 / DOWN_LINK_PER_S, links_down / DOWN_TOTAL_PER_S))

    def train(self, state: Expected) -> Train | None:
        """What measures this link's rate; None where its queue is too short for it."""
        lasts_ns = min(TRAIN_NS, round(state.queue_ns * QUEUE_SHARE))
        if lasts_ns < SHORTEST_TRAIN_NS:
            return None
        fewest, most = TRAIN_PACKETS
        volume = state.rate_bps * lasts_ns // 8_000_000_000
        header = self.layer2_bytes(0)
        payload = max(_LEAST_PAYLOAD, min(volume // fewest - header, _LARGEST_PAYLOAD))
        packets = max(fewest, min(volume // (payload + header), most))
        lasts_ns = state.sending_ns(packets * (payload + header))
        if lasts_ns > state.queue_ns or lasts_ns < SHORTEST_TRAIN_NS:
            return None
        return Train(packets, payload, lasts_ns)

    def train_gap_ns(self, train: Train) -> int:
        """From one train to the next of a link; a pass that is shorter gets none."""
        return max(TRAIN_EVERY_NS, round(train.lasts_ns / (self.share / 4)))

    def edge_spacing_ns(self, state: Expected, pass_ns: int) -> int | None:
        """Between probes around an edge of a pass that long; None where link or pass are too small for it."""
        if pass_ns < 4 * EDGE_WINDOW_NS:
            return None
        bits = self.layer2_bytes(PAYLOAD_BYTES) * 8
        least, most = EDGE_SPACING_NS
        # Both edges of a pass together: their windows lie half in it.
        by_rate = bits * 1e9 / (state.rate_bps * EDGE_RATE_SHARE)
        by_pass = bits * 1e9 * 2 * EDGE_WINDOW_NS / (state.rate_bps * self.share / 4 * pass_ns)
        spacing_ns = max(least, round(by_rate), round(by_pass))
        return spacing_ns if spacing_ns <= most else None


assert _LARGEST_PAYLOAD + IP_UDP_BYTES <= MTU_BYTES
