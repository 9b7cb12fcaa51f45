"""Collectives of a plane, run by messages in any order, against a plain concatenation or sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.protocols.sfft.costs import gather_traffic, reduce_traffic
from orbitrain.protocols.sfft.ring import (
    Chunk,
    Gather,
    Reduce,
    Ring,
    begins,
    block,
    forward,
    gather_steps,
    parts,
    reduce_steps,
    toward,
    visit,
    visits,
)

NAMES = tuple(f"s{number:02}" for number in range(12))
GATHERS = tuple(Gather)
REDUCES = (Reduce.RING, Reduce.CHAIN)


def missing_one(size: int, gone: int, *, closes: bool) -> Ring:
    """A ring of which one member is missing, whose neighbours see each other, or not (of three they do)."""
    left = [name for name in NAMES[:size] if name != NAMES[gone]]
    gap = {NAMES[(gone - 1) % size], NAMES[(gone + 1) % size]}
    (ring,) = Ring.formed(left, lambda a, b: closes or size == 3 or {a, b} != gap)
    return ring


RINGS = tuple(
    ring
    for size in range(2, 13)
    for ring in (
        Ring(NAMES[:size]),
        Ring(NAMES[:size], closed=False),
        missing_one(size, size // 3, closes=True),
        *([missing_one(size, size // 3, closes=False)] if size > 3 else []),
    )
)

rings = st.sampled_from(RINGS)
seeds = st.integers(0, 2**32)


# --- a ring of members that know only what they hold --------------------------------------------------------


class Gathering:
    """Members begin, and messages arrive, in any order, some twice."""

    def __init__(self, ring: Ring, how: Gather, chunks: int, random: Random, *, twice: bool = False) -> None:
        self.ring, self.how, self.chunks, self.random, self.twice = ring, how, chunks, random, twice
        self.held: dict[str, set[Chunk]] = {name: set() for name in ring.members}
        self.begun: set[str] = set()
        self.flying: list[tuple[str, str, Chunk]] = []
        self.sent: Counter[tuple[str, str]] = Counter()
        self.said: dict[str, set[Chunk]] = {name: set() for name in ring.members}  # to have, by each

    def run(self, messages: int | None = None) -> None:
        while messages is None or messages > 0:
            ready = [name for name in self.ring.members if self._may_begin(name)]
            if not ready and not self.flying:
                return
            if ready and (not self.flying or self.random.random() < 0.3):
                self._begin(self.random.choice(ready))
                continue
            _, receiver, chunk = self.flying.pop(self.random.randrange(len(self.flying)))
            if self.twice and self.random.random() < 0.2:
                self.flying.append(("", receiver, chunk))
            self.take(receiver, chunk)
            messages = None if messages is None else messages - 1

    def take(self, me: str, chunk: Chunk) -> None:
        if chunk not in self.held[me]:
            self.held[me].add(chunk)
            self.send(me, (chunk,))

    def send(self, me: str, chunks: Collection[Chunk]) -> None:
        for neighbour, some in forward(self.ring, me, self.how, chunks):
            for chunk in (chunk for chunk in some if chunk not in self.said[neighbour]):
                self.sent[me, neighbour] += 1
                self.flying.append((me, neighbour, chunk))

    def _may_begin(self, me: str) -> bool:
        if me in self.begun:
            return False
        whole = {name for name in self.ring.members if self.held[me].issuperset(block(name, self.chunks))}
        return begins(self.ring, me, self.how, whole)

    def _begin(self, me: str) -> None:
        self.begun.add(me)
        self.held[me].update(block(me, self.chunks))
        self.send(me, block(me, self.chunks))


@given(rings, st.sampled_from(GATHERS), st.integers(1, 5), seeds)
def test_a_gather_gives_every_member_the_concatenation_of_all_blocks(
    ring: Ring, how: Gather, chunks: int, seed: int
) -> None:
    gathering = Gathering(ring, how, chunks, Random(seed), twice=True)
    gathering.run()
    generator = np.random.default_rng(seed)
    blocks = {name: generator.bytes(11) for name in ring.members}
    pieces = {
        Chunk(name, index, chunks): bytes(piece)
        for name, whole in blocks.items()
        for index, piece in enumerate(np.array_split(np.frombuffer(whole, np.uint8), chunks))
    }
    for name in ring.members:
        assert b"".join(pieces[chunk] for chunk in sorted(gathering.held[name])) == b"".join(
            blocks[owner] for owner in sorted(blocks)
        )


@pytest.mark.parametrize("how", GATHERS)
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_gather_passes_over_each_link_what_is_reckoned_and_no_chunk_comes_twice(
    how: Gather, chunks: int
) -> None:
    for ring in RINGS:
        gathering = Gathering(ring, how, chunks, Random(len(ring)))
        gathering.run()
        expected = gather_traffic(ring, how, chunks)
        assert {link: gathering.sent[link] for link in ring.links()} == {
            link: blocks * chunks for link, blocks in expected.items()
        }
        assert gathering.sent.total() == len(ring) * (len(ring) - 1) * chunks


@given(st.integers(3, 12), st.booleans(), st.sampled_from(GATHERS), st.integers(0, 300), seeds)
def test_after_a_member_is_missing_the_new_ring_delivers_what_is_lacking_and_nothing_else(
    size: int, closes: bool, how: Gather, messages: int, seed: int
) -> None:
    random = Random(seed)
    before = Gathering(Ring(NAMES[:size]), how, 3, random)
    before.run(messages)
    gone = random.randrange(size)
    ring = missing_one(size, gone, closes=closes)
    after = Gathering(ring, how, 3, random)
    for me in ring.members:
        after.held[me] = set(before.held[me])
        after.said[me] = set(before.held[me])
    after.begun = before.begun - {NAMES[gone]}
    for me in ring.members:
        after.send(me, sorted(before.held[me]))
    after.run()
    everything = {chunk for name in ring.members for chunk in block(name, 3)}
    assert all(everything <= after.held[name] for name in ring.members)
    own = sum(3 for name in ring.members if name not in before.begun)  # these nobody had to send
    assert after.sent.total() == sum(len(everything - before.held[name]) for name in ring.members) - own


def test_what_is_of_nobody_on_the_ring_goes_nowhere() -> None:
    assert forward(Ring(NAMES[:4]), NAMES[0], Gather.TWO_WAY, block("stranger", 2)) == ()


def test_both_halves_of_a_block_go_to_the_one_neighbour_of_a_pair() -> None:
    assert forward(Ring(NAMES[:2]), NAMES[0], Gather.TWO_WAY, block(NAMES[0], 2)) == (
        (NAMES[1], block(NAMES[0], 2)),
    )


def test_the_opposite_block_comes_in_halves_from_both_sides() -> None:
    steps = gather_steps(Ring(NAMES[:4]), Gather.TWO_WAY, chunks_per_block=4)
    assert len(steps) == 2
    own = block(NAMES[0], 4)
    assert (NAMES[1], NAMES[2], own[:2]) in steps[1] and (NAMES[3], NAMES[2], own[2:]) in steps[1]


# --- steps --------------------------------------------------------------------------------------------------


def test_one_way_each_step_passes_the_block_of_one_member_farther_back() -> None:
    for size in range(2, 13):
        names = NAMES[:size]
        steps = gather_steps(Ring(names), Gather.ONE_WAY)
        assert len(steps) == size - 1
        for s, step in enumerate(steps):
            assert set(step) == {
                (names[k], names[(k + 1) % size], block(names[(k - s) % size], 2)) for k in range(size)
            }


def test_two_ways_each_step_widens_what_is_held_by_one_member_on_either_side() -> None:
    for size in range(3, 13):
        names = NAMES[:size]
        held = {name: set(block(name, 2)) for name in names}
        steps = gather_steps(Ring(names), Gather.TWO_WAY)
        assert len(steps) == size // 2
        for s, step in enumerate(steps, start=1):
            for _, receiver, chunks in step:
                held[receiver].update(chunks)
            for k, name in enumerate(names):
                assert held[name] == {c for d in range(-s, s + 1) for c in block(names[(k + d) % size], 2)}


def test_on_a_chain_both_ways_take_as_many_steps_as_there_are_links() -> None:
    for size in range(3, 13):
        for how in (Gather.TWO_WAY, Gather.ONE_WAY):
            assert len(gather_steps(Ring(NAMES[:size], closed=False), how)) == size - 1
            assert len(gather_steps(missing_one(size, 1, closes=False), how)) == size - 2


def test_one_broadcast_follows_the_other_when_members_take_turns_around_a_ring() -> None:
    for size in range(2, 13):
        steps = gather_steps(Ring(NAMES[:size]), Gather.SEQUENTIAL)
        assert len(steps) == size * (size - 1)
        assert all(len(step) == 1 for step in steps)
        chain = Ring(NAMES[:size], closed=False)
        assert len(gather_steps(chain, Gather.SEQUENTIAL)) == (
            size * (size - 1) if chain.closed else (size - 1) * (size + 2) // 2
        )


def test_a_ring_reduction_is_a_scatter_reduce_and_then_a_gather() -> None:
    for size in range(2, 13):
        names = NAMES[:size]
        steps = reduce_steps(Ring(names), Reduce.RING)
        assert len(steps) == 2 * (size - 1)
        for s, step in enumerate(steps):
            scatter = s < size - 1
            passed = {(a, b, done.part, done.adds) for a, b, done in step}
            first = 0 if scatter else size  # gather step s' = s - (K-1) sends part k + 1 - s'
            assert passed == {
                (names[k], names[(k + 1) % size], (k + first - s) % size, scatter) for k in range(size)
            }


def test_on_a_chain_reductions_go_to_the_end_and_back_and_parts_follow_each_other() -> None:
    for size in range(3, 13):
        chain = Ring(NAMES[:size], closed=False)
        assert len(reduce_steps(chain, Reduce.CHAIN)) == 2 * (size - 1)
        assert len(reduce_steps(chain, Reduce.RING)) == 3 * (size - 1)


# --- reducing -----------------------------------------------------------------------------------------------

Heads = dict[str, np.ndarray]


def reduced(ring: Ring, how: Reduce, heads: Heads, random: Random, each: Callable[[str, str], None]) -> Heads:
    """Every member's result, with messages in any order, some twice."""
    count = parts(ring, how)
    own = {name: np.array_split(head, count) for name, head in heads.items()}
    result: dict[str, dict[int, np.ndarray]] = {name: {} for name in ring.members}
    done: set[tuple[int, int]] = set()
    flying = [
        (first.part, 0, None) for name in ring.members for first in visits(ring, how, name) if not first.step
    ]
    while flying:
        part, step, came = flying.pop(random.randrange(len(flying)))
        if random.random() < 0.2:
            flying.append((part, step, came))
        if (part, step) in done:
            continue
        done.add((part, step))
        found = visit(ring, how, part, step)
        assert found is not None
        mine = own[found.member][part]
        total = mine if came is None else came + mine if found.adds else came
        if found.whole:
            result[found.member][part] = total
        if found.to is not None:
            each(found.member, found.to)
            flying.append((part, step + 1, total))
    return {name: np.concatenate([some[part] for part in range(count)]) for name, some in result.items()}


