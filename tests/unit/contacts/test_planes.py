"""Orbital planes of Walker shells and of satellites as SGP4 has them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sgp4.api import WGS72, Satrec

from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, Satellite, Shell, satellites_of
from orbitrain.contacts.planes import Pairs, Planes

EPOCH = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)
LATER = EPOCH + timedelta(hours=31.7)


def listed(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def orbit(name: str, axis_km: float, inclination: float, raan: float, argument: float) -> Satellite:
    satrec = Satrec()
    satrec.sgp4init(
        WGS72,
        "i",
        270_000,
        (EPOCH - datetime(1949, 12, 31, tzinfo=UTC)) / timedelta(days=1),
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        math.radians(inclination),
        math.radians(argument),
        math.sqrt(EARTH_MU_KM3_PER_S2 / axis_km**3) * 60.0,
        math.radians(raan),
    )
    return Satellite(name, satrec)


def turned(ring: tuple[int, ...]) -> tuple[int, ...]:
    place = ring.index(min(ring))
    return ring[place:] + ring[:place]


def test_a_shell_says_planes_and_places_itself() -> None:
    planes = Planes.of_shells([Shell("a", 550.0, 53.0, 12, 4, 1), Shell("b", 1200.0, 80.0, 6, 3, 0, "star")])
    assert planes.rings[:2] == ((0, 1, 2), (3, 4, 5)) and planes.rings[4:] == ((12, 13), (14, 15), (16, 17))
    assert planes.satellites == 18
    assert planes.places()[5] == (1, 2) and planes.places()[14] == (5, 0)


def test_a_delta_closes_its_circle_of_planes_and_a_star_has_a_seam() -> None:
    assert Planes.of_shells([Shell("a", 550.0, 53.0, 12, 4)]).adjacent == ((0, 1), (0, 3), (1, 2), (2, 3))
    star = Shell("a", 550.0, 86.0, 12, 4, 0, "star")
    assert Planes.of_shells([star]).adjacent == ((0, 1), (1, 2), (2, 3))
    assert Planes.of_shells([Shell("a", 550.0, 53.0, 12, 2)]).adjacent == ((0, 1),)
    assert Planes.of_shells([Shell("a", 550.0, 53.0, 12, 1)]).adjacent == ()


def test_planes_of_two_shells_are_not_adjacent() -> None:
    planes = Planes.of_shells([Shell("a", 550.0, 53.0, 12, 3), Shell("b", 560.0, 53.0, 12, 3)])
    assert planes.adjacent == ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))


@pytest.mark.parametrize(
    ("satellites", "expected"),
    [(1, []), (2, [(0, 1)]), (3, [(0, 1), (0, 2), (1, 2)]), (5, [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)])],
)
def test_ring_neighbours(satellites: int, expected: list[tuple[int, int]]) -> None:
    pairs = Planes.of_shells([Shell("a", 550.0, 53.0, satellites)]).ring_pairs()
    assert listed(pairs) == expected
    assert pairs.intra.all()


def test_adjacent_and_cross_pairs() -> None:
    planes = Planes.of_shells([Shell("a", 550.0, 86.0, 6, 3, 0, "star")])
    assert listed(planes.adjacent_pairs()) == [
        (0, 2), (0, 3), (1, 2), (1, 3), (2, 4), (2, 5), (3, 4), (3, 5),
    ]  # fmt: skip
    cross = listed(planes.cross_pairs())
    assert len(cross) == 12 and (0, 5) in cross and (0, 1) not in cross
    assert not planes.adjacent_pairs().intra.any() and not planes.cross_pairs().intra.any()


def test_a_thousand_satellites_have_as_many_neighbours() -> None:
    planes = Planes.of_shells([Shell.from_code("D:550:53.0:1584/72/17")])
    assert len(planes.ring_pairs()) == 1584
    assert len(planes.adjacent_pairs()) == 72 * 22 * 22


@pytest.mark.parametrize("moment", [EPOCH, LATER])
@pytest.mark.parametrize(
    "shells",
    [
        [Shell("d", 550.0, 53.0, 40, 8, 3)],
        [Shell("s", 780.0, 86.4, 33, 3, 1, "star", 12.0)],
        [Shell("s", 780.0, 90.0, 24, 6, 1, "star", 300.0)],
        [Shell("low", 550.0, 53.0, 40, 8, 3, "delta", 200.0), Shell("high", 610.0, 42.0, 12, 2)],
        [Shell("retrograde", 560.0, 97.6, 20, 4, 1, "delta", 33.0)],
        [Shell("equator", 8_062.0, 0.0, 9)],
        [Shell("gps", 20_180.0, 55.0, 24, 6, 1)],
    ],
    ids=["delta", "star", "polar", "two shells", "retrograde", "equator", "gps"],
)
def test_satellites_where_sgp4_has_them_are_in_the_planes_of_their_shell(
    shells: list[Shell], moment: datetime
) -> None:
    satellites: list[Satellite] = []
    for shell in shells:
        satellites += satellites_of(shell, EPOCH, 270_000 + len(satellites))
    shuffled = np.random.default_rng(7).permutation(len(satellites))
    found = Planes.of_satellites([satellites[i] for i in shuffled], moment)
    known = Planes.of_shells(shells)
    rings = [turned(tuple(int(shuffled[i]) for i in ring)) for ring in found.rings]
    assert sorted(rings) == sorted(known.rings)
    number = [rings.index(ring) for ring in known.rings]
    assert {tuple(sorted((number[a], number[b]))) for a, b in known.adjacent} == set(found.adjacent)
    assert [rings.index(turned(ring)) for ring in rings] == sorted(number)


def test_satellites_a_little_off_their_plane_are_of_it_and_others_are_not() -> None:
    satellites = [
        orbit("a", 6928.0, 53.0, 10.0, 0.0),
        orbit("drifted", 6928.0, 53.3, 10.9, 200.0),
        orbit("lower", 6908.0, 53.0, 10.0, 90.0),
        orbit("next plane", 6928.0, 53.0, 15.0, 0.0),
        orbit("against", 6928.0, 127.0, 190.0, 0.0),
        orbit("third", 6928.0, 53.0, 9.3, 100.0),
    ]
    planes = Planes.of_satellites(satellites, EPOCH)
    rings = {turned(ring) for ring in planes.rings}
    assert rings == {(0, 5, 1), (2,), (3,), (4,)}
    a, b = sorted(planes.rings.index(ring) for ring in planes.rings if 0 in ring or 3 in ring)
    assert planes.adjacent == ((a, b),)


def test_opposite_planes_are_adjacent_once() -> None:
    satellites = [orbit("a", 6928.0, 53.0, 10.0, 0.0), orbit("b", 6928.0, 53.0, 190.0, 0.0)]
    assert Planes.of_satellites(satellites, EPOCH).adjacent == ((0, 1),)


def test_no_satellites_no_planes() -> None:
    planes = Planes.of_satellites([], EPOCH)
    assert planes == Planes((), ())
    assert len(planes.ring_pairs()) == len(planes.adjacent_pairs()) == len(planes.cross_pairs()) == 0


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^moment: must be a datetime with a time zone"):
        Planes.of_satellites([], EPOCH.replace(tzinfo=None))
    with pytest.raises(ValueError, match=r"^satellite 'low': SGP4 fails at 2026-03-20T21:30:00"):
        Planes.of_satellites([orbit("low", 6200.0, 53.0, 0.0, 0.0)], EPOCH)
    with pytest.raises(ValueError, match=r"^rings: must have each satellite of 0 to 2 once"):
        Planes(((0, 1), (1,)), ())
    with pytest.raises(ValueError, match=r"^adjacent: must be pairs of two of 0 to 1, the smaller first"):
        Planes(((0,), (1,)), ((1, 0),))
