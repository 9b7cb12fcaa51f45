"""What all schedulers have in common: one call, from what is left to a schedule of everything that is to
come.

Nothing is remembered between calls. After a deviation (a contact that was cut or did not come, a lower rate)
`plan` is called again: what is acknowledged has left the board, and what a link still has is counted as
taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from orbitrain.flow.board import Board
from orbitrain.flow.first_visible import first_visible
from orbitrain.flow.instance import Instance
from orbitrain.flow.maxflow_slot import maxflow_slot
from orbitrain.flow.schedule import Schedule
from orbitrain.flow.teg import teg


class Scheduler(Protocol):
    """Moves the chunks that are left over the instance's slots, as far as they go."""

    def __call__(self, instance: Instance, left: Mapping[str, int]) -> Schedule: ...


SCHEDULERS: Final[Mapping[str, Scheduler]] = {
    "first_visible": first_visible,
    "maxflow_slot": maxflow_slot,
    "teg": teg,
}


def plan(scheduler: Scheduler, instance: Instance, board: Board, now_ns: int) -> Schedule:
    """Who carries what from the first slot that begins at `now_ns` or later: of what is free on the board.

    Chunks handed out before keep their place on their links. The same arguments give the same schedule.
    """
    from_slot = max(0, -(-now_ns // instance.slot_ns))
    outstanding = {handout.link: handout.chunks for handout in board.outstanding()}
    return scheduler(instance.rest(from_slot, outstanding), board.left())