def summed(ring: Ring, heads: Heads, random: Random) -> Heads:
    """By gathering whole heads, and summing each member's own copies in ascending order of names."""
    gathering = Gathering(ring, Gather.TWO_WAY, 1, random)
    gathering.run()
    result = {}
    for name in ring.members:
        copies = [heads[chunk.owner] for chunk in sorted(gathering.held[name])]
        total = copies[0]
        for head in copies[1:]:
            total = total + head
        result[name] = total
    return result


@given(rings, st.sampled_from(REDUCES), seeds)
def test_a_reduction_gives_every_member_the_plain_sum(ring: Ring, how: Reduce, seed: int) -> None:
    generator = np.random.default_rng(seed)
    heads = {name: generator.integers(-(2**40), 2**40, 31) for name in ring.members}
    plain = sum(heads.values())
    links: Counter[tuple[str, str]] = Counter()
    results = reduced(ring, how, heads, Random(seed), lambda a, b: links.update([(a, b)]))
    for result in (results, summed(ring, heads, Random(seed))):
        assert result.keys() == heads.keys()
        assert all(np.array_equal(total, plain) for total in result.values())
    assert {link: links[link] for link in ring.links()} == {
        link: share * parts(ring, how) for link, share in reduce_traffic(ring, how).items()
    }


