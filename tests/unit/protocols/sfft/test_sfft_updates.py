"""Updates of the believed plan in the middle of a round: what they announce is used, and no sample twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from orbitrain.protocols.sfft.ring import Reduce
from tests.lanes import every_other_in_full
from tests.trace.sfft_world import (
    NumpyEngine,
    Spell,
    World,
    backhaul,
    check_head,
    params_of,
    plan_of,
    rings,
    world,
)

END_S = 2_000.0
S = 1_000_000_000

Spells = list[tuple[str, Spell]]

PASSES: Spells = [
    ("feeder", (("a-0", "b-2", "a-1", "b-1")[n % 4], "gs", 10.0 + 90 * n, 70.0 + 90 * n)) for n in range(22)
]
CROSSINGS: Spells = [
    ("inter_isl", ("a-0", "b-0", start_s, start_s + 60)) for start_s in range(300, 2_000, 300)
]


def two_planes(
    believed: Callable[[Spells], Spells], true: Callable[[Spells], Spells], **changes: object
) -> World:
    """Of four and of three satellites. Links are `true` to the plan below, what is believed of it is another
    thing."""
    engine = NumpyEngine()
    params = params_of([4, 3], engine, **changes)
    spells = [*rings(params, END_S), *backhaul(params, END_S), *PASSES, *CROSSINGS]
    plans = [plan_of(params, made(spells), END_S) for made in (believed, true)]
    return world(plans[0], params, engine, truth=plans[1])


def check(ran: World) -> None:
    """Everyone is in every round, once, and the head is the descent on the samples of all."""
    check_head(ran)
    assert not ran.events("message_refused")
    assert ran.participants() == [list(ran.params.satellites)] * ran.params.work.rounds
    chunks = sum(entry.event.fields["chunks"] for entry in ran.events("chunks_came"))
    assert chunks == ran.params.work.rounds * len(ran.params.satellites) * ran.params.work.chunks


def first_s(ran: World, kind: str) -> float:
    return min(entry.event.t_ns for entry in ran.events(kind)) / S


def as_told(spells: Spells) -> Spells:
    return spells


# --- passes -------------------------------------------------------------------------------------------------


def without_passes_before(until_s: float) -> Callable[[Spells], Spells]:
    return lambda spells: [one for one in spells if one[0] != "feeder" or one[1][2] >= until_s]


@pytest.fixture(scope="module")
def unannounced() -> World:
    return two_planes(without_passes_before(300), as_told).run()


@pytest.mark.parametrize("t_s", [5, 40, 60])
def test_a_pass_that_is_announced_later_is_used(unannounced: World, t_s: int) -> None:
    """Before it, and in the middle of it."""
    assert first_s(unannounced, "chunks_came") > 300
    ran = two_planes(without_passes_before(300), as_told)
    ran.update_at(t_s, [*rings(ran.params, END_S), *backhaul(ran.params, END_S), *PASSES, *CROSSINGS])
    ran.run()
    assert t_s < first_s(ran, "chunks_came") < 70
    check(ran)


@pytest.mark.parametrize("t_s", [5, 40, 70])
def test_a_pass_that_is_called_off_is_not_waited_for(t_s: int) -> None:
    ran = two_planes(as_told, without_passes_before(100))
    told = [*rings(ran.params, END_S), *backhaul(ran.params, END_S), *PASSES[1:], *CROSSINGS]
    ran.update_at(t_s, told)
    check(ran.run())


# --- crossings ----------------------------------------------------------------------------------------------


def moved(by_s: float) -> Callable[[Spells], Spells]:
    return lambda spells: [
        (kind, (a, b, start_s + by_s, end_s + by_s))
        if kind == "inter_isl"
        else (kind, (a, b, start_s, end_s))
        for kind, (a, b, start_s, end_s) in spells
    ]


def by_others(spells: Spells) -> Spells:
    """Over the same windows, between other satellites."""
    return [
        (kind, ("a-2", "b-1", *when) if kind == "inter_isl" else (a, b, *when))
        for kind, (a, b, *when) in spells
    ]


OTHERS = [moved(-70), moved(-20), moved(25), moved(140), by_others]


@pytest.mark.parametrize("t_s, true", every_other_in_full(list(product([130, 290, 330], OTHERS))))
def test_a_crossing_that_is_moved_is_used_where_it_is(t_s: int, true: Callable[[Spells], Spells]) -> None:
    ran = two_planes(as_told, true)
    spells = [*rings(ran.params, END_S), *backhaul(ran.params, END_S), *PASSES, *CROSSINGS]
    ran.update_at(t_s, true(spells))
    check(ran.run())


# --- rings --------------------------------------------------------------------------------------------------


def without_link(a: str, b: str) -> Callable[[Spells], Spells]:
    return lambda spells: [one for one in spells if one[1][:2] != (a, b)]


@pytest.mark.parametrize(
    "t_s, reduce, opens",
    every_other_in_full(
        list(product([1.5, 3.5, 71, 305], [Reduce.RING, Reduce.CHAIN, Reduce.GATHER], [True, False])), by=2
    ),
)
def test_a_ring_that_the_update_closes_or_opens_is_formed_anew(
    t_s: float, reduce: Reduce, opens: bool
) -> None:
    """It has been a chain all the time, or a ring."""
    chain = without_link("a-0", "a-3")
    believed, true = (as_told, chain) if opens else (chain, as_told)
    ran = two_planes(believed, true, reduce=reduce, patience_ns=500 * S)
    spells = [*rings(ran.params, END_S), *backhaul(ran.params, END_S), *PASSES, *CROSSINGS]
    ran.update_at(t_s, true(spells))
    check(ran.run())
