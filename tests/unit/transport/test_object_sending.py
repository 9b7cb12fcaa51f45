"""What is sent of an object, and how often: the pure parts of both ends against each other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orbitrain.transport.objects import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    Meter,
    Pace,
    Range,
    RangeSet,
    Sending,
)


@pytest.mark.parametrize(
    ("rate_bps", "round_trip_s", "chunk_bytes", "window_bytes"),
    [
        (64_000, 0.6, CHUNK_BYTES_MIN, 2 * CHUNK_BYTES_MIN),
        (2_000_000, 0.04, 500_000, 1_000_000),
        (1_000_000_000, 0.04, CHUNK_BYTES_MAX, 10_000_000),
        (1_000_000_000, 0.001, CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX),
    ],
)
def test_a_chunk_is_two_seconds_of_the_link_and_the_window_keeps_it_busy(
    rate_bps: int, round_trip_s: float, chunk_bytes: int, window_bytes: int
) -> None:
    assert Pace.of(rate_bps, round_trip_s) == Pace(chunk_bytes, window_bytes)


def test_chunks_go_in_the_order_asked_for_until_the_window_is_full() -> None:
    sending = Sending([(50, 80), (0, 20)], 40)
    assert [sending.next(25) for _ in range(3)] == [(50, 75), (75, 80), None]
    sending.answered(25)
    assert (sending.next(25), sending.next(25)) == ((0, 20), None)
    assert (sending.in_air_bytes, sending.left_bytes, sending.sent_bytes) == (25, 0, 50)


def test_a_chunk_larger_than_the_window_goes_alone() -> None:
    sending = Sending([(0, 30)], 10)
    assert (sending.next(20), sending.next(20)) == ((0, 20), None)
    sending.answered(20)
    assert sending.next(20) == (20, 30)


def test_what_was_damaged_goes_again_first_and_what_another_sent_does_not_go() -> None:
    sending = Sending([(0, 100)], 1000)
    assert [sending.next(20) for _ in range(2)] == [(0, 20), (20, 40)]
    sending.answered(40, [(0, 20)])
    sending.committed([(20, 40), (60, 90)])
    assert [sending.next(50) for _ in range(4)] == [(0, 20), (40, 60), (90, 100), None]


@pytest.mark.parametrize("total", [11, 4])
def test_an_answer_about_bytes_that_were_not_sent_is_refused(total: int) -> None:
    sending = Sending([(0, 10)], 100)
    sending.next(10)
    sending.answered(5)
    with pytest.raises(ValueError, match="bytes of 10 are said to have come"):
        sending.answered(total)


SIZE, WINDOW, CHUNK, COMMIT = 600, 60, 25, 50
BLOB = bytes(n % 251 for n in range(SIZE))


@dataclass
class Sender:
    """One end that has the object: its call, if there is one, and what is in the air each way."""

    sending: Sending | None = None
    out: deque[Range] = field(default_factory=deque)
    back: deque[tuple[int, list[Range], list[Range]]] = field(default_factory=deque)
    arrived: int = 0
    told: RangeSet = field(default_factory=RangeSet)
    """What the receiver of this call has said it has committed."""
    acknowledged: RangeSet = field(default_factory=RangeSet)
    """What it was told in whichever call."""
    sent_bytes: int = 0
    cuts: int = 0
    damaged_bytes: int = 0


class Transfer(RuleBasedStateMachine):
    """Two senders, a receiver with a disk; links lose, receivers die, chunks are damaged, at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.senders = [Sender(), Sender()]
        self.disk = bytearray(SIZE)
        self.held, self.committed = RangeSet(), RangeSet()
        self.deaths = 0

    which = st.integers(0, 1)

    def _commit(self) -> None:
        self.committed = RangeSet(self.held)

    @rule(n=which)
    def meet(self, n: int) -> None:
        sender = self.senders[n]
        if sender.sending is None:
            self._commit()
            gaps = self.committed.missing(0, SIZE)
            sender.sending, sender.told, sender.arrived = Sending(gaps, WINDOW), RangeSet(self.committed), 0
            for span in self.committed:
                sender.acknowledged.add(*span)

    @rule(n=which, chunk=st.integers(1, CHUNK))
    def send(self, n: int, chunk: int) -> None:
        sender = self.senders[n]
        piece = None if sender.sending is None else sender.sending.next(chunk)
        if piece is not None:
            assert sender.acknowledged.missing(*piece) == [piece], "a byte that was acknowledged goes again"
            sender.out.append(piece)
            sender.sent_bytes += piece[1] - piece[0]

    @rule(n=which, damaged=st.integers(0, 9).map(lambda n: n == 0))
    def arrive(self, n: int, damaged: bool) -> None:
        sender = self.senders[n]
        if not sender.out:
            return
        start, end = sender.out.popleft()
        sender.arrived += end - start
        if damaged:
            sender.damaged_bytes += end - start
        else:
            for a, b in self.held.missing(start, end):
                self.disk[a:b] = BLOB[a:b]
            self.held.add(start, end)
        if self.held.total_bytes - self.committed.total_bytes >= COMMIT:
            self._commit()
        fresh = [gap for span in self.committed for gap in sender.told.missing(*span)]
        for span in fresh:
            sender.told.add(*span)
        sender.back.append((sender.arrived, [(start, end)] if damaged else [], fresh))

    @rule(n=which)
    def hear(self, n: int) -> None:
        sender = self.senders[n]
        if sender.sending is not None and sender.back:
            arrived, damaged, fresh = sender.back.popleft()
            sender.sending.answered(arrived, damaged)
            sender.sending.committed(fresh)
            for span in fresh:
                sender.acknowledged.add(*span)

    @rule(n=which)
    def cut(self, n: int) -> None:
        sender = self.senders[n]
        if sender.sending is not None:
            sender.cuts += 1
        sender.sending = None
        sender.out.clear()
        sender.back.clear()

    @rule()
    def die(self) -> None:
        for a, b in self.committed.missing(0, SIZE):
            self.disk[a:b] = bytes(b - a)
        self.held = RangeSet(self.committed)
        self.deaths += 1
        for n in range(len(self.senders)):
            self.cut(n)

    @invariant()
    def what_is_claimed_is_there(self) -> None:
        for start, end in self.committed:
            assert self.disk[start:end] == BLOB[start:end]

    @invariant()
    def no_more_is_sent_than_cuts_cost(self) -> None:
        for sender in self.senders:
            cost = sender.cuts * WINDOW + self.deaths * COMMIT + sender.damaged_bytes
            assert sender.sent_bytes <= SIZE + cost

    @precondition(lambda self: self.held.total_bytes)
    @rule(n=which)
    def end(self, n: int) -> None:
        """Left in peace, one sender brings the rest."""
        self.cut(0)
        self.cut(1)
        self.meet(n)
        for _ in range(SIZE):
            self.send(n, CHUNK)
            self.arrive(n, damaged=False)
            self.hear(n)
        self._commit()
        assert list(self.committed) == [(0, SIZE)]
        assert bytes(self.disk) == BLOB


