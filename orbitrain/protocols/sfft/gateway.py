"""A satellite's part in bringing the sums of all planes together.

Where sums are flooded each goes once over each edge between two planes, from the plane that has it to the one
that is not known to. Along a tree a plane's sum is added to those of its children and goes to its parent; the
root's, which is of all, goes down to the children.

Whatever goes over an edge takes the crossing that the plan has first. Its sender is the gateway; the others
wait until it should be over, and if they have not heard of it by then try the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from orbitrain.machine import Action, Digest, Lane, RemoteProtocolError
from orbitrain.protocols.sfft.planes import Crossing
from orbitrain.protocols.sfft.ring import Chunk, Gather, forward
from orbitrain.v1 import sfft_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.sfft.satellite import Satellite

MERGE: Final = "merge"


class Gateway:
    """Of one satellite, in one attempt; what it keeps is in the satellite's state.

    Sums are told apart by numbers: a plane's own by the plane's, one merged at a plane by that and the number
    of planes.
    """

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite
        self._wake_ns: int | None = None

    def deadline_ns(self) -> int | None:
        return self._wake_ns

    def whole(self) -> list[wire.Labelled] | None:
        """The sums that together are of all planes, once they are here."""
        of, sums = self._of, self._of.state.sums
        if of.tree is not None:
            wanted = [self._merged_at(of.tree.root)]
        else:
            wanted = list(of.params.taking_part(of.participants))
        return [sums[number].sum for number in wanted] if all(each in sums for each in wanted) else None

    # ------------------------------------------------------------------------------------ arrivals

    def reduced(self, labelled: wire.Labelled) -> list[Action]:
        """The sum of one's own plane is there."""
        of = self._of
        self._know(of.plane, labelled, [of.plane])
        return [of.report("reduced", names=list(labelled.names), digest=labelled.digest)]

    def take(self, source: str, message: wire.Sum, objects: tuple[Digest, ...]) -> list[Action]:
        """A sum made elsewhere, from another plane or from a member of one's own."""
        of, state = self._of, self._of.state
        number = self._check(message)
        if number in state.sums:
            self._add_holders(number, message.holders)
            return []
        labelled = wire.Labelled(
            digest=objects[0] if objects else "", names=sorted(message.names), weight=message.weight
        )
        holders = sorted({*message.holders, of.plane, of.params.plane_of(source)})
        self._know(number, labelled, holders)
        entry = message.entry or of.name
        return self._spread(number, entry)

    def crossed(self, message: wire.Crossed) -> list[Action]:
        """A gateway of the plane has been heard by another plane."""
        of = self._of
        number = self._number(message)
        if number not in of.state.sums or message.target in of.state.sums[number].holders:
            return []
        self._add_holders(number, [message.target])
        return self._tell(message, message.entry)

    def ended(self, leg: wire.Leg, delivered: bool) -> list[Action]:
        """One's own crossing is over."""
        of, state = self._of, self._of.state
        if not delivered:
            state.sums[leg.sum].failed.append(leg.crossing)
            return []
        self._add_holders(leg.sum, [leg.target])
        plane, merged = self._parted(leg.sum)
        message = wire.Crossed(
            round=state.round.round,
            attempt=state.round.attempt,
            plane=plane,
            merged=merged,
            target=leg.target,
            entry=of.name,
        )
        return self._tell(message, of.name)

    def merged(self, digest: Digest) -> list[Action]:
        """One's own sum with those of the planes below."""
        of = self._of
        there = self._to_merge() or []
        names = sorted(name for one in there for name in one.names)
        labelled = wire.Labelled(digest=digest, names=names, weight=sum(one.weight for one in there))
        self._know(self._merged_at(of.plane), labelled, [of.plane])
        return [of.report("merged", names=names, digest=digest)]

    def _check(self, message: wire.Sum) -> int:
        """Its number. RemoteProtocolError for a sum of those whom it cannot be of."""
        of, tree = self._of, self._of.tree
        number = self._number(message)
        if message.merged != (tree is not None) or (tree is not None and message.plane not in tree.parents):
            raise RemoteProtocolError(f"sum of plane {message.plane}: is not what planes exchange here")
        if tree is None:
            planes: Iterable[int] = [message.plane]
        else:
            planes = tree.under(message.plane)
            if message.plane not in (tree.root, *tree.children(of.plane)):
                raise RemoteProtocolError(f"sum of plane {message.plane}: is not for plane {of.plane}")
        members = {name for plane in planes for name in of.params.planes[plane]}
        if any(name not in members for name in message.names):
            raise RemoteProtocolError(f"sum of plane {message.plane}: has satellites of others")
        weight = of.params.work.samples * len(message.names)
        if len(set(message.names)) != len(message.names) or message.weight != weight:
            raise RemoteProtocolError(
                f"weight: must be {weight} of {len(message.names)} names, each once, not {message.weight}"
            )
        return number

    # ------------------------------------------------------------------------------------- numbers

    def _merged_at(self, plane: int) -> int:
        return len(self._of.params.planes) + plane

    def _number(self, message: wire.Sum | wire.Crossed) -> int:
        if not 0 <= message.plane < len(self._of.params.planes):
            raise RemoteProtocolError(f"there is no plane {message.plane}")
        return self._merged_at(message.plane) if message.merged else message.plane

    def _parted(self, number: int) -> tuple[int, bool]:
        planes = len(self._of.params.planes)
        return number % planes, number >= planes

    def _targets(self, number: int) -> tuple[int, ...]:
        """The planes that one's own is to take this sum to."""
        of, tree = self._of, self._of.tree
        if tree is None:
            return of.crossings.neighbours(of.plane)
        plane, merged = self._parted(number)
        if not merged:
            return ()
        if plane == tree.root:
            return tree.children(of.plane)
        return (tree.parents[plane],) if plane == of.plane else ()

    # ------------------------------------------------------------------------------------- advance

    def advance(self) -> list[Action]:
        """Send what is one's own to send; find out what others failed to."""
        of, state = self._of, self._of.state
        actions = self._merge()
        wakes = []
        for number, known in sorted(state.sums.items()):
            for target in self._targets(number):
                if target in known.holders:
                    continue
                crossing = self._crossing(known, target)
                if crossing is None:
                    if of.tree is not None:  # another tree may have a way
                        actions += of.spoil(f"no way from plane {of.plane} to plane {target} is left")
                    continue
                if crossing.sender != of.name:
                    wakes.append(crossing.arrival_ns + of.params.times.patience_ns)
                    continue
                leg = wire.Leg(sum=number, target=target, crossing=_try(crossing))
                if all(about.leg != leg for about in state.open.values()):
                    actions.append(self._send(number, known, crossing, leg))
        self._wake_ns = min(wakes, default=None)
        return actions

    def _merge(self) -> list[Action]:
        """One's own sum and those of the planes below, as soon as all are there; each member does it."""
        of = self._of
        there = self._to_merge()
        if there is None or self._merged_at(of.plane) in of.state.sums or of.is_running(MERGE):
            return []
        objects = {f"sum/{n}": one.digest for n, one in enumerate(one for one in there if one.names)}
        if len(objects) < 2:
            return self.merged(objects.get("sum/0", ""))
        return [of.job(MERGE, "add", {}, objects, of.params.times.add_ns)]

    def _to_merge(self) -> list[wire.Labelled] | None:
        of, sums = self._of, self._of.state.sums
        if of.tree is None or of.ring is None:
            return None
        wanted = [of.plane, *map(self._merged_at, of.tree.children(of.plane))]
        return [sums[number].sum for number in wanted] if all(each in sums for each in wanted) else None

    def _crossing(self, known: wire.Known, target: int) -> Crossing | None:
        """The crossing that counts now; those of others that are overdue have failed."""
        of = self._of
        while True:
            tried = [(one.sender, one.receiver, one.start_ns) for one in known.failed]
            crossing = of.crossings.without(tried).earliest(of.plane, target, known.since_ns)
            if crossing is None:
                return None
            if crossing.sender == of.name or of.now_ns < crossing.arrival_ns + of.params.times.patience_ns:
                return crossing
            known.failed.append(_try(crossing))

    def _send(self, number: int, known: wire.Known, crossing: Crossing, leg: wire.Leg) -> Action:
        expires_at_ns = max(crossing.arrival_ns, self._of.now_ns) + self._of.params.times.patience_ns
        message, objects = self._message(number, known, "")
        about = wire.About(leg=leg)
        return self._of.send(crossing.receiver, message, Lane.UPDATE, objects, expires_at_ns, about)

    def _message(self, number: int, known: wire.Known, entry: str) -> tuple[wire.Sum, tuple[Digest, ...]]:
        its = self._of.state.round
        plane, merged = self._parted(number)
        message = wire.Sum(
            round=its.round,
            attempt=its.attempt,
            plane=plane,
            merged=merged,
            names=known.sum.names,
            weight=known.sum.weight,
            entry=entry,
            holders=known.holders,
        )
        return message, (known.sum.digest,) if known.sum.digest else ()

    def _spread(self, number: int, entry: str) -> list[Action]:
        """What came into the plane at `entry` goes to all its members."""
        message, objects = self._message(number, self._of.state.sums[number], entry)
        return [self._of.send(neighbour, message, Lane.UPDATE, objects) for neighbour in self._ways(entry)]

    def _tell(self, message: wire.Crossed, entry: str) -> list[Action]:
        return [self._of.send(neighbour, message, Lane.CONTROL) for neighbour in self._ways(entry)]

    def _ways(self, entry: str) -> list[str]:
        of = self._of
        if of.ring is None or entry not in of.ring.members:
            return []
        return [neighbour for neighbour, _ in forward(of.ring, of.name, Gather.TWO_WAY, [Chunk(entry, 0, 1)])]

    def _know(self, number: int, labelled: wire.Labelled, holders: list[int]) -> None:
        known = self._of.state.sums[number]
        known.sum.CopyFrom(labelled)
        known.holders.extend(holders)
        known.since_ns = self._of.now_ns

    def _add_holders(self, number: int, holders: object) -> None:
        known = self._of.state.sums[number]
        merged = sorted({*known.holders, *holders})  # type: ignore[misc]
        del known.holders[:]
        known.holders.extend(merged)


def _try(crossing: Crossing) -> wire.Try:
    return wire.Try(sender=crossing.sender, receiver=crossing.receiver, start_ns=crossing.start_ns)
