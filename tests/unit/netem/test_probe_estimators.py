"""What the probe concludes from what arrived and what did not."""

from __future__ import annotations

from math import ceil, comb, inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.link_state import NO_LOSS, Loss
from netem.probe.estimators import (
    Edge,
    Losses,
    Spread,
    binomial_interval,
    chain,
    edge,
    incomplete_beta,
    inside,
    plausible_run,
    tails,
    train_bps,
)
from netem.tun.fifo import Fifo
from tests.unit.netem.plans import MS

# --- binomial -----------------------------------------------------------------------------------------------


@given(st.floats(0.05, 900), st.floats(0.05, 5000), st.floats(0, 1))
def test_the_beta_function_is_that_of_scipy(a: float, b: float, x: float) -> None:
    special = pytest.importorskip("scipy.special")
    for at in (x, a / (a + b)):
        assert incomplete_beta(a, b, at) == pytest.approx(special.betainc(a, b, at), abs=1e-10)


@given(st.integers(1, 60), st.data())
def test_tails_are_sums_of_the_binomial(n: int, data: st.DataObject) -> None:
    k, p = data.draw(st.integers(0, n)), data.draw(st.floats(0.001, 0.999))
    chances = [comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]
    assert tails(k, n, p) == pytest.approx((sum(chances[: k + 1]), sum(chances[k:])), abs=1e-9)


def test_the_interval_of_no_loss_in_a_hundred_is_known_in_closed_form() -> None:
    low, high = binomial_interval(0, 100, 0.99)
    assert low == 0
    assert high == pytest.approx(1 - 0.005**0.01, abs=1e-12)
    assert binomial_interval(100, 100, 0.99) == pytest.approx((0.005**0.01, 1.0), abs=1e-12)
    assert binomial_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_a_chance_is_inside_exactly_where_the_interval_holds_it(n: int, data: st.DataObject) -> None:
    k, p = data.draw(st.integers(0, n)), data.draw(st.floats(0, 1))
    low, high = binomial_interval(k, n)
    if abs(p - low) > 1e-9 and abs(p - high) > 1e-9:
        assert inside(k, n, p) == (low <= p <= high)


def test_what_must_never_or_always_be_lost_needs_no_interval() -> None:
    assert inside(0, 1000, 0.0) and not inside(1, 1000, 0.0)
    assert inside(1000, 1000, 1.0) and not inside(999, 1000, 1.0)


# --- losses -------------------------------------------------------------------------------------------------


def seen(planned: Loss, outcomes: list[bool]) -> Losses:
    losses = Losses()
    before: tuple[Loss, bool] | None = None
    for lost in outcomes:
        losses.add(planned, lost=lost, before=before)
        before = planned, lost
    return losses


def drawn(loss: Loss, n: int, seed: int) -> list[bool]:
    """As the relay loses them."""
    fifo = Fifo(seed)
    fifo._set_loss(loss, fresh=True)
    return [loss is not NO_LOSS and fifo._loses() for _ in range(n)]


GILBERT = Loss.of(0.1, 4.0)


@pytest.mark.parametrize(
    ("planned", "true", "n", "mean", "runs"),
    [
        (NO_LOSS, NO_LOSS, 400, "inside", "unknown"),
        (NO_LOSS, NO_LOSS, 50, "unknown", "unknown"),  # too few to rule out 5 %
        (NO_LOSS, Loss.of(0.1, 1.0), 400, "outside", "unknown"),
        (Loss.of(0.1, 1.0), NO_LOSS, 400, "outside", "unknown"),
        (Loss.of(0.1, 1.0), Loss.of(0.1, 1.0), 400, "inside", "inside"),
        (GILBERT, NO_LOSS, 400, "outside", "unknown"),
        (GILBERT, GILBERT, 3000, "inside", "inside"),
        (GILBERT, GILBERT, 40, "unknown", "unknown"),
        (GILBERT, Loss.of(0.3, 4.0), 3000, "outside", "inside"),
        (GILBERT, Loss.of(0.1, 1.0), 3000, "outside", "outside"),
        (Loss.of(0.1, 2.0), Loss.of(0.1, 10.0), 3000, "outside", "outside"),
        (Loss.of(1.0, 1.0), Loss.of(1.0, 1.0), 400, "inside", "unknown"),
        (Loss.of(1.0, 1.0), GILBERT, 400, "outside", "unknown"),
    ],
)
def test_losses_are_told_apart_from_others_where_probes_are_enough(
    planned: Loss, true: Loss, n: int, mean: str, runs: str
) -> None:
    losses = seen(planned, drawn(true, n, seed=5))
    assert (losses.mean(0.99), losses.runs(0.99)) == (mean, runs)


@pytest.mark.parametrize("loss", [Loss.of(0.02, 1.0), Loss.of(0.05, 3.0), GILBERT, Loss.of(0.3, 8.0)])
def test_true_losses_are_seldom_called_untrue(loss: Loss) -> None:
    wrong = 0
    for seed in range(400):
        losses = seen(loss, drawn(loss, 500, seed))
        confidence = 1 - 0.01 / losses.tests
        wrong += "outside" in (losses.mean(confidence), losses.runs(confidence))
    assert wrong <= 10  # 1 % of 400 are 4; P(more than 10) < 0.3 %


def test_probes_in_bursts_of_losses_are_worth_fewer() -> None:
    to_bad, to_good, worth = chain(GILBERT)
    assert to_good == 0.25
    assert to_bad / (to_bad + to_good) == pytest.approx(0.1)
    assert worth == pytest.approx((to_bad + to_good) / (2 - to_bad - to_good))
    assert chain(NO_LOSS) == (0.0, 1.0, 1.0)
    assert chain(Loss.of(0.1, 1.0))[2] == 1.0