Transfer.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTransfer = Transfer.TestCase


def test_a_meter_knows_a_rate_once_it_has_measured_for_long_enough() -> None:
    meter = Meter()
    assert meter.rate_bps is None
    meter.heard(10.0, 0)
    meter.heard(10.5, 50_000)
    assert meter.rate_bps is None
    meter.heard(11.0, 125_000)
    assert meter.rate_bps == 1_000_000
    meter.heard(12.5, 125_000)  # nothing more: a chunk of a slow link takes long
    meter.heard(13.0, 250_000)
    assert meter.rate_bps == 500_000


def test_a_meter_begins_anew_with_another_connection() -> None:
    meter = Meter()
    meter.heard(1.0, 1_000_000)
    meter.heard(3.0, 2_000_000)
    assert meter.rate_bps == 4_000_000
    meter.heard(4.0, 0)
    assert meter.rate_bps is None


def test_a_window_may_change_in_mid_way() -> None:
    sending = Sending([(0, 1_000)], 100)
    assert sending.next(100) == (0, 100)
    assert sending.next(100) is None
    sending.window_bytes = 250
    assert sending.next(100) == (100, 200)
    assert sending.next(100) is None


def test_a_chunk_that_came_damaged_is_not_sent_again_if_its_bytes_are_kept_by_now() -> None:
    """Another sender may have brought them."""
    sending = Sending([(0, 40)], 100)
    assert sending.next(10) == (0, 10)
    sending.committed([(0, 6)])
    sending.answered(10, [(0, 10)])
    assert [sending.next(10), sending.next(10)] == [(6, 10), (10, 20)]
