"""What one relay can move truly, and whether a schedule asks for more; said before it starts.

Measured in a virtual machine of two cores (Linux 6.18, Python 3.11) that programs, relay and other work
share; a faster host does better, and a schedule beyond these can still be run if it is marked.
"""

from __future__ import annotations

from typing import Final

from netem.schedule import Demand

LARGEST_LINK_BPS: Final = 300_000_000
"""TCP over one link of 400 Mbit/s at 5 ms: 382 Mbit/s of payload, 86 % of a core, lateness p99 0.1 ms."""

LARGEST_TOTAL_BPS: Final = 400_000_000
"""Some 40,000 packets a second at 20 to 30 us of processor time each (80 % of a core, lateness p99 0.1 ms):
1,500 bytes one way with acknowledgements the other, or 20 links of 2,000 packets a second.
"""

LEAST_DELAY_NS: Final = 500_000
"""The relay is late by 0.04 to 0.06 ms (p50), of which this is ten times."""

LARGEST_CHANGES_PER_S: Final = 5_000.0
"""A change costs 7 to 8 us to make and apply: 4 % of a core. The bound leaves the rest to packets."""


def beyond(demand: Demand) -> tuple[str, ...]:
    """A line for each thing that this back end would not do truly; host units."""
    found = []
    if demand.peak_rate_bps > LARGEST_LINK_BPS:
        found.append(
            f"a link of {demand.peak_rate_bps / 1e6:.0f} Mbit/s: at most {LARGEST_LINK_BPS / 1e6:.0f}"
        )
    if demand.links and demand.least_delay_ns < LEAST_DELAY_NS:
        found.append(f"a delay of {demand.least_delay_ns / 1e6:.3f} ms: at least {LEAST_DELAY_NS / 1e6:g}")
    if demand.changes_per_s > LARGEST_CHANGES_PER_S:
        found.append(
            f"up to {demand.changes_per_s:.0f} changes a second: at most {LARGEST_CHANGES_PER_S:.0f}"
        )
    return tuple(found)


def doubtful(demand: Demand) -> tuple[str, ...]:
    """What it would not do truly if every link were full at once."""
    if demand.peak_total_bps > LARGEST_TOTAL_BPS:
        return (
            f"links of {demand.peak_total_bps / 1e6:.0f} Mbit/s together: about "
            f"{LARGEST_TOTAL_BPS / 1e6:.0f} can be full at once",
        )
    return ()
