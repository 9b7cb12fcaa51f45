"""What the kernel's netem can move truly: careful bounds, from two machines that are no ordinary hosts.

A is this project's build machine: two virtual cores that other work shares, Linux 6.18, token buckets on the
same veth pairs, as its kernel has no netem. B is User-Mode Linux (6.1) on one such core, with netem. Where
programs have four cores or more of their own both are passed by far; the truth probe tells by how much.
"""

from __future__ import annotations

from typing import Final

from netem.limits import Limits

LIMITS: Final = Limits(
    backend="kernel",
    # TCP in packets of 1,500 bytes, which offload does not join: A takes 13 us of its cores for each, from
    # one program to the other, so that two idle cores reach it. B filled 300 Mbit/s, and of 600, 1,000 and
    # 2,000 came to 440, 600 and 890: there a run of such links is marked, by the next bound.
    largest_link_bps=1_000_000_000,
    # What A still moves beside its other work, of one link or of all; more is marked, not refused.
    largest_total_bps=400_000_000,
    # B is 0.07 ms late each way, of which this is seven times; hosts with a timer of their own are less.
    least_delay_ns=500_000,
    # Made by the schedule, encoded and acknowledged: some 12 us on A, half a core. B sets 54,000 a second
    # where one call has many of them, 9,000 where each has a call of its own.
    largest_changes_per_s=40_000.0,
)
