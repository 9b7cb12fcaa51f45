"""What the kernel's netem can move truly: careful bounds for an ordinary host of some cores.

Inside User-Mode Linux, one processor and each system call dear, TCP over a veth pair came to 12 Gbit/s and
over a netem of 200 Mbit/s to 187; a delay was 0.14 ms too long both ways together.
"""

from __future__ import annotations

from typing import Final

from netem.limits import Limits

LIMITS: Final = Limits(
    "kernel",
    # A packet a netlink timer: at 1,514 bytes 165,000 a second, some us of a core each.
    largest_link_bps=2_000_000_000,
    largest_total_bps=4_000_000_000,
    # Ten times what veth and timer add on the way.
    least_delay_ns=100_000,
    # A change costs some 12 us to make, encode and apply: half a core.
    largest_changes_per_s=40_000.0,
)
