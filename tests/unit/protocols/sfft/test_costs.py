"""Seconds and bytes in closed form, against members and links simulated event by event."""

from __future__ import annotations

import heapq
from fractions import Fraction
from itertools import count

import pytest

from orbitrain.protocols.sfft.costs import (
    Load,
    RoundTraffic,
    block_letters,
    crossover_bytes,
    gather_cost,
    gather_traffic,
    reduce_cost,
    reduce_traffic,
    resolved,
    round_traffic,
)
from orbitrain.protocols.sfft.ring import (
    Chunk,
    Gather,
    Reduce,
    Ring,
    begins,
    block,
    forward,
    parts,
    visit,
    visits,
)

NAMES = tuple(f"s{number:02}" for number in range(12))
RINGS = tuple(Ring(NAMES[:size], closed) for size in range(1, 13) for closed in (True, False))
LINKS = ((Fraction(1), Fraction(0)), (Fraction(1), Fraction(1, 3)), (Fraction(1), Fraction(7)))
"""(seconds to pass a block or head, seconds that the last byte takes)."""

Sends = list[tuple[str, str, object, Fraction]]


def last_arrival(first: Sends, arrived, pass_s: Fraction, delay_s: Fraction) -> Fraction:
    """When nothing is under way any more: each link takes one message after the other.

    `arrived(receiver, message)` answers with what is sent then: (sender, receiver, message, its blocks).
    """
    free_s: dict[tuple[str, str], Fraction] = {}
    flying: list[tuple[Fraction, int, str, object]] = []
    numbers = count()
    now_s = Fraction(0)

    def send(sends: Sends) -> None:
        for sender, receiver, message, share in sends:
            begin_s = max(now_s, free_s.get((sender, receiver), Fraction(0)))
            free_s[sender, receiver] = begin_s + share * pass_s
            heapq.heappush(flying, (begin_s + share * pass_s + delay_s, next(numbers), receiver, message))

    send(first)
    while flying:
        now_s, _, receiver, message = heapq.heappop(flying)
        send(arrived(receiver, message))
    return now_s


