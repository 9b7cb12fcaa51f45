from __future__ import annotations

import time
from bisect import bisect_right
from operator import itemgetter
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem.link_state import Link, LinkState, Loss, queue_limits
from netem.schedule import Adaptive, Schedule, Stepped
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan
from tests.unit.netem.plans import MS, S, contact, plan_of, plans

PASS = contact("a", "b", 10 * S, 20 * S, (10 * S, 2 * MS, 1_000_000), (20 * S, 12 * MS, 3_000_000))


def replayed(schedule: Schedule, from_ns: int = 0) -> dict[Link, list[tuple[int, LinkState]]]:
    found: dict[Link, list[tuple[int, LinkState]]] = {}
    for step in schedule.steps(from_ns):
        for change in step.changes:
            found.setdefault(change.link, []).append((step.t_ns, change.state))
    return found


def in_force(changes: list[tuple[int, LinkState]], t_ns: int) -> LinkState | None:
    before = bisect_right(changes, t_ns, key=itemgetter(0))
    return changes[before - 1][1] if before else None


def test_stepped_sets_the_value_in_the_middle_of_each_step() -> None:
    steps = list(Schedule(plan_of(PASS), how=Stepped(5 * S)).steps())
    assert [step.t_ns for step in steps] == [0, 10 * S, 15 * S, 20 * S]
    states = [step.changes[0].state for step in steps[1:]]
    assert [(state.delay_ns, state.rate_bps) for state in states[:2]] == [
        (4_500_000, 1_500_000),
        (9_500_000, 2_500_000),
    ]
    assert [state.outage for state in states] == [None, None, "hold"]
    assert (states[2].delay_ns, states[2].rate_bps) == (9_500_000, 2_500_000)


def test_steps_of_all_links_come_at_the_same_instants() -> None:
    other = contact("b", "a", 11 * S, 19 * S, (11 * S, 2 * MS, 1_000_000), (19 * S, 12 * MS, 3_000_000))
    steps = list(Schedule(plan_of(PASS, other), how=Stepped(2 * S)).steps())
    both = [step.t_ns for step in steps if len(step.changes) == 2]
    assert both == [12 * S, 14 * S, 16 * S, 18 * S]


