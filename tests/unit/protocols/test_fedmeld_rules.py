"""The decisions of FedMeld, as tables; the reasons are part of them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orbitrain.machine import RemoteProtocolError
from orbitrain.protocols.fedmeld.rules import (
    Decision,
    Params,
    carried_digest,
    carried_round,
    decide,
    designated,
    find_carry,
    initial_record,
    is_mixing_round,
    newest,
)
from orbitrain.roles import RegionServices
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, Passes, params_of, plan_of, ring

RING = ring("a", "b", "c")
PARAMS = params_of(RING, "initial", rounds=8, delta=2)
PRE = params_of(RING, "initial", rounds=8, delta=2, carry="pre")
ALONE = params_of(ring("a"), "initial", rounds=8, delta=2)


def record(number: int, region: str = "b", digest: str = "", created_s: int = 0) -> wire.ModelRecord:
    digest = digest or f"{region}{number}"
    return wire.ModelRecord(
        region=region,
        round=number,
        digest=digest,
        pre_digest=f"{digest}-pre",
        created_ns=created_s * SECOND_NS,
    )


def carry(number: int, source: str = "a", target: str = "b") -> wire.Carry:
    return wire.Carry(target=target, record=record(number, source), digest=f"{source}{number}")


def statuses(**rounds: int) -> Mapping[str, wire.Status]:
    return {
        f"b-{name.removeprefix('d')}": wire.Status(region="b", model=record(number))
        for name, number in rounds.items()
    }


EVERYONE = statuses(d0=3, d1=2)


@pytest.mark.parametrize(
    ("params", "answers", "base", "carries", "decision", "reason"),
    [
        (PARAMS, {}, None, [], Decision.POLL, "no answer yet from b-0, b-1"),
        (PARAMS, statuses(d1=2), None, [], Decision.POLL, "no answer yet from b-0"),
        (PARAMS, statuses(d0=2), record(2), [], Decision.POLL, "no answer yet from b-1"),
        (PARAMS, EVERYONE, record(8), [], Decision.FINISHED, "round 8 of 8 is done"),
        (PARAMS, EVERYONE, record(9), [], Decision.FINISHED, "round 9 of 8 is done"),
        (PARAMS, EVERYONE, record(0), [], Decision.OPEN, "round 1"),
        (PARAMS, EVERYONE, record(1), [], Decision.OPEN, "round 2"),
        (PARAMS, EVERYONE, record(2), [], Decision.OPEN, "round 3"),
        (PARAMS, EVERYONE, record(3), [], Decision.STARVED, "round 4 mixes round 2 of a, not on board"),
        (PARAMS, EVERYONE, record(3), [carry(2)], Decision.OPEN, "round 4"),
        (
            PARAMS,
            EVERYONE,
            record(3),
            [carry(4)],
            Decision.STARVED,
            "round 4 mixes round 2 of a, not on board",
        ),
        (
            PARAMS,
            EVERYONE,
            record(3),
            [carry(2, "b", "c")],
            Decision.STARVED,
            "round 4 mixes round 2 of a, not on board",
        ),
        (
            PARAMS,
            EVERYONE,
            record(7),
            [carry(4)],
            Decision.STARVED,
            "round 8 mixes round 6 of a, not on board",
        ),
        (ALONE, {"a-0": wire.Status(), "a-1": wire.Status()}, record(3, "a"), [], Decision.OPEN, "round 4"),
    ],
)
def test_what_a_serving_satellite_does_next(
    params: Params,
    answers: Mapping[str, wire.Status],
    base: wire.ModelRecord | None,
    carries: list[wire.Carry],
    decision: Decision,
    reason: str,
) -> None:
    region = "a" if params is ALONE else "b"
    assert decide(params, region, answers, base, carries) == (decision, reason)


@pytest.mark.parametrize(
    ("number", "delta", "mixing", "carried"),
    [
        (0, 2, False, None),
        (1, 2, False, None),
        (2, 2, True, None),
        (3, 2, False, None),
        (4, 2, True, 2),
        (5, 2, False, None),
        (6, 2, True, 4),
        (1, 1, True, None),
        (2, 1, True, 1),
        (3, 3, True, None),
        (6, 3, True, 3),
    ],
)
def test_which_rounds_mix_and_what(number: int, delta: int, mixing: bool, carried: int | None) -> None:
    params = params_of(RING, "initial", delta=delta)
    assert is_mixing_round(params, number) is mixing
    assert carried_round(params, number) == carried


@pytest.mark.parametrize("number", range(9))
def test_a_single_region_never_mixes(number: int) -> None:
    assert not is_mixing_round(ALONE, number)
    assert carried_round(ALONE, number) is None
    assert (ALONE.upstream("a"), ALONE.downstream("a")) == (None, None)


def test_the_ring_closes() -> None:
    assert [PARAMS.upstream(name) for name in "abc"] == ["c", "a", "b"]
    assert [PARAMS.downstream(name) for name in "abc"] == ["b", "c", "a"]
    with pytest.raises(RemoteProtocolError, match=r"there is no region 'x+'"):
        PARAMS.devices_of("x" * 100)


def test_post_carries_the_model_after_mixing_and_pre_the_aggregate_before_it() -> None:
    assert carried_digest(PARAMS, record(2)) == "b2"
    assert carried_digest(PRE, record(2)) == "b2-pre"
    assert carried_digest(PRE, initial_record(PRE, "b")) == "initial"


def test_the_newest_of_a_regions_models_is_of_the_highest_round() -> None:
    assert newest([record(2), record(3), record(1)]) == record(3)
    assert newest([record(3, digest="x"), record(3, digest="y")]).digest == "y", "the same for every order"


@pytest.mark.parametrize(
    ("region", "number", "found"),
    [("b", 2, True), ("b", 4, False), ("c", 2, False), ("a", 2, False), ("c", 6, True)],
)
def test_a_carry_is_found_by_target_source_and_round(region: str, number: int, found: bool) -> None:
    carries = [carry(2), carry(6, "b", "c"), carry(2, "b", "a"), carry(2, "a", "c")]
    assert (find_carry(PARAMS, region, number, carries) is not None) is found


PASSES: Passes = {
    ("sat-1", "a"): [(0, 10), (200, 210)],
    ("sat-1", "b"): [(100, 110)],
    ("sat-2", "a"): [(20, 30)],
    ("sat-2", "b"): [(60, 70)],
    ("sat-3", "a"): [(120, 130)],
    ("sat-3", "b"): [(180, 190)],
    ("sat-9", "c"): [(0, 5)],
}
ORBITS = RegionServices(plan_of(RING, PASSES, 300), RING)
NOBODY = "no satellite of the plan goes from a to b"


@pytest.mark.parametrize(
    ("created_s", "now_s", "satellite", "reason"),
    [
        (0, 0, "sat-2", "sat-2 is the first to arrive"),  # though sat-1 is there first, it arrives later
        (0, 70, "sat-2", "sat-2 is the first to arrive"),  # delivered, but nobody has come since
        (0, 119, "sat-2", "sat-2 is the first to arrive"),
        (0, 120, "sat-3", "sat-3 carries copy 2"),  # from the beginning of its service on
        (0, 189, "sat-3", "sat-3 carries copy 2"),
        (0, 190, "sat-3", "sat-3 carries copy 2"),  # the plan has no further copy
        (5, 5, "sat-2", "sat-2 is the first to arrive"),
        (30, 30, "sat-3", "sat-3 is the first to arrive"),
        (130, 130, None, NOBODY),  # sat-1 is over a again, and never over b
    ],
)
def test_copies_are_handed_out_one_after_another(
    created_s: int, now_s: int, satellite: str | None, reason: str
) -> None:
    model = record(2, "a", created_s=created_s)
    assert designated(PARAMS, ORBITS, model, now_s * SECOND_NS) == (satellite, reason)


@pytest.mark.parametrize(
    ("params", "number", "reason"),
    [
        (PARAMS, 8, "no round of b would mix it"),
        (PARAMS, 7, "no round of b would mix it"),
        (ALONE, 2, "a single region mixes with nobody"),
    ],
)
def test_nobody_is_designated_for_what_nobody_would_mix(params: Params, number: int, reason: str) -> None:
    assert designated(params, ORBITS, record(number, "a"), 0) == (None, reason)


def test_the_model_that_the_last_mixing_needs_is_carried() -> None:
    assert designated(PARAMS, ORBITS, record(6, "a"), 0)[0] == "sat-2"
