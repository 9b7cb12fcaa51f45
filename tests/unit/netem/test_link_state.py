from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.link_state import (
    LEAST_QUEUE_PACKETS,
    MARGIN_PACKETS,
    MTU_BYTES,
    NO_LOSS,
    LinkState,
    Loss,
    queue_limits,
    up_state,
)


@given(st.floats(0.001, 0.95), st.floats(1, 1000))
def test_transitions_give_the_mean_and_the_burst_asked_for(mean: float, burst: float) -> None:
    loss = Loss.of(mean, burst)
    to_bad, to_good = loss.transitions()
    assert 0 < to_bad <= 1 and 0 < to_good <= 1
    assert to_bad / (to_bad + to_good) == pytest.approx(mean)
    assert 1 / to_good == pytest.approx(max(burst, mean / (1 - mean)))


@pytest.mark.parametrize(
    ("mean", "burst", "expected"),
    [
        (0.0, 0.0, NO_LOSS),
        (0.0, 5.0, NO_LOSS),
        (1.0, 1.0, Loss("uniform", 1.0, 0.0)),
        (0.1, 4.0, Loss("gilbert_elliott", 0.1, 4.0)),
        (0.9, 1.0, Loss("gilbert_elliott", 0.9, 0.9 / (1 - 0.9))),
    ],
)
def test_loss_of_a_sample(mean: float, burst: float, expected: Loss) -> None:
    assert Loss.of(mean, burst) == expected


def test_queue_follows_the_stated_formula() -> None:
    # 10 Mbit/s, 20 ms: 90 ms of it may wait, 20 ms flies.
    waiting, packets = queue_limits(20_000_000, 10_000_000, 50_000_000)
    assert waiting == 10_000_000 * 0.090 / 8
    assert packets == -(-(112_500 + 25_000) // MTU_BYTES) + MARGIN_PACKETS


def test_a_slow_short_link_still_queues_some_full_packets() -> None:
    assert queue_limits(1_000_000, 9_600, 0)[0] == LEAST_QUEUE_PACKETS * MTU_BYTES


@given(
    st.integers(0, 400_000_000),
    st.integers(10_000, 50_000_000),
    st.sampled_from([2, 10, 60, 500]),
)
def test_queue_in_bytes_does_not_depend_on_the_rate_of_the_clock(
    delay_ns: int, rate_bps: int, r: int
) -> None:
    there, _ = queue_limits(delay_ns, rate_bps, 50_000_000)
    here, _ = queue_limits(delay_ns // r, rate_bps * r, 50_000_000 // r)
    rounding = rate_bps * r * 3 / 8e9 + 1
    assert abs(there - here) <= rounding


def test_a_link_that_goes_down_keeps_its_parameters() -> None:
    up = up_state(20_000_000, 1_000_000, Loss.of(0.1, 3))
    down = up.down("cut")
    assert up.up and not down.up
    assert (down.delay_ns, down.rate_bps, down.loss) == (up.delay_ns, up.rate_bps, up.loss)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"delay_ns": -1}, "delay_ns: must be 0 to"),
        ({"rate_bps": 0}, "rate_bps: must be 1 to"),
        ({"rate_bps": 10**13}, "rate_bps: must be 1 to"),
        ({"jitter_ns": 11}, "jitter_ns: must be 0 to delay_ns"),
        ({"limit_bytes": 0}, "limit_bytes, limit_packets: must be 1 or more"),
        ({"outage": "off"}, "outage: must be hold or cut"),
    ],
)
def test_bad_states_are_refused_by_field(values: dict[str, int], complaint: str) -> None:
    good = {"delay_ns": 10, "rate_bps": 1, "loss": NO_LOSS, "limit_bytes": 1, "limit_packets": 1}
    with pytest.raises(ValueError, match=complaint):
        LinkState(**{**good, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("burst", [0.5, float("inf"), float("nan")])
def test_a_burst_is_at_least_a_packet_and_finite(burst: float) -> None:
    with pytest.raises(ValueError, match=r"loss\.burst"):
        Loss("gilbert_elliott", 0.1, burst)
