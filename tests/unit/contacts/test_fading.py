"""Fading: outage against simulated signals and another implementation, and what it comes to in packets."""

from __future__ import annotations

import numpy as np
import pytest

from orbitrain.contacts.fading import (
    ENVIRONMENTS,
    FADE_S,
    LARGEST_LOSS,
    RICE_FACTOR_DB,
    SHADOW_S,
    Fades,
    band,
    burst_packets,
    fades,
    fades_exactly,
    in_sight,
    rician_outage,
    shadowed_outage,
)

SEED = 20_261_120


def rician_power(rng: np.random.Generator, rice_factor_db: float, count: int) -> np.ndarray:
    factor = 10 ** (rice_factor_db / 10)
    scatter = (rng.normal(size=count) + 1j * rng.normal(size=count)) / np.sqrt(2)
    return np.abs(np.sqrt(factor / (factor + 1)) + np.sqrt(1 / (factor + 1)) * scatter) ** 2


@pytest.mark.parametrize("rice_factor_db", [0.0, 7.0, 10.0, 15.0])
@pytest.mark.parametrize("margin_db", [-2.0, 0.0, 1.0, 3.0, 6.0])
def test_rician_outage_is_what_a_simulated_signal_has(rice_factor_db: float, margin_db: float) -> None:
    count = 400_000
    power = rician_power(np.random.default_rng(SEED), rice_factor_db, count)
    seen = np.mean(power < 10 ** (-margin_db / 10))
    outage = float(rician_outage(rice_factor_db, np.array(margin_db)))
    assert seen == pytest.approx(outage, abs=5 * np.sqrt(outage * (1 - outage) / count) + 1e-9)


def test_rician_outage_is_the_noncentral_chi_square_to_its_last_digits() -> None:
    stats = pytest.importorskip("scipy.stats")
    margin_db = np.linspace(-10, 60, 141)
    for rice_factor_db in (-20.0, 0.0, 7.0, 10.0, 15.0, 20.0):
        factor = 10 ** (rice_factor_db / 10)
        wanted = stats.ncx2.cdf(2 * (factor + 1) * 10 ** (-margin_db / 10), 2, 2 * factor)
        found = rician_outage(rice_factor_db, margin_db)
        np.testing.assert_allclose(found[wanted > 1e-12], wanted[wanted > 1e-12], rtol=1e-9)
        np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_without_a_direct_path_outage_is_rayleighs() -> None:
    margin_db = np.linspace(-5, 40, 46)
    wanted = -np.expm1(-(10 ** (-margin_db / 10)))
    np.testing.assert_allclose(rician_outage(-60.0, margin_db), wanted, rtol=2e-5)


def test_outage_in_shadow_is_what_a_simulated_signal_has() -> None:
    rng = np.random.default_rng(SEED)
    count = 400_000
    for loss_db, deviation_db in ((20.0, 9.0), (30.0, 6.0), (17.0, 11.5)):
        power = 10 ** (-(loss_db + deviation_db * rng.normal(size=count)) / 10) * rng.exponential(size=count)
        for margin_db in (0.0, 10.0, 20.0, 35.0):
            seen = np.mean(power < 10 ** (-margin_db / 10))
            outage = float(shadowed_outage(np.array(loss_db), np.array(deviation_db), np.array(margin_db)))
            assert seen == pytest.approx(outage, abs=5 * np.sqrt(outage * (1 - outage) / count) + 1e-9)


def test_the_shares_in_sight_are_those_of_tr_38_811() -> None:
    at = np.array([0.0, 10.0, 15.0, 30.0, 90.0])
    np.testing.assert_allclose(in_sight("rural", at), [0.782, 0.782, 0.8255, 0.919, 0.998])
    np.testing.assert_allclose(in_sight("urban", at), [0.246, 0.246, 0.316, 0.493, 0.992])
    np.testing.assert_allclose(in_sight("open", at), 1.0)
    assert (band(2e9), band(20e9)) == ("S", "Ka")


