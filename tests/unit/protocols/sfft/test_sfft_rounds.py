"""Whole rounds of SFFT, all roles together in virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest

from orbitrain.contacts.gateways import Gateways, Transfer
from orbitrain.protocols.sfft.costs import Load, round_traffic
from orbitrain.protocols.sfft.planes import flood
from orbitrain.protocols.sfft.ring import Gather, Reduce, Ring
from orbitrain.step import Job
from tests.lanes import every_other_in_full
from tests.trace.sfft_world import (
    HEAD,
    TOKENS,
    WIDTH,
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

END_S = 3_000.0
S = 1_000_000_000

Spells = list[tuple[str, Spell]]


def crossings(*spells: Spell) -> Spells:
    return [("inter_isl", spell) for spell in spells]


def in_turn(members: Sequence[str], each_s: float = 60.0, gap_s: float = 30.0) -> Spells:
    """Every satellite over the station, one after the other, again and again."""
    spells: Spells = []
    t_s = 10.0
    while t_s < END_S:
        spells.append(("feeder", (members[len(spells) % len(members)], "gs", t_s, t_s + each_s)))
        t_s += each_s + gap_s
    return spells


def without(spells: Spells, name: str, from_s: float) -> Spells:
    """What is left of contacts when a node is gone."""
    left = []
    for kind, (a, b, start_s, end_s) in spells:
        end_s = min(end_s, from_s) if name in (a, b) else end_s
        if start_s < end_s:
            left.append((kind, (a, b, start_s, end_s)))
    return left


def two_planes(
    scheduler: str = "teg",
    gone: tuple[str, float] | None = None,
    missing: tuple[str, str, float] | None = None,
    **changes: object,
) -> World:
    """`gone`: a node, and from when on it has no contacts; `missing`: contacts of two until a time that are
    not there."""
    engine = NumpyEngine()
    params = params_of([4, 4], engine, **changes)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += in_turn(("a-0", "b-2", "a-1", "b-3"))
    spells += crossings(("a-1", "b-1", 50, 70), ("a-2", "b-0", 300, 400), ("a-3", "b-3", 700, 2_900))
    true = spells if gone is None else without(spells, *gone)
    if missing is not None:
        true = [one for one in true if one[1][:2] != missing[:2] or one[1][3] > missing[2]]
    believed = plan_of(params, spells, END_S)
    return world(believed, params, engine, scheduler, plan_of(params, true, END_S))


@pytest.mark.parametrize("reduce, gather", every_other_in_full(list(product(Reduce, Gather))))
def test_heads_equal_gradient_descent_on_the_union_of_all_samples(gather: Gather, reduce: Reduce) -> None:
    ran = two_planes(gather=gather, reduce=reduce).run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    check_head(ran)


SIZES = [[1], [2], [3], [2, 1], [5, 3, 4]]


@pytest.mark.parametrize(
    "reduce, sizes", every_other_in_full(list(product([Reduce.RING, Reduce.GATHER], SIZES)))
)
def test_planes_of_any_size_come_to_the_same(sizes: list[int], reduce: Reduce) -> None:
    engine = NumpyEngine()
    params = params_of(sizes, engine, reduce=reduce)
    spells = rings(params, END_S) + backhaul(params, END_S) + in_turn(params.satellites, 25, 5)
    pairs = zip(params.planes, params.planes[1:], strict=False)
    spells += crossings(*((a[0], b[-1], 200, END_S) for a, b in pairs))
    ran = world(plan_of(params, spells, END_S), params, engine).run()
    assert ran.participants() == [list(params.satellites)] * 2
    check_head(ran)


def around_the_rings(ran: World) -> int:
    """Letters with chunks that satellites got from satellites."""
    sent = [
        entry.event.fields
        for entry in ran.events("letter_delivered")
        if entry.event.fields["class"] == "intra_isl" and entry.event.fields["key"].startswith("block/")
    ]
    return len(sent)


@pytest.mark.parametrize("letters, each", [(1, 1), (2, 2), (3, 3), (4, 3), (9, 6)])
def test_a_block_goes_around_in_as_many_letters_as_its_chunks_allow(letters: int, each: int) -> None:
    """By one way around a plane of four, three times."""
    ran = two_planes(gather=Gather.ONE_WAY, chunk_samples=1, block_letters=letters).run()
    assert around_the_rings(ran) == ran.params.work.rounds * len(ran.params.satellites) * 3 * each
    check_head(ran)


@pytest.mark.parametrize("scheduler", ["first_visible", "maxflow_slot", "teg"])
def test_every_chunk_goes_down_once_whoever_schedules(scheduler: str) -> None:
    ran = two_planes(scheduler=scheduler).run()
    assert isinstance(ran.engine, NumpyEngine)
    computed = [
        (node, name)
        for node, job in ran.engine.jobs
        if job.kind == "sfft.backbone"
        for name in job.objects
        if name.startswith("chunk/")
    ]
    chunks = ran.params.work.rounds * len(ran.params.satellites) * ran.params.work.chunks
    assert len(computed) == chunks
    assert chunks_to_the_ground(ran) == chunks


KILLS = list(zip(["a-1", "b-3", "gs", "server"] * 4, range(5, 197, 12), strict=True))


@pytest.mark.parametrize("node, t_s", every_other_in_full(KILLS, by=4))
def test_a_node_that_is_killed_at_any_time_costs_no_sample(node: str, t_s: int) -> None:
    ran = two_planes()
    ran.simulation.at(t_s * S, lambda: ran.simulation.kill(node))
    ran.run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    check_head(ran)


COLLECTIVES = [
    (Gather.TWO_WAY, Reduce.RING),
    (Gather.ONE_WAY, Reduce.CHAIN),
    (Gather.SEQUENTIAL, Reduce.GATHER),
]


@pytest.mark.parametrize(
    "gather, reduce, t_s",
    every_other_in_full([(*how, t_s) for how in COLLECTIVES for t_s in (3, 60, 150)]),
)
def test_without_a_satellite_that_is_gone_the_ring_goes_on_as_a_chain(
    gather: Gather, reduce: Reduce, t_s: int
) -> None:
    ran = two_planes(gone=("b-1", t_s), gather=gather, reduce=reduce).run()
    rest = [name for name in ran.params.satellites if name != "b-1"]
    assert ran.participants()[-1] == rest
    assert all(set(rest) <= set(names) for names in ran.participants())
    check_head(ran)


@pytest.mark.parametrize("t_s", [13.2, 14.0, 16.4, 18.2])
def test_features_on_their_way_home_over_a_satellite_that_is_gone_come_by_another_way(t_s: float) -> None:
    ran = two_planes(gone=("a-1", t_s)).run()
    rest = [name for name in ran.params.satellites if name != "a-1"]
    assert ran.participants() == [rest] * 2
    check_head(ran)


def test_a_pass_that_does_not_appear_is_made_up_for_by_the_next() -> None:
    ran = two_planes(missing=("a-0", "gs", 70)).run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    check_head(ran)


def test_a_crossing_that_fails_is_made_up_for_by_the_next_gateway() -> None:
    ran = two_planes(missing=("a-1", "b-1", 100.0)).run()
    assert ran.participants() == [list(ran.params.satellites)] * 2
    check_head(ran)


def test_a_satellite_without_features_in_time_adds_nothing_and_is_not_listed() -> None:
    ran = two_planes(step_ns=60 * S).run()
    assert ran.participants()[0] == [name for name in ran.params.satellites if name.startswith("a-")]
    check_head(ran)


def test_jobs_that_fail_leave_their_samples_out() -> None:
    ran = two_planes()
    assert isinstance(ran.engine, NumpyEngine)
    ran.engine.fails = lambda node, job: node == "a-2" and job.kind == "sfft.embed"
    ran.run()
    assert ran.participants() == [[name for name in ran.params.satellites if name != "a-2"]] * 2
    check_head(ran)


def test_samples_that_the_backbone_cannot_be_run_on_are_left_out_and_not_fetched_again() -> None:
    ran = two_planes(step_ns=500 * S)
    failed: list[str] = []

    def fails(node: str, job: Job) -> bool:
        failed.extend(["a-2"] if "chunk/a-2/0" in job.objects else [])
        return "chunk/a-2/0" in job.objects

    assert isinstance(ran.engine, NumpyEngine)
    ran.engine.fails = fails
    ran.run()
    assert len(failed) == ran.params.work.rounds
    assert chunks_to_the_ground(ran) == 2 * len(ran.params.satellites) * ran.params.work.chunks
    assert len(ran.participants()) == 2
    assert not any("a-2" in names for names in ran.participants())
    check_head(ran)


def test_a_sum_that_cannot_be_made_costs_an_attempt() -> None:
    ran = two_planes(reduce=Reduce.RING)
    failed: list[str] = []

    def fails(node: str, job: object) -> bool:
        once = getattr(job, "kind", "") == "sfft.add" and not failed
        failed.extend([node] if once else [])
        return once

    assert isinstance(ran.engine, NumpyEngine)
    ran.engine.fails = fails
    ran.run()
    assert [entry.event.fields["attempt"] for entry in ran.events("round_begun")] == [1, 2, 1]
    assert ran.participants() == [list(ran.params.satellites)] * 2
    check_head(ran)


def chunks_to_the_ground(ran: World) -> int:
    return sum(entry.event.fields["chunks"] for entry in ran.events("chunks_came"))


def test_on_board_nothing_of_samples_is_sent_and_the_heads_are_the_same() -> None:
    ground, board = two_planes().run(), two_planes(on_board=True).run()
    assert board.heads() == ground.heads()
    assert chunks_to_the_ground(board) == 0 < chunks_to_the_ground(ground)
    assert board.simulation.now_ns < ground.simulation.now_ns
    check_head(board)


def test_features_that_are_kept_are_fetched_once() -> None:
    ran = two_planes(cache=True, rounds=4).run()
    assert chunks_to_the_ground(ran) == len(ran.params.satellites) * ran.params.work.chunks
    assert ran.participants() == [list(ran.params.satellites)] * 4
    check_head(ran)


def test_features_that_are_kept_and_lost_with_a_disk_are_fetched_again() -> None:
    ran = two_planes(cache=True, rounds=3)
    seen: list[str] = []

    def watch(node: str, event: object) -> None:
        if getattr(event, "kind", "") == "committed" and not seen:
            seen.append(node)
            ran.simulation.kill("a-3", lose_disk=True)

    ran.watch = watch
    ran.run()
    lost = ran.params.work.chunks
    assert chunks_to_the_ground(ran) == (len(ran.params.satellites) + 1) * lost
    assert ran.participants() == [list(ran.params.satellites)] * 3
    check_head(ran)


# --- what it costs ------------------------------------------------------------------------------------------


def moved_bytes(ran: World, kind: str, link_class: str) -> tuple[int, int]:
    """(bytes, letters) of one kind over a class of links."""
    told = [entry.event.fields for entry in ran.events("letter_delivered")]
    sizes = [
        fields["bytes"]
        for fields in told
        if fields["key"].startswith(f"{kind}/") and fields["class"] == link_class
    ]
    return sum(sizes), len(sizes)


SUMMED = [Reduce.RING, Reduce.CHAIN, Reduce.GATHER]


@pytest.mark.parametrize("reduce, gather", every_other_in_full(list(product(SUMMED, Gather))))
def test_a_round_moves_the_bytes_that_the_counters_expect(gather: Gather, reduce: Reduce) -> None:
    ran = two_planes(gather=gather, reduce=reduce, rounds=1, samples=64, chunk_samples=16).run()
    params = ran.params
    load = Load(64, TOKENS * WIDTH * 8, WIDTH * 8, HEAD.nbytes)
    expected = round_traffic([Ring(plane) for plane in params.planes], load, gather, reduce)
    summed = "head" if reduce is Reduce.GATHER else "visit"
    for kind, link_class, nbytes in (
        ("block", "intra_isl", expected.gather_bytes),
        ("block", "feeder", expected.down_bytes),
        ("block", "backhaul", expected.down_bytes),
        ("features", "backhaul", expected.up_bytes),
        ("features", "feeder", expected.up_bytes),
        (summed, "intra_isl", expected.reduce_bytes),
    ):
        found, letters = moved_bytes(ran, kind, link_class)
        assert nbytes <= found <= nbytes + 400 * letters, (kind, link_class)
    found, letters = moved_bytes(ran, "sum", "inter_isl")
    assert found <= 2 * (expected.edge_bytes_max + 400 * letters)  # an edge has two directions
    assert letters == 2


@pytest.mark.parametrize("seed", range(12))
def test_sums_reach_every_plane_as_early_as_the_windows_allow(seed: int) -> None:
    draw = random.Random(seed)
    engine = NumpyEngine()
    params = params_of([1, 2, 1, 2], engine, rounds=1, on_board=True)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += [("feeder", (name, "gs", 1.0, 60.0)) for name in params.satellites]
    taken: set[tuple[int, int]] = set()
    for _ in range(14):
        one, other = sorted(draw.sample(range(4), 2))
        start_s = draw.uniform(60, 1_500)
        ends = params.planes[one][0], params.planes[other][0]
        if (one, other) not in taken:
            taken.add((one, other))
            spells += crossings(*((*ends, start_s + gap_s, start_s + gap_s + 40) for gap_s in (0, 300, 700)))
    plan = plan_of(params, spells, END_S)
    ran = world(plan, params, engine)
    ran.run()
    reduced = {entry.node: entry.event.t_ns for entry in ran.events("reduced")}
    averaged = {entry.node: entry.event.t_ns for entry in ran.events("averaged")}
    ready_ns = {plane: max(reduced[name] for name in members) for plane, members in enumerate(params.planes)}
    # A letter takes `handling` to be taken in, and again within the plane; a contact is confirmed after 1 s.
    transfer = Transfer(HEAD.nbytes + 600, 1 * S, 1 * S, spread_ns=1 * S)
    bound = flood(
        Gateways(plan, dict(enumerate(params.planes)), transfer),
        {plane: {plane: t_ns} for plane, t_ns in ready_ns.items()},
        range(4),
    ).done_ns
    if bound is None:
        assert not averaged or len(averaged) < len(params.satellites)
    else:
        assert max(averaged.values()) <= bound + 5 * S


def test_a_plane_that_is_gone_costs_one_deadline_and_takes_part_again_when_it_is_back() -> None:
    engine = NumpyEngine()
    params = params_of([2, 1], engine, rounds=40, commit_ns=300 * S, head_ns=20 * S)
    spells = rings(params, END_S) + backhaul(params, END_S)
    spells += [("feeder", (name, "gs", 10.0 + n, END_S)) for n, name in enumerate(params.satellites)]
    spells += crossings(("a-0", "b-0", 5, END_S))
    true = [
        (kind, (a, b, 900.0 if "b-0" in (a, b) else start_s, end_s))
        for kind, (a, b, start_s, end_s) in spells
    ]
    ran = world(plan_of(params, spells, END_S), params, engine, truth=plan_of(params, true, END_S)).run()
    assert len(ran.participants()) == 40
    alone = [
        entry.event.t_ns for entry in ran.events("committed") if len(entry.event.fields["participants"]) == 2
    ]
    assert 300 * S < alone[0] < 400 * S and len(alone) > 5 and 900 * S < alone[-1] < 1_000 * S
    assert ran.participants()[len(alone) :] == [list(params.satellites)] * (40 - len(alone))
    check_head(ran)


def test_features_that_no_pass_has_room_for_come_up_over_several_satellites() -> None:
    engine = NumpyEngine()
    params = params_of([4], engine, samples=32, chunk_samples=1, rounds=1, step_ns=3_000 * S)
    spells = rings(params, END_S) + backhaul(params, END_S) + in_turn(params.satellites, 15, 5)
    ran = world(plan_of(params, spells, END_S, 4_000), params, engine).run()
    told = [entry.event.fields for entry in ran.events("letter_delivered")]
    up = {one["to"] for one in told if one["class"] == "feeder" and one["key"].startswith("features/")}
    assert up == set(params.satellites)
    assert ran.participants() == [list(params.satellites)]
    sizes, letters = moved_bytes(ran, "features", "feeder")
    assert letters >= 4 * 32 / 8 and sizes < 2 * 4 * 32 * (WIDTH * 8 + 100)
    check_head(ran)
