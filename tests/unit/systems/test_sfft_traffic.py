"""What rounds of SFFT moved is compared with what they need, for the rings that there were."""

from __future__ import annotations

from typing import Any

import pytest

from orbitrain.protocols.sfft.between import Between
from orbitrain.protocols.sfft.costs import Load, round_traffic
from orbitrain.protocols.sfft.ring import Gather, Reduce, Ring
from orbitrain.systems.sfft_traffic import traffic
from tests.trace.sfft_world import (
    HEAD,
    TOKENS,
    WIDTH,
    NumpyEngine,
    Spell,
    World,
    backhaul,
    params_of,
    plan_of,
    rings,
    world,
)

END_S = 3_000.0
LOAD = Load(64, TOKENS * WIDTH * 8, WIDTH * 8, HEAD.nbytes)
BIG = {"samples": 64, "chunk_samples": 16}
ENVELOPE_BYTES = 400
"""Of a letter, at most."""


def passes(names: tuple[str, ...]) -> list[tuple[str, Spell]]:
    """Of each over the station in turn, a minute in one and a half."""
    starts = range(10, int(END_S) - 90, 90)
    return [("feeder", (names[n % len(names)], "gs", float(t_s), t_s + 60.0)) for n, t_s in enumerate(starts)]


def ran(gone: tuple[str, float] | None = None, planes: int = 2, **changes: Any) -> World:
    """Planes of four; `gone`: a node, and from when on it has no contacts."""
    engine = NumpyEngine()
    params = params_of([4] * planes, engine, **{**BIG, **changes})
    spells = rings(params, END_S) + backhaul(params, END_S) + passes(("a-0", "a-1", "a-2", "b-2", "b-3"))
    for one, other in zip(params.planes, params.planes[1:], strict=False):
        spells.append(("inter_isl", (one[2], other[2], 40.0, END_S)))
    true = [
        (kind, (a, b, start_s, min(end_s, gone[1]) if gone is not None and gone[0] in (a, b) else end_s))
        for kind, (a, b, start_s, end_s) in spells
    ]
    true = [one for one in true if one[1][2] < one[1][3]]
    return world(plan_of(params, spells, END_S), params, engine, truth=plan_of(params, true, END_S)).run()


def told(of: World, load: Load = LOAD) -> list[dict[str, Any]]:
    return traffic(of.simulation.entries(), of.params, load, lambda t_ns: of.simulation.plan)


def check_measured(row: dict[str, Any], letters: int) -> None:
    assert row["expected"] <= row["bytes"] <= row["expected"] + letters * ENVELOPE_BYTES
    assert row["ratio"] == round(row["bytes"] / row["expected"], 3)


@pytest.mark.parametrize("gather", list(Gather))
@pytest.mark.parametrize("reduce", [Reduce.RING, Reduce.CHAIN, Reduce.GATHER])
def test_each_round_moves_what_it_needs_and_envelopes(gather: Gather, reduce: Reduce) -> None:
    of = ran(gather=gather, reduce=reduce)
    wanted = round_traffic([Ring(plane) for plane in of.params.planes], LOAD, gather, reduce)
    first, second = told(of)
    assert (first["round"], second["round"], first["attempts"], second["attempts"]) == (1, 2, 1, 1)
    for one in (first, second):
        found = {name: one[name]["expected"] for name in ("gather", "down", "up", "reduce", "edge")}
        assert found == {
            "gather": wanted.gather_bytes,
            "down": wanted.down_bytes,
            "up": wanted.up_bytes,
            "reduce": wanted.reduce_bytes,
            "edge": wanted.edge_bytes_max,
        }
        for name in ("gather", "down", "up", "reduce"):
            check_measured(one[name], letters=100)
        assert HEAD.nbytes <= one["edge"]["bytes"] <= wanted.edge_bytes_max + 2 * ENVELOPE_BYTES


def test_auto_is_what_the_ring_resolves_it_to() -> None:
    (first, _), params = told(of := ran(reduce=Reduce.AUTO)), of.params
    ring = Ring(params.planes[0])
    assert params.reduction(ring) is Reduce.GATHER
    wanted = round_traffic([ring, ring], LOAD, Gather.TWO_WAY, Reduce.GATHER)
    assert first["reduce"]["expected"] == wanted.reduce_bytes


def test_along_a_tree_one_head_goes_over_each_direction_of_an_edge() -> None:
    for one in told(ran(between=Between.MERGE_TREE, planes=3)):
        assert one["edge"]["expected"] == HEAD.nbytes
        check_measured(one["edge"], letters=1)


def test_on_board_nothing_of_samples_is_expected_or_moved() -> None:
    for one in told(ran(on_board=True)):
        for name in ("gather", "down", "up"):
            assert one[name] == {"bytes": 0, "expected": 0, "ratio": None}
        check_measured(one["reduce"], letters=100)


def test_features_that_are_kept_are_expected_in_the_first_round_alone() -> None:
    first, second, third = told(ran(cache=True, rounds=3))
    for name in ("gather", "down", "up"):
        check_measured(first[name], letters=100)
        assert second[name] == third[name] == {"bytes": 0, "expected": 0, "ratio": None}


def test_a_plane_without_a_member_is_reckoned_as_the_chain_that_it_is() -> None:
    of = ran(gone=("b-1", 5.0))
    one = told(of)[-1]
    assert "b-1" not in of.participants()[-1]
    chain = Ring(("b-2", "b-3", "b-0"), closed=False)
    wanted = round_traffic([Ring(of.params.planes[0]), chain], LOAD, Gather.TWO_WAY, Reduce.GATHER)
    assert one["gather"]["expected"] == wanted.gather_bytes
    assert one["down"]["expected"] == wanted.down_bytes == 7 * 64 * LOAD.embedding_bytes
    check_measured(one["down"], letters=100)


def test_attempts_that_were_given_up_are_measured_and_not_expected() -> None:
    first = told(ran(gone=("b-1", 5.0)))[0]
    assert first["attempts"] == 2
    assert first["gather"]["ratio"] > 1
