from __future__ import annotations

import math
from itertools import groupby, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netem.link_state import Loss, Outage, up_state
from netem.tun.fifo import DOWN, LOST, OVERFLOW, Fifo

MS = 1_000_000
S = 1_000_000_000


def packet(size: int, number: int = 0) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def up(delay_ms: float = 20, rate_bps: int = 10_000_000, **more: object) -> Fifo:
    fifo = Fifo(1, overhead_bytes=0)
    fifo.apply(up_state(round(delay_ms * MS), rate_bps, **more), 0)  # type: ignore[arg-type]
    return fifo


def test_a_packet_arrives_after_its_transmission_and_the_delay() -> None:
    # 1250 bytes at 10 Mbit/s are 1 ms.
    assert up().offer(packet(1250), 5 * MS) == 26 * MS


def test_packets_wait_for_those_before_them() -> None:
    fifo = up()
    assert [fifo.offer(packet(1250), 0) for _ in range(3)] == [21 * MS, 22 * MS, 23 * MS]


def test_overhead_of_the_link_layer_is_charged_for_each_packet() -> None:
    fifo = Fifo(1, overhead_bytes=250)
    fifo.apply(up_state(0, 10_000_000), 0)
    assert fifo.offer(packet(1000), 0) == 1 * MS


def test_a_link_is_down_until_it_is_set() -> None:
    fifo = Fifo(1)
    assert fifo.offer(packet(100), 0) == DOWN
    assert (fifo.offered, fifo.down) == (1, 1)


def test_the_queue_is_bounded_in_bytes_and_overflow_costs_no_transmission() -> None:
    fifo = up()  # 90 ms may wait: 90 packets of 1250 bytes
    outcomes = [fifo.offer(packet(1250), 0) for _ in range(100)]
    assert outcomes[:90] == [(20 + n) * MS for n in range(1, 91)]
    assert set(outcomes[90:]) == {OVERFLOW}
    assert fifo.waiting_bytes(0) == 90 * 1250
    assert fifo.offer(packet(1250), 1 * MS) == 111 * MS


def test_an_empty_queue_takes_any_packet() -> None:
    fifo = Fifo(1)
    fifo.apply(up_state(0, 1), 0)  # a bit a second
    assert fifo.offer(packet(1500), 0) > 0


def test_a_change_of_rate_holds_from_its_instant_also_for_what_waits() -> None:
    fifo = up()
    for _ in range(4):
        fifo.offer(packet(1250), 0)
    # Half of the second packet is out; at a fifth of the rate the rest of all takes five times as long.
    fifo.apply(up_state(20 * MS, 2_000_000), round(1.5 * MS))
    assert [entry[0] for entry in fifo.flight] == [21 * MS, 24 * MS, 29 * MS, 34 * MS]


def test_a_shorter_delay_does_not_let_later_packets_overtake() -> None:
    fifo = up(delay_ms=60)
    fifo.offer(packet(1250, 1), 0)
    fifo.apply(up_state(20 * MS, 10_000_000), 10 * MS)
    assert fifo.offer(packet(1250, 2), 10 * MS) == 61 * MS  # with the one before it
    assert fifo.offer(packet(1250, 3), 45 * MS) == 66 * MS


def test_what_has_left_the_transmitter_keeps_its_delay() -> None:
    fifo = up(delay_ms=20)
    for _ in range(3):
        fifo.offer(packet(1250), 0)
    fifo.apply(up_state(50 * MS, 10_000_000), 1 * MS)
    assert [entry[0] for entry in fifo.flight] == [21 * MS, 52 * MS, 53 * MS]


@pytest.mark.parametrize(("outage", "arrive"), [("hold", [21 * MS, 22 * MS]), ("cut", [])])
def test_an_outage_drops_what_waits_and_by_cut_what_flies(outage: Outage, arrive: list[int]) -> None:
    fifo = up()
    for _ in range(5):
        fifo.offer(packet(1250), 0)
    fifo.apply(up_state(20 * MS, 10_000_000).down(outage), round(2.5 * MS))
    assert [entry[0] for entry in fifo.flight] == arrive
    assert fifo.down == 5 - len(arrive)
    assert fifo.offer(packet(1250), 3 * MS) == DOWN


def test_a_cut_leaves_what_had_arrived_to_be_taken() -> None:
    fifo = up()
    fifo.offer(packet(1250), 0)
    fifo.apply(up_state(20 * MS, 10_000_000).down("cut"), 21 * MS)
    assert len(fifo.take()) == 1250


def test_a_lost_packet_has_occupied_the_transmitter() -> None:
    fifo = up(loss=Loss("uniform", 1.0))
    assert fifo.offer(packet(1250), 0) == LOST
    fifo.apply(up_state(20 * MS, 10_000_000), 0)
    assert fifo.offer(packet(1250), 0) == 22 * MS


def test_jitter_spreads_delays_and_keeps_order() -> None:
    fifo = up(delay_ms=20, jitter_ns=5 * MS)
    arrivals = [fifo.offer(packet(1250), n * 100 * MS) - n * 100 * MS - 21 * MS for n in range(1000)]
    assert -5 * MS <= min(arrivals) < -4 * MS and 4 * MS < max(arrivals) <= 5 * MS
    close = up(delay_ms=20, jitter_ns=5 * MS)
    arrivals = [close.offer(packet(125), n * MS) for n in range(1000)]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize(("mean", "burst"), [(0.02, 1.0), (0.05, 4.0), (0.3, 20.0), (0.7, 2.5)])
