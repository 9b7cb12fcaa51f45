"""The optimum: one maximum flow through all slots at once, in the time-expanded network. Ours.

Let F(k) be the maximum flow through the first k slots. Everything is moved by the first k at which F(k) is
all that is left: no schedule is done earlier. And there is a schedule that has moved F(k) by every k at once,
so that no work is put off: a path that augments a flow through the first k slots takes nothing off their arcs
to the sink. In it slot k moves F(k) - F(k - 1); bounded by that, a last maximum flow finds it.

F is computed for few k. If S are the planes on the source's side of the minimum cut of the first a slots,
F(b) is at most F(a) and what the planes of S can move in the slots from a to b. Where that is reached it is
reached in each of these slots, as later cuts have fewer planes. S changes once for each plane at most, and
halving finds where.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from orbitrain.flow.instance import Instance, Slot
from orbitrain.flow.network import Flow, Network
from orbitrain.flow.schedule import Schedule


def teg(instance: Instance, left: Mapping[str, int]) -> Schedule:
    """By the end of every slot as much is moved as any schedule can have moved by then.

    So the last slot is the earliest that it can be. If all slots together are not enough, the schedule moves
    as much as can be. Between planes, and between links within a slot, the solver decides, the same each time
    with the same scipy.
    """
    left = {plane.name: left.get(plane.name, 0) for plane in instance.planes}
    prefixes = _Prefixes(instance, left)
    exits = [0] * prefixes.enough(sum(left.values()))
    prefixes.fill(exits, 0, len(exits))
    shares = prefixes.network.maximum(len(exits), exits).shares()
    for share in shares:
        left[share.plane] -= share.chunks
    return Schedule(shares, {plane: chunks for plane, chunks in left.items() if chunks})


class _Prefixes:
    """Maximum flows through the first so many slots."""

    def __init__(self, instance: Instance, left: Mapping[str, int]) -> None:
        self._instance = instance
        self._slots = instance.slots
        self._known: dict[int, Flow] = {}
        self.network = Network(instance, instance.slots, left)

    def flow(self, slots: int) -> Flow:
        found = self._known.get(slots)
        if found is None:
            found = self._known[slots] = self.network.maximum(slots)
        return found

    def enough(self, wanted: int) -> int:
        """The least number of slots through which `wanted` flows, or as much as flows through all of them."""
        # No flow is larger than its bounds, so that with fewer slots than these there is no need to begin.
        low, room = 0, 0
        every = frozenset(self._instance.plane_of.values())
        while low < len(self._slots) and room < wanted:
            room += self._bound(self._slots[low], every)
            low += 1
        high, step = low, 1
        while self.flow(high).chunks < wanted and high < len(self._slots):
            low, high, step = high, min(high + step, len(self._slots)), 2 * step
        wanted = min(wanted, self.flow(high).chunks)
        if self.flow(low).chunks >= wanted:
            low = 0
        return bisect_left(range(high + 1), wanted, low, high, key=lambda slots: self.flow(slots).chunks)

    def fill(self, exits: list[int], first: int, last: int) -> None:
        """Write what each of the slots from `first` to `last` moves."""
        if first == last:
            return
        moved = self.flow(last).chunks - self.flow(first).chunks
        if last - first == 1:
            exits[first] = moved
            return
        starved = self.flow(first).starved()
        room = [self._bound(slot, starved) for slot in self._slots[first:last]]
        if sum(room) == moved:
            exits[first:last] = room
            return
        middle = (first + last) // 2
        self.fill(exits, first, middle)
        self.fill(exits, middle, last)

    def _bound(self, slot: Slot, planes: frozenset[str]) -> int:
        return slot.bound(self._instance.plane_of, planes & self._instance.ready(slot))
