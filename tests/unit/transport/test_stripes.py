"""One object over several connections: who sends what, whatever becomes of some of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orbitrain.transport.objects import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Pace, Range, RangeSet
from orbitrain.transport.stripes import FLOWS, Stripe, Stripes, divided, flows_for


@pytest.mark.parametrize(
    ("congestion", "flows"), [("bbr", 1), ("bbr2", 1), ("cubic", FLOWS), ("reno", FLOWS)]
)
def test_several_flows_are_for_congestion_control_by_loss(congestion: str, flows: int) -> None:
    assert flows_for(congestion) == flows


@pytest.mark.parametrize(
    ("rate_bps", "flows"), [(64_000, 1), (1_000_000, 3), (2_000_000, 7), (20_000_000, 8)]
)
def test_flows_share_what_one_would_have_in_the_air_and_are_few_on_a_slow_link(
    rate_bps: int, flows: int
) -> None:
    whole = Pace.of(rate_bps, 0.06)
    found, each = divided(whole, FLOWS)
    assert found == flows
    assert found * each.window_bytes <= whole.window_bytes
    assert CHUNK_BYTES_MIN <= each.chunk_bytes <= CHUNK_BYTES_MAX
    assert divided(whole, 1) == (1, whole)


def opened(stripes: Stripes, count: int) -> list[Stripe]:
    found = [stripe for _ in range(count) if (stripe := stripes.open()) is not None]
    assert len(found) == count
    return found


def test_chunks_are_dealt_as_flows_come_free_in_the_order_asked_for() -> None:
    stripes = Stripes([(50, 100), (0, 20)], Pace(10, 20))
    one, other = opened(stripes, 2)
    assert [one.next(10), one.next(10), one.next(10)] == [(50, 60), (70, 80), None]
    assert [other.next(10), other.next(10)] == [(60, 70), (80, 90)]
    assert (stripes.in_air_bytes, one.left_bytes, other.left_bytes) == (40, 30, 30)
    other.answered(20)
    assert [other.next(10), other.next(10)] == [(90, 100), (0, 10)]
    one.answered(20)
    assert [one.next(10), one.next(10)] == [(10, 20), None]
    assert (stripes.left_bytes, stripes.in_air_bytes) == (0, 30)


def test_there_are_no_more_flows_than_chunks() -> None:
    stripes = Stripes([(0, 15)], Pace(10, 20))
    assert [stripes.open() is not None for _ in range(3)] == [True, True, False]


def test_what_one_flow_hears_to_be_kept_none_sends() -> None:
    stripes = Stripes([(0, 100)], Pace(10, 20))
    one, other = opened(stripes, 2)
    one.next(10)
    one.committed([(10, 40), (60, 100)])
    assert [other.next(10), other.next(30), one.next(30)] == [(40, 50), (50, 60), None]


def test_others_take_over_from_a_flow_that_was_never_answered_but_not_what_is_kept() -> None:
    stripes = Stripes([(0, 60)], Pace(10, 20))
    one, other = opened(stripes, 2)
    assert [one.next(10), one.next(10), other.next(10)] == [(0, 10), (20, 30), (10, 20)]
    other.answered(10)
    other.committed([(5, 10)])
    assert stripes.shut(one) and not stripes.shut(one)
    assert [other.next(10), other.next(10)] == [(0, 5), (20, 30)]
    assert not stripes.shut(other)  # only the receiver knows what it has


def test_what_came_damaged_over_one_flow_is_not_sent_again_if_another_has_brought_it() -> None:
    stripes = Stripes([(0, 60)], Pace(10, 20))
    one, other = opened(stripes, 2)
    assert (one.next(10), other.next(10)) == ((0, 10), (10, 20))
    other.answered(10)
    other.committed([(0, 20)])
    one.answered(10, [(0, 10)])
    assert [one.next(10), one.next(10)] == [(20, 30), (30, 40)]


SIZE, PACE, COMMIT = 600, Pace(25, 60), 50


@dataclass
class Flow:
    stripe: Stripe
    out: deque[Range] = field(default_factory=deque)
    back: deque[tuple[int, list[Range], list[Range]]] = field(default_factory=deque)
    arrived: int = 0
    told: RangeSet = field(default_factory=RangeSet)


class Transfer(RuleBasedStateMachine):
    """Three flows to one receiver; chunks are damaged, flows break before anything has come of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stripes = Stripes([(0, SIZE)], PACE)
        self.flows: list[Flow | None] = [Flow(stripe) for stripe in opened(self.stripes, 3)]
        self.held, self.committed, self.acknowledged = RangeSet(), RangeSet(), RangeSet()
        self.sent_bytes = self.cost_bytes = 0

    which = st.integers(0, 2)

    @rule(n=which, chunk=st.integers(1, PACE.chunk_bytes))
    def send(self, n: int, chunk: int) -> None:
        flow = self.flows[n]
        piece = None if flow is None else flow.stripe.next(chunk)
        if flow is not None and piece is not None:
            assert self.acknowledged.missing(*piece) == [piece], "a byte that was acknowledged goes again"
            flow.out.append(piece)
            self.sent_bytes += piece[1] - piece[0]

    @rule(n=which, damaged=st.integers(0, 9).map(lambda n: n == 0))
    def arrive(self, n: int, damaged: bool) -> None:
        flow = self.flows[n]
        if flow is None or not flow.out:
            return
        start, end = flow.out.popleft()
        flow.arrived += end - start
        if damaged:
            self.cost_bytes += end - start
        else:
            self.held.add(start, end)
        if self.held.total_bytes - self.committed.total_bytes >= COMMIT:
            self.committed = RangeSet(self.held)
        fresh = [gap for span in self.committed for gap in flow.told.missing(*span)]
        for span in fresh:
            flow.told.add(*span)
        flow.back.append((flow.arrived, [(start, end)] if damaged else [], fresh))

    @rule(n=which)
    def hear(self, n: int) -> None:
        flow = self.flows[n]
        if flow is not None and flow.back:
            arrived, damaged, fresh = flow.back.popleft()
            flow.stripe.answered(arrived, damaged)
            flow.stripe.committed(fresh)
            for span in fresh:
                self.acknowledged.add(*span)

    @rule(n=which)
    def fail(self, n: int) -> None:
        flow = self.flows[n]
        if flow is None:
            return
        in_air_bytes = flow.stripe.in_air_bytes
        if not self.stripes.shut(flow.stripe):
            return
        self.cost_bytes += in_air_bytes
        again = self.stripes.open()  # None where the others have brought all that there was
        self.flows[n] = None if again is None else Flow(again)

    @invariant()
    def all_together_keep_their_windows(self) -> None:
        assert self.stripes.in_air_bytes <= len(self.flows) * PACE.window_bytes

    @invariant()
    def no_more_is_sent_than_failures_cost(self) -> None:
        assert self.sent_bytes <= SIZE + self.cost_bytes

    def teardown(self) -> None:
        """Left in peace, they bring the rest."""
        for _ in range(SIZE):
            for n in range(len(self.flows)):
                self.send(n, PACE.chunk_bytes)
                self.arrive(n, damaged=False)
                self.hear(n)
        assert list(self.held) == [(0, SIZE)]


Transfer.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTransfer = Transfer.TestCase
