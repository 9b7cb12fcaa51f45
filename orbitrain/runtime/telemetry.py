"""What a node tells of itself while it runs: samples for the journal, and news for a live display.

The journal is the truth; what goes over the bus may be dropped.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orbitrain.machine import Severity
from orbitrain.step import Event

_STATM = Path("/proc/self/statm")


class Publisher(Protocol):
    """Where news goes (`transport.bus.Publisher`)."""

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None: ...


def resident_bytes() -> int:
    """Memory of this process that is in RAM; its peak where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Telemetry:
    """Counts what happens on a node, and publishes it if somebody listens."""

    def __init__(self, node: str, publisher: Publisher | None = None) -> None:
        self._node = node
        self._publisher = publisher
        self._contacts: set[str] = set()
        self._jobs: dict[str, float] = {}
        self.moved_bytes = 0

    def event(self, event: Event) -> None:
        """An event report, as it was committed."""
        self.moved_bytes += int(event.fields.get("bytes", 0))
        if event.kind == "contact_ended":
            self._contacts.discard(str(event.fields["peer"]))
        if event.severity is not Severity.DIAGNOSTIC:
            self.publish("event", {"t_ns": event.t_ns, "event": event.kind, "fields": dict(event.fields)})

    def contact(self, peer: str, confirmed: bool) -> None:
        (self._contacts.add if confirmed else self._contacts.discard)(peer)

    def job(self, kind: str, seconds: float) -> None:
        """A job of `kind` took `seconds` of wall time in the worker."""
        self._jobs[kind] = seconds

    def sample(self) -> dict[str, float]:
        """Metrics by name, as of now."""
        values = {
            "resident_bytes": float(resident_bytes()),
            "contacts": float(len(self._contacts)),
            "moved_bytes": float(self.moved_bytes),
        }
        return values | {f"{kind}_wall_s": seconds for kind, seconds in self._jobs.items()}

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None:
        """News for the display, from this node."""
        if self._publisher is not None:
            self._publisher.publish(kind, {"node": self._node, **fields})
