"""Ways between planes on random plans, against a walk over time and all trees there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.gateways import Crossing, Gateways, Transfer
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.protocols.sfft.planes import (
    best_merge_tree,
    earliest_arrivals,
    flood,
    latest_departures,
    merge_tree,
)
from orbitrain.protocols.sfft.static_trees import (
    Edge,
    chain,
    mean_transits_ns,
    minimum_diameter_tree,
)
from orbitrain.protocols.sfft.weights import of_plane
from tests.unit.protocols.sfft.relaying import relay

DURATION_NS = 200
BYTE_A_NS = 8_000_000_000  # bit/s


@dataclass(frozen=True)
class World:
    plan: ContactPlan
    members: Mapping[int, tuple[str, ...]]
    transfer: Transfer
    ready_ns: Mapping[int, int]

    @property
    def gateways(self) -> Gateways:
        return Gateways(self.plan, self.members, self.transfer)


def world_from(seed: int) -> World:
    """Three to five planes of two satellites, each edge with a few windows, as may be both ways or one."""
    random = Random(seed)
    members = {plane: (f"{plane}a", f"{plane}b") for plane in range(random.randrange(3, 6))}
    nodes = tuple(PlanNode(name, "satellite") for names in members.values() for name in names)
    contacts = []
    for one, other in itertools.combinations(members, 2):
        if random.random() < 0.25:
            continue
        for a, b in itertools.product(members[one], members[other]):
            edges = sorted(random.sample(range(DURATION_NS + 1), 2 * random.randrange(0, 4)))
            for start_ns, end_ns in zip(edges[::2], edges[1::2], strict=True):
                end_ns = min(end_ns, start_ns + 25)
                sample = Sample(start_ns, random.choice((0, 1, 4)), BYTE_A_NS, 0.0, 1.0)
                for source, destination in ((a, b), (b, a)):
                    contacts.append(Contact(source, destination, "inter_isl", start_ns, end_ns, (sample,)))
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, nodes, tuple(contacts))
    transfer = Transfer(random.choice((1, 3, 6)), random.choice((0, 2)), 0, random.choice((0, 5)))
    return World(plan, members, transfer, {plane: random.randrange(20) for plane in members})


worlds = st.integers(0, 2**32).map(world_from)
WORLDS = tuple(world_from(seed) for seed in range(300))


def walked(world: World, holders: Mapping[int, int], without: Iterable[Contact] = ()) -> dict[int, int]:
    """When each plane has it, at each nanosecond trying all contacts."""
    plane_of = {name: plane for plane, names in world.members.items() for name in names}
    at_ns, transfer, gone = dict(holders), world.transfer, set(map(id, without))
    for now_ns in range(DURATION_NS):
        for one in world.plan.contacts:
            source, target = plane_of[one.source], plane_of[one.destination]
            arrival_ns = now_ns + transfer.size_bytes + one.samples[0].delay_ns
            if (
                at_ns.get(source, DURATION_NS) <= now_ns
                and one.start_ns + transfer.setup_ns <= now_ns
                and arrival_ns <= one.end_ns
                and id(one) not in gone
            ):
                there_ns = arrival_ns + transfer.spread_ns
                at_ns[target] = min(at_ns.get(target, there_ns), there_ns)
    return at_ns


def flooded_ns(world: World) -> int | None:
    return flood(world.gateways, {p: {p: t} for p, t in world.ready_ns.items()}, world.members).done_ns


# --- flooding -----------------------------------------------------------------------------------------------


@given(worlds)
def test_flooding_reaches_every_plane_at_the_earliest_instant_there_is(world: World) -> None:
    found = flood(world.gateways, {p: {p: t} for p, t in world.ready_ns.items()}, world.members)
    expected = {plane: walked(world, {plane: since_ns}) for plane, since_ns in world.ready_ns.items()}
    assert {origin: dict(arrivals.at_ns) for origin, arrivals in found.of.items()} == expected
    if all(len(reached) == len(world.members) for reached in expected.values()):
        assert found.done_ns == max(max(reached.values()) for reached in expected.values())
    else:
        assert found.done_ns is None


@given(worlds)
def test_planes_that_forward_by_the_plan_have_each_sum_once_and_when_it_says(world: World) -> None:
    found = flood(world.gateways, {p: {p: t} for p, t in world.ready_ns.items()}, world.members)
    used: list[tuple[int, int, int]] = []
    for origin, arrivals in found.of.items():
        has_ns, agenda = {origin: world.ready_ns[origin]}, [origin]
        while agenda:
            plane = agenda.pop()
            for crossing in arrivals.leaving(plane):
                assert crossing.start_ns >= has_ns[plane] and crossing.target not in has_ns
                has_ns[crossing.target] = crossing.arrival_ns
                agenda.append(crossing.target)
                used.append((origin, plane, crossing.target))
        assert has_ns == arrivals.at_ns
    assert len(set(used)) == len(used)  # so at most one message of each origin over an edge's direction


@given(worlds, st.integers(0, 2**32))
def test_after_a_crossing_failed_flooding_from_those_who_hold_a_sum_still_delivers_where_anything_can(
    world: World, seed: int
) -> None:
    first = flood(world.gateways, {p: {p: t} for p, t in world.ready_ns.items()}, world.members)
    crossings = [each for arrivals in first.of.values() for each in arrivals.by.values()]
    assume(crossings)
    failed = Random(seed).choice(sorted(crossings, key=lambda each: (each.start_ns, each.sender)))
    now_ns = failed.arrival_ns
    holders = {
        origin: {plane: now_ns for plane, at_ns in arrivals.at_ns.items() if at_ns < now_ns}
        or {origin: now_ns}
        for origin, arrivals in first.of.items()
    }
    left = world.gateways.without([(failed.sender, failed.receiver, failed.start_ns)])
    again = flood(left, holders, world.members)
    gone = world.plan.active(failed.sender, failed.receiver, failed.start_ns)
    assert gone is not None
    for origin, arrivals in again.of.items():
        assert dict(arrivals.at_ns) == walked(world, holders[origin], [gone])


def test_nobody_is_reached_over_windows_that_are_all_too_short() -> None:
    world = WORLDS[0]
    short = Gateways(world.plan, world.members, Transfer(26))
    assert flood(short, {0: {0: 0}}, world.members).done_ns is None
    assert earliest_arrivals(short, {0: 3}).at_ns == {0: 3}
    assert merge_tree(short, world.ready_ns, 0) is None and best_merge_tree(short, world.ready_ns) is None


# --- merging ------------------------------------------------------------------------------------------------


def test_a_merge_tree_has_the_total_when_the_last_plane_could_reach_the_root_at_the_earliest() -> None:
    found = 0
    for world in WORLDS:
        reached = [walked(world, {plane: since_ns}) for plane, since_ns in world.ready_ns.items()]
        for root in world.members:
            tree = merge_tree(world.gateways, world.ready_ns, root)
            if tree is None:
                continue
            found += 1
            assert tree.total_ns == max(at_ns[root] for at_ns in reached)
            if tree.total_ns == world.ready_ns[root]:
                continue
            # One nanosecond less and somebody would have had to leave before it was ready.
            sooner = latest_departures(world.gateways, root, tree.total_ns - 1)
            assert any(
                plane not in sooner or sooner[plane].start_ns < since_ns
                for plane, since_ns in world.ready_ns.items()
                if plane != root
            )
    assert found > 600


def test_planes_of_a_merge_tree_leave_when_ready_and_after_all_their_children_arrived() -> None:
    for world in WORLDS:
        tree = best_merge_tree(world.gateways, world.ready_ns)
        if tree is None:
            continue
        assert tree.up.keys() == world.members.keys() - {tree.root}
        for plane, crossing in tree.up.items():
            assert crossing.start_ns >= world.ready_ns[plane]
            assert all(tree.up[child].arrival_ns <= crossing.start_ns for child in tree.children(plane))
        assert all(tree.up[child].arrival_ns <= tree.total_ns for child in tree.children(tree.root))


def test_no_other_root_is_done_sooner() -> None:
    for world in WORLDS[:60]:
        trees = [merge_tree(world.gateways, world.ready_ns, root) for root in world.members]
        done_ns = [tree.done_ns for tree in trees if tree is not None]
        best = best_merge_tree(world.gateways, world.ready_ns)
        assert (best is None) if not done_ns else (best is not None and best.done_ns == min(done_ns))


def test_planes_that_send_as_soon_as_their_children_came_count_everyone_once_and_are_in_time() -> None:
    for world in WORLDS:
        gateways = world.gateways
        tree = best_merge_tree(gateways, world.ready_ns)
        if tree is None:
            continue
        labels = {plane: of_plane(plane, {f"{plane}a": plane + 1}) for plane in world.members}
        having_ns = dict(world.ready_ns)
        waiting = {plane: set(tree.children(plane)) for plane in world.members}
        while any(plane != tree.root and not children for plane, children in waiting.items()):
            plane = min(p for p, children in waiting.items() if not children and p != tree.root)
            parent = tree.up[plane].target
            crossing = gateways.earliest(plane, parent, having_ns[plane])
            assert crossing is not None and crossing.arrival_ns <= tree.up[plane].arrival_ns
            labels[parent] += labels[plane]
            having_ns[parent] = max(having_ns[parent], crossing.arrival_ns)
            waiting[parent].remove(plane)
            del waiting[plane]
        assert labels[tree.root].origins == world.members.keys()
        assert labels[tree.root].weight == sum(plane + 1 for plane in world.members)
        assert having_ns[tree.root] == tree.total_ns


# --- and the baselines --------------------------------------------------------------------------------------


class Along:
    """The same windows for those who know no edges but these."""

    def __init__(self, gateways: Gateways, edges: Iterable[Edge]) -> None:
        self._gateways, self._edges = gateways, set(edges)
        self.latest, self.without = gateways.latest, gateways.without

    def neighbours(self, plane: int) -> tuple[int, ...]:
        return tuple(sorted(a + b - plane for a, b in self._edges if plane in (a, b)))

    def earliest(self, source: int, target: int, ready_ns: int) -> Crossing | None:
        return self._gateways.earliest(source, target, ready_ns)


def spanning_trees(planes: Iterable[int]) -> list[tuple[Edge, ...]]:
    planes = sorted(planes)
    found = []
    for edges in itertools.combinations(itertools.combinations(planes, 2), len(planes) - 1):
        reached = {planes[0]}
        for _ in planes:
            reached |= {plane for edge in edges if reached & set(edge) for plane in edge}
        if len(reached) == len(planes):
            found.append(edges)
    return found


def diameter(edges: Iterable[Edge], lengths: Mapping[Edge, int]) -> int:
    lengths = {edge: lengths[edge] for edge in edges}
    planes = sorted({plane for edge in lengths for plane in edge})
    far = {
        (a, b): 0 if a == b else lengths.get((min(a, b), max(a, b)), 10**9)
        for a, b in itertools.product(planes, repeat=2)
    }
    for through, a, b in itertools.product(planes, repeat=3):
        far[a, b] = min(far[a, b], far[a, through] + far[through, b])
    return max(far.values(), default=0)


def test_flooding_is_never_later_than_a_merge_tree_nor_than_any_static_tree() -> None:
    compared = 0
    for world in WORLDS:
        gateways, flooded = world.gateways, flooded_ns(world)
        tree = best_merge_tree(gateways, world.ready_ns)
        assert (tree is None) or (flooded is not None and flooded <= tree.done_ns)
        lengths_ns = mean_transits_ns(gateways, world.members, range(0, 60, 20))
        spanning = minimum_diameter_tree(world.members.keys(), lengths_ns)
        for edges in (chain(world.members), *([spanning] if spanning else [])):
            relayed = relay(gateways, world.ready_ns, edges)
            if relayed is not None:
                assert flooded is not None and flooded <= relayed.done_ns
                compared += 1
    assert compared > 100


@given(worlds, st.integers(0, 2**32))
def test_relaying_sums_along_a_tree_is_as_quick_as_flooding_it_with_a_head_an_edge_and_way(
    world: World, seed: int
) -> None:
    edges = Random(seed).choice(spanning_trees(world.members))
    found = relay(world.gateways, world.ready_ns, edges)
    along = Along(world.gateways, edges)
    expected = flood(along, {p: {p: t} for p, t in world.ready_ns.items()}, world.members)
    assert (None if found is None else found.done_ns) == expected.done_ns
    if found is None:
        return
    assert len(found.crossings) == 2 * len(edges)
    labels = {plane: of_plane(plane, {f"{plane}a": 1}) for plane in world.members}
    sent = {}
    for way in sorted(found.crossings, key=lambda way: found.crossings[way].start_ns):
        label = labels[way[0]]
        for other in found.awaited(*way):
            assert found.crossings[other, way[0]].arrival_ns <= found.crossings[way].start_ns
            label = label + sent[other, way[0]]
        sent[way] = label
    for plane in world.members:
        came = labels[plane]
        for (_, target), label in sent.items():
            came = came + label if target == plane else came
        assert came.origins == world.members.keys()


@given(st.integers(1, 5), st.integers(0, 2**32))
@settings(max_examples=150)
def test_the_minimum_diameter_tree_is_a_tree_and_none_has_a_smaller_diameter(size: int, seed: int) -> None:
    random = Random(seed)
    lengths = {
        edge: random.choice((0, 1, 2, 3, 10, 11, 25))
        for edge in itertools.combinations(range(size), 2)
        if random.random() < 0.8
    }
    trees = [edges for edges in spanning_trees(range(size)) if lengths.keys() >= set(edges)]
    found = minimum_diameter_tree(range(size), lengths)
    if not trees:
        assert found is None
    else:
        assert found in trees
        assert diameter(found, lengths) == min(diameter(edges, lengths) for edges in trees)


def test_a_transit_is_counted_from_being_ready_and_an_edge_that_closes_for_good_is_left_out() -> None:
    nodes = tuple(PlanNode(name, "satellite") for name in "abc")
    sample = Sample(10, 3, BYTE_A_NS, 0.0, 1.0)
    contacts = [
        Contact(*pair, "inter_isl", 10, end_ns, (sample,))
        for pair, end_ns in (("ab", 50), ("ba", 50), ("bc", 20), ("cb", 20))
    ]
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, nodes, tuple(contacts))
    gateways = Gateways(plan, {0: "a", 1: "b", 2: "c"}, Transfer(2))
    assert mean_transits_ns(gateways, range(3), (0, 30)) == {(0, 1): (15 + 5) // 2}
