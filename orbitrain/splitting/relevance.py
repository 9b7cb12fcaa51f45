"""Who selects which expert how often: from the devices' counts to relevance and assignment probabilities.

Numbers (29), (32) and (33) are those of the paper. Counts come from a trial run of the whole model on each
device's own data; the data stay there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Table: TypeAlias = tuple[tuple[float, ...], ...]
"""A row for each cluster and a column for each expert."""

LARGEST: Final = 256
"""Clusters, and experts, up to which the matching has 11 bits or more for its weights (see `matching`)."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """What the clusters counted.

    `counts[k][i]` is how many (sample, layer) pairs of cluster k have expert i among their selected ones,
    over all layers and devices; `totals[k]` is how many pairs there were: samples times layers. A cluster
    that has no data, or was not heard of, has 0 everywhere. ValueError for what cannot have been counted.
    """

    clusters: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    totals: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "clusters", tuple(self.clusters))
        object.__setattr__(self, "counts", tuple(tuple(row) for row in self.counts))
        object.__setattr__(self, "totals", tuple(self.totals))
        if not self.clusters or "" in self.clusters or len(set(self.clusters)) < len(self.clusters):
            raise ValueError("clusters: must be one or more different names, none of them empty")
        if not len(self.clusters) == len(self.counts) == len(self.totals):
            raise ValueError(
                f"counts: {len(self.clusters)} clusters have {len(self.counts)} rows and "
                f"{len(self.totals)} totals"
            )
        if not self.experts or any(len(row) != self.experts for row in self.counts):
            raise ValueError("counts: every cluster must have a count for each expert, of one or more")
        if max(len(self.clusters), self.experts) > LARGEST:
            raise ValueError(
                f"counts: at most {LARGEST} clusters and {LARGEST} experts, not {len(self.clusters)} and "
                f"{self.experts}"
            )
        for name, row, total in zip(self.clusters, self.counts, self.totals, strict=True):
            if total < 0 or min(row) < 0:
                raise ValueError(f"counts of cluster {name!r}: must not be negative")
            if max(row) > total:
                raise ValueError(
                    f"counts of cluster {name!r}: an expert was selected {max(row)} times in {total} samples "
                    "times layers"
                )

    @property
    def experts(self) -> int:
        """How many experts there are in each layer."""
        return len(self.counts[0])

    @property
    def with_data(self) -> tuple[int, ...]:
        """Numbers of the clusters that counted anything."""
        return tuple(k for k, total in enumerate(self.totals) if total)

    def probabilities(self) -> Table:
        """p of (29): the share of pairs that selected the expert. A row adds up to k of Top-k, or to 0."""
        return tuple(
            tuple(count / total if total else 0.0 for count in row)
            for row, total in zip(self.counts, self.totals, strict=True)
        )


def truncated(probabilities: Table, threshold: float) -> Table:
    """(32): what is below the threshold counts as 0; what equals it stays."""
    return tuple(tuple(p if p >= threshold else 0.0 for p in row) for row in probabilities)


def assignment(probabilities: Table, threshold: float) -> Table:
    """q of (33): truncated relevance, normalised over the clusters for each expert.

    Where the threshold leaves nobody, (33) is 0/0: then it is the untruncated relevance that is normalised.
    The column of an expert that nobody ever selected is all 0.
    """
    kept, whole = columns(truncated(probabilities, threshold)), columns(probabilities)
    shares = (_normalised(some if any(some) else every) for some, every in zip(kept, whole, strict=True))
    return columns(tuple(shares))


def columns(table: Table) -> Table:
    """The table turned over: a row for each expert."""
    return tuple(zip(*table, strict=True))


def _normalised(weights: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(weights)
    return tuple(weight / total if total else 0.0 for weight in weights)
