"""TCP in the namespaces of a run: the few settings that are made, and what then holds."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from netem.syscalls import CLONE_NEWNET, network_kept, network_of, unshare
from orbitrain.scenario import ScenarioError

RTO_MIN_US: Final = 200_000
RTO_FLOOR_US: Final = 50_000
"""TCP's least time until it repeats a packet: Linux's default, and what it is not divided below,
as receivers may hold an answer back for 40 ms."""

AUTO: Final = "auto"
PREFERRED: Final = "bbr"
"""What `auto` takes where it can: it does not take losses of the radio for a full queue."""

_BASE: Final = Path("/proc/sys/net/ipv4")
_CONGESTION: Final = "tcp_congestion_control"


def tcp_settings(rate: float) -> dict[str, str]:
    """What is set of TCP in each namespace whatever the scenario, below /proc/sys/net/ipv4.

    A connection that the link has taken away must not linger, as gRPC makes a new one at each contact; and
    times that the kernel counts in wall time would be `rate` times as long in the scenario's.
    """
    least_us = max(RTO_FLOOR_US, round(RTO_MIN_US / max(rate, 1.0)))
    return {"tcp_syn_retries": "2", "tcp_orphan_retries": "2", "tcp_rto_min_us": str(least_us)}


def choose_congestion(wanted: str) -> str:
    """The congestion control that a run's namespaces get, tried in one of their kind that goes again.

    Raises ScenarioError for one that they cannot have.
    """
    try:
        with network_kept():
            unshare(CLONE_NEWNET)
            if wanted == AUTO:
                with contextlib.suppress(OSError):
                    _write(_CONGESTION, PREFERRED)
            else:
                _write(_CONGESTION, wanted)
            return _read(_CONGESTION)
    except OSError as error:
        raise ScenarioError(f"links.congestion: {_why_not(wanted, error)}") from None


def _why_not(wanted: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return (
            f"this kernel has no {wanted!r}, it has {', '.join(listed('available'))} "
            f"(as root: modprobe tcp_{wanted})"
        )
    if error.errno == errno.EPERM:
        allowed = listed("allowed")
        return (
            f"the host keeps {wanted!r} from its namespaces, they may have {', '.join(allowed)} "
            f"({how_to_allow(wanted, allowed)})"
        )
    return f"{wanted!r} cannot be set: {error.strerror}"


def how_to_allow(wanted: str, allowed: Iterable[str]) -> str:
    names = " ".join([*allowed, wanted])
    return f"as root: sysctl -w net.ipv4.tcp_allowed_congestion_control='{names}'"


def listed(which: Literal["available", "allowed"]) -> list[str]:
    """Congestion controls that the kernel has, or lets namespaces and all users have. OSError."""
    return _read(f"tcp_{which}_congestion_control").split()


def set_tcp(namespaces: Iterable[Path], rate: float, congestion: str | None = None) -> dict[str, str]:
    """Set it in each, and the congestion control if one is named; answers what holds then, for a run's
    record.

    An older kernel lacks some of it: that is left out. Raises OSError for a congestion control that is not to
    be had.
    """
    held: dict[str, str] = {}
    settings = tcp_settings(rate)
    for namespace in namespaces:
        with network_of(str(namespace)):
            for name, value in settings.items():
                with contextlib.suppress(OSError):
                    _write(name, value)
            if congestion is not None:
                _write(_CONGESTION, congestion)
            for name in (*settings, _CONGESTION):
                with contextlib.suppress(OSError):
                    held[name] = _read(name)
    return held


def _read(name: str) -> str:
    """Of the calling thread's network namespace, as all that is below that folder. OSError."""
    return (_BASE / name).read_text(encoding="ascii").strip()


def _write(name: str, value: str) -> None:
    (_BASE / name).write_text(value, encoding="ascii")
