"""What the server exchanges with orbit over stations: embeddings come down, features go up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from typing import TYPE_CHECKING, Final

from orbitrain.flow.board import Board
from orbitrain.flow.capacity import Direction
from orbitrain.flow.instance import Link
from orbitrain.flow.schedule import Handout
from orbitrain.machine import Action, Digest, Lane
from orbitrain.protocols.sfft.terms import LETTER_CHUNKS
from orbitrain.transport.objects import Range
from orbitrain.v1 import sfft_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.sfft.server import Server

WAYS: Final[tuple[Direction, ...]] = ("down", "up")


class Exchange:
    """Of the server; what it keeps is in the server's state.

    Of both directions there is a board, of chunks numbered owner after owner within their plane.
    """

    def __init__(self, server: Server) -> None:
        self._of = server
        self.stale = set(WAYS)
        """Where what is handed out may be more, or other, than the plan would now have it."""

    # ------------------------------------------------------------------------------------ arrivals

    def sighted(self, station: str, sighting: wire.Sighting) -> None:
        """Said twice, the contact ended in between unnoticed."""
        seen = self._of.state.seen[station].satellites
        self._ended(sighting.satellite, station)
        if sighting.there:
            seen.append(sighting.satellite)

    def take(self, block: wire.Block, objects: tuple[Digest, ...]) -> None:
        """Embeddings have come."""
        state = self._of.state
        if block.round != state.round.round or state.round.closed or block.owner in state.useless:
            return
        pieces = state.pieces[block.owner].digests
        for index, digest in zip(block.indices, objects, strict=True):
            if index not in pieces:
                pieces[index] = digest

    def passed(self, station: str, passed: wire.Passed) -> None:
        """What became of features: where they were not taken, the satellite has left."""
        state = self._of.state
        if not passed.taken:
            self._ended(passed.satellite, station)
        elif passed.round == state.round.round:
            known = state.risen[passed.owner]
            known.indices.extend(sorted({*passed.indices} - {*known.indices}))
            known.attempt = state.round.attempt

    def _ended(self, satellite: str, station: str) -> None:
        """What was handed out to a link and has not come may be handed out again."""
        seen = self._of.state.seen[station].satellites
        if satellite in seen:
            seen.remove(satellite)
        for way in WAYS:
            board = self._board(way)
            board.contact_ended(satellite, station)
            self._keep(way, board)
        self.stale.update(WAYS)

    # ------------------------------------------------------------------------------------- advance

    def advance(self) -> list[Action]:
        """What the schedule has for satellites in sight, until they leave it."""
        if self._of.params.work.on_board:
            return []
        fetches = [self._fetch(handout) for handout in self._handed_out("down")]
        return fetches + [each for handout in self._handed_out("up") for each in self._features(handout)]

    def _handed_out(self, way: Direction) -> tuple[Handout, ...]:
        if way not in self.stale:
            return ()
        self.stale.remove(way)
        of = self._of
        live: list[Link] = [
            (satellite, station)
            for station, seen in sorted(of.state.seen.items())
            for satellite in sorted(seen.satellites)
            if satellite in of.state.round.participants
        ]
        board = self._board(way)
        if not live or not any(board.left().values()):
            return ()
        handouts = board.hand_out(of.plan.shares(of.now_ns, board, live, way))
        self._keep(way, board)
        return handouts

    def _fetch(self, handout: Handout) -> Action:
        its = self._of.state.round
        fetch = wire.Fetch(round=its.round, satellite=handout.satellite)
        for owner, indices in self._owners(handout):
            fetch.wanted.add(round=its.round, owner=owner, indices=indices)
        return self._of.send(handout.station, fetch, Lane.CONTROL)

    def _features(self, handout: Handout) -> Iterable[Action]:
        state = self._of.state
        for owner, indices in self._owners(handout):
            for start in range(0, len(indices), LETTER_CHUNKS):
                some = indices[start : start + LETTER_CHUNKS]
                message = wire.Features(
                    round=state.round.round, owner=owner, satellite=handout.satellite, indices=some
                )
                objects = tuple(state.features[owner].digests[index] for index in some)
                yield self._of.send(handout.station, message, Lane.ACTIVATION, objects)

    # -------------------------------------------------------------------------------------- boards

    def _board(self, way: Direction) -> Board:
        """What need not be sent is as if it had come."""
        needed: Callable[[str], Iterable[int]] = self._embeddings if way == "down" else self._computed
        params, count = self._of.params, self._of.params.work.chunks
        chunks = {str(plane): len(members) * count for plane, members in enumerate(params.planes)}
        board = Board(chunks, outstanding=map(_handout, self._outstanding(way)))
        for plane, members in enumerate(params.planes):
            ranges: list[Range] = []
            for place, owner in enumerate(members):
                first = place * count
                taking_part = owner in self._of.state.round.participants
                wanted = set(needed(owner)) if taking_part else set()
                ranges += [(first + n, first + n + 1) for n in range(count) if n not in wanted]
            board.acknowledged(str(plane), ranges)
        return board

    def _outstanding(self, way: Direction) -> MutableSequence[wire.Handout]:
        return self._of.state.handouts if way == "down" else self._of.state.rising

    def _embeddings(self, owner: str) -> Iterable[int]:
        """Chunks that have to come down."""
        of = self._of
        if not of.lacks(owner):
            return ()
        come = of.state.pieces[owner].digests if owner in of.state.pieces else {}
        return (index for index in range(of.params.work.chunks) if index not in come)

    def _computed(self, owner: str) -> Iterable[int]:
        """Chunks whose features can go up: of whole blocks, as nothing is done with a part of one, and every
        letter takes its time."""
        state = self._of.state
        there = state.features[owner].digests if owner in state.features else {}
        if len(there) < self._of.params.work.chunks:
            return ()
        risen = {*state.risen[owner].indices} if owner in state.risen else set()
        return (index for index in there if index not in risen)

    def _keep(self, way: Direction, board: Board) -> None:
        """What links have been handed."""
        kept = self._outstanding(way)
        del kept[:]
        for handout in board.outstanding():
            kept.append(
                wire.Handout(
                    plane=int(handout.plane),
                    satellite=handout.satellite,
                    station=handout.station,
                    starts=[start for start, _ in handout.ranges],
                    ends=[end for _, end in handout.ranges],
                )
            )

    def _owners(self, handout: Handout) -> Iterable[tuple[str, list[int]]]:
        """Whose chunks they are, and which."""
        members, count = self._of.params.planes[int(handout.plane)], self._of.params.work.chunks
        found: dict[int, list[int]] = {}
        for start, end in handout.ranges:
            for number in range(start, end):
                found.setdefault(number // count, []).append(number % count)
        return [(members[place], indices) for place, indices in found.items()]


def _handout(kept: wire.Handout) -> Handout:
    ranges = tuple(zip(kept.starts, kept.ends, strict=True))
    return Handout(str(kept.plane), kept.satellite, kept.station, ranges)
