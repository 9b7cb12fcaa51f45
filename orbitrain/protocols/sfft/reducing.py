"""A satellite's part in the sum of its plane's heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orbitrain.machine import Action, Digest, Lane, RemoteProtocolError
from orbitrain.protocols.sfft.ring import Chunk, Gather, Reduce, Ring, Visit, forward, parts, visit, visits
from orbitrain.protocols.sfft.weights import of_plane
from orbitrain.v1 import sfft_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.sfft.satellite import Satellite

_JOIN, _SUM, _ADD = "join", "sum", "add"


class Reducing:
    """Of one satellite, in one attempt; what it keeps is in the satellite's state."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite

    @property
    def _ring(self) -> Ring:
        assert self._of.ring is not None
        return self._of.ring

    @property
    def _how(self) -> Reduce:
        return self._of.params.reduction(self._ring)

    @property
    def parts(self) -> int:
        """Into how many a head is cut."""
        return 1 if self._how is Reduce.GATHER else parts(self._ring, self._how)

    @property
    def _ready(self) -> bool:
        """Whether it is known what one adds."""
        return self._of.state.abstains or len(self._of.state.own) == self.parts

    # ------------------------------------------------------------------------------------ arrivals

    def visit(self, source: str, message: wire.Visit, objects: tuple[Digest, ...]) -> None:
        """A part on its tour; the advance deals with it."""
        of = self._of
        if of.ring is None or self._how is Reduce.GATHER:
            raise RemoteProtocolError("there are no tours in this plane")
        due = visit(of.ring, self._how, message.part, message.step)
        if due is None or due.member != of.name or due.step == 0:
            raise RemoteProtocolError(f"part {message.part}, step {message.step}: is not for {of.name}")
        before = due.names[:-1] if due.adds else due.names
        if list(message.names) != [name for name in before if name in message.names]:
            raise RemoteProtocolError(f"names: must be some of {', '.join(before)}, in this order")
        place = f"{message.part}/{message.step}"
        if place in of.state.visits:
            return
        of.state.visits[place].digest = objects[0] if objects else ""
        of.state.visits[place].names.extend(message.names)

    def head(self, message: wire.Head, objects: tuple[Digest, ...]) -> list[Action]:
        """A member's weighted head, which goes on around the ring; the advance sums them."""
        of = self._of
        if of.ring is None or self._how is not Reduce.GATHER or message.owner not in of.ring.members:
            raise RemoteProtocolError(f"heads are not gathered with {message.owner[:64]} in this plane")
        if message.owner in of.state.heads:
            return []
        return self._hold(message.owner, objects)

    def done(self, job: str, outputs: Mapping[str, Digest]) -> list[Action]:
        kind, _, place = job.partition("/")
        if kind == _ADD:
            part, step = map(int, place.split("/"))
            due = visit(self._ring, self._how, part, step)
            assert due is not None
            names = [*self._of.state.visits[place].names, self._of.name]
            return self._go_on(due, wire.Labelled(digest=outputs["sum"], names=names))
        state = self._of.state
        gathered = [name for name, one in state.heads.items() if one.digest]
        return self._reduced(outputs["sum"], gathered if kind == _SUM else list(state.final[0].names))

    # ------------------------------------------------------------------------------------- advance

    def advance(self) -> list[Action]:
        of = self._of
        if of.plane in of.state.sums:
            return []
        return self._gather() if self._how is Reduce.GATHER else self._tour()

    def _tour(self) -> list[Action]:
        of, state = self._of, self._of.state
        actions: list[Action] = []
        for due in visits(self._ring, self._how, of.name):
            place = f"{due.part}/{due.step}"
            has_come = place in state.visits  # to ask a protobuf map for it would make one
            if place in state.visited or (due.step > 0 and not has_come) or (due.adds and not self._ready):
                continue
            state.visited.append(place)
            arrived = state.visits[place] if has_come else wire.Labelled()
            if not due.adds or state.abstains:
                actions += self._go_on(due, arrived)
            elif not arrived.digest:
                actions += self._go_on(due, wire.Labelled(digest=state.own[due.part], names=[of.name]))
            else:
                objects = {"sum/0": arrived.digest, "sum/1": state.own[due.part]}
                actions.append(of.job(f"{_ADD}/{place}", "add", {}, objects, of.params.times.add_ns))
        return actions + self._join()

    def _go_on(self, due: Visit, labelled: wire.Labelled) -> list[Action]:
        """The visit has its result: it is kept if it is of all, and goes to the next member."""
        of, state = self._of, self._of.state
        if due.whole:
            state.final[due.part].CopyFrom(labelled)
        actions: list[Action] = []
        if due.to is not None:
            message = wire.Visit(
                round=state.round.round,
                attempt=state.round.attempt,
                part=due.part,
                step=due.step + 1,
                names=labelled.names,
            )
            objects = (labelled.digest,) if labelled.digest else ()
            actions.append(of.send(due.to, message, Lane.UPDATE, objects))
        return actions

    def _join(self) -> list[Action]:
        """The plane's sum of its parts, which must be of the same satellites."""
        of, state = self._of, self._of.state
        if len(state.final) < self.parts or of.is_running(_JOIN):
            return []
        if len({frozenset(part.names) for part in state.final.values()}) > 1:
            return of.spoil("the parts of the sum are of different satellites")
        if self.parts == 1 or not state.final[0].names:
            return self._reduced(state.final[0].digest, list(state.final[0].names))
        objects = {f"part/{n}": state.final[n].digest for n in range(self.parts)}
        return [of.job(_JOIN, _JOIN, {}, objects, of.params.times.add_ns)]

    def _gather(self) -> list[Action]:
        of, state = self._of, self._of.state
        actions: list[Action] = []
        if of.name not in state.heads and self._ready:
            actions += self._hold(of.name, () if state.abstains else (state.own[0],))
        if len(state.heads) < len(self._ring) or of.is_running(_SUM):
            return actions
        there = [(name, one.digest) for name, one in sorted(state.heads.items()) if one.digest]
        if not there:
            return actions + self._reduced("", [])
        objects = {f"sum/{n}": digest for n, (_, digest) in enumerate(there)}
        return [*actions, of.job(_SUM, "add", {}, objects, of.params.times.add_ns)]

    def _hold(self, owner: str, objects: tuple[Digest, ...]) -> list[Action]:
        """A head, one's own or another's: kept, and passed on."""
        of, state = self._of, self._of.state
        state.heads[owner].digest = objects[0] if objects else ""
        message = wire.Head(round=state.round.round, attempt=state.round.attempt, owner=owner)
        ways = forward(self._ring, of.name, Gather.TWO_WAY, [Chunk(owner, 0, 1)])
        return [of.send(neighbour, message, Lane.UPDATE, objects) for neighbour, _ in ways]

    def _reduced(self, digest: Digest, names: list[str]) -> list[Action]:
        of = self._of
        label = of_plane(of.plane, dict.fromkeys(names, of.params.work.samples))
        return of.gateway.reduced(wire.Labelled(digest=digest, names=sorted(names), weight=label.weight))
