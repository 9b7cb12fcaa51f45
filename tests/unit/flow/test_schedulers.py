"""Schedulers over hundreds of random instances, held to each other, to all cuts and to all schedules."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from orbitrain.flow.board import Board
from orbitrain.flow.instance import Instance, Slot
from orbitrain.flow.play import finish
from orbitrain.flow.schedule import Schedule, assign
from orbitrain.flow.scheduler import SCHEDULERS, Scheduler, plan
from orbitrain.flow.teg import teg
from tests.unit.flow.instances import SLOT_NS, instance_of, random_instance, room

SEEDS = range(320)


def chunks_of(instance: Instance) -> dict[str, int]:
    return {plane.name: plane.chunks for plane in instance.planes}


@cache
def planned(name: str, seed: int) -> Schedule:
    instance = random_instance(seed)
    return SCHEDULERS[name](instance, chunks_of(instance))


def slots_taken(schedule: Schedule) -> float:
    return float("inf") if schedule.left else (schedule.last_slot or 0) + 1


# --- references ---------------------------------------------------------------------------------------------


def subsets(names: tuple[str, ...]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from map(frozenset, itertools.combinations(names, size))


def most_from(instance: Instance, slot: Slot, chosen: frozenset[str]) -> int:
    """What these planes can move in a slot: the least of all cuts, each of which has some of the stations on
    the planes' side."""
    rooms = [one for one in slot.rooms if instance.plane_of[one.satellite] in chosen & instance.ready(slot)]
    cuts = []
    for near in subsets(tuple(sorted({one.station for one in rooms}))):
        through = sum(slot.stations.get(station, 10**9) for station in near)
        for satellite in sorted({one.satellite for one in rooms}):
            beyond = sum(
                one.chunks for one in rooms if one.satellite == satellite and one.station not in near
            )
            through += min(slot.satellites.get(satellite, 10**9), beyond)
        cuts.append(through)
    return min(cuts)


def most_by_slot(instance: Instance) -> list[int]:
    """The maximum flow through the first 1, 2, ... slots: the least of all cuts over sets of planes."""
    chunks = chunks_of(instance)
    room_of = dict.fromkeys(subsets(tuple(chunks)), 0)
    most = []
    for slot in instance.slots:
        for chosen in room_of:
            room_of[chosen] += most_from(instance, slot, chosen)
        most.append(
            min(
                through + sum(count for plane, count in chunks.items() if plane not in chosen)
                for chosen, through in room_of.items()
            )
        )
    return most


def first_finish_of_all(instance: Instance) -> int | None:
    """The last slot of the best of all schedules there are: room by room every count is tried."""
    names = [plane.name for plane in instance.planes]
    reached = {tuple(chunks_of(instance).values())}
    for slot in instance.slots:
        used = {(left, (0,) * len(slot.rooms)) for left in reached}
        for number, one in enumerate(slot.rooms):
            plane = names.index(instance.plane_of[one.satellite])
            if names[plane] not in instance.ready(slot):
                continue
            more = set()
            for left, counts in used:
                for count in range(min(one.chunks, left[plane]) + 1):
                    tried = (*counts[:number], count, *counts[number + 1 :])
                    if keeps_bounds(slot, tried):
                        more.add(((*left[:plane], left[plane] - count, *left[plane + 1 :]), tried))
            used = more
        reached = {left for left, _ in used}
        if (0,) * len(names) in reached:
            return slot.index
    return None


def keeps_bounds(slot: Slot, counts: tuple[int, ...]) -> bool:
    stations: Counter[str] = Counter()
    satellites: Counter[str] = Counter()
    for one, count in zip(slot.rooms, counts, strict=True):
        stations[one.station] += count
        satellites[one.satellite] += count
    return all(slot.stations.get(name, count) >= count for name, count in stations.items()) and all(
        slot.satellites.get(name, count) >= count for name, count in satellites.items()
    )


# --- each other, and the references -------------------------------------------------------------------------


def test_no_scheduler_is_done_before_teg() -> None:
    later = Counter[str]()
    for seed in SEEDS:
        best = slots_taken(planned("teg", seed))
        for name in ("first_visible", "maxflow_slot"):
            taken = slots_taken(planned(name, seed))
            assert best <= taken, f"{name} with seed {seed}"
            later[name] += best < taken
    assert later["first_visible"] > later["maxflow_slot"] > 0  # the instances tell them apart