def test_the_interval_of_losses_in_bursts_is_as_wide_as_of_independent_ones_in_their_worth() -> None:
    losses = seen(GILBERT, [True, False, False, False, False] * 100)
    narrow = seen(Loss.of(0.1, 1.0), [True, False, False, False, False] * 100)
    assert losses.interval(0.99)[0] < narrow.interval(0.99)[0] < 0.2
    assert losses.interval(0.99)[1] > narrow.interval(0.99)[1] > 0.2


def test_runs_of_losses_are_counted_over_neighbours_only() -> None:
    losses = seen(GILBERT, [False, True, True, False, True, False])
    assert (losses.burst, losses.planned_burst) == (1.5, 4.0)
    losses.add(GILBERT, lost=True, before=None)
    assert (losses.ended.trials, losses.probes, losses.lost) == (3, 7, 4)


def test_two_tallies_joined_know_both_means_and_the_runs_of_the_first() -> None:
    both = seen(GILBERT, [False, True, False]).joined(seen(NO_LOSS, [True]))
    assert (both.probes, both.lost, both.expected) == (4, 2, pytest.approx(0.3))
    assert (both.begun.trials, both.ended.trials) == (1, 1)


@pytest.mark.parametrize(
    ("loss", "run"),
    [
        (NO_LOSS, 0),
        (Loss.of(0.0005, 4.0), 0),
        (Loss.of(0.1, 1.0), 1),
        (Loss.of(0.1, 2.0), 7),
        (GILBERT, 17),
    ],
)
def test_how_long_a_run_of_planned_losses_may_be(loss: Loss, run: int) -> None:
    assert plausible_run(loss) == run
    if run:  # 0.1 * (1 - 1 / burst) ^ (run - 1) is the chance
        assert loss.mean * (1 - 1 / loss.burst) ** (run - 1) >= 0.001
        assert loss.mean * (1 - 1 / loss.burst) ** run < 0.001


# --- delays -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=300), st.floats(0, 1))
def test_a_spread_is_within_a_hundredth_or_five_microseconds(values: list[int], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    for found, exact in (
        (spread.quantile_ns(share), sorted(values)),
        (spread.size_ns(share), sorted(abs(value) for value in values)),
    ):
        true = exact[max(1, ceil(share * len(values))) - 1]
        assert found is not None
        assert abs(found - true) <= max(5_001, 0.006 * abs(true))


def test_spreads_join_and_an_empty_one_knows_nothing() -> None:
    one, other = Spread(), Spread()
    assert one.quantile_ns(0.5) is None
    one.add(-3 * MS)
    other.add(MS)
    other.add(2 * MS)
    one.join(other)
    assert (one.total, one.quantile_ns(0.5), one.size_ns(0.5), one.size_ns(1.0)) == (3, MS, 2 * MS, 3 * MS)


# --- rate ---------------------------------------------------------------------------------------------------


def test_the_rate_of_a_train_is_that_of_its_spacing_whatever_is_lost() -> None:
    # 1250 bytes at 10 Mbit/s: 1 ms each. The first one found the transmitter idle: it does not count.
    random = Random(1)
    arrived = [(number, 5 * MS + number * MS + random.randrange(100_000)) for number in range(1, 40)]
    whole = train_bps([(0, 0), *arrived], 1250)
    holes = train_bps([one for one in arrived if one[0] % 7], 1250)
    assert whole == pytest.approx(10e6, rel=0.003)
    assert holes == pytest.approx(10e6, rel=0.003)


def test_a_train_of_which_little_arrived_has_no_rate() -> None:
    assert train_bps([(0, 0), (1, MS), (2, 2 * MS), (3, 3 * MS)], 1250) is None
    assert train_bps([(number, 7) for number in range(9)], 1250) == inf


# --- edges --------------------------------------------------------------------------------------------------

AROUND = [-10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10]


def around(arrived: set[int]) -> list[tuple[int, bool]]:
    return [(at * MS, at in arrived) for at in AROUND]


@pytest.mark.parametrize(
    ("arrived", "up", "run", "expected"),
    [
        ({0, 2, 4, 6, 8, 10}, True, 0, Edge(-MS, 0, 2 * MS)),
        ({4, 6, 8, 10}, True, 0, Edge(3 * MS, 2 * MS, 2 * MS)),
        ({-6, -4, -2, 0, 2, 4, 6, 8, 10}, True, 0, Edge(-7 * MS, -6 * MS, 2 * MS)),
        (set(), True, 0, Edge(10 * MS, 10 * MS, inf)),
        (set(AROUND), True, 0, Edge(-10 * MS, -10 * MS, inf)),
        # Up to two in a row may be plain losses: the edge may have been earlier.
        ({4, 6, 8, 10}, True, 2, Edge(MS, 0, 6 * MS)),
        (set(), True, 2, Edge(6 * MS, 6 * MS, inf)),
        ({-10, -8, -6, -4, -2}, False, 0, Edge(-MS, 0, 2 * MS)),
        ({-10, -8, -6}, False, 0, Edge(-5 * MS, -4 * MS, 2 * MS)),
        (set(AROUND), False, 0, Edge(10 * MS, 10 * MS, inf)),
        (set(), False, 0, Edge(-10 * MS, -10 * MS, inf)),
    ],
)
def test_an_edge_lies_between_the_last_that_did_not_and_the_first_that_did(
    arrived: set[int], up: bool, run: int, expected: Edge
) -> None:
    assert edge(around(arrived), 0, up=up, run=run) == expected
    shifted = [(at + 10**18, one) for at, one in reversed(around(arrived))]
    assert edge(shifted, 10**18, up=up, run=run) == expected


def test_without_probes_there_is_no_edge() -> None:
    assert edge([], 0, up=True, run=0) is None
