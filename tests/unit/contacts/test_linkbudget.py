"""The link budget: arithmetic by hand, the channel of EMS-FL, and what a sampler may rely on."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.linkbudget import Budget, doppler_hz, free_space_db, slant_factor
from orbitrain.contacts.modcod import DVB_S2, LADDER
from orbitrain.contacts.presets import PRESETS, budget_of

RADIO: dict[str, Any] = {"frequency_hz": 2e9, "bandwidth_hz": 1e6, "eirp_dbw": 10.0, "g_over_t_dbk": -10.0}
SHANNON = Budget(**RADIO)
MODCOD = Budget(capacity="modcod", roll_off=0.25, **RADIO)
CONSTANT = Budget(capacity="constant", rate_bps=1_000_003)


def at_snr(budget: Budget, snr_db: Any) -> np.ndarray:
    """Ranges at which the budget has these SNRs."""
    level = float(budget.snr_db(1.0))
    return 10 ** ((level - np.asarray(snr_db, dtype=float)) / 20)


def overhead_pass(mask_degrees: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Range and elevation through an overhead pass, 600 km circular above a still, round Earth; step in s."""
    earth_km, orbit_km, step_s = 6371.0, 6971.0, 0.25
    turn = math.sqrt(398_600.4418 / orbit_km**3)
    angle = turn * np.arange(-500.0, 500.0, step_s)
    range_km = np.sqrt(earth_km**2 + orbit_km**2 - 2 * earth_km * orbit_km * np.cos(angle))
    elevation = np.degrees(np.arcsin((orbit_km * np.cos(angle) - earth_km) / range_km))
    seen = elevation >= mask_degrees
    return range_km[seen], elevation[seen], step_s


# --- the channel of EMS-FL (arXiv:2602.19485) -------------------------------------------------------------


def test_the_channel_of_emsfl_is_17_megabits_ideally_and_5_with_its_back_off() -> None:
    budget = PRESETS["emsfl"].up
    assert float(budget.snr_db(600.0)) == pytest.approx(10.0, abs=0.05)
    assert int(replace(budget, backoff_db=0).at(600.0).rate_bps) == pytest.approx(17.3e6, abs=0.05e6)
    assert 4.98e6 < int(budget.at(600.0).rate_bps) < 5.0e6
    assert int(budget.at(2000.0).rate_bps) == int(budget.at(600.0).rate_bps)  # its path loss is fixed


@pytest.mark.parametrize(
    ("mask_degrees", "backed_off_mb", "ideal_mb"),
    [(6.5, 154, 718), (10, 148, 675), (20, 130, 552), (30, 110, 440)],
)
def test_emsfl_over_free_space_carries_a_known_volume_a_pass(
    mask_degrees: float, backed_off_mb: float, ideal_mb: float
) -> None:
    range_km, elevation, step_s = overhead_pass(mask_degrees)
    budget = budget_of({"preset": "emsfl", "path_loss_db": "free-space"}, "up")
    assert float(free_space_db(np.array(600.0), 3.98e9)) == pytest.approx(160.0, abs=0.05)
    backed_off = budget.at(range_km, elevation).rate_bps.sum() * step_s / 8e6
    ideal = replace(budget, backoff_db=0).at(range_km, elevation).rate_bps.sum() * step_s / 8e6
    assert backed_off == pytest.approx(backed_off_mb, abs=2)
    assert ideal == pytest.approx(ideal_mb, abs=2)


# --- signal and noise -------------------------------------------------------------------------------------


def test_free_space_is_the_textbooks() -> None:
    # 32.45 + 20 lg(f / MHz) + 20 lg(d / km)
    assert float(free_space_db(np.array(1000.0), 2e9)) == pytest.approx(32.45 + 66.02 + 60.0, abs=0.01)


def test_snr_adds_up_by_hand() -> None:
    # EIRP 10 dBW, G/T -10 dB/K, loss 158.47 dB, k -228.60, 1 MHz 60 dBHz
    assert float(SHANNON.snr_db(1000.0)) == pytest.approx(10 - 10 - 158.47 + 228.60 - 60, abs=0.01)
    lossy = replace(SHANNON, pointing_loss_db=1.5, implementation_loss_db=2, zenith_attenuation_db=0.5)
    down = float(SHANNON.snr_db(1000.0)) - float(lossy.snr_db(1000.0, 30.0))
    assert down == pytest.approx(1.5 + 2 + 2 * 0.5)
    margins = replace(SHANNON, rain_margin_db=3, shadowing_margin_db=4, backoff_db=5)
    assert float(margins.snr_db(1000.0)) == float(SHANNON.snr_db(1000.0))
    assert float(margins.at(1000.0).rate_bps) == pytest.approx(
        1e6 * math.log2(1 + 10 ** ((float(SHANNON.snr_db(1000.0)) - 12) / 10)), abs=1
    )