def test_in_turns_the_links_of_a_source_are_set_together_and_all_sources_not_at_once() -> None:
    def link(source: str, destination: str) -> Contact:
        return contact(source, destination, 0, 20 * S, (0, 2 * MS, 1_000_000), (20 * S, 12 * MS, 3_000_000))

    sources = [f"sat-{n}" for n in range(40)]
    many = [link(source, destination) for source in sources for destination in ("x", "y")]
    how = Stepped(2 * S, turns=4)
    changes = replayed(Schedule(plan_of(*many), how=how))
    turns = set()
    for source in sources:
        times = [[t_ns for t_ns, state in changes[source, to] if state.up] for to in ("x", "y")]
        assert times[0] == times[1]
        (turn_ns,) = {t_ns % (2 * S) for t_ns in times[0][1:]}
        turns.add(turn_ns)
    assert turns == {0, S // 2, S, 3 * S // 2}


def test_a_constant_link_changes_only_at_its_edges() -> None:
    constant = contact("a", "b", 10 * S, 600 * S, (10 * S, 2 * MS, 1_000_000))
    for how in (Stepped(), Adaptive()):
        assert [len(step.changes) for step in Schedule(plan_of(constant), how=how).steps()] == [0, 1, 1]


def test_contacts_that_touch_leave_the_link_up_between_them() -> None:
    first = contact("a", "b", 0, 10 * S, (0, 2 * MS, 1_000_000))
    second = contact("a", "b", 10 * S, 20 * S, (10 * S, 5 * MS, 1_000_000))
    schedule = Schedule(plan_of(first, second), how=Adaptive())
    changes = replayed(schedule)["a", "b"]
    assert [(t_ns, state.up, state.delay_ns) for t_ns, state in changes] == [
        (0, True, 2 * MS),
        (10 * S, True, 5 * MS),
        (20 * S, False, 5 * MS),
    ]
    assert schedule.next_edge_ns(("a", "b"), 0) == 20 * S
    assert schedule.next_edge_ns(("a", "b"), 20 * S) is None


def test_the_first_step_sets_what_is_up_at_that_instant() -> None:
    schedule = Schedule(plan_of(PASS), how=Stepped(5 * S))
    step = next(schedule.steps(17 * S))
    assert step.t_ns == 17 * S
    assert [change.state for change in step.changes] == [schedule.state_at(("a", "b"), 17 * S)]
    assert step.changes[0].state.delay_ns == 9_500_000


def test_a_new_loss_model_is_named_once() -> None:
    lossy = contact(
        "a", "b", 0, 40 * S,
        (0, 2 * MS, 10**6, 0.1, 3.0), (10 * S, 12 * MS, 10**6, 0.1, 3.0), (20 * S, 2 * MS, 10**6, 0.2, 3.0),
    )  # fmt: skip
    again = contact("a", "b", 50 * S, 60 * S, (50 * S, 2 * MS, 10**6, 0.2, 3.0))
    for how in (Stepped(), Adaptive()):
        steps = list(Schedule(plan_of(lossy, again), how=how).steps())
        news = [
            (step.t_ns, change.state.loss) for step in steps for change in step.changes if change.new_loss
        ]
        assert [loss for _, loss in news] == [Loss.of(0.1, 3.0), Loss.of(0.2, 3.0)]
        assert [t_ns for t_ns, _ in news] == [0, 20 * S]


@settings(max_examples=150)
@given(
    plans(),
    st.floats(0.05, 5),
    st.floats(0.002, 0.2),
    st.sampled_from([1.0, 10.0, 60.0]),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_adaptive_is_the_plan_within_the_stated_error(
    plan: ContactPlan, delay_ms: float, rate: float, r: float, instants: list[float], begin: float
) -> None:
    how = Adaptive(round(delay_ms * MS), rate)
    schedule = Schedule(plan, r, how)
    last_ns = max((one.end_ns for one in plan.contacts), default=S)
    from_ns = int(begin * last_ns)
    changes = replayed(schedule, from_ns)
    edges = [t for one in plan.contacts for t in (one.start_ns, one.end_ns - 1, one.end_ns)]
    knots = [sample.t_ns for one in plan.contacts for sample in one.samples]
    for t_ns in [int(share * last_ns) for share in instants] + edges + knots:
        if t_ns < from_ns:
            continue
        for link in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")):
            state = in_force(changes.get(link, []), t_ns)
            truth = plan.active(*link, t_ns)
            assert (state is not None and state.up) == (truth is not None)
            assert schedule.state_at(link, t_ns) == (state if truth is not None else None)
            if truth is None or state is None:
                continue
            sample = truth.sample_at(t_ns)
            assert abs(state.delay_ns * r - sample.delay_ns) <= how.delay_ns + r + 1
            assert abs(state.rate_bps / r - sample.rate_bps) <= rate * sample.rate_bps + 2
            assert state.loss == Loss.of(sample.loss_mean, sample.loss_burst)
            assert (state.limit_bytes, state.limit_packets) == queue_limits(
                state.delay_ns, state.rate_bps, round(schedule.queue_ns / r)
            )


@given(plans(), st.sampled_from([0.1, 1.0, 7.0]), st.sampled_from([1, 1, 7]), st.sampled_from([1.0, 60.0]))
def test_stepped_is_the_plan_at_the_middle_of_each_step(
    plan: ContactPlan, step_s: float, turns: int, r: float
) -> None:
    how = Stepped(round(step_s * S), turns)
    schedule = Schedule(plan, r, how)
    for link, changes in replayed(schedule).items():
        for t_ns, state in changes:
            if state.up:
                truth = plan.active(*link, t_ns)
                assert truth is not None
                turn_ns = crc32(link[0].encode()) % turns * how.step_ns // turns
                end_ns = min(((t_ns - turn_ns) // how.step_ns + 1) * how.step_ns + turn_ns, truth.end_ns)
                sample = truth.sample_at((t_ns + end_ns) // 2)
                assert state == schedule.scaled(
                    sample.delay_ns, sample.rate_bps, Loss.of(sample.loss_mean, sample.loss_burst)
                )


@given(plans())
def test_steps_ascend_and_name_each_link_once_and_only_if_it_changes(plan: ContactPlan) -> None:
    now: dict[Link, LinkState] = {}
    last_ns = -1
    for step in Schedule(plan, how=Adaptive(50_000, 0.05)).steps():
        assert step.t_ns > last_ns
        last_ns = step.t_ns
        links = [change.link for change in step.changes]
        assert links == sorted(set(links))
        for change in step.changes:
            assert now.get(change.link) != change.state
            now[change.link] = change.state
    assert not any(state.up for state in now.values())


def test_demand_is_said_ahead_in_host_units() -> None:
    demand = Schedule(plan_of(PASS), 10.0, Stepped(1 * S)).demand()
    assert (demand.links, demand.links_at_once) == (1, 1)
    assert demand.peak_rate_bps == demand.peak_total_bps == 30_000_000
    assert demand.least_delay_ns == 200_000
    assert 10 <= demand.changes_per_s <= 12
    assert demand.changes_at_once == 1


@given(plans(), st.sampled_from([1.0, 30.0]))
def test_no_second_has_more_changes_than_the_demand_says(plan: ContactPlan, r: float) -> None:
    schedule = Schedule(plan, r, Adaptive(1 * MS, 0.05))
    times = [step.t_ns for step in schedule.steps() for _ in step.changes]
    demand = schedule.demand()
    window_ns = round(S * r)
    for index, t_ns in enumerate(times):
        inside = sum(1 for other in times[index : index + 2000] if other < t_ns + window_ns)
        if inside < 2000:
            assert inside <= demand.changes_per_s + 2 * len(plan.contacts) + 1


def test_a_rate_that_jumps_is_a_few_changes_and_not_thousands_a_second() -> None:
    # As a plan has it where the modulation changes: each second, between two neighbouring ns.
    samples = [(0, 5 * MS, 100_000_000)]
    for n in range(1, 20):
        rates = (100_000_000, 200_000_000)[:: 1 if n % 2 else -1]
        samples += [(n * S - 1, 5 * MS, rates[0]), (n * S, 5 * MS, rates[1])]
    demand = Schedule(plan_of(contact("a", "b", 0, 20 * S, *samples)), how=Adaptive()).demand()
    assert 1 <= demand.changes_per_s <= 4
    fast = Schedule(plan_of(contact("a", "b", 0, 20 * S, *samples)), 10.0, Adaptive()).demand()
    assert 10 <= fast.changes_per_s <= 22


def test_short_lines_of_a_plan_add_up_within_a_second() -> None:
    # 5 ms within 100 ms, and again: 25 changes of 0.2 ms each time, ten times a second.
    samples = [(n * 100 * MS, (10 + 5 * (n % 2)) * MS, 10**7) for n in range(40)]
    schedule = Schedule(plan_of(contact("a", "b", 0, 4 * S, *samples)), how=Adaptive())
    assert 245 <= schedule.demand().changes_per_s <= 255
    times = [step.t_ns for step in schedule.steps()]
    assert sum(S <= t_ns < 2 * S for t_ns in times) >= 200


def test_a_plan_of_a_hundred_thousand_contacts_is_begun_at_once() -> None:
    profile = PASS.samples
    many = [
        Contact(
            "a",
            "b",
            "service",
            n * S,
            n * S + S // 2,
            (profile[0].__class__(n * S, 5 * MS, 10**6, 0.0, 1.0),),
        )
        for n in range(100_000)
    ]
    schedule = Schedule(plan_of(*many, duration_ns=200_000 * S), how=Adaptive())
    start_s = time.process_time()
    steps = schedule.steps(50_000 * S)
    for _ in range(100):
        next(steps)
    assert time.process_time() - start_s < 1.0
    start_s = time.process_time()
    assert schedule.demand().links_at_once == 1
    assert time.process_time() - start_s < 10.0


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Stepped(10), "step_ns: must be"),
        (lambda: Stepped(S, turns=0), "turns: must be"),
        (lambda: Stepped(10 * MS, turns=11), "turns: must be"),
        (lambda: Adaptive(delay_ns=0), "delay_ns: must be"),
        (lambda: Adaptive(rate=1.0), "rate: must be"),
        (lambda: Schedule(plan_of(), clock_rate=0.0), "clock_rate: must be"),
    ],
)
def test_bad_options_are_refused_by_name(make, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=complaint):
        make()


def test_hours_in_which_nothing_changes_are_not_gone_through_step_by_step() -> None:
    day_ns = 86_400 * 10**9
    still = (
        Sample(0, 5_000_000, 10**6, 0.0, 1.0),
        Sample(day_ns - 7_300_000_000, 5_000_000, 10**6, 0.1, 2.0),
    )
    moving = Sample(day_ns, 6_000_000, 10**6, 0.1, 2.0)
    long = Contact("a", "b", "inter_isl", 0, day_ns, (*still, moving))
    pieces = list(Stepped().pieces(long))
    assert len(pieces) == 9
    slow = [
        (
            start_ns,
            long.sample_at(start_ns + 500_000_000).delay_ns,
            long.sample_at(start_ns + 500_000_000).loss_mean,
        )
        for start_ns in range(0, day_ns, 10**9)
    ]
    found = iter([*pieces, (day_ns + 1, 0, 0, None)])
    held, coming = next(found), next(found)
    for start_ns, delay_ns, mean in slow:
        while coming[0] <= start_ns:
            held, coming = coming, next(found)
        assert (held[1], held[3].mean) == (delay_ns, mean)
