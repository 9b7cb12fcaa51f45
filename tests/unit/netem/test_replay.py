from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

import netem.replay
from netem.link_state import Link, LinkState, Outage
from netem.replay import Cue, Replay, Timeline, TooLate
from netem.schedule import Adaptive, Change, Schedule
from orbitrain.contacts.contact import Contact
from orbitrain.runtime.clock import Anchor, Clock, unix_ns, wall_s
from tests.unit.netem.plans import MS, S, contact, plan_of

A_B, B_A = ("a", "b"), ("b", "a")


class Host:
    """A monotonic clock that stands still, and links that are only written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1000 * S
        self.applied: list[tuple[int, Link, LinkState]] = []
        self.news: list[bool] = []
        self.cues: list[Cue] = []
        self.prepared: Sequence[Change] | None = None
        self.ahead: list[bool] = []
        monkeypatch.setattr(netem.replay, "monotonic_ns", lambda: self.now_ns)

    def prepare(self, changes: Sequence[Change]) -> None:
        self.prepared = changes

    def apply(self, changes: Sequence[Change], now_ns: int) -> None:
        assert now_ns == self.now_ns
        self.ahead.append(changes is self.prepared)
        self.applied += [(now_ns - 1000 * S, change.link, change.state) for change in changes]
        self.news += [change.new_loss for change in changes]

    def measured(self) -> dict[str, object]:
        return {}

    def edges(self) -> list[tuple[float, Link, bool]]:
        return [(t_ns / S, link, state.up) for t_ns, link, state in self.applied]

    def run(self, replay: Replay, until_s: float, late_ns: int = 0) -> None:
        while (due_ns := replay.due_ns()) is not None and due_ns <= (1000 + until_s) * S:
            self.now_ns = max(self.now_ns, due_ns + late_ns)
            replay.step(self.now_ns)
        self.now_ns = max(self.now_ns, round((1000 + until_s) * S))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def window(link: Link, start_s: int, end_s: int, delay_ms: int = 5) -> Contact:
    return contact(*link, start_s * S, end_s * S, (start_s * S, delay_ms * MS, 1_000_000))


def schedule_of(*contacts: Contact, r: float = 1.0, outage: Outage = "hold") -> Schedule:
    return Schedule(plan_of(*contacts), r, Adaptive(), outage)


def following(host: Host, schedule: Schedule, from_s: float = 0, **more: object) -> Replay:
    replay = Replay(schedule, host, cue=host.cues.append, **more)  # type: ignore[arg-type]
    replay.begin(round(from_s * S))
    replay.follow(Timeline(1000 * S, round(from_s * S), schedule.clock_rate))
    return replay


def test_each_step_is_applied_at_its_instant_of_the_monotonic_clock(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 10, 20), window(B_A, 20, 30), r=10.0))
    host.run(replay, 100)
    assert host.edges() == [(1, A_B, True), (2, A_B, False), (2, B_A, True), (3, B_A, False)]
    assert replay.finished
    assert replay.document()["late_steps"] == 0


def test_each_step_is_prepared_before_its_instant_but_the_first_of_a_plan(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 10, 20), window(B_A, 20, 30)))
    host.run(replay, 15)
    assert host.ahead == [False, True] and host.prepared is not None
    assert [change.link for change in host.prepared] == [A_B, B_A]
    replay.replace(schedule_of(window(B_A, 12, 18)), 16 * S)
    host.run(replay, 100)
    assert host.ahead == [False, True, False, True]


def test_before_the_clock_starts_the_links_of_the_beginning_are_set_and_nothing_moves(host: Host) -> None:
    replay = Replay(schedule_of(window(A_B, 0, 10)), host)
    replay.begin(5 * S)
    assert host.edges() == [(0, A_B, True)]
    assert replay.due_ns() is None


def test_cues_say_what_came_up_or_went_down_and_what_is_next(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 0, 10), window(A_B, 15, 20)))
    host.run(replay, 100)
    assert [(cue.up, cue.t_ns // S, cue.next_ns and cue.next_ns // S) for cue in host.cues] == [
        (True, 0, 10),
        (False, 10, 15),
        (True, 15, 20),
        (False, 20, None),
    ]


def test_late_steps_are_applied_in_order_and_counted(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 10, 20), window(B_A, 20, 30)))
    host.now_ns += 25 * S
    replay.step(host.now_ns)
    assert [edge[1:] for edge in host.edges()] == [(A_B, True), (A_B, False), (B_A, True)]
    assert replay.late_steps == 2
    assert replay.lateness.most_ns == 15 * S


def test_a_step_beyond_the_bound_ends_the_replay_where_that_is_asked_for(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 10, 20)), late_ns=10 * MS, on_late="abort")
    with pytest.raises(TooLate, match=r"step at 10\.000 s was 11\.0 ms late, at most 10 ms"):
        host.run(replay, 100, late_ns=11 * MS)


def test_another_plan_takes_over_at_its_instant(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 0, 20), window(B_A, 0, 20)))
    host.run(replay, 5)
    # Of the later plan, A-B ends at 12 and is longer from then on; B-A is gone.
    later = schedule_of(window(A_B, 2, 12, delay_ms=9), outage="cut")
    replay.replace(later, 8 * S)
    host.run(replay, 100)
    assert [(t_ns // S, link, state.up, state.delay_ns // MS) for t_ns, link, state in host.applied] == [
        (0, A_B, True, 5),
        (0, B_A, True, 5),
        (8, A_B, True, 9),
        (8, B_A, False, 5),
        (12, A_B, False, 9),
    ]
    assert host.news == [True, True, False, False, False]


def test_a_plan_for_the_past_holds_from_now(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 0, 20)))
    host.run(replay, 5)
    replay.replace(schedule_of(window(B_A, 0, 20)), 0)
    assert replay.due_ns() == host.now_ns
    host.run(replay, 100)
    assert host.edges()[1:] == [(5, B_A, True), (5, A_B, False), (20, B_A, False)]


def test_a_plan_after_the_last_one_was_over_is_replayed_too(host: Host) -> None:
    replay = following(host, schedule_of(window(A_B, 0, 2)))
    host.run(replay, 5)
    assert replay.finished
    replay.replace(schedule_of(window(A_B, 8, 9)), 6 * S)
    host.run(replay, 100)
    assert host.edges()[2:] == [(8, A_B, True), (9, A_B, False)]


def test_a_plan_at_another_rate_is_refused(host: Host) -> None:
    schedule = schedule_of(window(A_B, 0, 2))
    replay = following(host, schedule)
    with pytest.raises(ValueError, match="clock_rate: must stay 1"):
        replay.replace(replace(schedule, clock_rate=2.0), 0)


@pytest.mark.parametrize("ahead_s", [-100, 0, 50])
@pytest.mark.parametrize("rate", [1.0, 60.0])
def test_the_timeline_is_that_of_the_clock(rate: float, ahead_s: int) -> None:
    clock = Clock(Anchor(unix_ns() + ahead_s * S, 7 * S, rate))
    timeline = Timeline.of(clock)
    t_ns = clock.now_ns() + round(1000 * S * rate)
    agreed_s = timeline.monotonic_of(t_ns) / S - wall_s()
    assert agreed_s == pytest.approx(clock.wall_s_until(t_ns), abs=0.05)
    assert timeline.scenario_of(timeline.monotonic_of(t_ns)) == pytest.approx(t_ns, abs=rate)
