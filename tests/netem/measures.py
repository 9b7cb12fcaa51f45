"""What is held to a bound in time, on a machine that may be busy: which the relay cannot help."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netem.traffic import Flow, Seen
from tests.unit.netem.plans import MS

L2_BYTES = 28 + 14


def one_of_three(measure: Callable[[], list[str]]) -> None:
    """`measure` answers what was not as it should be."""
    complaints = []
    for _ in range(3):
        found = measure()
        if not found:
            return
        complaints.append(found)
    pytest.fail(f"three times: {complaints}")


def delay_complaints(flows: list[Flow], seen: list[Seen], states: list[tuple[float, float]]) -> list[str]:
    found = []
    for flow, one, (delay_ms, mbps) in zip(flows, seen, states, strict=True):
        errors = sorted(abs(e) for e in one.delay_errors_ns(flow, round(delay_ms * MS), round(mbps * 1e6)))
        assert one.reordered == 0 and not any(one.missing)
        p50_ms, p99_ms = errors[len(errors) // 2] / MS, errors[len(errors) * 99 // 100] / MS
        if p50_ms > 0.5 or p99_ms > 5:
            found.append(f"{delay_ms} ms, {mbps} Mbit/s: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms")
    return found