def gather_seconds(
    ring: Ring, how: Gather, chunks: int, pass_s: Fraction, delay_s: Fraction, letters: int = 1
) -> Fraction:
    held: dict[str, set[Chunk]] = {name: set() for name in ring.members}
    begun: set[str] = set()

    def take(me: str, came: object) -> Sends:
        assert isinstance(came, tuple)
        held[me].update(came)
        most = -(-chunks // letters)
        sends: Sends = [
            (me, to, some[start : start + most], Fraction(len(some[start : start + most]), chunks))
            for to, some in forward(ring, me, how, came)
            for start in range(0, len(some), most)
        ]
        whole = {name for name in ring.members if held[me].issuperset(block(name, chunks))}
        if me not in begun and begins(ring, me, how, whole):
            begun.add(me)
            sends += take(me, block(me, chunks))
        return sends

    first = [send for name in ring.members for send in take(name, ())]
    return last_arrival(first, take, pass_s, delay_s)


def reduce_seconds(ring: Ring, how: Reduce, pass_s: Fraction, delay_s: Fraction) -> Fraction:
    share = Fraction(1, parts(ring, how))

    def take(me: str, message: object) -> Sends:
        assert isinstance(message, tuple)
        part, step = message
        done = visit(ring, how, part, step)
        assert done is not None and done.member == me
        return [] if done.to is None else [(me, done.to, (part, step + 1), share)]

    first = [
        send
        for name in ring.members
        for own in visits(ring, how, name)
        if own.step == 0
        for send in take(name, (own.part, 0))
    ]
    return last_arrival(first, take, pass_s, delay_s)


@pytest.mark.parametrize(("pass_s", "delay_s"), LINKS)
def test_a_gather_takes_what_the_closed_form_says(pass_s: Fraction, delay_s: Fraction) -> None:
    for ring in RINGS:
        for how in Gather:
            for chunks in (1, 2, 3):
                cost = gather_cost(ring, how, chunks)
                assert gather_seconds(ring, how, chunks, pass_s, delay_s) == (
                    cost.blocks * pass_s + cost.hops * delay_s
                ), (ring, how, chunks)


@pytest.mark.parametrize(("pass_s", "delay_s"), LINKS)
def test_in_turn_letters_of_a_block_follow_the_first_over_its_hops(
    pass_s: Fraction, delay_s: Fraction
) -> None:
    for ring in RINGS:
        for letters in (1, 2, 3, 6):
            cost = gather_cost(ring, Gather.SEQUENTIAL, 6, letters)
            assert gather_seconds(ring, Gather.SEQUENTIAL, 6, pass_s, delay_s, letters) == (
                cost.blocks * pass_s + cost.hops * delay_s
            ), (ring, letters)


@pytest.mark.parametrize(("pass_s", "delay_s"), LINKS)
def test_letters_hide_delays_where_links_are_busy_all_the_time(pass_s: Fraction, delay_s: Fraction) -> None:
    for ring in RINGS:
        for how in (Gather.TWO_WAY, Gather.ONE_WAY):
            for letters in (2, 3, 6):
                cost = gather_cost(ring, how, 6, letters)
                seconds = gather_seconds(ring, how, 6, pass_s, delay_s, letters)
                least = cost.blocks * pass_s + min(1, cost.hops) * delay_s
                assert least <= seconds <= cost.blocks * pass_s + cost.hops * delay_s, (ring, how, letters)
                halves = how is Gather.TWO_WAY and len(ring) % 2 == 0
                if delay_s <= pass_s * Fraction(letters - 1, letters) and not halves:
                    assert seconds == least


@pytest.mark.parametrize(("pass_s", "delay_s"), LINKS)
def test_a_reduction_takes_what_the_closed_form_says(pass_s: Fraction, delay_s: Fraction) -> None:
    for ring in RINGS:
        for how in (Reduce.RING, Reduce.CHAIN):
            cost = reduce_cost(ring, how)
            assert reduce_seconds(ring, how, pass_s, delay_s) == cost.blocks * pass_s + cost.hops * delay_s


def test_two_ways_are_as_quick_as_one_way_or_quicker_and_that_as_taking_turns() -> None:
    for ring in RINGS:
        for chunks in (1, 2, 3):
            two, one, turns = (gather_cost(ring, how, chunks) for how in Gather)
            assert two.blocks <= one.blocks <= turns.blocks and two.hops <= one.hops <= turns.hops


def test_halving_the_opposite_block_saves_a_quarter_of_four_and_a_tenth_of_ten() -> None:
    for size, saved in ((4, Fraction(1, 4)), (10, Fraction(1, 10))):
        ring = Ring(NAMES[:size])
        whole, halved = (gather_cost(ring, Gather.TWO_WAY, chunks) for chunks in (1, 2))
        assert 1 - halved.blocks / whole.blocks == saved
        assert halved.blocks == Fraction(size - 1, 2)


def test_known_seconds_of_ten_satellites_at_1_gbit_per_s() -> None:
    ring, rate, delay_s = Ring(NAMES[:10]), 125e6, 0.0144
    embeddings = 32 * 3_145_728
    assert [
        round(gather_cost(ring, how, 1).seconds(embeddings, rate, delay_s), 1)
        for how in (Gather.TWO_WAY, Gather.ONE_WAY, Gather.SEQUENTIAL)
    ] == [4.1, 7.4, 73.8]
    assert [
        round(reduce_cost(ring, how).seconds(30_760, rate, delay_s), 3)
        for how in (Reduce.CHAIN, Reduce.RING, Reduce.GATHER)
    ] == [0.264, 0.26, 0.073]
    crossover = crossover_bytes(ring, rate, delay_s)
    assert crossover is not None and round(crossover / 1e6, 1) == 7.3


def test_the_crossover_is_that_of_the_formula_and_there_is_none_of_two_or_three() -> None:
    rate, delay_s = 1e6, 0.02
    for size in range(2, 13):
        found = crossover_bytes(Ring(NAMES[:size]), rate, delay_s)
        denominator = size // 2 - 2 * (size - 1) / size
        if size <= 3:
            assert denominator <= 0 and found is None
        else:
            assert found == pytest.approx(rate * delay_s * (2 * (size - 1) - size // 2) / denominator)
        chain = crossover_bytes(Ring(NAMES[:size], closed=False), rate, delay_s)
        if size <= 3:
            assert chain is None
        else:
            assert chain == pytest.approx(rate * delay_s * size / (size - 3))


def test_auto_is_the_quicker_on_both_sides_of_the_crossover() -> None:
    for ring in RINGS:
        crossover = crossover_bytes(ring, 1e6, 0.02)
        for head_bytes in (1, 1000) if crossover is None else (1, int(crossover), int(crossover) + 2, 10**9):
            chosen = resolved(ring, Reduce.AUTO, head_bytes, 1e6, 0.02)
            seconds = {
                how: reduce_cost(ring, how).seconds(head_bytes, 1e6, 0.02)
                for how in (Reduce.GATHER, Reduce.RING)
            }
            assert seconds[chosen] == pytest.approx(min(seconds.values()), rel=1e-12)
        assert resolved(ring, Reduce.CHAIN, 10**9, 1e6, 0.02) is Reduce.CHAIN


def test_a_ring_reduction_passes_the_same_share_of_a_head_over_each_link_ahead() -> None:
    ring = Ring(NAMES[:5])
    traffic = reduce_traffic(ring, Reduce.RING)
    assert {traffic[a, b] for a, b in ring.links() if ring.hops(a, b)[0] == 1} == {Fraction(8, 5)}
    assert sum(traffic.values()) == 8


def test_on_a_chain_a_link_passes_the_blocks_of_all_on_the_senders_side() -> None:
    chain = Ring(("a", "b", "c", "d"), closed=False)
    assert gather_traffic(chain, Gather.TWO_WAY) == {
        ("a", "b"): 1, ("b", "c"): 2, ("c", "d"): 3, ("b", "a"): 3, ("c", "b"): 2, ("d", "c"): 1,
    }  # fmt: skip


def test_the_counters_of_a_round() -> None:
    load = Load(samples=32, embedding_bytes=1000, feature_bytes=30, head_bytes=700)
    rings = [Ring(NAMES[:5]), Ring(NAMES[5:9], closed=False)]
    assert round_traffic(rings, load, Gather.TWO_WAY, Reduce.RING) == RoundTraffic(
        gather_bytes=(5 * 4 + 4 * 3) * 32_000,
        down_bytes=9 * 32_000,
        up_bytes=9 * 32 * 30,
        reduce_bytes=(8 + 6) * 700,
        edge_bytes_max=1400,
    )


@pytest.mark.parametrize(
    "block_s, message_s, letters",
    [
        (0.8, 0.02, 2),
        (0.8, 0.001, 4),
        (0.8, 0.1, 1),
        (0.8, 4.0, 1),
        (100.0, 2.0, 3),
        (1e9, 2.0, 4),
        (0.0, 2.0, 1),
    ],
)
def test_a_block_goes_in_letters_that_take_a_link_longer_than_their_handling(
    block_s: float, message_s: float, letters: int
) -> None:
    assert block_letters(block_s, message_s) == letters


def test_auto_has_no_cost_of_its_own() -> None:
    for ask in (reduce_cost, reduce_traffic):
        with pytest.raises(ValueError, match="auto has no parts"):
            ask(Ring(NAMES[:4]), Reduce.AUTO)
