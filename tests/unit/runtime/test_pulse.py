"""When silence is the end of a contact, and when it is a queue."""

from __future__ import annotations

from orbitrain.runtime.pulse import MISSES_MAX, STALE_MISSES, Pulse


def missed(pulse: Pulse, times: int, now_s: float, heard_bytes: int = 0) -> None:
    for _ in range(times):
        pulse.missed(now_s, heard_bytes)


def test_so_many_misses_are_the_end_once_no_queue_can_be_the_reason() -> None:
    pulse = Pulse(0.0, 0)
    missed(pulse, MISSES_MAX, 3.0)
    assert not pulse.is_lost(3.0, 5.0, over=False)
    assert pulse.is_lost(5.0, 5.0, over=False)
    pulse = Pulse(0.0, 0)
    missed(pulse, MISSES_MAX - 1, 10.0)
    assert not pulse.is_lost(10.0, 5.0, over=False)


def test_one_miss_is_the_end_of_what_the_plan_has_ended() -> None:
    pulse = Pulse(0.0, 0)
    assert not pulse.is_lost(1.0, 5.0, over=True)
    missed(pulse, 1, 1.0)
    assert pulse.is_lost(1.0, 5.0, over=True)


def test_what_transfers_hear_is_a_sign_of_life_too() -> None:
    pulse = Pulse(0.0, 0)
    missed(pulse, 3, 3.0)
    assert not pulse.missed(4.0, 100)  # heard at some time since the last look
    assert pulse.misses == 0
    missed(pulse, MISSES_MAX, 8.0, 100)
    assert not pulse.is_lost(8.0, 5.0, over=False)  # silent for 4 s
    assert pulse.is_lost(9.0, 5.0, over=False)


def test_an_answer_after_a_silence_says_that_connections_are_stale() -> None:
    pulse = Pulse(0.0, 0)
    missed(pulse, STALE_MISSES, 6.0)
    assert pulse.is_stale(6.0, 5.0)
    assert not pulse.is_stale(6.0, 7.0)  # the answer waited in a queue
    pulse.answered(6.0, 0)
    assert not pulse.is_stale(20.0, 5.0)
