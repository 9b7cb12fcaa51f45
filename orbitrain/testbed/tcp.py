"""TCP in the namespaces of a run: the few times that are set, and what then holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netem.syscalls import network_of

RTO_MIN_US: Final = 200_000
RTO_FLOOR_US: Final = 50_000
"""TCP's least time until it repeats a packet: Linux's default, and what it is not divided below,
as receivers may hold an answer back for 40 ms."""

_BASE: Final = Path("/proc/sys/net/ipv4")


def tcp_settings(rate: float) -> dict[str, str]:
    """What is set of TCP in each namespace, below /proc/sys/net/ipv4; all else is the host's.

    A connection that the link has taken away must not linger, as gRPC makes a new one at each contact; and
    times that the kernel counts in wall time would be `rate` times as long in the scenario's.
    """
    least_us = max(RTO_FLOOR_US, round(RTO_MIN_US / max(rate, 1.0)))
    return {"tcp_syn_retries": "2", "tcp_orphan_retries": "2", "tcp_rto_min_us": str(least_us)}


def set_tcp(namespaces: Iterable[Path], rate: float) -> dict[str, str]:
    """Set it in each; answers what holds then, congestion control included, for a run's record.

    An older kernel lacks some of it: that is left out.
    """
    held: dict[str, str] = {}
    for namespace in namespaces:
        with network_of(str(namespace)):
            for name, value in tcp_settings(rate).items():
                with contextlib.suppress(OSError):
                    (_BASE / name).write_text(value, encoding="ascii")
            for name in (*tcp_settings(rate), "tcp_congestion_control"):
                with contextlib.suppress(OSError):
                    held[name] = (_BASE / name).read_text(encoding="ascii").strip()
    return held
