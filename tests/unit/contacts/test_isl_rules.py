"""The rules of inter-satellite windows: what follows from them, and which are refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orbitrain.contacts.crossings import Changes, Spans, spans_at
from orbitrain.contacts.elements import Shell
from orbitrain.contacts.finder import LONGEST_STEP_S
from orbitrain.contacts.geometry import propagated, tracks
from orbitrain.contacts.isl import IslRules, find_isl, range_rate_of_doppler
from orbitrain.contacts.planes import Pairs
from tests.unit.contacts.flown import ALL_RULES, EPOCH, everything, orbit, walker


def test_neighbours_that_always_see_each_other_have_one_window_clipped_to_the_tracks() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 22))
    windows = find_isl(tracks(satellites, EPOCH, 7_000.0, 60.0), planes.ring_pairs(), IslRules())
    assert len(windows) == 22 and windows.intra.all()
    assert set(windows.start_s.tolist()) == {0.0} and set(windows.end_s.tolist()) == {7_000.0}


def test_pairs_of_one_plane_are_asked_for_clearance_and_range_only() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 22))
    flown = tracks(satellites, EPOCH, 7_000.0, 60.0)
    pairs = planes.ring_pairs()
    strict = IslRules(80.0, 5_000.0, 1e-6, 1e-9, 1.0)
    assert len(find_isl(flown, pairs, strict)) == 22
    assert len(find_isl(flown, replace_intra(pairs), strict)) == 0
    assert len(find_isl(flown, pairs, replace(strict, longest_km=1_000.0))) == 0


def replace_intra(pairs: Pairs) -> Pairs:
    return Pairs(pairs.first, pairs.second, np.zeros_like(pairs.intra))


def test_all_rules_together_are_the_intersection_of_each() -> None:
    satellites, planes = walker(Shell("delta", 550.0, 53.0, 24, 4, 1))
    flown = tracks(satellites, EPOCH, 20_000.0, LONGEST_STEP_S)
    pairs = planes.cross_pairs()
    together = find_isl(flown, pairs, ALL_RULES)
    bare = IslRules(ALL_RULES.clearance_km)
    keys = ("longest_km", "range_rate_km_per_s", "angular_rate_degrees_per_s", "latitude_cut_degrees")
    parts = [find_isl(flown, pairs, replace(bare, **{key: getattr(ALL_RULES, key)})) for key in keys]
    changes = [Changes.of(Spans(w.first * 100 + w.second, w.start_s, w.end_s)) for w in parts]
    expected = spans_at(Changes.joined(changes), len(parts))
    assert np.array_equal(together.first * 100 + together.second, expected.owner)
    assert np.allclose(together.start_s, expected.start_s, rtol=0.0, atol=1e-4)
    assert np.allclose(together.end_s, expected.end_s, rtol=0.0, atol=1e-4)


def test_one_pair_alone_has_the_windows_it_has_among_many() -> None:
    satellites, planes = walker(Shell("delta", 550.0, 53.0, 24, 4, 1))
    flown = tracks(satellites, EPOCH, 20_000.0, LONGEST_STEP_S)
    pairs = everything(planes)
    windows = find_isl(flown, pairs, ALL_RULES)
    for index in range(0, len(pairs), 31):
        some = slice(index, index + 1)
        alone = find_isl(flown, Pairs(pairs.first[some], pairs.second[some], pairs.intra[some]), ALL_RULES)
        mine = (windows.first == pairs.first[index]) & (windows.second == pairs.second[index])
        assert np.array_equal(alone.start_s, windows.start_s[mine])
        assert np.array_equal(alone.end_s, windows.end_s[mine])


def test_a_satellite_that_sgp4_gives_up_on_has_no_windows() -> None:
    satellites = (
        orbit("a", 6928.0, 0.0, 53.0),
        orbit("falling", 6500.0, 0.0, 51.0, bstar=0.5),
        orbit("b", 6928.0, 0.0, 53.0, anomaly=15.0),
    )
    flown, errors = propagated(satellites, EPOCH, 5 * 86_400.0, LONGEST_STEP_S)
    assert list(errors) == [1]
    pairs = Pairs.of([(0, 1), (1, 2), (0, 2)], False)
    windows = find_isl(flown, pairs, IslRules(80.0, None, 7.0, 1.0))
    assert set(zip(windows.first.tolist(), windows.second.tolist(), strict=True)) == {(0, 2)}


def test_no_pairs_no_windows() -> None:
    flown = tracks(walker(Shell("ring", 550.0, 53.0, 2))[0], EPOCH, 600.0, 60.0)
    assert len(find_isl(flown, Pairs.of([], True), ALL_RULES)) == 0


def test_doppler_is_a_range_rate() -> None:
    assert range_rate_of_doppler(1e6, 2e9) == pytest.approx(149.896229)
    with pytest.raises(ValueError, match=r"^carrier_hz: must be a finite number above 0, not 0"):
        range_rate_of_doppler(1.0, 0)
    with pytest.raises(ValueError, match=r"^limit_hz: must be a finite number above 0, not nan"):
        range_rate_of_doppler(math.nan, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clearance_km": -1.0}, "clearance_km: must be 0 to 10000, not -1.0"),
        ({"clearance_km": math.nan}, "clearance_km: must be 0 to 10000, not nan"),
        ({"longest_km": 0.0}, "longest_km: must be a finite number above 0, not 0.0"),
        ({"range_rate_km_per_s": math.inf}, "range_rate_km_per_s: must be a finite number above 0, not inf"),
        ({"angular_rate_degrees_per_s": -1.0}, "angular_rate_degrees_per_s: must be a finite number above 0"),
        ({"latitude_cut_degrees": 91.0}, "latitude_cut_degrees: must be above 0 and at most 90, not 91.0"),
    ],
)
def test_rules_that_cannot_be_are_refused_in_one_line(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        IslRules(**wrong)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_pairs_and_grids_that_cannot_be_are_refused() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 3))
    with pytest.raises(ValueError, match=r"^tracks: step_s must be at most 60, not 90"):
        find_isl(tracks(satellites, EPOCH, 900.0, 90.0), planes.ring_pairs(), IslRules())
    flown = tracks(satellites, EPOCH, 900.0, 60.0)
    for pair in ((0, 3), (-1, 0), (1, 1)):
        with pytest.raises(ValueError, match=r"^pairs: must be of two different satellites of 0 to 2"):
            find_isl(flown, Pairs.of([pair], True), IslRules())
