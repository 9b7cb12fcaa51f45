"""Relevance by hand, and what is said of a split by brute force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from orbitrain.splitting.matching import Pair
from orbitrain.splitting.relevance import Relevance, Table

TOTAL = 1000


def counted(*rows: Sequence[int], totals: Sequence[int] | None = None) -> Relevance:
    """Clusters "a", "b", ...; counts of TOTAL pairs each, unless `totals` says how many."""
    return Relevance(
        tuple("abcdefghij"[: len(rows)]),
        tuple(tuple(row) for row in rows),
        tuple(totals or [TOTAL] * len(rows)),
    )


@st.composite
def relevances(draw: st.DrawFn, clusters_max: int = 4, experts_max: int = 4) -> Relevance:
    """Many zeros, some clusters without data (never all), some experts that nobody selected."""
    clusters, experts = draw(st.integers(1, clusters_max)), draw(st.integers(1, experts_max))
    totals = draw(st.lists(st.sampled_from([0, 5, 40, TOTAL]), min_size=clusters, max_size=clusters))
    totals = totals if any(totals) else [TOTAL] * clusters
    share = st.sampled_from([0.0, 0.0, 0.01, 0.2, 0.5, 1.0])
    rows = [
        [int(total * part) for part in draw(st.lists(share, min_size=experts, max_size=experts))]
        for total in totals
    ]
    return counted(*rows, totals=totals)


def matchings(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, ...]]:
    """Every matching of these pairs, the empty one too."""
    if not pairs:
        yield ()
        return
    first, *others = pairs
    yield from matchings(others)
    apart = [pair for pair in others if pair[0] != first[0] and pair[1] != first[1]]
    for matching in matchings(apart):
        yield (first, *matching)


def most_covered(q: Table) -> int:
    """How many clusters can have an expert of their own at once."""
    pairs = [(k, i) for k, row in enumerate(q) for i, share in enumerate(row) if share > 0]
    return max(len(matching) for matching in matchings(pairs))
