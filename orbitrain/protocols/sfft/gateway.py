"""A satellite's part in taking the sums of all planes to all planes.

Every sum goes once over each edge between two planes, from the plane that has it to the one that is not known
to, by the crossing that the plan has first. Its sender is the gateway; the others wait until it should be
over, and if they have not heard of it by then try the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orbitrain.machine import Action, Digest, Lane, RemoteProtocolError
from orbitrain.protocols.sfft.planes import Crossing
from orbitrain.protocols.sfft.ring import Chunk, Gather, forward
from orbitrain.protocols.sfft.weights import of_plane
from orbitrain.v1 import sfft_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.sfft.satellite import Satellite

GRACE_NS: Final = 30_000_000_000
"""Scenario time from a crossing's planned end until it has failed: for its answer, and word of it around a
ring."""


class Gateway:
    """Of one satellite, in one attempt; what it keeps is in the satellite's state."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite
        self._wake_ns: int | None = None

    def deadline_ns(self) -> int | None:
        return self._wake_ns

    # ------------------------------------------------------------------------------------ arrivals

    def reduced(self, labelled: wire.Labelled) -> list[Action]:
        """The sum of one's own plane is there."""
        of = self._of
        self._know(of.plane, labelled, [of.plane])
        return [of.report("reduced", names=list(labelled.names), digest=labelled.digest)]

    def take(self, source: str, message: wire.Sum, objects: tuple[Digest, ...]) -> list[Action]:
        """Another plane's sum, from there or from a member of one's own."""
        of, state = self._of, self._of.state
        if not 0 <= message.plane < len(of.params.planes):
            raise RemoteProtocolError(f"there is no plane {message.plane}")
        members = of.params.planes[message.plane]
        if any(name not in members for name in message.names):
            raise RemoteProtocolError(f"sum of plane {message.plane}: has satellites of others")
        label = of_plane(message.plane, dict.fromkeys(message.names, of.params.work.samples))
        if label.weight != message.weight or len(label.names) != len(message.names):
            raise RemoteProtocolError(
                f"weight: must be {label.weight} of {len(label.names)} names, not {message.weight}"
            )
        if message.plane in state.sums:
            self._add_holders(message.plane, message.holders)
            return []
        labelled = wire.Labelled(
            digest=objects[0] if objects else "", names=sorted(message.names), weight=message.weight
        )
        holders = sorted({*message.holders, of.plane, of.params.plane_of(source)})
        self._know(message.plane, labelled, holders)
        entry = message.entry or of.name
        return self._spread(message.plane, entry)

    def crossed(self, message: wire.Crossed) -> list[Action]:
        """A gateway of the plane has been heard by another plane."""
        of = self._of
        if message.plane not in of.state.sums:
            return []
        if message.target in of.state.sums[message.plane].holders:
            return []
        self._add_holders(message.plane, [message.target])
        return self._tell(message, message.entry)

    def ended(self, about: str, delivered: bool) -> list[Action]:
        """One's own crossing is over."""
        of, state = self._of, self._of.state
        plane, target, receiver, start_ns = about.split("/")
        known = state.sums[int(plane)]
        if not delivered:
            known.failed.add(sender=of.name, receiver=receiver, start_ns=int(start_ns))
            return []
        self._add_holders(int(plane), [int(target)])
        message = wire.Crossed(
            round=state.round.round,
            attempt=state.round.attempt,
            plane=int(plane),
            target=int(target),
            entry=of.name,
        )
        return self._tell(message, of.name)

    # ------------------------------------------------------------------------------------- advance

    def advance(self) -> list[Action]:
        """Send what is one's own to send; find out what others failed to."""
        of, state = self._of, self._of.state
        actions: list[Action] = []
        wakes = []
        for plane, known in sorted(state.sums.items()):
            for target in of.space.crossings().neighbours(of.plane):
                if target in known.holders:
                    continue
                crossing = self._crossing(known, target)
                if crossing is None:
                    continue
                if crossing.sender != of.name:
                    wakes.append(crossing.arrival_ns + GRACE_NS)
                    continue
                about = f"{plane}/{target}/{crossing.receiver}/{crossing.start_ns}"
                if about not in state.open.values():
                    actions.append(self._send(plane, known, crossing, about))
        self._wake_ns = min(wakes, default=None)
        return actions

    def _crossing(self, known: wire.Known, target: int) -> Crossing | None:
        """The crossing that counts now; those of others that are overdue have failed."""
        of = self._of
        while True:
            tried = [(one.sender, one.receiver, one.start_ns) for one in known.failed]
            crossing = of.space.crossings().without(tried).earliest(of.plane, target, known.since_ns)
            if crossing is None:
                return None
            if crossing.sender == of.name or of.now_ns < crossing.arrival_ns + GRACE_NS:
                return crossing
            known.failed.add(sender=crossing.sender, receiver=crossing.receiver, start_ns=crossing.start_ns)

    def _send(self, plane: int, known: wire.Known, crossing: Crossing, about: str) -> Action:
        expires_at_ns = max(crossing.arrival_ns, self._of.now_ns) + GRACE_NS
        message, objects = self._message(plane, known, "")
        return self._of.send(crossing.receiver, message, Lane.UPDATE, objects, expires_at_ns, about)

    def _message(self, plane: int, known: wire.Known, entry: str) -> tuple[wire.Sum, tuple[Digest, ...]]:
        its = self._of.state.round
        message = wire.Sum(
            round=its.round,
            attempt=its.attempt,
            plane=plane,
            names=known.sum.names,
            weight=known.sum.weight,
            entry=entry,
            holders=known.holders,
        )
        return message, (known.sum.digest,) if known.sum.digest else ()

    def _spread(self, plane: int, entry: str) -> list[Action]:
        """What came into the plane at `entry` goes to all its members."""
        message, objects = self._message(plane, self._of.state.sums[plane], entry)
        return [self._of.send(neighbour, message, Lane.UPDATE, objects) for neighbour in self._ways(entry)]

    def _tell(self, message: wire.Crossed, entry: str) -> list[Action]:
        return [self._of.send(neighbour, message, Lane.CONTROL) for neighbour in self._ways(entry)]

    def _ways(self, entry: str) -> list[str]:
        of = self._of
        if of.ring is None or entry not in of.ring.members:
            return []
        return [neighbour for neighbour, _ in forward(of.ring, of.name, Gather.TWO_WAY, [Chunk(entry, 0, 1)])]

    def _know(self, plane: int, labelled: wire.Labelled, holders: list[int]) -> None:
        known = self._of.state.sums[plane]
        known.sum.CopyFrom(labelled)
        known.holders.extend(holders)
        known.since_ns = self._of.now_ns

    def _add_holders(self, plane: int, holders: object) -> None:
        known = self._of.state.sums[plane]
        merged = sorted({*known.holders, *holders})  # type: ignore[misc]
        del known.holders[:]
        known.holders.extend(merged)
