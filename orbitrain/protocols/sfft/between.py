"""How sums of heads go between planes: every one to all, or added along a tree. The choice is our derivation.

Flooding is done first wherever a link has room for all planes' sums at once. A tree passes one head up
and one down each of its edges, so large heads are there sooner by it. Which one a plan favours is reckoned:
the best merge tree, against flooding in which every crossing takes as long as all planes' sums together. The
static trees are baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from orbitrain.protocols.sfft.planes import Crossings, best_merge_tree, flood
from orbitrain.protocols.sfft.static_trees import Edge, chain, mean_transits_ns, minimum_diameter_tree, rooted
from orbitrain.protocols.sfft.tree import Tree

GAIN: Final = 0.9
"""A tree is taken that is done in this share of the time, as when planes will have their sums is a guess."""


class Between(StrEnum):
    AUTO = "auto"
    """`FLOOD`, or `MERGE_TREE` where that is done markedly sooner."""
    FLOOD = "flood"
    MERGE_TREE = "merge_tree"
    SPANNING_TREE = "spanning_tree"
    """A baseline: the minimum-diameter tree over mean transits, whatever windows there are now."""
    CHAIN = "chain"
    """A baseline: each plane with the next."""


def tree_of(
    how: Between,
    crossings: Callable[[int], Crossings],
    ready_ns: Mapping[int, int],
    instants_ns: Sequence[int],
) -> Tree | None:
    """The tree for planes that have their sums at `ready_ns`; None to flood, also where no tree gets through.

    `crossings` between these planes only, of so many heads at once. Static trees have the mean transits from
    `instants_ns` for lengths.
    """
    if how is Between.FLOOD or len(ready_ns) < 2:
        return None
    if how in (Between.SPANNING_TREE, Between.CHAIN):
        return _static(how, crossings(1), ready_ns, instants_ns)
    merge = best_merge_tree(crossings(1), ready_ns)
    if merge is None:
        return None
    if how is Between.AUTO:
        every = crossings(len(ready_ns))
        flooded = flood(every, {p: {p: t} for p, t in ready_ns.items()}, ready_ns)
        since_ns = min(ready_ns.values())
        if flooded.done_ns is not None and merge.done_ns > since_ns + GAIN * (flooded.done_ns - since_ns):
            return None
    return Tree({merge.root: merge.root, **{plane: crossing.target for plane, crossing in merge.up.items()}})


def _static(
    how: Between, crossings: Crossings, ready_ns: Mapping[int, int], instants_ns: Sequence[int]
) -> Tree | None:
    edges: tuple[Edge, ...] | None = chain(ready_ns)
    lengths: Mapping[Edge, int] = dict.fromkeys(edges or (), 1)
    if how is Between.SPANNING_TREE:
        lengths = mean_transits_ns(crossings, ready_ns, instants_ns)
        edges = minimum_diameter_tree(ready_ns.keys(), lengths)
    if edges is None:
        return None
    last_ns = max(ready_ns.values())
    if any(crossings.earliest(*way, last_ns) is None for a, b in edges for way in ((a, b), (b, a))):
        return None
    return Tree(rooted(ready_ns.keys(), {edge: lengths[edge] for edge in edges}))
