"""Examines this host: every check in a process of its own, with a time limit: none takes others along."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from orbitrain.testbed.checks import CHECKS, PACKAGES, Finding

LIMIT_S: Final = 20.0
PACKAGE_LIMIT_S: Final = 90.0
"""Loading torch for the first time, on a slow disk."""


@dataclass(frozen=True, slots=True)
class Examined:
    """`crashed`: the check itself did not come to an end, which says nothing of the host."""

    name: str
    finding: Finding
    crashed: bool = False

    def document(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self.finding), "crashed": self.crashed}


def names() -> tuple[str, ...]:
    """Of all checks, in the order in which they are made."""
    return *CHECKS, *PACKAGES


def examine(wanted: Sequence[str] | None = None) -> Iterator[Examined]:
    """All checks, or those named, one after the other: they measure time."""
    for name in names() if wanted is None else wanted:
        limit_s = PACKAGE_LIMIT_S if name in PACKAGES else LIMIT_S
        yield one(name, [sys.executable, "-m", "orbitrain.testbed.checks", name], limit_s)


def one(name: str, command: Sequence[str], limit_s: float) -> Examined:
    """What the command found; it is to print one `Finding` as a JSON object."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, complaint = process.communicate(timeout=limit_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return _crashed(name, f"did not end within {limit_s:g} s")
    if process.returncode < 0:
        return _crashed(name, f"was killed by {signal.Signals(-process.returncode).name}")
    words = (complaint.strip().splitlines() or ["nothing on standard error"])[-1][:300]
    if process.returncode != 0:
        return _crashed(name, f"ended with {process.returncode}: {words}")
    try:
        return Examined(name, Finding(**json.loads(said.strip().splitlines()[-1])))
    except (ValueError, TypeError, IndexError):
        return _crashed(name, f"said nothing that can be read: {words}")


def _crashed(name: str, how: str) -> Examined:
    return Examined(name, Finding(False, f"the check itself {how}", "a defect: please report it"), True)


def links(found: Sequence[Examined]) -> str:
    """What `--links auto` takes on such a host."""
    ok = {one.name for one in found if one.finding.ok}
    for backend, needed in (("kernel", "netem"), ("tun", "tun")):
        if {"namespaces as root", needed} <= ok:
            return backend
        if {"namespaces without root", needed} <= ok:
            return f"{backend}, in namespaces of this user's own"
    return "none"
