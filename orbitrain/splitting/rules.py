"""How experts are split, as a scenario says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SplitRules:
    """ValueError for a threshold outside [0, 1), and for a `top_k` or `capacity` below 1."""

    threshold: float
    """Relevance below it counts as none: delta of (32)."""
    top_k: int
    """Experts that a layer's gate selects for a sample."""
    capacity: int | None = None
    """Experts that the devices of a cluster have memory for; None for as many as there are."""
    greedy: bool = False
    """Clusters are served by the paper's rule as we read it, expert after expert, and not by a matching."""
    stride: bool = True
    """From the second epoch on clusters take turns by q, where False draws anew. The greedy rule draws."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < 1.0:
            raise ValueError(f"threshold: must be 0 or more and below 1, not {self.threshold}")
        if self.top_k < 1:
            raise ValueError(f"top_k: must be 1 or more, not {self.top_k}")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity: must be 1 or more, not {self.capacity}")
