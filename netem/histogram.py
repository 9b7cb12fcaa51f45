"""A bounded count of how late things were: fixed memory, one increment a value."""

from __future__ import annotations

from typing import Final

STEP_NS: Final = 10_000
STEPS: Final = 1_000
"""Steps of 10 us up to 10 ms: finer than the bounds that links are held to (0.5 and 5 ms)."""

_OCTAVES: Final = 40  # beyond that a bucket for every power of two of STEPS * STEP_NS: to 300 years


class Histogram:
    """Values in ns; negative ones count as 0."""

    __slots__ = ("counts", "most_ns")

    def __init__(self) -> None:
        self.counts = [0] * (STEPS + _OCTAVES)
        self.most_ns = 0

    def add(self, value_ns: int) -> None:
        if value_ns > self.most_ns:
            self.most_ns = value_ns
        step = value_ns // STEP_NS
        if step < STEPS:
            self.counts[step if step > 0 else 0] += 1
        else:
            self.counts[min(STEPS - 1 + (step // STEPS).bit_length(), len(self.counts) - 1)] += 1

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile_ns(self, share: float) -> int:
        """Upper edge of the bucket in which this share (0 to 1) of all values is reached; 0 if empty."""
        wanted, seen = share * self.total, 0
        if not wanted:
            return 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                edge = bucket + 1 if bucket < STEPS else STEPS << (bucket - STEPS + 1)
                return min(edge * STEP_NS, self.most_ns)
        return self.most_ns

    def document(self) -> dict[str, float | int]:
        """Count, and p50, p95, p99 and largest in ms."""
        return {
            "count": self.total,
            "p50_ms": self.quantile_ns(0.50) / 1e6,
            "p95_ms": self.quantile_ns(0.95) / 1e6,
            "p99_ms": self.quantile_ns(0.99) / 1e6,
            "max_ms": self.most_ns / 1e6,
        }