def test_eirp_and_g_over_t_follow_from_their_parts() -> None:
    parts = Budget(
        frequency_hz=2e9,
        bandwidth_hz=1e6,
        power_dbm=33,
        transmit_gain_dbi=7,
        receive_gain_dbi=20,
        noise_figure_db=3,
        antenna_temperature_k=150,
    )
    assert parts.eirp == 10
    assert parts.noise_temperature_k == pytest.approx(150 + 290 * (10**0.3 - 1))
    assert parts.g_over_t == pytest.approx(20 - 10 * math.log10(438.6), abs=0.01)
    whole = Budget(**RADIO | {"g_over_t_dbk": parts.g_over_t})
    assert float(whole.snr_db(700.0)) == pytest.approx(float(parts.snr_db(700.0)))


def test_attenuation_is_a_cosecant_down_to_five_degrees_and_finite_at_the_horizon() -> None:
    elevation = np.array([90.0, 30.0, 10.0, 5.0])
    np.testing.assert_allclose(slant_factor(elevation), 1 / np.sin(np.radians(elevation)))
    fine = np.linspace(-2, 90, 9201)
    factor = slant_factor(fine)
    assert np.all(np.diff(factor) <= 0) and np.max(-np.diff(factor)) < 0.5  # continuous and falling
    assert 50 < float(slant_factor(np.array(0.0))) < 60
    assert float(slant_factor(np.array(-5.0))) == float(slant_factor(np.array(0.0)))


def test_a_satellite_that_comes_nearer_is_heard_higher() -> None:
    assert float(doppler_hz(4e9, np.array(-6.9))) == pytest.approx(92_060, abs=20)
    limited = replace(SHANNON, doppler_limit_hz=40_000)
    found = limited.at(1000.0, range_rate_km_per_s=[-6.1, -5.9, 0.0, 5.9, 6.1])
    assert (found.rate_bps > 0).tolist() == [False, True, True, True, False]
    assert len(set(found.rate_bps[1:4].tolist())) == 1  # within the limit it costs nothing
    assert found.step.tolist() == [0, 1, 1, 1, 0]


# --- rates ------------------------------------------------------------------------------------------------


def test_shannon_is_capped_and_what_the_cap_leaves_is_fade_margin() -> None:
    budget = replace(SHANNON, backoff_db=3, efficiency=0.5, max_rate_bps=1_000_000)
    found = budget.at(at_snr(budget, [0.0, 6.0, 10 * math.log10(3) + 3, 20.0]))
    wanted = [0.5e6 * math.log2(1 + 10**-0.3), 0.5e6 * math.log2(1 + 10**0.3), 1e6, 1e6]
    np.testing.assert_allclose(found.rate_bps, wanted, atol=1.01)
    np.testing.assert_allclose(found.fade_margin_db, [3, 3, 3, 20 - 10 * math.log10(3)], atol=1e-6)


def test_the_rate_in_use_is_decodable_down_to_the_fade_margin() -> None:
    budget = replace(SHANNON, backoff_db=3, rain_margin_db=2, efficiency=0.7, max_rate_bps=1_500_000)
    found = budget.at(at_snr(budget, np.linspace(-10, 30, 81)))
    faded = found.snr_db - found.fade_margin_db
    np.testing.assert_allclose(0.7e6 * np.log2(1 + 10 ** (faded / 10)), found.rate_bps, rtol=1e-4)


def test_below_the_minimum_rate_there_is_no_link() -> None:
    budget = replace(SHANNON, minimum_rate_bps=1_000_000)
    found = budget.at(at_snr(budget, [-0.001, 0.001]))
    assert found.rate_bps[0] == 0 and found.rate_bps[1] >= 1_000_000
    assert found.step.tolist() == [0, 1] and math.isnan(found.fade_margin_db[0])
    assert (found.loss_mean[0], found.loss_burst[0]) == (0, 1)
    assert int(SHANNON.at(at_snr(SHANNON, -70.0)).rate_bps) == 0  # less than a bit a second


