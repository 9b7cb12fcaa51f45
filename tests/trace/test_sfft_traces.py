"""All roles of SFFT together over tiny plans, line by line against the files of this folder.

As `test_traces`, of which objects are only names; what each scenario is there for is asserted with numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbitrain.protocols.sfft.between import Between
from orbitrain.protocols.sfft.ring import Reduce
from tests.trace.sfft_world import (
    SECOND_NS,
    NamesEngine,
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
from tests.trace.world import check_trace

HERE = Path(__file__).parent
END_S = 400.0
SCHEDULER = "first_visible"
WORDS = " key=status/"
"""What satellites say of themselves goes to everyone, and would be half of the lines."""

Engine = NamesEngine | NumpyEngine
Spells = list[tuple[str, Spell]]


def feeder(*spells: Spell) -> Spells:
    return [("feeder", spell) for spell in spells]


def inter(*spells: Spell) -> Spells:
    return [("inter_isl", spell) for spell in spells]


def last(*satellites: str) -> list[Spell]:
    """One of each plane is over the station at the end, when heads are there."""
    return [(name, "gs", 150, 180) for name in satellites]


def small_world(
    engine: Engine,
    planes: list[int],
    believed: Spells,
    true: Spells | None = None,
    rate_bps: int = 1_000_000,
    **changes: Any,
) -> World:
    """A round of one sample a satellite, beside `changes`; `believed` and `true` over rings and backhaul.

    By the scheduler that needs no solver, whose choice among equals may be another one in its next release.
    """
    params = params_of(planes, engine, **{"rounds": 1, "samples": 1, "chunk_samples": 1, **changes})
    always = [*rings(params, END_S), *backhaul(params, END_S)]
    plan = plan_of(params, [*always, *believed], END_S, rate_bps)
    truth = None if true is None else plan_of(params, [*always, *true], END_S, rate_bps)
    return world(plan, params, engine, SCHEDULER, truth)


def sfft_plain_round(engine: Engine) -> World:
    """Two planes of three, each over the station in turn, and one crossing."""
    passes = feeder(("a-0", "gs", 10, 40), ("b-1", "gs", 50, 80), *last("a-2", "b-0"))
    return small_world(engine, [3, 3], [*passes, *inter(("a-1", "b-2", 100, 130))])


def sfft_satellite_gone_in_the_gather(engine: Engine) -> World:
    """a-2 is gone at 12 s, before its block is around: the ring of four becomes a chain of three."""
    passes = feeder(("a-0", "gs", 10, 100))
    made = small_world(engine, [4], passes, reduce=Reduce.RING)
    always = [*rings(made.params, END_S), *backhaul(made.params, END_S), *passes]
    true = [
        (kind, (a, b, start_s, 12.0 if "a-2" in (a, b) else end_s)) for kind, (a, b, start_s, end_s) in always
    ]
    return world(made.plan, made.params, engine, SCHEDULER, plan_of(made.params, true, END_S))


def sfft_pass_cut_in_a_download(engine: Engine) -> World:
    """The pass of a-0 ends at 14 s instead of 40 s, amid the chunks of its block; the rest goes over a-1."""
    believed = feeder(("a-0", "gs", 10, 40), ("a-1", "gs", 60, 100))
    true = feeder(("a-0", "gs", 10, 14), ("a-1", "gs", 60, 100))
    return small_world(engine, [2], believed, true, rate_bps=30_000, samples=12)


def sfft_crossing_that_fails(engine: Engine) -> World:
    """a-0 and b-0 do not meet at 60 s; a-1 and b-1 take over when that is sure."""
    passes = feeder(("a-0", "gs", 5, 20), ("b-0", "gs", 25, 40), *last("a-1", "b-1"))
    crossings = inter(("a-0", "b-0", 60, 70), ("a-1", "b-1", 80, 200))
    return small_world(engine, [2, 2], [*passes, *crossings], [*passes, *crossings[1:]])


def sfft_server_killed_in_the_backbone(engine: Engine) -> World:
    """The server is gone from 15 s to 18 s: its job is run again, and nothing is fetched twice."""
    made = small_world(engine, [2], feeder(("a-0", "gs", 10, 100)), samples=4, backbone_ns=2 * SECOND_NS)
    made.kill_at(15, "server")
    return made


def sfft_kept_features(engine: Engine) -> World:
    """The second round and the third are of the samples of the first."""
    return small_world(engine, [2], feeder(("a-0", "gs", 10, 100)), rounds=3, cache=True)


def sfft_merged_sums(engine: Engine) -> World:
    """Three planes in a row: those at the ends send to the one in between, and get the total."""
    passes = feeder(
        ("a-0", "gs", 5, 20), ("b-0", "gs", 25, 40), ("c-0", "gs", 45, 60), *last("a-0", "b-0", "c-0")
    )
    crossings = inter(("a-0", "b-0", 70, 100), ("b-0", "c-0", 70, 100))
    return small_world(engine, [1, 1, 1], [*passes, *crossings], between=Between.MERGE_TREE)


def sfft_ring_put_right(engine: Engine) -> World:
    """a-0 and a-3 were believed to see each other until 12 s: the attempt is begun anew with a chain."""
    passes = feeder(("a-0", "gs", 10, 100))
    made = small_world(engine, [4], passes)
    always = [*rings(made.params, END_S), *backhaul(made.params, END_S), *passes]
    true = [one for one in always if one[1][:2] != ("a-0", "a-3")]
    fresh = world(made.plan, made.params, engine, SCHEDULER, plan_of(made.params, true, END_S))
    fresh.update_at(12, true)
    return fresh


def chunks(ran: World) -> int:
    return sum(entry.event.fields["chunks"] for entry in ran.events("chunks_came"))


def attempts(ran: World) -> list[tuple[int, int]]:
    return [
        (entry.event.fields["round"], entry.event.fields["attempt"]) for entry in ran.events("round_begun")
    ]


def of_all(ran: World) -> None:
    assert ran.participants() == [list(ran.params.satellites)] * ran.params.work.rounds


def asserts_plain(ran: World) -> None:
    of_all(ran)
    assert (chunks(ran), attempts(ran)) == (6, [(1, 1)])


def asserts_chain(ran: World) -> None:
    assert ran.participants() == [["a-0", "a-1", "a-3"]]
    assert attempts(ran) == [(1, 1), (1, 2)]


def asserts_cut(ran: World) -> None:
    of_all(ran)
    by: dict[str, int] = {}
    for entry in ran.events("chunks_came"):
        fields = entry.event.fields
        by[fields["satellite"]] = by.get(fields["satellite"], 0) + fields["chunks"]
    assert by.keys() == {"a-0", "a-1"}
    assert sum(by.values()) == 24


def asserts_taken_over(ran: World) -> None:
    of_all(ran)
    met = [
        entry.node for entry in ran.events("contact_started") if entry.event.fields["class"] == "inter_isl"
    ]
    assert sorted(met) == ["a-1", "b-1"]
    assert [entry.event.fields["fate"] for entry in ran.events("letter_undelivered")] == ["expired"] * 2


def asserts_run_again(ran: World) -> None:
    of_all(ran)
    assert chunks(ran) == 8
    jobs = [job.job for node, job in ran.engine.jobs if node == "server"]  # type: ignore[attr-defined]
    assert len(jobs) > len(ran.events("features_computed"))


def asserts_kept(ran: World) -> None:
    of_all(ran)
    assert (chunks(ran), len(ran.events("embedded")), len(ran.events("committed"))) == (2, 2, 3)


def asserts_merged(ran: World) -> None:
    of_all(ran)
    assert [entry.event.fields["parents"] for entry in ran.events("round_begun")] == [[1, 1, 1]]
    assert len(ran.events("merged")) == 3


def asserts_put_right(ran: World) -> None:
    of_all(ran)
    assert attempts(ran) == [(1, 1), (1, 2)]
    assert chunks(ran) == 4


SCENARIOS: dict[Callable[[Engine], World], Callable[[World], None]] = {
    sfft_plain_round: asserts_plain,
    sfft_satellite_gone_in_the_gather: asserts_chain,
    sfft_pass_cut_in_a_download: asserts_cut,
    sfft_crossing_that_fails: asserts_taken_over,
    sfft_server_killed_in_the_backbone: asserts_run_again,
    sfft_kept_features: asserts_kept,
    sfft_merged_sums: asserts_merged,
    sfft_ring_put_right: asserts_put_right,
}


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: str(make.__name__))
def test_the_trace_is_the_one_on_file(make: Callable[[Engine], World], pytestconfig: pytest.Config) -> None:
    ran = make(NamesEngine()).run()
    file = HERE / f"{make.__name__}.txt"
    rewrite = pytestconfig.getoption("--rewrite-traces")
    check_trace(ran.simulation, file, make.__doc__, rewrite, without=WORDS)


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: str(make.__name__))
def test_the_scenario_shows_what_it_is_there_for(make: Callable[[Engine], World]) -> None:
    ran = make(NumpyEngine()).run()
    check_head(ran)
    assert not ran.events("message_refused")
    SCENARIOS[make](ran)
