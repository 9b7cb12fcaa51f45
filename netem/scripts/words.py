"""A link's state in the words of `tc qdisc ... netem`. Pure.

From the values that our own encoder sends (`netem.kernel.encoder`), so that tc makes the same bytes of them:
tc resets what is not named, so everything is; `bit` is bits a second where `bps` would be bytes; a chance has
as many digits as the kernel's 32 bits hold. Delays are in whole us, as tc (iproute2 6.1) reads no finer, and
what it makes of them is up to 0.1 us shorter.
"""

from __future__ import annotations

from typing import Final

from netem.kernel.encoder import ALWAYS, Netem

LONGEST_NS: Final = 2**32 * 64
"""tc counts a delay in 32 bits of 64 ns: 274.9 s."""


def netem_words(told: Netem) -> str:
    """What stands behind `netem`. ValueError: tc cannot hold it."""
    if told.delay_ns >= LONGEST_NS:
        raise ValueError(
            f"delay_ns: must be less than {LONGEST_NS} for tc, not {told.delay_ns}; netem up --links kernel "
            "holds it"
        )
    delay = f"delay {_us(told.delay_ns)}"
    if told.jitter_ns:
        delay += f" {_us(told.jitter_ns)}"
    rate = f"rate {told.rate_bps}bit"
    if told.packet_overhead:
        rate += f" {told.packet_overhead}"
    return f"limit {told.limit_packets} {delay} {_loss(told)} {rate}"


def _loss(told: Netem) -> str:
    if told.chain is None:
        return f"loss random {_percent(told.loss)}"
    p, r, h, k1 = told.chain
    # tc's words are p, r, 1-h, 1-k; it turns the third round, the fourth is the kernel's.
    return f"loss gemodel {_percent(p)} {_percent(r)} {_percent(ALWAYS - h)} {_percent(k1)}"


def _us(delay_ns: int) -> str:
    return f"{(delay_ns + 500) // 1000}us"


def _percent(parts: int) -> str:
    return f"{parts / ALWAYS * 100:.12g}%"