def test_a_modcod_needs_its_threshold_in_its_symbols_and_its_margin() -> None:
    budget = replace(MODCOD, backoff_db=1.5)
    symbol_db = 10 * math.log10(1.25)  # the band is wider than the symbols are many
    for modcod in LADDER:
        threshold = modcod.es_n0_db - symbol_db + 1.5
        below, above = budget.at(at_snr(budget, [threshold - 1e-6, threshold + 1e-6])).rate_bps.tolist()
        assert above == math.floor(0.8e6 * modcod.efficiency + 1e-6)
        assert below < above
    assert int(budget.at(at_snr(budget, -2.35 - symbol_db + 1.5 - 1e-6)).rate_bps) == 0


def test_a_modem_takes_the_modcod_that_carries_most() -> None:
    rng = np.random.default_rng(3)
    es_n0 = rng.uniform(-5, 20, 500)
    found = MODCOD.at(at_snr(MODCOD, es_n0 - 10 * math.log10(1.25)))
    for n, level in enumerate(es_n0.tolist()):
        best = max((one.efficiency for one in DVB_S2 if one.es_n0_db <= level), default=0.0)
        assert abs(int(found.rate_bps[n]) - 0.8e6 * best) <= 1


def test_a_modcods_fade_margin_is_what_its_threshold_leaves() -> None:
    budget = replace(MODCOD, backoff_db=2)
    snr = 1.0 - 10 * math.log10(1.25) + 2 + 0.7  # QPSK 1/2 and 0.7 dB
    found = budget.at(at_snr(budget, snr))
    assert float(found.fade_margin_db) == pytest.approx(2.7)
    assert LADDER[int(found.step) - 1].name == "QPSK 1/2"


@pytest.mark.parametrize("sharers", [1, 7])
@pytest.mark.parametrize(
    "budget",
    [
        replace(SHANNON, minimum_rate_bps=200_000, backoff_db=2),
        replace(SHANNON, minimum_rate_bps=100_000, sharing="ofdma", direction="up"),
        MODCOD,
        replace(MODCOD, backoff_db=1, minimum_rate_bps=80_000, sharing="ofdma", direction="down"),
        replace(MODCOD, sharing="ofdma", direction="up"),
        replace(MODCOD, sharing="tdma", max_rate_bps=2_000_000),
    ],
)
def test_steps_are_where_the_step_changes_and_nowhere_else(budget: Budget, sharers: int) -> None:
    found = budget.at(at_snr(budget, np.linspace(-30, 30, 60_001)), sharers=sharers)
    changes = np.flatnonzero(np.diff(found.step))
    middle = (found.snr_db[changes] + found.snr_db[changes + 1]) / 2
    np.testing.assert_allclose(middle, budget.steps_snr_db(sharers), atol=1e-3)
    same = (np.diff(found.step) == 0) & (found.step[1:] > 0)
    assert np.max(np.abs(np.diff(found.rate_bps))[same]) <= 0.001 * np.max(found.rate_bps)


def test_a_step_that_is_given_goes_on_past_its_edge() -> None:
    edge = MODCOD.steps_snr_db()[3]
    range_km = at_snr(MODCOD, [edge - 0.01, edge + 0.01])
    assert MODCOD.at(range_km).step.tolist() == [3, 4]
    onward = MODCOD.at(range_km, step=4)
    assert onward.step.tolist() == [4, 4] and len(set(onward.rate_bps.tolist())) == 1
    assert onward.fade_margin_db[0] == pytest.approx(-0.01, abs=1e-6)
    assert MODCOD.at(range_km, step=[0, 4]).rate_bps.tolist()[0] == 0
    far = replace(SHANNON, minimum_rate_bps=10_000, doppler_limit_hz=1).at(1e9, None, 7.0, step=1)
    assert int(far.rate_bps) == 1  # a plan's contact has a rate


