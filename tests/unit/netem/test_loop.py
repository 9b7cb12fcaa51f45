"""The loop of timers and descriptors: in order, at their instants, without spinning."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from netem.loop import TimerLoop
from orbitrain.runtime.clock import monotonic_ns

MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[TimerLoop]:
    made = TimerLoop()
    yield made
    made.close()


def test_timers_come_in_the_order_of_their_instants_and_never_before_them(loop: TimerLoop) -> None:
    begun_ns = monotonic_ns()
    came: list[tuple[str, int]] = []

    def note(name: str) -> None:
        loop.at(
            begun_ns + {"third": 12, "first": 4, "second": 8}[name] * MS,
            lambda now_ns: came.append((name, now_ns - begun_ns)),
        )

    for name in ("third", "first", "second"):
        note(name)
    loop.at(begun_ns + 15 * MS, lambda now_ns: loop.stop())
    loop.run()
    assert [name for name, _ in came] == ["first", "second", "third"]
    assert all(at_ns >= due_ms * MS for (_, at_ns), due_ms in zip(came, (4, 8, 12), strict=True))


def test_a_timer_says_itself_when_it_comes_again(loop: TimerLoop) -> None:
    times: list[int] = []

    def again(now_ns: int) -> int | None:
        times.append(now_ns)
        if len(times) == 4:
            loop.stop()
            return None
        return now_ns + MS

    loop.at(monotonic_ns(), again)
    loop.run()
    assert len(times) == 4 and all(later - sooner >= MS for sooner, later in pairwise(times))


def test_what_is_due_at_once_leaves_descriptors_their_turn(loop: TimerLoop) -> None:
    """A piece of work that goes on in small parts keeps nobody out."""
    reading, writing = os.pipe()
    turns = 0

    def work(now_ns: int) -> int:
        nonlocal turns
        turns += 1
        if turns == 3:
            os.write(writing, b"x")
        return now_ns

    loop.at(monotonic_ns(), work)
    assert loop.watch(reading, loop.stop)
    loop.at(monotonic_ns() + 2000 * MS, lambda now_ns: pytest.fail("nobody looked at the descriptor"))
    loop.run()
    os.close(reading)
    os.close(writing)


def test_it_sleeps_until_something_is_to_be_done(loop: TimerLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted() -> int:
        nonlocal looks
        looks += 1
        return monotonic_ns()

    monkeypatch.setattr("netem.loop.monotonic_ns", counted)
    reading, writing = os.pipe()
    loop.watch(reading, loop.stop)
    loop.at(monotonic_ns() + 300 * MS, lambda now_ns: os.write(writing, b"x") and None)
    loop.run()
    assert looks < 20  # one that spins looks at the clock many thousand times
    os.close(reading)
    os.close(writing)


def test_the_other_ends_going_is_told_and_a_plain_file_is_not_watched(loop: TimerLoop) -> None:
    reading, writing = os.pipe()
    assert loop.watch(reading, loop.stop)
    with open(__file__, "rb") as plain:
        assert not loop.watch(plain.fileno(), lambda: pytest.fail("a plain file can always be read"))
    os.close(writing)
    loop.run()
    os.close(reading)


def test_what_a_timer_raises_comes_out_and_the_collector_works_again(loop: TimerLoop) -> None:
    def refuse(now_ns: int) -> None:
        assert not gc.isenabled()
        raise ValueError("no")

    loop.at(monotonic_ns(), refuse)
    with pytest.raises(ValueError, match="no"):
        loop.run()
    assert gc.isenabled()
