"""MODCODs: the published table, checked against what the standard says elsewhere."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest

from orbitrain.contacts.modcod import DVB_S2, LADDER, Modcod, worthwhile

# ETSI EN 302 307-1, Table 5a: bits of a BCH block, normal FECFRAME.
K_BCH = {
    "1/4": 16_008,
    "1/3": 21_408,
    "2/5": 25_728,
    "1/2": 32_208,
    "3/5": 38_688,
    "2/3": 43_040,
    "3/4": 48_408,
    "4/5": 51_648,
    "5/6": 53_840,
    "8/9": 57_472,
    "9/10": 58_192,
}
BITS_A_SYMBOL = {"QPSK": 2, "8PSK": 3, "16APSK": 4, "32APSK": 5}


def test_the_28_efficiencies_follow_from_the_frame() -> None:
    assert len(DVB_S2) == 28 and len({modcod.name for modcod in DVB_S2}) == 28
    for modcod in DVB_S2:
        modulation, code = modcod.name.split()
        symbols = Fraction(64_800, BITS_A_SYMBOL[modulation]) + 90  # and the header of the physical layer
        assert modcod.efficiency == pytest.approx(float((K_BCH[code] - 80) / symbols), abs=6e-7), modcod.name


def test_every_modcod_needs_a_little_more_than_shannon_says() -> None:
    for modcod in DVB_S2:
        gap_db = modcod.es_n0_db - 10 * math.log10(2**modcod.efficiency - 1)
        assert 0.5 < gap_db < 4.0, modcod.name


def test_a_stronger_code_of_a_modulation_needs_less_and_carries_less() -> None:
    for modulation in BITS_A_SYMBOL:
        rows = [modcod for modcod in DVB_S2 if modcod.name.split()[0] == modulation]
        assert rows == sorted(rows, key=lambda one: one.es_n0_db)
        assert rows == sorted(rows, key=lambda one: one.efficiency)


def test_the_ladder_rises_and_leaves_out_what_another_does_better() -> None:
    for lower, upper in pairwise(LADDER):
        assert lower.es_n0_db < upper.es_n0_db and lower.efficiency < upper.efficiency
    left_out = [modcod for modcod in DVB_S2 if modcod not in LADDER]
    names = "QPSK 8/9, 8PSK 5/6, 8PSK 8/9, 8PSK 9/10, 16APSK 8/9, 16APSK 9/10"
    assert ", ".join(modcod.name for modcod in left_out) == names
    for worse in left_out:
        assert any(one.es_n0_db <= worse.es_n0_db and one.efficiency >= worse.efficiency for one in LADDER)


def test_of_two_that_need_the_same_the_one_that_carries_more_stays() -> None:
    table = [Modcod("a", 1.0, 1.0), Modcod("b", 1.0, 2.0), Modcod("c", 0.0, 0.5)]
    assert [modcod.name for modcod in worthwhile(table)] == ["c", "b"]