def test_teg_has_moved_by_every_slot_as_much_as_can_have_been_moved_by_then() -> None:
    for seed in SEEDS:
        instance = random_instance(seed)
        schedule = planned("teg", seed)
        moved = 0
        for slot, most in zip(instance.slots, most_by_slot(instance), strict=True):
            moved += sum(share.chunks for share in schedule.in_slot(slot.index))
            assert moved == most, f"slot {slot.index} with seed {seed}"
        assert sum(schedule.left.values()) == sum(chunks_of(instance).values()) - moved


def test_the_bound_of_a_slot_is_what_its_planes_can_move_in_it() -> None:
    for seed in range(30):
        instance = random_instance(seed)
        for slot, chosen in itertools.product(instance.slots, subsets(tuple(chunks_of(instance)))):
            ready = chosen & instance.ready(slot)
            assert slot.bound(instance.plane_of, ready) == most_from(instance, slot, chosen), f"seed {seed}"


def test_teg_is_as_quick_as_the_best_of_all_schedules() -> None:
    finished = tried = 0
    for seed in range(150):
        instance = random_instance(seed, slots=8, chunks_max=3)
        if max(len(slot.rooms) for slot in instance.slots) > 4:
            continue  # too many schedules
        schedule = teg(instance, chunks_of(instance))
        best = first_finish_of_all(instance)
        assert (None if schedule.left else schedule.last_slot) == best, f"seed {seed}"
        tried += 1
        finished += best is not None
    assert 20 < finished < tried


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_keeps_to_every_bound_and_hands_out_each_chunk_once(name: str) -> None:
    for seed in SEEDS:
        instance = random_instance(seed)
        chunks = chunks_of(instance)
        schedule = planned(name, seed)
        for slot in instance.slots:
            shares = schedule.in_slot(slot.index)
            rooms = {one.link: one.chunks for one in slot.rooms}
            stations: Counter[str] = Counter()
            satellites: Counter[str] = Counter()
            for share in shares:
                assert share.plane == instance.plane_of[share.satellite]
                assert share.plane in instance.ready(slot)
                assert 1 <= share.chunks <= rooms[share.link]
                stations[share.station] += share.chunks
                satellites[share.satellite] += share.chunks
            assert len({share.link for share in shares}) == len(shares)
            assert all(slot.stations.get(station, n) >= n for station, n in stations.items())
            assert all(slot.satellites.get(satellite, n) >= n for satellite, n in satellites.items())
        handouts = assign(schedule.shares, {plane: [(0, count)] for plane, count in chunks.items()})
        sent = Counter(
            (one.plane, chunk) for one in handouts for pair in one.ranges for chunk in range(*pair)
        )
        assert all(times == 1 for times in sent.values())
        for plane, count in chunks.items():
            assert sum(1 for of, _ in sent if of == plane) == count - schedule.left.get(plane, 0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_to_play_a_schedule_without_deviations_takes_as_long_as_it_says_and_one_plan(name: str) -> None:
    for seed in SEEDS[:60]:
        instance = random_instance(seed)
        schedule = planned(name, seed)
        outcome = finish(instance, SCHEDULERS[name])
        assert outcome.left == schedule.left
        assert outcome.slot == (None if schedule.left else schedule.last_slot)
        assert outcome.plans == 1
        for done in outcome.done.values():
            assert done.slot * SLOT_NS < done.at_ns <= (done.slot + 1) * SLOT_NS


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_plan_does_not_depend_on_the_order_in_which_things_are_named(scheduler: Scheduler) -> None:
    for seed in range(20):
        instance = random_instance(seed)
        slots = tuple(
            Slot(
                slot.index,
                slot.rooms[::-1],
                dict(reversed(slot.satellites.items())),
                dict(reversed(slot.stations.items())),
            )
            for slot in instance.slots
        )
        other = Instance(instance.planes[::-1], instance.slot_ns, slots)
        left = chunks_of(instance)
        assert scheduler(instance, left) == scheduler(other, dict(reversed(left.items())))


# --- by hand ------------------------------------------------------------------------------------------------


def test_teg_drains_the_plane_that_will_not_be_seen_again() -> None:
    """What one slot cannot know: `a` comes back, `b` does not."""
    instance = instance_of(
        {"a": 4, "b": 4},
        room("a1", "g", 0, 4),
        room("b1", "g", 0, 4),
        room("a1", "g", 1, 4),
        room("b1", "g", 9, 4),
        stations={"g": 4},
    )
    assert finish(instance, teg).slot == 1
    assert finish(instance, SCHEDULERS["first_visible"]).slot == 9


def test_the_baseline_uses_one_station_and_lets_go_first_who_came_first() -> None:
    instance = instance_of(
        {"a": 9, "b": 9},
        room("b1", "g", 0, 2),
        room("b1", "g", 1, 2, since=0),
        room("a1", "g", 1, 3),
        room("a1", "h", 1, 3),
        stations={"g": 4, "h": 4},
    )
    schedule = SCHEDULERS["first_visible"](instance, {"a": 9, "b": 9})
    assert [(share.satellite, share.station, share.chunks) for share in schedule.in_slot(1)] == [
        ("a1", "g", 2),
        ("b1", "g", 2),
    ]


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_what_can_never_be_finished_says_which_plane_and_how_many_chunks(scheduler: Scheduler) -> None:
    instance = instance_of({"a": 5, "b": 7, "c": 0}, room("a1", "g", 3, 9), room("b1", "g", 5, 4))
    outcome = finish(instance, scheduler)
    assert outcome.left == {"b": 3} and outcome.slot is None and outcome.at_ns is None
    assert outcome.done["a"].slot == 3
    never = instance_of({"a": 5, "b": 7})
    assert finish(never, scheduler).left == {"a": 5, "b": 7}
    assert scheduler(never, chunks_of(never)) == Schedule((), {"a": 5, "b": 7})
    nothing = finish(instance_of({"a": 0}), scheduler)
    assert nothing.left == {} and nothing.done == {} and nothing.slot is None


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_the_last_chunk_is_reckoned_within_its_slot(scheduler: Scheduler) -> None:
    instance = instance_of(
        {"a": 5, "b": 1}, room("a1", "g", 0, 4), room("a1", "g", 1, 4), room("b1", "h", 0, 9)
    )
    outcome = finish(instance, scheduler)
    assert outcome.done["a"].at_ns == SLOT_NS + SLOT_NS // 4
    assert outcome.done["b"].at_ns == -(-SLOT_NS // 9)
    assert outcome.at_ns == outcome.done["a"].at_ns
    shared = instance_of({"a": 2, "b": 2}, room("a1", "g", 0, 8), room("b1", "g", 0, 8), stations={"g": 5})
    assert finish(shared, scheduler).at_ns == SLOT_NS * 4 // 5


def test_a_plane_takes_part_from_the_first_slot_that_begins_when_it_is_ready() -> None:
    instance = instance_of({"a": 1}, *(room("a1", "g", slot, 1) for slot in range(5)))
    for ready_ns, slot in ((0, 0), (1, 1), (SLOT_NS, 1), (SLOT_NS + 1, 2)):
        (plane,) = instance.planes
        late = Instance((type(plane)("a", plane.satellites, 1, ready_ns),), instance.slot_ns, instance.slots)
        for scheduler in SCHEDULERS.values():
            assert scheduler(late, {"a": 1}).last_slot == slot


def test_a_plan_made_later_keeps_the_place_of_what_a_link_still_has() -> None:
    instance = instance_of(
        {"a": 6}, *(room("a1", "g", slot, 2, since=0) for slot in range(3)), room("a1", "g", 7, 2)
    )
    board = Board({"a": 6})
    first = plan(teg, instance, board, 0)
    board.hand_out(first.in_slot(0))
    again = plan(teg, instance, board, 1)
    assert [(share.slot, share.chunks) for share in again.shares] == [(2, 2), (7, 2)]
    board.acknowledged("a", [(0, 2)])
    again = plan(teg, instance, board, SLOT_NS)
    assert [(share.slot, share.chunks) for share in again.shares] == [(1, 2), (2, 2)]


def test_many_chunks_do_not_overflow_the_solver() -> None:
    most = 2**31 - 1
    instance = instance_of(
        {"a": most - 5, "b": 5},
        room("a1", "g", 0, 10**12),
        room("b1", "g", 0, 10**12),
        stations={"g": 10**12},
    )
    for scheduler in SCHEDULERS.values():
        assert scheduler(instance, chunks_of(instance)).left == {}


def test_no_module_loads_scipy_before_there_is_a_flow_to_compute() -> None:
    program = "import sys, orbitrain.flow.play, orbitrain.flow.capacity; print('scipy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
