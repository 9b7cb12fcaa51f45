"""What one relay can move truly.

Measured in a virtual machine of two cores (Linux 6.18, Python 3.11) that programs, relay and other work
share; a faster host does better, and a schedule beyond these can still be run if it is marked.
"""

from __future__ import annotations

from typing import Final

from netem.limits import Limits

LIMITS: Final = Limits(
    "tun",
    # TCP over one link of 400 Mbit/s at 5 ms: 382 Mbit/s of payload, 86 % of a core, lateness p99 0.1 ms.
    largest_link_bps=300_000_000,
    # Some 40,000 packets a second at 20 to 30 us of processor time each (80 % of a core, lateness p99
    # 0.1 ms): 1,500 bytes one way with acknowledgements the other, or 20 links of 2,000 packets a second.
    largest_total_bps=400_000_000,
    # The relay is late by 0.04 to 0.06 ms (p50), of which this is ten times.
    least_delay_ns=500_000,
    # A change costs 7 to 8 us to make and apply: 4 % of a core. The bound leaves the rest to packets.
    largest_changes_per_s=5_000.0,
)
