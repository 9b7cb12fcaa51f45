"""What is left of a link where the kernel has no netem: its rate and its queue, no delay, no loss.

A degradation that has to be asked for and is named in every account. Pure; layouts of linux/pkt_sched.h.

A token bucket gives credit: after a pause a packet, or a millisecond of them, leaves at once. An outage is a
queue that takes nothing: what waits still leaves, what comes is refused to its sender, as no lossy link does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import ClassVar, Final

from netem.link_state import MTU_BYTES, Link, LinkState
from netem.netlink import attributes

BURST_BYTES: Final = MTU_BYTES + 14
"""The least credit, which lets every packet through: one of full size, with its Ethernet header."""

BURSTS_PER_S: Final = 1000
"""The credit of fast links is what they send in 1 ms: a timer that comes late costs them no rate."""

LEAST_RATE_BPS: Final = 800
LARGEST_LIMIT_BYTES: Final = 2**32 - 1
_ALWAYS: Final = 0xFFFFFFFF
_TICK_NS: Final = 64
_ETHERNET: Final = 1  # TC_LINKLAYER_ETHERNET: no table of the rate is needed

_PARMS, _RATE64, _BURST = 1, 4, 6
# Two struct tc_ratespec (cell_log, linklayer, overhead, cell_align, mpu, rate), limit, buffer, mtu.
_QOPT: Final = struct.Struct("=BBHhHI BBHhHI III")
_FULL: Final = struct.Struct("=HH BBHhHI 12x III HHQ HHI")


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """What a tbf has been told, in the kernel's units."""

    KIND: ClassVar[str] = "tbf"
    MISSING: ClassVar[tuple[str, ...]] = ("delay", "jitter", "loss")

    rate_bytes_per_s: int
    limit_bytes: int
    packet_overhead: int = 0

    @staticmethod
    def of(
        state: LinkState, link: Link, *, lost_first: bool = False, packet_overhead: int = 0
    ) -> TokenBucket:
        """ValueError, one line, names the link and what the kernel cannot hold. `lost_first`: for netem."""
        if state.rate_bps < LEAST_RATE_BPS:
            raise _refused(link, "rate_bps", f"at least {LEAST_RATE_BPS}", state.rate_bps)
        if state.limit_bytes > LARGEST_LIMIT_BYTES:
            raise _refused(link, "limit_bytes", f"at most {LARGEST_LIMIT_BYTES}", state.limit_bytes)
        if packet_overhead < 0:
            raise _refused(link, "overhead", "0 or more beyond Ethernet's", packet_overhead)
        # A byte is less than any packet: nothing enters.
        return TokenBucket((state.rate_bps + 4) // 8, state.limit_bytes if state.up else 1, packet_overhead)

    def options(self, seed: int | None = None) -> bytes:
        """The content of TCA_OPTIONS: every parameter."""
        rate = min(self.rate_bytes_per_s, _ALWAYS)
        burst_bytes = max(BURST_BYTES + self.packet_overhead, self.rate_bytes_per_s // BURSTS_PER_S)
        burst_ticks = burst_bytes * 1_000_000_000 // self.rate_bytes_per_s // _TICK_NS
        return _FULL.pack(
            4 + _QOPT.size,
            _PARMS,
            0,
            _ETHERNET,
            self.packet_overhead,
            0,
            0,
            rate,
            self.limit_bytes,
            min(burst_ticks, _ALWAYS),
            0,
            12,
            _RATE64,
            self.rate_bytes_per_s,
            8,
            _BURST,
            burst_bytes,
        )

    @staticmethod
    def read(options: bytes) -> TokenBucket:
        """From what the kernel answers. ValueError where it is no tbf's."""
        found = dict(attributes(options))
        if len(found.get(_PARMS, b"")) < _QOPT.size:
            raise ValueError("tbf options: no parameters")
        _, _, overhead, _, _, rate, *_, limit, _, _ = _QOPT.unpack_from(found[_PARMS])
        if _RATE64 in found:
            rate = max(rate, struct.unpack("=Q", found[_RATE64])[0])
        return TokenBucket(rate, limit, overhead)

    def differences(self, other: TokenBucket) -> list[str]:
        """`name: this, not that` of each field."""
        return [
            f"{field.name}: {getattr(self, field.name)}, not {getattr(other, field.name)}"
            for field in fields(TokenBucket)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


def _refused(link: Link, name: str, allowed: str, value: object) -> ValueError:
    return ValueError(f"link {link[0]} {link[1]}: {name}: must be {allowed} for tbf, not {value}")
