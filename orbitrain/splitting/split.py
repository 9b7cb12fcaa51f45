"""Algorithm 1 of EMS-FL: every expert to one cluster, as many clusters as possible with an expert.

    5a  a maximum matching of clusters with experts, of the greatest sum of log q + Gumbel noise
    5b  every other expert by a draw from q, among clusters that have memory left
    5c  all chance from the run's seed and the epoch, so a satellite that restarts splits alike

From the second epoch on, experts go round by stride scheduling on q instead; coverage still comes first, and
departs from whose turn it is where it costs the least arrears. The literal greedy rule is an option.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orbitrain.splitting.chance import Chance
from orbitrain.splitting.dealing import Dealing
from orbitrain.splitting.gamma import ratios
from orbitrain.splitting.matching import best_matching
from orbitrain.splitting.relevance import Relevance, Table, assignment, columns
from orbitrain.splitting.rules import SplitRules
from orbitrain.splitting.turns import Arrears

_TIES = 2.0**-10  # times 3, of 256 pairs less than the 1 that a departure from a turn costs at least
_LATE = 2.0  # turns behind, which an expert is not unless coverage or memory kept it waiting


@dataclass(frozen=True, slots=True)
class Split:
    """Who owns what in one epoch, and why. `turns` and `credits` are the next epoch's."""

    owners: tuple[str, ...]
    """The cluster of each expert; "" for a frozen one, which nobody trains: all memory is full."""
    relevance: Table
    """p of (29), by cluster and expert."""
    assignment: Table
    """q of (33), by cluster and expert; an unclaimed expert's is from its untruncated relevance."""
    unserved: tuple[str, ...]
    """Clusters that have data and own nothing."""
    revived: tuple[int, ...]
    """Experts that nobody ever selected, with an owner that wakes them by masked training."""
    displaced: tuple[int, ...]
    """Experts whose owner has q 0, as the clusters with q above 0 had no memory left."""
    gamma: dict[str, float]
    """What `gamma.ratios` says of this split."""
    turns: tuple[float, ...]
    """Arrears of stride scheduling, a row of experts for each cluster: float64, to be kept to the bit."""
    credits: tuple[int, ...]
    """For each cluster, for how many epochs in a row it has had data and no expert."""

    @property
    def frozen(self) -> tuple[int, ...]:
        """Experts without an owner."""
        return tuple(expert for expert, owner in enumerate(self.owners) if not owner)


def split(
    relevance: Relevance,
    rules: SplitRules,
    credits: Sequence[int],
    run_seed: int,
    epoch: int,
    turns: Sequence[float],
) -> Split:
    """The split of one epoch: a function of its arguments alone.

    `credits` and `turns` are those of the split before; both empty at first. ValueError with one line for
    more experts selected than there are, no cluster with data, and state of other clusters or experts.
    """
    _check(relevance, rules, credits, epoch, turns)
    waiting = tuple(credits) or (0,) * len(relevance.clusters)
    q = assignment(relevance.probabilities(), rules.threshold)
    arrears = Arrears(turns, q)
    chance = Chance(run_seed, epoch)
    dealing = Dealing(relevance.with_data, relevance.experts, rules.capacity, chance)
    if rules.greedy:
        _deal_greedily(dealing, q)
    elif rules.stride and turns:
        _deal_by_turns(dealing, q, arrears, waiting, chance)
    else:
        _deal_by_chance(dealing, q, waiting, chance)
    late = _deal_rest(dealing, relevance.probabilities(), waiting)
    unserved = dealing.unserved()
    owners = tuple("" if owner is None else relevance.clusters[owner] for owner in dealing.owners)
    return Split(
        owners=owners,
        relevance=relevance.probabilities(),
        assignment=q,
        unserved=tuple(relevance.clusters[k] for k in unserved),
        revived=tuple(expert for expert in late if not _claimed(q, expert)),
        displaced=tuple(expert for expert in late if _claimed(q, expert)),
        gamma=ratios(relevance, owners),
        turns=arrears.after(dealing.owners) if rules.stride and not rules.greedy else tuple(turns),
        # A cluster without data neither waits nor has been served.
        credits=tuple(
            credit + 1 if k in unserved else 0 if k in relevance.with_data else credit
            for k, credit in enumerate(waiting)
        ),
    )