def test_gilbert_chain_loses_its_mean_in_runs_of_its_mean_length(mean: float, burst: float) -> None:
    fifo = up(rate_bps=10**9, loss=Loss.of(mean, burst))
    n = 200_000
    lost = [fifo.offer(b"\0" * 40, k * 10_000) == LOST for k in range(n)]
    runs = [sum(1 for _ in run) for is_lost, run in groupby(lost) if is_lost]
    # 99 % intervals of a two-state chain: the variance of its mean grows by (1 + rho) / (1 - rho).
    to_bad, to_good = Loss.of(mean, burst).transitions()
    rho = 1 - to_bad - to_good
    spread = math.sqrt(mean * (1 - mean) / n * (1 + rho) / (1 - rho))
    assert abs(sum(lost) / n - mean) < 2.58 * spread
    assert (
        abs(sum(runs) / len(runs) - burst)
        < 2.58 * math.sqrt(max(burst * (burst - 1), 1e-12) / len(runs)) + 1e-9
    )


def test_uniform_loss_is_within_its_interval() -> None:
    fifo = up(rate_bps=10**9, loss=Loss("uniform", 0.1))
    lost = sum(fifo.offer(b"\0" * 40, k * 10_000) == LOST for k in range(50_000))
    assert abs(lost / 50_000 - 0.1) < 2.58 * math.sqrt(0.09 / 50_000)


def test_the_same_seed_loses_the_same_packets_whatever_their_times() -> None:
    def lost(gap_ns: int) -> list[bool]:
        fifo = up(rate_bps=10**9, loss=Loss.of(0.2, 3))
        return [fifo.offer(packet(100), k * gap_ns) == LOST for k in range(500)]

    assert lost(10_000) == lost(37_000)


def test_an_unchanged_loss_model_goes_on_where_it_was() -> None:
    def lost(renewed: bool) -> list[bool]:
        fifo = up(rate_bps=10**9, loss=Loss.of(0.3, 50))
        found = []
        for k in range(2000):
            if renewed and k % 10 == 0:
                fifo.apply(up_state(20 * MS + k, 10**9, Loss.of(0.3, 50)), k * 10_000)
            found.append(fifo.offer(packet(100), k * 10_000) == LOST)
        return found

    assert lost(True) == lost(False)


states = st.builds(
    up_state,
    st.integers(0, 100 * MS),
    st.integers(100_000, 50_000_000),
    st.builds(Loss.of, st.sampled_from([0.0, 0.1, 0.5]), st.floats(1, 10)),
)
events = st.lists(
    st.tuples(
        st.integers(0, 5 * MS),
        st.one_of(
            st.integers(40, 1500),
            st.integers(40, 1500),
            states,
            st.builds(lambda state, outage: state.down(outage), states, st.sampled_from(["hold", "cut"])),
        ),
    ),
    max_size=120,
)


@given(events)
@example([(0, 40), (0, 40), (0, up_state(0, 1_057_902)), (0, up_state(0, 100_000))])
def test_packets_are_conserved_in_order_and_never_faster_than_the_rate(events) -> None:  # type: ignore[no-untyped-def]
    fifo = Fifo(7)
    fifo.apply(up_state(10 * MS, 5_000_000), 0)
    now_ns, number = 0, 0
    taken: list[int] = []
    rate_bps = 5_000_000

    def conserved() -> None:
        accounted = fifo.delivered + fifo.lost + fifo.overflow + fifo.down + len(fifo.flight)
        assert fifo.offered == accounted == number

    def check_flight() -> None:
        entries = list(fifo.flight)
        for earlier, later in pairwise(entries):
            assert earlier[0] <= later[0]
            if earlier[1] > now_ns:  # both still to be sent, at today's rate: a packet apart
                size = len(later[3]) + 14
                assert later[1] - earlier[1] >= size * 8 * S / rate_bps
        for arrival_ns, departure_ns, _, _ in entries:
            assert arrival_ns >= departure_ns

    for gap_ns, event in events:
        now_ns += gap_ns
        while fifo.flight and fifo.flight[0][0] <= now_ns:
            taken.append(int.from_bytes(fifo.take()[:4], "big"))
        if isinstance(event, int):
            arrival_ns = fifo.offer(packet(event, number), now_ns)
            number += 1
            if arrival_ns >= 0:
                assert arrival_ns == fifo.flight[-1][0]
        else:
            fifo.apply(event, now_ns)
            rate_bps = event.rate_bps
        conserved()
        check_flight()
    while fifo.flight:
        taken.append(int.from_bytes(fifo.take()[:4], "big"))
    conserved()
    assert taken == sorted(taken)


@given(
    st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(40, 1500)), min_size=2, max_size=100),
    st.integers(100_000, 20_000_000),
)
def test_over_any_interval_no_more_leaves_than_the_rate_and_a_packet(
    offers: list[tuple[int, int]], rate_bps: int
) -> None:
    fifo = up(rate_bps=rate_bps)
    now_ns = 0
    for gap_ns, size in offers:
        now_ns += gap_ns
        fifo.offer(packet(size), now_ns)
    left = [(departure_ns, len(data)) for _, departure_ns, _, data in fifo.flight]
    for first in range(len(left)):
        volume = 0
        for departure_ns, size in left[first + 1 :]:
            volume += size
            assert volume * 8 * S <= rate_bps * (departure_ns - left[first][0])
