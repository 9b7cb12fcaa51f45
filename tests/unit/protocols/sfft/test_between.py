"""How sums come together along trees: the choice of one, and whole rounds with it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orbitrain.contacts.gateways import Gateways, Transfer
from orbitrain.protocols.sfft.between import Between, tree_of
from orbitrain.protocols.sfft.planes import best_merge_tree, flood
from orbitrain.protocols.sfft.static_trees import rooted
from orbitrain.protocols.sfft.tree import OUTSIDE, Tree
from orbitrain.step import Event, Job
from tests.trace.sfft_world import (
    NumpyEngine,
    Spell,
    World,
    backhaul,
    check_head,
    params_of,
    plan_of,
    rings,
    world,
)

S = 1_000_000_000
END_S = 4_000.0
TREES = [Between.MERGE_TREE, Between.SPANNING_TREE, Between.CHAIN]


def four_planes(between: Between, missing: Sequence[Spell] = (), seed: int = 0, **changes: object) -> World:
    """Windows of a minute or two between any planes, again and again; `missing` ones do not come."""
    engine = NumpyEngine()
    params = params_of([2, 3, 1, 2], engine, between=between, on_board=True, **changes)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += [("feeder", (name, "gs", 1.0, END_S)) for name in params.satellites]
    draw = random.Random(seed)
    for one in range(4):
        for other in range(one + 1, 4):
            ends = draw.choice(params.planes[one]), draw.choice(params.planes[other])
            t_s = draw.uniform(20, 300)
            while t_s < END_S:
                spells.append(("inter_isl", (*ends, t_s, t_s + draw.uniform(40, 120))))
                t_s += draw.uniform(200, 500)
    gone = set(missing)
    truth = [each for each in spells if each[1] not in gone]
    return world(plan_of(params, spells, END_S), params, engine, truth=plan_of(params, truth, END_S))


# --- trees ------------------------------------------------------------------------------------------------


def test_a_tree_knows_its_root_its_children_and_who_is_below() -> None:
    tree = Tree.read([1, 1, OUTSIDE, 1, 3], [0, 1, 3, 4])
    assert tree.root == 1 and tree.children(1) == (0, 3) and tree.children(4) == ()
    assert tree.under(3) == {3, 4} and tree.under(1) == {0, 1, 3, 4}
    assert tree.written(5) == [1, 1, OUTSIDE, 1, 3]


@pytest.mark.parametrize(
    "parents",
    [
        [0, 1],
        [1, 0],
        [1, 2, 1],
        [0, 0, 5],
        [OUTSIDE, OUTSIDE, OUTSIDE],
        [0, OUTSIDE, 0],
        [0, 0, -2],
        [0, 0, 0, 0],
    ],
)
def test_what_is_no_tree_over_the_planes_is_refused(parents: list[int]) -> None:
    with pytest.raises(ValueError, match="parents: must"):
        Tree.read(parents, [0, 1, 2])


def test_a_static_tree_has_its_root_in_the_middle() -> None:
    assert rooted(range(5), {(0, 1): 1, (1, 2): 1, (2, 3): 1, (3, 4): 1}) == {2: 2, 1: 2, 0: 1, 3: 2, 4: 3}
    assert rooted([7], {}) == {7: 7}


def test_large_heads_take_a_tree_and_small_ones_are_flooded() -> None:
    """One edge a pass, in turn: all sums together do not fit into one."""
    params = params_of([1, 1, 1, 1], NumpyEngine())
    spells: list[tuple[str, Spell]] = []
    for n in range(60):
        one = n % 3
        spells.append(
            ("inter_isl", (params.planes[one][0], params.planes[one + 1][0], 20.0 * n, 20.0 * n + 10))
        )
    plan = plan_of(params, spells, 1_300.0)
    ready_ns = dict.fromkeys(range(4), 0)

    def chosen(how: Between, head_bytes: int) -> Tree | None:
        return tree_of(how, lambda heads: gateways(heads * head_bytes), ready_ns, [0, 100 * S])

    def gateways(size_bytes: int) -> Gateways:
        return Gateways(plan, dict(enumerate(params.planes)), Transfer(size_bytes))

    assert chosen(Between.AUTO, 1_000) is None
    assert chosen(Between.AUTO, 1_000_000) == chosen(Between.MERGE_TREE, 1_000_000) is not None
    assert chosen(Between.FLOOD, 1_000_000) is None
    assert chosen(Between.CHAIN, 1_000) == Tree({0: 1, 1: 1, 2: 1, 3: 2})
    spanning = chosen(Between.SPANNING_TREE, 1_000)
    assert spanning is not None and spanning.parents[0] == 1 and spanning.parents[3] == 2
    assert chosen(Between.MERGE_TREE, 2_000_000) is None  # no pass has room for it
    assert chosen(Between.CHAIN, 2_000_000) is None


# --- rounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", TREES)
@pytest.mark.parametrize("seed", range(2))
def test_heads_summed_along_a_tree_are_gradient_descent_on_all_samples(between: Between, seed: int) -> None:
    ran = four_planes(between, seed=seed).run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    assert all(event.event.fields["parents"] for event in ran.events("round_begun"))
    digests = {(e.event.fields["round"], e.event.fields["digest"]) for e in ran.events("averaged")}
    assert len(digests) == 2  # the same bits on all
    check_head(ran)


@pytest.mark.parametrize("between", TREES)
def test_one_head_goes_up_and_one_down_each_edge_of_a_tree(between: Between) -> None:
    ran = four_planes(between, rounds=1).run()
    told = [entry.event.fields for entry in ran.events("letter_delivered")]
    sums = [one for one in told if one["class"] == "inter_isl" and one["key"].startswith("sum/")]
    assert len(sums) == 2 * (len(ran.params.planes) - 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_merge_tree_is_done_when_reckoned_and_flooding_is_not_later(seed: int) -> None:
    tree, flooded = (four_planes(b, seed=seed, rounds=1).run() for b in (Between.MERGE_TREE, Between.FLOOD))
    (done_ns, flooded_ns) = (max(e.event.t_ns for e in ran.events("averaged")) for ran in (tree, flooded))
    assert flooded_ns <= done_ns + 5 * S
    reduced: dict[int, int] = {}
    for entry in tree.events("reduced"):
        plane = tree.params.plane_of(entry.node)
        reduced[plane] = max(reduced.get(plane, 0), entry.event.t_ns)
    # A letter takes time to be taken in, and again within the plane; a contact is confirmed after 1 s.
    plan = tree.simulation.plan
    transfer = Transfer(1_000, 1 * S, 1 * S, spread_ns=2 * S)
    gateways = Gateways(plan, dict(enumerate(tree.params.planes)), transfer)
    reckoned = best_merge_tree(gateways, reduced)
    bound = flood(gateways, {p: {p: t} for p, t in reduced.items()}, range(4)).done_ns
    assert reckoned is not None and bound is not None and bound <= reckoned.done_ns


def test_a_crossing_of_a_tree_that_fails_is_made_up_for() -> None:
    told: list[tuple[str, str, float]] = []
    first = four_planes(Between.MERGE_TREE, rounds=1).run()
    for entry in first.events("letter_delivered"):
        if entry.event.fields["class"] == "inter_isl" and entry.event.fields["key"].startswith("sum/"):
            told.append((entry.node, entry.event.fields["to"], entry.event.t_ns / S))
    for sender, receiver, t_s in told:
        spells = [
            (one.source, one.destination, one.start_ns / S, one.end_ns / S)
            for one in first.simulation.plan.contacts
            if {one.source, one.destination} == {sender, receiver}
            and one.start_ns / S <= t_s < one.end_ns / S
        ]
        ran = four_planes(Between.MERGE_TREE, spells, rounds=1).run()
        assert ran.participants() == [list(ran.params.satellites)]
        check_head(ran)


@pytest.mark.parametrize("node", ["a-0", "b-1", "c-0", "d-1", "server"])
def test_a_node_that_is_killed_while_sums_go_up_the_tree_costs_nothing(node: str) -> None:
    ran = four_planes(Between.MERGE_TREE, rounds=1)
    killed: list[str] = []

    def watch(_: str, event: Event) -> None:
        if event.kind == "merged" and not killed:
            killed.append(node)
            ran.simulation.kill(node)

    ran.watch = watch
    ran.run()
    assert killed and ran.participants() == [list(ran.params.satellites)]
    check_head(ran)


def test_a_sum_that_cannot_be_merged_costs_an_attempt() -> None:
    ran = four_planes(Between.MERGE_TREE, rounds=1)
    failed: list[str] = []

    def fails(node: str, job: Job) -> bool:
        once = job.kind == "sfft.add" and node == "b-0" and not failed
        failed.extend([node] if once else [])
        return once

    assert isinstance(ran.engine, NumpyEngine)
    ran.engine.fails = fails
    ran.run()
    assert failed and [entry.event.fields["attempt"] for entry in ran.events("round_begun")] == [1, 2]
    check_head(ran)