@given(rings, seeds)
@settings(max_examples=60)
def test_a_reduction_leaves_the_same_bits_on_all_members(ring: Ring, seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = 40
    heads = {
        name: (generator.choice((-1, 1), size) * 10.0 ** generator.uniform(-45, 38.4, size)).astype(
            np.float32
        )
        for name in ring.members
    }
    with np.errstate(all="ignore"):  # some sums overflow, and some of those cancel
        for results in (
            *(reduced(ring, how, heads, Random(seed), lambda a, b: None) for how in REDUCES),
            summed(ring, heads, Random(seed)),
        ):
            assert len({total.tobytes() for total in results.values()}) == 1


def test_every_member_adds_each_part_once_and_holds_it_once_whole() -> None:
    for ring in RINGS:
        for how in REDUCES:
            for name in ring.members:
                mine = visits(ring, how, name)
                assert sorted(each.part for each in mine if each.adds) == list(range(parts(ring, how)))
                assert sorted(each.part for each in mine if each.whole) == list(range(parts(ring, how)))
                assert all(set(each.names) == set(ring.members) for each in mine if each.whole)
                assert all(each.names[-1] == name for each in mine if each.adds)


def test_a_message_that_no_tour_has_is_known_to_nobody() -> None:
    ring = Ring(NAMES[:4])
    assert [visit(ring, Reduce.RING, *message) for message in ((4, 0), (-1, 0), (0, 7), (0, -1))] == [
        None
    ] * 4
    with pytest.raises(ValueError, match="gather has no parts"):
        visit(ring, Reduce.GATHER, 0, 0)


# --- relay, and rings formed anew ---------------------------------------------------------------------------


def test_features_reach_their_owner_by_the_shorter_way() -> None:
    for ring in RINGS:
        for start in ring.members:
            for owner in ring.members:
                hops, me = 0, start
                while (following := toward(ring, me, owner)) is not None:
                    assert (me, following) in ring.links()
                    hops, me = hops + 1, following
                apart = abs(ring.members.index(start) - ring.members.index(owner))
                assert me == owner
                assert hops == (min(apart, len(ring) - apart) if ring.closed else apart)
                assert hops <= (len(ring) // 2 if ring.closed else len(ring) - 1)


def test_to_the_opposite_member_features_go_ahead() -> None:
    assert [toward(Ring(NAMES[:4]), NAMES[place], NAMES[2]) for place in range(4)] == [
        NAMES[1], NAMES[2], None, NAMES[2]
    ]  # fmt: skip


def test_a_ring_closes_over_a_missing_member_only_where_its_neighbours_see_each_other() -> None:
    assert missing_one(5, 1, closes=True) == Ring(("s00", "s02", "s03", "s04"))
    assert missing_one(5, 1, closes=False) == Ring(("s02", "s03", "s04", "s00"), closed=False)
    assert missing_one(5, 0, closes=False) == Ring(("s01", "s02", "s03", "s04"), closed=False)


def test_gaps_cut_a_ring_into_chains_the_longest_first() -> None:
    def sees(a: str, b: str) -> bool:
        return (a, b) not in {("s01", "s02"), ("s02", "s03")}

    assert Ring.formed(NAMES[:6], sees) == (
        Ring(("s03", "s04", "s05", "s00", "s01"), closed=False),
        Ring(("s02",)),
    )
    assert Ring.formed((), sees) == ()
    assert Ring.formed(("s00",), lambda a, b: False) == (Ring(("s00",)),)
    assert Ring.formed(("s00", "s01"), lambda a, b: False) == (Ring(("s00",)), Ring(("s01",)))


def test_one_member_has_everything_at_once() -> None:
    alone = Ring(("a",))
    assert forward(alone, "a", Gather.TWO_WAY, block("a", 2)) == ()
    assert gather_steps(alone, Gather.SEQUENTIAL) == () and reduce_steps(alone, Reduce.RING) == ()
    (only,) = visits(alone, Reduce.RING, "a")
    assert only.whole and only.to is None


@pytest.mark.parametrize("members", [(), ("a", "a")])
def test_a_ring_refuses_no_members_and_one_twice(members: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="members: must be one or more different names"):
        Ring(members)
