"""From probes sent and arrived to what is known of a link; and how much probing a link is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.link_state import NO_LOSS, Loss
from netem.probe.budget import (
    EDGE_RATE_SHARE,
    EDGE_WINDOW_NS,
    PAYLOAD_BYTES,
    TRAIN_PACKETS,
    Budget,
)
from netem.probe.ledger import IN_A_ROW, EdgeWatch, Kind, LinkLedger, Sent, TrainWatch
from netem.probe.planned import Expected, Passes, expected
from netem.probe.traffic import TICK_NS, Load, Traffic, sent_octets
from tests.unit.netem.plans import MS, S, contact, plan_of, plans

LINK = ("a", "b")
STATE = Expected(delay_ns=20 * MS, rate_bps=10_000_000, loss=NO_LOSS, queue_ns=90 * MS)


# --- what the plan says -------------------------------------------------------------------------------------


def test_expectations_are_the_plans_own_values_scaled_by_the_clock() -> None:
    plan = plan_of(contact("a", "b", S, 3 * S, (S, 10 * MS, 1_000_000), (3 * S, 30 * MS, 3_000_000)))
    assert expected(plan, LINK, S - 1, 1.0) is None
    assert expected(plan, LINK, 2 * S, 1.0) == Expected(20 * MS, 2_000_000, NO_LOSS, 96 * MS)
    scaled = expected(plan, LINK, 2 * S, 10.0)
    assert scaled == Expected(2 * MS, 20_000_000, NO_LOSS, 9_600_000)
    assert scaled.sending_ns(2500) == MS


@given(plans(), st.lists(st.integers(0, 1000 * S), max_size=6))
def test_passes_are_where_the_plan_has_the_link_up(plan, times: list[int]) -> None:  # type: ignore[no-untyped-def]
    for link in {(one.source, one.destination) for one in plan.contacts}:
        passes = Passes(plan, link, 0)
        for t_ns in sorted(times):
            up = passes.seek(t_ns)
            assert up == (plan.active(*link, t_ns) is not None)
            if passes.current is not None:
                start_ns, end_ns = passes.current
                assert plan.active(*link, start_ns) is not None
                assert plan.active(*link, end_ns) is None  # contacts that touch are one pass
                assert end_ns > t_ns


# --- budget -------------------------------------------------------------------------------------------------


@given(st.integers(9_600, 200_000_000), st.floats(0.001, 0.5), st.integers(1, 500))
def test_probes_of_a_link_stay_within_its_share(rate_bps: int, share: float, links: int) -> None:
    budget = Budget(share)
    bits = budget.layer2_bytes(PAYLOAD_BYTES) * 8
    single_bps = bits * 1e9 / budget.interval_ns(rate_bps, links)
    assert single_bps <= rate_bps * share / 2 * 1.001
    state = Expected(20 * MS, rate_bps, NO_LOSS, 90 * MS)
    train = budget.train(state)
    if train is not None:
        volume = train.packets * budget.layer2_bytes(train.payload) * 8
        assert volume * 1e9 / budget.train_gap_ns(train) <= rate_bps * share / 4 * 1.001
        assert TRAIN_PACKETS[0] <= train.packets <= TRAIN_PACKETS[1]
        assert train.lasts_ns <= state.queue_ns
    spacing_ns = budget.edge_spacing_ns(state, 10 * S)
    if spacing_ns is not None:
        assert bits * 1e9 / spacing_ns <= rate_bps * EDGE_RATE_SHARE * 1.001
        in_pass = 2 * EDGE_WINDOW_NS / spacing_ns * bits
        assert in_pass <= rate_bps * 10 * share / 4 * 1.001


def test_many_links_share_the_packets_a_second() -> None:
    budget = Budget()
    assert budget.interval_ns(50_000_000, 1) == 20 * MS
    assert budget.interval_ns(50_000_000, 400) == S
    assert budget.down_interval_ns(1) == 250 * MS
    assert budget.down_interval_ns(4000) == 100 * S


def test_a_link_too_slow_or_a_pass_too_short_for_edges_gets_none_probed() -> None:
    budget = Budget()
    assert budget.edge_spacing_ns(STATE, 10 * S) == MS
    assert budget.edge_spacing_ns(STATE, 200 * MS) is None
    assert budget.edge_spacing_ns(Expected(0, 100_000, NO_LOSS, S), 10 * S) is None


def test_a_queue_too_short_for_a_train_gets_none() -> None:
    assert Budget().train(Expected(0, 100_000_000, NO_LOSS, 2 * MS)) is None


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"--budget: must be more than 0 and at most 0\.5"):
        Budget(share)


# --- other traffic ------------------------------------------------------------------------------------------


def ticking(*others: int) -> Traffic:
    """Other bytes in each tick from time 0."""
    traffic = Traffic()
    total = 0
    for number, other in enumerate((0, *others)):
        total += other
        traffic.add(number * TICK_NS, total)
    return traffic


def test_traffic_is_quiet_light_or_busy_beside_the_links_rate() -> None:
    traffic = ticking(0, 0, 10_000, 0, 0, 500_000)
    assert traffic.load(0, TICK_NS * 2, 10_000_000) is Load.QUIET
    assert traffic.load(0, TICK_NS * 2 + 1, 10_000_000) is Load.LIGHT
    assert traffic.load(0, TICK_NS * 2 + 1, 50_000) is Load.BUSY
    assert traffic.load(TICK_NS * 5, TICK_NS * 6, 10_000_000) is Load.BUSY
    assert traffic.load(-1, TICK_NS, 10_000_000) is Load.BUSY  # not known
    assert traffic.load(0, TICK_NS * 6 + 1, 10_000_000) is Load.BUSY


def test_probes_are_no_other_traffic_even_where_the_kernel_counts_them_late() -> None:
    traffic = Traffic()
    traffic.add(0, 1000)
    traffic.own_bytes = 5000
    traffic.add(TICK_NS, 3000)  # 3000 not counted yet
    traffic.add(2 * TICK_NS, 6000)
    assert traffic.load(0, 2 * TICK_NS, 10_000_000) is Load.QUIET
    assert traffic.quiet
    traffic.add(3 * TICK_NS, 6100)
    assert not traffic.quiet


def test_the_kernels_counters_are_found_by_their_names() -> None:
    text = (
        "TcpExt: SyncookiesSent OutOctets\nTcpExt: 1 2\n"
        "IpExt: InNoRoutes InOctets OutOctets InMcastOctets\nIpExt: 0 99 1234 0\n"
        "MPTcpExt: OutOctets\nMPTcpExt: 7\n"
    )
    assert sent_octets(text) == 1234


# --- ledger -------------------------------------------------------------------------------------------------

QUIET = ticking(*[0] * 60)
LIGHT = ticking(*[10_000] * 60)
BUSY = ticking(*[600_000] * 60)


class Probes:
    """Single probes on a link, one every 100 ms from second 2 on."""

    def __init__(self, traffic: Traffic = QUIET, state: Expected = STATE) -> None:
        self.ledger = LinkLedger(LINK, traffic, baseline_ns=10_000)
        self.state = state

    def send(self, error_ns: int | None = 0, kind: Kind = Kind.SINGLE, *, certain: bool = True) -> None:
        """`error_ns`: beyond the plan and the baseline; None: it does not arrive."""
        number = self.ledger.next_number
        sent_ns = 2 * S + number * 100 * MS
        due_ns = sent_ns + MS // 10 + self.state.delay_ns
        state = None if kind is Kind.DOWN else self.state
        self.ledger.sent(Sent(number, kind, sent_ns, due_ns, state, certain=certain))
        if error_ns is not None:
            self.ledger.arrived(number, due_ns + 10_000 + error_ns)

    def settled(self) -> LinkLedger:
        self.ledger.settle(10**15)
        return self.ledger


def test_on_a_quiet_link_every_delay_counts_less_the_baseline() -> None:
    probes = Probes()
    for error_ms in (0, 1, 2, -1, 7):
        probes.send(error_ms * MS)
    probes.send(3 * MS, certain=False)
    ledger = probes.settled()
    assert sorted(ledger.delays.counts) == [-MS, 0, MS, 2 * MS, 7 * MS]
    assert ledger.planned_delay_ns == 5 * 20 * MS
    assert (ledger.losses.probes, ledger.losses.lost) == (6, 0)


def test_among_light_traffic_the_least_of_eight_counts() -> None:
    probes = Probes(LIGHT)
    for number in range(2 * IN_A_ROW + 3):
        probes.send((20 - number) * MS)
    ledger = probes.settled()
    assert sorted(ledger.delays.counts) == [5 * MS, 13 * MS]
    assert ledger.waited == 2 * (IN_A_ROW - 1)


def test_among_heavy_traffic_only_early_packets_tell() -> None:
    probes = Probes(BUSY)
    for error_ms in (30, 40, -5, 0):
        probes.send(error_ms * MS)
    ledger = probes.settled()
    assert ledger.delays.counts == {-5 * MS: 1}
    assert ledger.waited == 3


def test_losses_next_to_a_full_queue_are_set_aside() -> None:
    probes = Probes(BUSY)
    for error in (10 * MS, None, 60 * MS, None, None, 10 * MS, None, 20 * MS):
        probes.send(error)
    ledger = probes.settled()
    # 60 ms is more than half of the 90 that the queue holds.
    assert ledger.set_aside == 3
    assert (ledger.losses_in_traffic.probes, ledger.losses_in_traffic.lost) == (4, 1)
    assert ledger.losses.probes == 0


def test_neighbours_on_a_quiet_link_tell_how_long_runs_are() -> None:
    probes = Probes(state=Expected(20 * MS, 10_000_000, Loss.of(0.1, 3.0), 90 * MS))
    for arrives in (1, 0, 0, 1, 1, 0, 1):
        probes.send(0 if arrives else None)
    probes.send(None, Kind.DOWN)
    probes.send(None)  # its neighbour was of another kind
    losses = probes.settled().losses
    assert (losses.probes, losses.lost) == (8, 4)
    assert (losses.ended.trials, losses.ended.turned) == (3, 2)
    assert (losses.begun.trials, losses.begun.turned) == (3, 2)


def test_packets_that_cross_a_link_that_is_down_are_counted() -> None:
    probes = Probes()
    for error in (None, None, 0):
        probes.send(error, Kind.DOWN)
    ledger = probes.settled()
    assert (ledger.down_sent, ledger.down_arrived) == (3, 1)
    assert (ledger.losses.probes, ledger.delays.total) == (0, 0)


def test_what_overtakes_and_what_comes_after_it_was_given_up_is_counted() -> None:
    probes = Probes()
    for _ in range(4):
        probes.send(None)
    for number in (0, 2, 1, 3):
        probes.ledger.arrived(number, 3 * S)
    assert probes.ledger.reordered == 1
    probes.settled().arrived(3, 4 * S)
    assert probes.ledger.late == 1


def test_probes_are_settled_in_order_and_not_before_their_time() -> None:
    probes = Probes()
    probes.send(0)
    probes.send(0)
    # Light time and a full queue, then three ticks of counters.
    probes.ledger.settle(2 * S + MS // 10 + 20 * MS + 110 * MS + 3 * TICK_NS)
    assert probes.ledger.losses.probes == 1
    assert probes.settled().losses.probes == 2


def train(
    traffic: Traffic, *, starved: bool = False, skip: int = -1, lost_take_time: bool = True
) -> list[float]:
    ledger = LinkLedger(LINK, traffic, 0)
    watch = TrainWatch(0, 20, 1250, 10_000_000, lost_take_time=lost_take_time)
    watch.starved = starved
    place = 0
    for number in range(20):
        due_ns = 3 * S + place * MS
        ledger.sent(Sent(number, Kind.TRAIN, 3 * S, due_ns, STATE, group=watch))
        if number != skip:
            ledger.arrived(number, due_ns + place * MS // 10)  # 10 % slower than planned
        place += number != skip or lost_take_time
    ledger.settle(10**15)
    return ledger.rates


def test_a_train_on_a_quiet_link_tells_its_rate() -> None:
    assert train(QUIET) == [pytest.approx(1 / 1.1 - 1)]
    assert train(QUIET, skip=7) == [pytest.approx(1 / 1.1 - 1)]
    assert train(LIGHT) == train(QUIET, starved=True) == []


def test_a_lost_packet_of_a_train_leaves_a_gap_only_where_it_took_the_transmitter() -> None:
    assert train(QUIET, skip=7, lost_take_time=False) == [pytest.approx(1 / 1.1 - 1)]


def edges(traffic: Traffic, *, up: bool) -> LinkLedger:
    """One, probed each ms; it comes 5 ms late. In flight: 20 ms."""
    ledger = LinkLedger(LINK, traffic, 0)
    watch = EdgeWatch(5 * S, NO_LOSS, up=up, other_rule_ns=20 * MS)
    for number in range(121):
        at_ns = 5 * S + (number - 60) * MS
        ledger.sent(Sent(number, Kind.EDGE, at_ns, at_ns, STATE, group=watch))
        if (at_ns >= 5 * S + 5 * MS) == up:
            ledger.arrived(number, at_ns + 20 * MS)
    watch.closed = True
    ledger.settle(10**15)
    assert ledger.losses.probes == ledger.delays.total == 0
    return ledger


def test_edges_are_found_by_both_rules_of_what_is_in_flight() -> None:
    for up in (True, False):
        ((_, one, other),) = edges(QUIET, up=up).edges
        assert (one.error_ns, one.known_to_ns) == (4_500_000, MS)
        assert other.error_ns == 24_500_000
    # Packets that wait for others at an end are lost with them: it would look too early.
    assert len(edges(BUSY, up=True).edges) == 1
    undecided = edges(BUSY, up=False)
    assert (undecided.edges, undecided.edges_unjudged) == ([], {"traffic": 1})
