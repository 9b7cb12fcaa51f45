"""Plans that do not come true: what is acknowledged leaves, the rest is planned again, nothing goes twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest

from orbitrain.flow.board import Board
from orbitrain.flow.instance import Instance, Link, Slot
from orbitrain.flow.play import finish
from orbitrain.flow.schedule import Handout
from orbitrain.flow.scheduler import SCHEDULERS, Scheduler, plan
from orbitrain.flow.teg import teg
from orbitrain.transport.objects import Range, split
from tests.unit.flow.instances import SLOT_NS, instance_of, random_instance, room

CALM_SLOT = 200


def with_a_calm_end(instance: Instance) -> Instance:
    """Long after everything else each satellite has a contact that carries what is left."""
    stations = sorted({one.station for slot in instance.slots for one in slot.rooms})
    end = [
        Slot(
            CALM_SLOT + number,
            tuple(
                room(satellite, station, CALM_SLOT + number, 3, since=CALM_SLOT)
                for satellite in instance.plane_of
                for station in stations
            ),
        )
        for number in range(40)
    ]
    return replace(instance, slots=(*instance.slots, *end))


class Weather:
    """Links at random: gone, slower, with chunks acknowledged out of order. Calm from CALM_SLOT on."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.acknowledged: Counter[tuple[str, int]] = Counter()
        self.held: dict[tuple[str, int], tuple[int, Link]] = {}

    def __call__(self, slot: Slot, handout: Handout) -> Iterable[Range] | None:
        for start, end in handout.ranges:
            for chunk in range(start, end):
                assert self.acknowledged[handout.plane, chunk] == 0
                at, link = self.held.get((handout.plane, chunk), (-1, handout.link))
                assert at < slot.index or link == handout.link, "on two links at once"
                self.held[handout.plane, chunk] = (slot.index, handout.link)
        fits = next(one.chunks for one in slot.rooms if one.link == handout.link)
        kind = self._random.choice(("as planned", "as planned", "slower", "out of order", "gone"))
        through = list(split(handout.ranges, fits)[0])
        if slot.index < CALM_SLOT and kind == "gone":
            return None
        if slot.index < CALM_SLOT and kind == "slower":
            through = split(through, self._random.randint(0, 2))[0]
        if slot.index < CALM_SLOT and kind == "out of order":
            through = [(end - 1, end) for _, end in through if end]
        for start, end in through:
            self.acknowledged.update((handout.plane, chunk) for chunk in range(start, end))
        return through


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_every_chunk_is_acknowledged_once_whatever_the_links_do(scheduler: Scheduler) -> None:
    plans = 0
    for seed in range(40):
        instance = with_a_calm_end(random_instance(seed, slots=30, chunks_max=15))
        weather = Weather(seed)
        outcome = finish(instance, scheduler, weather)
        assert outcome.left == {}, f"seed {seed}"
        every = {(plane.name, chunk) for plane in instance.planes for chunk in range(plane.chunks)}
        assert set(weather.acknowledged) == every and set(weather.acknowledged.values()) == {1}, (
            f"seed {seed}"
        )
        plans += outcome.plans
    assert plans > 200


def test_what_a_live_link_still_has_is_not_handed_out_again_and_takes_its_place() -> None:
    """Slot 0 is cut to a half; the other half goes first in slot 1, and what was planned there moves on."""
    instance = instance_of({"a": 8}, *(room("a1", "g", slot, 4, since=0) for slot in range(3)))
    sent: list[tuple[int, tuple[Range, ...]]] = []

    def half_at_first(slot: Slot, handout: Handout) -> Iterable[Range]:
        sent.append((slot.index, handout.ranges))
        return [(0, 2)] if slot.index == 0 else handout.ranges

    outcome = finish(instance, teg, half_at_first)
    assert sent == [(0, ((0, 4),)), (1, ((2, 6),)), (2, ((6, 8),))]
    assert outcome.slot == 2 and outcome.plans == 2


def test_a_pass_that_does_not_come_is_made_up_for_by_another_satellite() -> None:
    instance = instance_of({"a": 4}, room("a1", "g", 0, 4), room("a2", "g", 5, 4), room("a1", "g", 9, 4))
    outcome = finish(instance, teg, lambda slot, one: None if slot.index == 0 else one.ranges)
    assert outcome.slot == 5 and outcome.left == {}


def test_what_is_outstanding_when_its_contact_ends_goes_to_whoever_is_there() -> None:
    """In slot 1 the first satellite is there again, in another contact, and has room for one chunk."""
    instance = instance_of(
        {"a": 4}, room("a1", "g", 0, 4), room("a1", "g", 1, 1), room("a2", "g", 1, 3), room("a2", "g", 9, 4)
    )

    def nothing_at_first(slot: Slot, handout: Handout) -> Iterable[Range]:
        (fits,) = (one.chunks for one in slot.rooms if one.link == handout.link)
        return split(handout.ranges, fits if slot.index else 0)[0]

    outcome = finish(instance, teg, nothing_at_first)
    assert outcome.slot == 1 and outcome.plans == 2
    gone = instance_of({"a": 4}, room("a1", "g", 0, 4), room("a2", "g", 1, 4))
    assert finish(gone, teg, lambda slot, one: one.ranges if slot.index else []).slot == 1


def test_what_a_contact_can_no_longer_carry_takes_no_place_in_the_next_one() -> None:
    rooms = (room("a1", "g", 0, 4), room("a1", "g", 1, 1, since=0), room("a1", "g", 9, 4))
    rest = instance_of({"a": 9}, *rooms).rest(1, {("a1", "g"): 3})
    assert [(slot.index, slot.rooms[0].chunks) for slot in rest.slots] == [(1, 0), (9, 4)]


def test_what_a_link_still_has_takes_its_place_at_both_ends() -> None:
    rooms = (room("a1", "g", 0, 4), room("a1", "h", 0, 4), room("a2", "g", 0, 4))
    (slot,) = instance_of({"a": 9}, *rooms, stations={"g": 5}).slots
    slot = replace(slot, satellites={"a1": 6})
    instance = replace(instance_of({"a": 9}, *rooms), slots=(slot,))
    (rest,) = instance.rest(0, {("a1", "g"): 3}).slots
    assert [one.chunks for one in rest.rooms] == [1, 4, 4]
    assert (rest.satellites, rest.stations) == ({"a1": 3}, {"g": 2})


def test_after_a_deviation_teg_is_again_the_optimum_of_what_is_left() -> None:
    for seed in range(60):
        instance = random_instance(seed)
        random = Random(seed)
        board = Board({plane.name: plane.chunks for plane in instance.planes})
        at = instance.slots[len(instance.slots) // 3].index
        for plane in instance.planes:
            board.acknowledged(plane.name, [(0, random.randint(0, plane.chunks))])
        schedules = [plan(one, instance, board, at * SLOT_NS) for one in SCHEDULERS.values()]
        ends = [float("inf") if one.left else one.last_slot or -1 for one in schedules]
        assert ends[list(SCHEDULERS).index("teg")] == min(ends), f"seed {seed}"
        assert all(share.slot >= at for one in schedules for share in one.shares)