@pytest.mark.parametrize("frequency_hz", [2e9, 28e9])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_table_is_close_to_what_it_tabulates(environment: str, frequency_hz: float) -> None:
    rng = np.random.default_rng(SEED)
    elevation, margin_db = rng.uniform(0, 90, 2_000), rng.uniform(0, 40, 2_000)
    exact = fades_exactly(environment, frequency_hz, elevation, margin_db)
    found = fades(environment, frequency_hz, elevation, margin_db)
    np.testing.assert_allclose(found.loss_mean, np.minimum(exact.loss_mean, LARGEST_LOSS), atol=1.2e-4)
    lossy = found.loss_mean > 1e-4
    np.testing.assert_allclose(found.burst_s[lossy], exact.burst_s[lossy], rtol=2e-3)


def test_the_table_goes_on_with_its_last_values() -> None:
    edge = fades("rural", 2e9, np.array([10.0, 90.0, 45.0, 45.0]), np.array([5.0, 5.0, 0.0, 60.0]))
    beyond = fades("rural", 2e9, np.array([-3.0, 91.0, 45.0, 45.0]), np.array([5.0, 5.0, -4.0, 99.0]))
    np.testing.assert_array_equal(beyond.loss_mean, edge.loss_mean)
    np.testing.assert_array_equal(beyond.burst_s, edge.burst_s)


def test_in_the_open_a_margin_of_six_decibels_is_enough_and_none_loses_half() -> None:
    found = fades("open", 2e9, np.full(4, 30.0), np.array([0.0, 4.0, 6.0, 10.0]))
    assert found.loss_mean[0] == pytest.approx(0.5, abs=0.05)
    assert found.loss_mean[1] < 2e-3 and found.loss_mean[2] < 5e-5 and found.loss_mean[3] == 0.0


def test_loss_falls_with_margin_and_elevation_and_grows_with_what_stands_around() -> None:
    margin_db = np.linspace(0, 50, 51)
    elevation = np.linspace(0, 90, 91)
    previous = np.zeros(51)
    for environment in ENVIRONMENTS:
        by_margin = fades(environment, 2e9, np.full(51, 40.0), margin_db).loss_mean
        assert np.all(np.diff(by_margin) <= 0) and np.all(by_margin >= previous)
        by_elevation = fades(environment, 2e9, elevation, np.full(91, 10.0)).loss_mean
        assert np.all(np.diff(by_elevation) <= 1e-3)
        previous = by_margin


def test_a_run_of_losses_lasts_as_its_causes_do() -> None:
    found = fades("urban", 2e9, np.full(2, 30.0), np.array([0.0, 25.0]))
    assert FADE_S < found.burst_s[0] < 1.0  # mostly fades in sight
    assert found.burst_s[1] == pytest.approx(SHADOW_S["urban"], rel=0.02)  # what is left is shadow
    assert fades("open", 2e9, np.array([30.0]), np.array([1.0])).burst_s[0] == pytest.approx(FADE_S)
    assert set(RICE_FACTOR_DB) == set(SHADOW_S) == set(ENVIRONMENTS)


def test_a_burst_is_at_least_a_packet_and_what_its_mean_asks_for() -> None:
    lost = Fades(np.array([0.0, 0.01, 0.99, 0.5]), np.array([0.0, 0.2, 0.2, 20.0]))
    np.testing.assert_allclose(
        burst_packets(lost, np.array([100.0, 1.0, 1.0, 50.0])), [1.0, 1.0, 99.0, 1000.0]
    )


def test_a_gilbert_elliott_channel_with_these_numbers_loses_that_share_in_such_runs() -> None:
    lost = fades("urban", 2e9, np.array([40.0]), np.array([8.0]))
    burst = float(burst_packets(lost, np.array([3.0]))[0])
    mean = float(lost.loss_mean[0])
    recover, turn = 1 / burst, mean / (burst * (1 - mean))
    assert 0 < turn <= 1
    draws = np.random.default_rng(SEED).random(300_000)
    bad, count, runs = False, 0, 0
    for draw in draws.tolist():
        was, bad = bad, (draw >= recover) if bad else (draw < turn)
        count += bad
        runs += bad and not was
    assert count / len(draws) == pytest.approx(mean, rel=0.05)
    assert count / runs == pytest.approx(burst, rel=0.05)


def test_a_rice_factor_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rice_factor_db: must be at most 20, not 30"):
        rician_outage(30.0, np.array([1.0]))
