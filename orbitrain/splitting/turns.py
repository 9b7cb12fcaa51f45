"""Turns over epochs: stride scheduling, with a counter of arrears for each cluster and expert.

In every epoch a cluster's arrears for an expert grow by q, and fall by 1 when it gets the expert. Who gets
it next is the rule of proportionate progress (P-fair; Baruah, Cohen, Plaxton, Varvel 1996): of the clusters
that would not be too far ahead by it, the one that would be too far behind first. While nothing else
interferes and q stays the same, arrears are strictly between -1 and 1 after each epoch, whoever was first:
counted from the first epoch, a cluster has had q times the epochs within 1. In a window that begins later it
is within 2; with more than two clusters no rule keeps every window within 1 whatever q is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from orbitrain.splitting.relevance import Table, columns

ARREARS_MAX: Final = 16.0
"""Turns, ahead or behind: without a bound, where coverage or memory forbid that q is followed, a change of
relevance would be paid back for as long as the forbidding lasted."""

_ROUNDING = 1e-9  # arrears are sums of up to millions of rounded numbers
_DEPARTURE = 1.0  # what it costs not to give an expert to its preferred cluster, at least


class Arrears:
    """What each cluster is behind (above 0) or ahead for each expert in this epoch, its q included."""

    def __init__(self, turns: Sequence[float], q: Table) -> None:
        """`turns` as `after` left them in the epoch before, row by row; nothing for none yet."""
        experts = len(q[0])
        self._q = columns(q)
        before = turns or [0.0] * (len(q) * experts)
        self._now = [
            [_bounded(before[k * experts + i] + row[i]) for k, row in enumerate(q)] for i in range(experts)
        ]

    def most(self, expert: int) -> float:
        """The arrears of who is furthest behind, of those with q above 0; 0 without any."""
        shares = zip(self._now[expert], self._q[expert], strict=True)
        return max((now for now, share in shares if share > 0), default=0.0)

    def preferred(self, expert: int, clusters: Collection[int], noise: Sequence[float]) -> int:
        """Whose turn it is, of these clusters; q of each must be above 0. `noise` decides between equals."""
        now, q = self._now[expert], self._q[expert]
        behind = [k for k in clusters if now[k] > _ROUNDING]
        if not behind:  # memory forbids all others
            return max(clusters, key=lambda k: (round(now[k], 9), noise[k]))
        # Without a turn it is 1 behind this many epochs from now.
        return min(behind, key=lambda k: (round((1.0 - (now[k] - q[k])) / q[k], 9), noise[k]))

    def cost(self, expert: int, cluster: int, preferred: int) -> float:
        """Of giving an expert to a cluster for the sake of coverage: 0 where it is its turn anyway."""
        if cluster == preferred:
            return 0.0
        return _DEPARTURE + self.most(expert) - self._now[expert][cluster]

    def after(self, owners: Sequence[int | None]) -> tuple[float, ...]:
        """Row by row, what is left once each expert went to the cluster of that number.

        None, and a cluster with q 0, is no turn: the expert's clusters stay behind.
        """
        left = [list(column) for column in self._now]
        for i, owner in enumerate(owners):
            if owner is not None and self._q[i][owner] > 0:
                left[i][owner] = _bounded(left[i][owner] - 1.0)
        return tuple(left[i][k] for k in range(len(self._q[0])) for i in range(len(left)))


def _bounded(arrears: float) -> float:
    return min(max(arrears, -ARREARS_MAX), ARREARS_MAX)
