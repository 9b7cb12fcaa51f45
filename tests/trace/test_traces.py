"""All roles together over tiny plans, line by line against the files of this folder.

`pytest tests/trace --rewrite-traces` writes the files anew; the difference is to be read before it is
committed. Beside its file, each scenario asserts what it is there for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orbitrain.results import count_carries, count_updates
from tests.property.checks import check, final_models
from tests.trace.world import SECOND_NS, World, check_trace, fake_world, ring, rotation, updated

HERE = Path(__file__).parent


def plain_round() -> World:
    """One region, one satellite, two rounds."""
    return fake_world(ring("north"), {("sat-a", "north"): [(0, 30)]}, 40, rounds=2)


def mixing_that_waits() -> World:
    """Both regions starve before round 4 until the satellites have changed places, then mix."""
    return fake_world(ring("north", "south"), rotation(["north", "south"], 3, 20), 60, rounds=4)


def handover_in_a_round() -> World:
    """sat-a has the update of north-0 and sets before the slow one of north-1; sat-b collects both."""
    passes = {("sat-a", "north"): [(0, 10)], ("sat-b", "north"): [(10, 40)]}
    slow = {("sat-a", "north-1"): 20_000}
    return fake_world(ring("north"), passes, 40, slow, rounds=2, train_ns=4 * SECOND_NS)


def carrier_that_did_not_aggregate() -> World:
    """sat-a closes round 2 of north, but sat-b is the first to reach south: it fetches the model."""
    passes = {
        ("sat-a", "north"): [(0, 15)],
        ("sat-b", "north"): [(15, 30)],
        ("sat-c", "south"): [(0, 30)],
        ("sat-b", "south"): [(40, 70)],
        ("sat-c", "north"): [(40, 70)],
        ("sat-a", "south"): [(80, 90)],
    }
    return fake_world(ring("north", "south"), passes, 90, rounds=4)


def lost_carrier() -> World:
    """sat-a loses its disk on the way; once its delivery is past, sat-c takes a copy along."""
    passes = {
        ("sat-a", "north"): [(0, 20)],
        ("sat-b", "south"): [(0, 20)],
        ("sat-a", "south"): [(30, 50)],
        ("sat-b", "north"): [(30, 50)],
        ("sat-c", "north"): [(60, 80)],
        ("sat-c", "south"): [(90, 120)],
    }
    world = fake_world(ring("north", "south"), passes, 120, rounds=4)
    world.kill_at(25, "sat-a", lose_disk=True)
    return world


def mixed_but_not_adopted() -> World:
    """sat-0 mixes round 4 of south and sets before a device has it: it must be able to mix it again."""
    passes = {
        ("sat-0", "north"): [(0, 20)],
        ("sat-1", "south"): [(0, 20)],
        ("sat-0", "south"): [(20, 25), (40, 60)],
        ("sat-1", "north"): [(20, 40)],
    }
    return fake_world(ring("north", "south"), passes, 60, rounds=4)


def device_that_lost_its_disk() -> World:
    """north-0 loses its model while it trains round 2; the region brings it up to date."""
    world = fake_world(ring("north"), {("sat-a", "north"): [(0, 60)]}, 60, rounds=3)
    world.kill_at(6.5, "north-0", lose_disk=True)
    return world


def satellite_that_lost_its_disk() -> World:
    """sat-a loses the update of north-0 in round 2; both devices hand theirs in again."""
    slow = {("sat-a", "north-1"): 50_000}
    world = fake_world(ring("north"), {("sat-a", "north"): [(0, 60)]}, 60, slow, rounds=2)
    world.kill_at(10, "sat-a", lose_disk=True)
    return world


def many_in_view() -> World:
    """Three satellites, two or three of them in view of each region most of the time: one serves."""
    passes = {
        ("sat-a", "north"): [(0, 25), (50, 80)],
        ("sat-b", "north"): [(5, 35), (60, 90)],
        ("sat-c", "north"): [(10, 45), (70, 100)],
        ("sat-a", "south"): [(20, 50), (75, 100)],
        ("sat-b", "south"): [(0, 12), (30, 62)],
        ("sat-c", "south"): [(0, 9), (40, 75)],
    }
    return fake_world(ring("north", "south"), passes, 100, rounds=6)


def pass_that_does_not_appear() -> World:
    """sat-b is announced for 20 to 40 s and never comes; sat-a goes on with the round it had opened."""
    believed = {("sat-a", "north"): [(0, 8), (50, 80)], ("sat-b", "north"): [(20, 40)]}
    truth = {**believed, ("sat-b", "north"): []}
    return fake_world(ring("north"), believed, 80, rounds=3, truth=truth)


def pass_a_minute_late() -> World:
    """sat-a comes 60 s later than believed, for as long; its service ends when it was believed to end."""
    believed = {("sat-a", "north"): [(0, 8), (20, 100)]}
    truth = {("sat-a", "north"): [(0, 8), (80, 160)]}
    return fake_world(ring("north"), believed, 160, rounds=4, truth=truth)


def unannounced_pass() -> World:
    """A pass cut at 4 s leaves updates in doubt; one that nobody expects settles them, and serves nobody."""
    believed = {("sat-a", "north"): [(0, 8), (30, 60)]}
    truth = {("sat-a", "north"): [(0, 4), (10, 20), (30, 60)]}
    return fake_world(ring("north"), believed, 60, rounds=2, truth=truth)


def pass_cut_short_in_an_upload() -> World:
    """The slow update of north-1 is cut off at 7 s; sat-b collects both, sat-a hears of it long after."""
    believed = {("sat-a", "north"): [(0, 30), (70, 90)], ("sat-b", "north"): [(40, 60)]}
    truth = {("sat-a", "north"): [(0, 7), (70, 90)], ("sat-b", "north"): [(40, 50)]}
    slow = {("sat-a", "north-1"): 20_000}
    return fake_world(ring("north"), believed, 90, slow, rounds=3, truth=truth)


def plan_put_right_in_the_run() -> World:
    """Passes are believed 17 s late until 28 s, in the middle of a true one; from then on they are right."""
    regions = ring("north", "south")
    right = rotation(["north", "south"], 5, 20)
    wrong = {pair: [(start + 17, end + 17) for start, end in windows] for pair, windows in right.items()}
    world = fake_world(regions, wrong, 100, rounds=4, truth=right)
    world.simulation.update(28 * SECOND_NS, updated(world.plan, regions, right, 28))
    return world


def kinds(world: World) -> Counter[str]:
    return Counter(entry.event.kind for entry in world.simulation.entries())


def of(world: World, kind: str) -> list[dict[str, object]]:
    found = [entry for entry in world.simulation.entries() if entry.event.kind == kind]
    return [{"node": entry.node, **entry.event.fields} for entry in found]


def asserts_plain(world: World) -> None:
    assert count_updates(world.simulation.entries())["aggregated"] == 4
    assert kinds(world)["update_sent"] == 4


def asserts_waiting(world: World) -> None:
    assert [one["region"] for one in of(world, "round_starved")] == ["north", "south"]
    assert count_carries(world.simulation.entries()) == {
        "picked_up": 2,
        "mixed": 2,
        "late": 2,
        "expired": 0,
    }


def asserts_handover(world: World) -> None:
    assert [one["accepted"] for one in of(world, "round_abandoned")] == [["north-0"]]
    trained = [(one["node"], one["round"]) for one in of(world, "update_trained")]
    assert len(trained) == len(set(trained)), "the same update is sent again, not trained again"
    counts = count_updates(world.simulation.entries())
    assert (counts["aggregated"], counts["sent"]) == (4, 6)


def asserts_fetched(world: World) -> None:
    keys = [str(one["key"]) for one in of(world, "letter_delivered")]
    assert [key.split("/")[0] for key in keys if key.startswith("f")] == ["fetch", "found"]
    assert [(one["node"], one["region"]) for one in of(world, "carry_mixed")] == [
        ("sat-b", "south"),
        ("sat-c", "north"),
    ]


def asserts_copied(world: World) -> None:
    reasons = [str(one["reason"]) for one in of(world, "carry_picked_up") if one["region"] == "north"]
    assert reasons == ["sat-a is the first to arrive", "sat-c carries copy 2"]
    assert ("sat-c", "south") in [(one["node"], one["region"]) for one in of(world, "carry_mixed")]


def asserts_mixed_again(world: World) -> None:
    mixed = [one["node"] for one in of(world, "carry_mixed") if one["region"] == "south"]
    assert mixed == ["sat-0", "sat-0"]
    assert count_carries(world.simulation.entries())["mixed"] == 2


def asserts_device_back(world: World) -> None:
    rounds = [one["round"] for one in of(world, "model_adopted") if one["node"] == "north-0"]
    assert rounds == [1, 1, 2, 3]


def asserts_satellite_back(world: World) -> None:
    assert len({entry.incarnation for entry in world.simulation.entries() if entry.node == "sat-a"}) == 2
    assert count_updates(world.simulation.entries())["aggregated"] == 4


def asserts_one_serves(world: World) -> None:
    rounds = [(one["region"], one["round"]) for one in of(world, "aggregated")]
    assert len(rounds) == len(set(rounds)) == 12


def asserts_not_appeared(world: World) -> None:
    assert {entry.node for entry in world.simulation.entries()} == {"sat-a", "north-0", "north-1"}
    trained = [(one["node"], one["round"]) for one in of(world, "update_trained")]
    assert len(trained) == len(set(trained)) == 6


def asserts_late(world: World) -> None:
    met = [e.event.t_ns // SECOND_NS for e in world.simulation.entries() if e.event.kind == "contact_started"]
    assert sorted(set(met)) == [1, 81]
    assert kinds(world)["message_refused"] == 0


def asserts_settled(world: World) -> None:
    entries = [e for e in world.simulation.entries() if 10 <= e.event.t_ns / SECOND_NS < 20]
    assert {e.event.kind for e in entries} == {"contact_started", "letter_delivered", "update_ended"}
    assert {e.event.fields["fate"] for e in entries if e.event.kind == "update_ended"} == {"delivered"}
    # sat-a has closed round 1 and told nobody: it is closed once more, with the same model.
    models = {one["digest"] for one in of(world, "aggregated") if one["round"] == 1}
    assert (len(models), kinds(world)["aggregated"]) == (1, 3)


def asserts_cut(world: World) -> None:
    sendings = [(one["node"], one["to"]) for one in of(world, "update_sent") if one["round"] == 1]
    assert sorted(sendings) == [
        ("north-0", "sat-a"),
        ("north-0", "sat-b"),
        ("north-1", "sat-a"),
        ("north-1", "sat-b"),
    ]
    # The letter that was cut before it was sent itself ends with the pass it was for, not in doubt.
    counts = count_updates(world.simulation.entries())
    assert (counts["aggregated"], counts["superseded"], counts["expired"]) == (6, 3, 1), counts


def asserts_put_right(world: World) -> None:
    at = {e.node: e.event.t_ns for e in world.simulation.entries() if e.event.kind == "plan_updated"}
    assert set(at.values()) == {28 * SECOND_NS}
    assert len(at) == 6
    first = [e.event.t_ns / SECOND_NS for e in world.simulation.entries() if e.event.kind == "model_adopted"]
    assert min(first) > 28, "until then nobody is where he is believed to be for long enough"
    assert count_carries(world.simulation.entries())["mixed"] == 2


SCENARIOS: dict[Callable[[], World], Callable[[World], None]] = {
    plain_round: asserts_plain,
    mixing_that_waits: asserts_waiting,
    handover_in_a_round: asserts_handover,
    carrier_that_did_not_aggregate: asserts_fetched,
    lost_carrier: asserts_copied,
    mixed_but_not_adopted: asserts_mixed_again,
    device_that_lost_its_disk: asserts_device_back,
    satellite_that_lost_its_disk: asserts_satellite_back,
    many_in_view: asserts_one_serves,
    pass_that_does_not_appear: asserts_not_appeared,
    pass_a_minute_late: asserts_late,
    unannounced_pass: asserts_settled,
    pass_cut_short_in_an_upload: asserts_cut,
    plan_put_right_in_the_run: asserts_put_right,
}


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: str(make.__name__))
def test_the_trace_is_the_one_on_file(make: Callable[[], World], pytestconfig: pytest.Config) -> None:
    file = HERE / f"{make.__name__}.txt"
    check_trace(make().run().simulation, file, make.__doc__, pytestconfig.getoption("--rewrite-traces"))


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: str(make.__name__))
def test_the_scenario_shows_what_it_is_there_for(make: Callable[[], World]) -> None:
    world = make().run()
    assert world.finished
    check(world, updates=kinds(world)["plan_updated"] > 0)
    SCENARIOS[make](world)


def test_faults_and_handovers_do_not_change_the_models() -> None:
    """Where the rounds and regions are the same, so are the models."""
    one_region = [
        plain_round(),
        handover_in_a_round(),
        satellite_that_lost_its_disk(),
        unannounced_pass(),
    ]
    assert len({final_models(world.run())["north"] for world in one_region}) == 1
    two_regions = [
        mixing_that_waits(),
        carrier_that_did_not_aggregate(),
        lost_carrier(),
        plan_put_right_in_the_run(),
    ]
    assert len({tuple(sorted(final_models(world.run()).items())) for world in two_regions}) == 1