def test_a_constant_rate_needs_no_radio() -> None:
    found = CONSTANT.at([500.0, 40_000.0])
    assert found.rate_bps.tolist() == [1_000_003] * 2 and np.all(np.isnan(found.snr_db))
    assert found.loss_mean.tolist() == [0, 0] and found.loss_burst.tolist() == [1, 1]
    assert CONSTANT.steps_snr_db() == ()
    assert replace(CONSTANT, sharing="tdma").at(500.0, sharers=10).rate_bps == 100_000
    assert replace(CONSTANT, sharing="ofdma").at(500.0, sharers=10).rate_bps == 100_000
    lossy = replace(CONSTANT, fixed_loss_mean=0.02, fixed_loss_burst=4.0).at(500.0)
    assert (float(lossy.loss_mean), float(lossy.loss_burst)) == (0.02, 4.0)
    limited = replace(CONSTANT, frequency_hz=2e9, doppler_limit_hz=1_000).at(500.0, None, [0.0, 1.0])
    assert limited.rate_bps.tolist() == [1_000_003, 0]


# --- a beam that devices share ----------------------------------------------------------------------------


def test_time_is_shared_by_dividing_the_rate() -> None:
    count = np.array([1, 2, 3, 1000])
    alone = int(SHANNON.at(1000.0).rate_bps)
    shared = replace(SHANNON, sharing="tdma").at(1000.0, sharers=count)
    assert shared.rate_bps.tolist() == [alone // n for n in count.tolist()]
    assert len(set(shared.snr_db.tolist())) == 1
    assert replace(MODCOD, sharing="tdma").at(at_snr(MODCOD, 1.0), sharers=10**6).step == 0  # under 1 bit/s


def test_a_shared_band_costs_a_device_that_keeps_its_power_less_than_a_shared_time() -> None:
    snr_db, n = 3.0, 4
    range_km = at_snr(SHANNON, snr_db)
    up = replace(SHANNON, sharing="ofdma", direction="up").at(range_km, sharers=n)
    down = replace(SHANNON, sharing="ofdma", direction="down").at(range_km, sharers=n)
    assert int(up.rate_bps) == math.floor(1e6 / n * math.log2(1 + n * 10**0.3))
    assert int(down.rate_bps) == math.floor(1e6 / n * math.log2(1 + 10**0.3))
    assert float(up.snr_db) == pytest.approx(snr_db + 10 * math.log10(n))
    assert float(down.snr_db) == pytest.approx(snr_db)


def test_without_sharing_the_number_of_devices_does_not_matter() -> None:
    assert len(set(SHANNON.at(1000.0, sharers=[1, 5, 50]).rate_bps.tolist())) == 1


# --- fading -----------------------------------------------------------------------------------------------


def test_open_sky_with_enough_margin_loses_nothing_and_a_city_loses_much() -> None:
    clear = replace(SHANNON, environment="open", backoff_db=10).at(1000.0, 30.0)
    assert (float(clear.loss_mean), float(clear.loss_burst)) == (0, 1)
    urban = replace(SHANNON, environment="urban", backoff_db=10).at(1000.0, [20.0, 40.0, 80.0])
    assert np.all(np.diff(urban.loss_mean) < 0) and 0.5 < urban.loss_mean[0] < 0.7
    packets_per_s = urban.rate_bps / (8 * 1500)
    assert np.all(urban.loss_burst[:2] > 5 * packets_per_s[:2])  # a building shadows for many seconds


def test_bursts_are_counted_in_packets_of_the_device() -> None:
    budget = replace(SHANNON, environment="rural", backoff_db=20, sharing="tdma")
    alone, shared = budget.at(at_snr(budget, 30.0), 30.0), budget.at(at_snr(budget, 30.0), 30.0, sharers=2)
    assert float(alone.loss_mean) == float(shared.loss_mean)
    assert float(alone.loss_burst) == pytest.approx(2 * float(shared.loss_burst), rel=1e-5)
    larger = replace(budget, packet_bytes=3000).at(at_snr(budget, 30.0), 30.0)
    assert float(alone.loss_burst) == pytest.approx(2 * float(larger.loss_burst), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    budget=st.sampled_from([SHANNON, MODCOD]),
    sharing=st.sampled_from(["none", "tdma", "ofdma"]),
    environment=st.sampled_from(["open", "rural", "urban", None]),
    backoff_db=st.floats(0, 30),
    range_km=st.lists(st.floats(100, 1e6), min_size=1, max_size=20),
    elevation=st.floats(-10, 90),
    sharers=st.integers(1, 1000),
)
def test_whatever_comes_out_fits_into_a_plan(
    budget: Budget,
    sharing: str,
    environment: str,
    backoff_db: float,
    range_km: list[float],
    elevation: float,
    sharers: int,
) -> None:
    changed = replace(budget, sharing=sharing, direction="up", environment=environment, backoff_db=backoff_db)
    found = changed.at(range_km, elevation, None, sharers)
    assert found.rate_bps.dtype == np.int64 and found.step.dtype == np.int64
    assert all(getattr(found, field.name).shape == (len(range_km),) for field in fields(found))
    assert np.all(found.rate_bps >= 0) and np.all((found.rate_bps > 0) == (found.step > 0))
    assert np.all((found.loss_mean >= 0) & (found.loss_mean <= 0.99)) and np.all(found.loss_burst >= 1)
    assert np.all(found.loss_mean <= found.loss_burst * (1 - found.loss_mean) * (1 + 1e-9))


# --- shapes and refusals ----------------------------------------------------------------------------------


def test_arguments_broadcast_and_numbers_give_numbers() -> None:
    budget = replace(
        SHANNON, environment="rural", zenith_attenuation_db=0.1, doppler_limit_hz=1e6, sharing="tdma"
    )
    found = budget.at(np.full((3, 1), 900.0), np.array([10.0, 50.0]), 1.0, np.array([[1], [2], [3]]))
    assert found.rate_bps.shape == found.loss_mean.shape == found.step.shape == (3, 2)
    one = budget.at(900.0, 10.0, 1.0)
    assert one.rate_bps.shape == () and int(one.rate_bps) == int(found.rate_bps[0, 0])
    assert budget.at(np.empty(0), np.empty(0), np.empty(0)).rate_bps.shape == (0,)


def test_between_satellites_there_is_no_elevation() -> None:
    assert int(SHANNON.at(2000.0).rate_bps) > 0
    with pytest.raises(ValueError, match=r"^elevation_degrees: must be given where environment is"):
        replace(SHANNON, environment="open").at(2000.0)
    with pytest.raises(ValueError, match=r"^elevation_degrees: must be given where zenith_attenuation_db"):
        replace(SHANNON, zenith_attenuation_db=0.1).at(2000.0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"range_km": 0.0}, "range_km: must be above 0 everywhere"),
        ({"range_km": [1.0, math.nan]}, "range_km: must be finite everywhere"),
        ({"range_km": 1.0, "elevation_degrees": math.inf}, "elevation_degrees: must be finite everywhere"),
        ({"range_km": 1.0, "sharers": 0}, "sharers: must be whole numbers, 1 to 1000000"),
        ({"range_km": 1.0, "sharers": 1.5}, "sharers: must be whole numbers, 1 to 1000000"),
        ({"range_km": 1.0, "step": 2}, "step: must be whole numbers, 0 to 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as refusal:
        SHANNON.at(**arguments)
    assert str(refusal.value) == line


def test_a_doppler_limit_asks_for_the_range_rate() -> None:
    with pytest.raises(ValueError, match=r"^range_rate_km_per_s: must be given where doppler_limit_hz is"):
        replace(SHANNON, doppler_limit_hz=1e3).at(1000.0)
    with pytest.raises(ValueError, match=r"^capacity: must be shannon or modcod for an SNR"):
        CONSTANT.snr_db(1000.0)
    with pytest.raises(ValueError, match=r"^sharers: "):
        SHANNON.steps_snr_db(0)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({}, "frequency_hz: must be given where capacity is shannon"),
        ({"frequency_hz": 2e9}, "bandwidth_hz: must be given where capacity is shannon"),
        ({"frequency_hz": "2"}, "frequency_hz: must be a number, 1e+06 to 1e+15, not '2'"),
        ({"frequency_hz": math.nan}, "frequency_hz: must be a number, 1e+06 to 1e+15, not nan"),
        ({"capacity": "magic"}, "capacity: must be shannon or modcod or constant, not 'magic'"),
        (RADIO | {"power_dbm": 20}, "eirp_dbw: must be given, or power_dbm, and not both"),
        (RADIO | {"eirp_dbw": None}, "eirp_dbw: must be given, or power_dbm, and not both"),
        (RADIO | {"transmit_gain_dbi": 2}, "transmit_gain_dbi: must be left out where eirp_dbw is given"),
        (RADIO | {"receive_gain_dbi": 2}, "g_over_t_dbk: must be given, or receive_gain_dbi, and not both"),
        (RADIO | {"noise_figure_db": 2}, "noise_figure_db: must be left out where g_over_t_dbk is given"),
        (RADIO | {"rate_bps": 5}, "rate_bps: must be left out where capacity is shannon"),
        (RADIO | {"roll_off": 0.2}, "roll_off: must be left out where capacity is not modcod"),
        (RADIO | {"sharing": "ofdma"}, "direction: must be up or down where sharing is ofdma"),
        (RADIO | {"backoff_db": -1}, "backoff_db: must be a number, 0 to 100, not -1"),
        (RADIO | {"backoff_db": None}, "backoff_db: must be a number, 0 to 100, not None"),
        (RADIO | {"max_rate_bps": 1e6}, "max_rate_bps: must be a whole number, 1 to 1e+15, not 1000000.0"),
        (RADIO | {"packet_bytes": True}, "packet_bytes: must be a whole number, 64 to 65535, not True"),
        (RADIO | {"environment": "forest"}, "environment: must be open or rural or urban, not 'forest'"),
        ({"capacity": "constant"}, "rate_bps: must be given where capacity is constant"),
        (
            {"capacity": "constant", "rate_bps": 5, "backoff_db": 3},
            "backoff_db: must be left out where capacity is constant (no radio)",
        ),
        (
            {"capacity": "constant", "rate_bps": 5, "doppler_limit_hz": 3},
            "frequency_hz: must be given where doppler_limit_hz is",
        ),
        (
            {"capacity": "constant", "rate_bps": 5, "fixed_loss_mean": 0.9},
            "fixed_loss_burst: must be at least fixed_loss_mean / (1 - fixed_loss_mean), 9, not 1.0",
        ),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_one_line(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Budget(**keys)
    assert str(refusal.value) == line


# --- presets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_a_link_both_ways_through_a_usual_pass(name: str) -> None:
    range_km, elevation, _ = overhead_pass(10.0)
    for budget in (PRESETS[name].up, PRESETS[name].down):
        found = budget.at(range_km, elevation)
        assert np.all(found.rate_bps > 0) and np.all(found.loss_mean < 0.01)
    assert PRESETS[name].about


def test_keys_replace_those_of_a_preset() -> None:
    own = budget_of({"preset": "s-band-service", "backoff_db": 7, "eirp_dbw": 3.0, "sharing": "tdma"}, "up")
    assert (own.backoff_db, own.eirp, own.power_dbm, own.sharing) == (7, 3.0, None, "tdma")
    assert own.g_over_t == PRESETS["s-band-service"].up.g_over_t
    assert (
        budget_of({"preset": "s-band-service", "noise_figure_db": 3, "receive_gain_dbi": 2}, "up").g_over_t
        < 0
    )
    assert budget_of({"preset": "ka-feeder"}, "down") == PRESETS["ka-feeder"].down
    assert budget_of({"capacity": "constant", "rate_bps": 5}, "down").direction == "down"


@pytest.mark.parametrize(
    ("keys", "start"),
    [
        ({"rate_bytes_per_s": 5}, "rate_bytes_per_s: rates are in bit/s"),
        ({"preset": "emsfl", "max_rate_bytes_per_s": 5}, "max_rate_bytes_per_s: rates are in bit/s"),
        ({"preset": "starlink"}, "preset: must be emsfl, "),
        ({"preset": ["emsfl"]}, "preset: must be emsfl, "),
        ({"power": 5}, "power: must be a key of a link budget: preset, antenna_temperature_k, "),
        ({"direction": "up"}, "direction: must be a key of a link budget: "),
        ({"path_loss_db": "free"}, "path_loss_db: must be a number"),
    ],
)
def test_keys_that_are_none_are_named(keys: dict[str, object], start: str) -> None:
    with pytest.raises(ValueError) as refusal:
        budget_of(keys, "up")
    assert str(refusal.value).startswith(start) and "\n" not in str(refusal.value)


def test_no_field_is_a_rate_in_bytes() -> None:
    names = [field.name for field in fields(Budget)]
    assert not [name for name in names if "byte" in name and name != "packet_bytes"]
    assert all(name.endswith("_bps") for name in names if "rate" in name)