def _deal_by_chance(dealing: Dealing, q: Table, waiting: Sequence[int], chance: Chance) -> None:
    weights = {
        (k, i): math.log(share) + chance.gumbel("match", k, i)
        for k, row in enumerate(q)
        for i, share in enumerate(row)
        if share > 0
    }
    for cluster, expert in best_matching(weights, waiting, len(q[0])):
        dealing.give(expert, cluster)
    _draw_left(dealing, q)


def _deal_by_turns(
    dealing: Dealing, q: Table, arrears: Arrears, waiting: Sequence[int], chance: Chance
) -> None:
    weights = {}
    noise = [[chance.uniform("turn", k, i) for k in range(len(q))] for i in range(len(q[0]))]
    for i, column in enumerate(columns(q)):
        candidates = [k for k, share in enumerate(column) if share > 0]
        if candidates:
            turn = arrears.preferred(i, candidates, noise[i])
            bonus = 0.0 if dealing.capacity is None else _bonus(arrears.most(i))
            weights.update(
                {(k, i): bonus - arrears.cost(i, k, turn) + noise[i][k] * _TIES for k in candidates}
            )
    for cluster, expert in best_matching(weights, waiting, len(q[0])):
        dealing.give(expert, cluster)
    for expert in sorted(dealing.left(), key=arrears.most, reverse=True):
        candidates = [k for k in dealing.roomy() if q[k][expert] > 0]
        if candidates:
            dealing.give(expert, arrears.preferred(expert, candidates, noise[expert]))


def _bonus(behind: float) -> float:
    """Of being matched, under a cap: what is not matched may find memory full, and has to wait once more."""
    return max(0.0, behind - _LATE) + min(behind, _LATE) * _TIES


def _deal_greedily(dealing: Dealing, q: Table) -> None:
    """The paper's rule, restored from its words: each expert in turn goes to a cluster that has none yet, if
    one wants it. It depends on the order of experts, and can leave out a cluster that a matching serves."""
    for expert in range(len(q[0])):
        first = dealing.draw(expert, q, dealing.unserved())
        owner = dealing.draw(expert, q, dealing.roomy()) if first is None else first
        if owner is not None:
            dealing.give(expert, owner)


def _draw_left(dealing: Dealing, q: Table) -> None:
    for expert in dealing.left():
        owner = dealing.draw(expert, q, dealing.roomy())
        if owner is not None:
            dealing.give(expert, owner)


def _deal_rest(dealing: Dealing, p: Table, waiting: Sequence[int]) -> list[int]:
    """Owners for what is left, as long as there is memory anywhere: the experts that got one, ascending.

    First, by untruncated relevance, those for which no cluster with q above 0 has memory; after them
    those that nobody ever selected.
    """
    late = []
    for expert in sorted(dealing.left(), key=lambda expert: not _claimed(p, expert)):
        owner = dealing.draw(expert, p, dealing.roomy())
        if owner is None:
            owner = dealing.fewest(expert, waiting)
        if owner is not None:
            dealing.give(expert, owner)
            late.append(expert)
    return sorted(late)


def _claimed(table: Table, expert: int) -> bool:
    return any(row[expert] for row in table)


def _check(
    relevance: Relevance, rules: SplitRules, credits: Sequence[int], epoch: int, turns: Sequence[float]
) -> None:
    clusters, experts = len(relevance.clusters), relevance.experts
    if rules.top_k > experts:
        raise ValueError(f"top_k: must be at most the {experts} experts there are, not {rules.top_k}")
    if not relevance.with_data:
        raise ValueError("counts: no cluster has data")
    for name, row, total in zip(relevance.clusters, relevance.counts, relevance.totals, strict=True):
        if sum(row) > rules.top_k * total:
            raise ValueError(
                f"counts of cluster {name!r}: {sum(row)} selections are more than top_k {rules.top_k} times "
                f"{total} samples times layers"
            )
    if epoch < 0:
        raise ValueError(f"epoch: must not be negative, not {epoch}")
    if len(credits) not in (0, clusters) or any(credit < 0 for credit in credits):
        raise ValueError(f"credits: must be {clusters} numbers of 0 or more, or none")
    if len(turns) not in (0, clusters * experts) or not all(map(math.isfinite, turns)):
        raise ValueError(f"turns: must be {clusters * experts} finite numbers, or none")
