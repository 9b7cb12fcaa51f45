"""A satellite's embeddings and features: around the ring, down to stations that ask, home to their owners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from orbitrain.machine import Action, Digest, Lane, RemoteProtocolError, Withdraw
from orbitrain.protocols.sfft.ring import Chunk, begins, forward, toward
from orbitrain.protocols.sfft.terms import LETTER_CHUNKS
from orbitrain.v1 import sfft_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.sfft.satellite import Satellite

_OF_ROUND: Final = wire.About(of_round=True)


class Gathering:
    """Of one satellite; what it keeps is in the satellite's state."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite

    # ------------------------------------------------------------------------------------ arrivals

    def take(self, message: wire.Block, objects: tuple[Digest, ...]) -> None:
        """Another's chunks; the advance sends them on."""
        state, come = self._of.state, dict(zip(message.indices, objects, strict=True))
        held = dict(state.held[message.owner].digests) if message.owner in state.held else {}
        for index, digest in come.items():
            if held.get(index, digest) != digest:
                raise RemoteProtocolError(f"chunk {index} of {message.owner}: is another one here")
        state.held[message.owner].digests.update(come)

    def fetch(self, station: str, message: wire.Fetch) -> None:
        """A station asks; it gets what is here, and the rest as it comes, while the contact lasts."""
        known = self._of.state.fetches[station]
        known.until_ns = message.until_ns
        asked = {(one.owner, index) for one in known.wanted for index in one.indices}
        for one in message.wanted:
            fresh = [index for index in one.indices if (one.owner, index) not in asked]
            if fresh:
                known.wanted.add(owner=one.owner, indices=fresh)

    def features(self, message: wire.Features, objects: tuple[Digest, ...]) -> list[Action]:
        """One's own are kept, others' go on around the ring: in this attempt, as a ring formed anew has other
        ways, and the server sends them again."""
        of = self._of
        if message.owner == of.name:
            had_all = of.has_features
            of.state.features.digests.update(zip(message.indices, objects, strict=True))
            return [of.report("features_received")] if of.has_features and not had_all else []
        if of.ring is None or message.owner not in of.ring.members:
            return []
        under_way = [about.home for about in of.state.open.values() if about.home.owner == message.owner]
        if set(message.indices) <= {index for home in under_way for index in home.indices}:
            return []
        neighbour = toward(of.ring, of.name, message.owner)
        assert neighbour is not None
        about = wire.About(home=wire.Block(owner=message.owner, indices=message.indices))
        return [of.send(neighbour, message, Lane.ACTIVATION, objects, about=about)]

    def parted(self, peer: str) -> list[Action]:
        """A station is out of sight: what it was to get, others may be asked for."""
        state = self._of.state
        if peer not in state.fetches:
            return []
        del state.fetches[peer]
        return [Withdraw(key) for key, about in sorted(state.open.items()) if about.station == peer]

    # ------------------------------------------------------------------------------------- advance

    def advance(self) -> list[Action]:
        return self._around() + self._to_stations()

    def _around(self) -> list[Action]:
        of, how = self._of, self._of.params.work.gather
        ring = of.ring
        assert ring is not None
        count = of.params.work.chunks
        whole = [
            owner
            for owner in ring.members
            if owner in of.state.held and len(of.state.held[owner].digests) == count
        ]
        actions: list[Action] = []
        if len(whole) == len(ring) and not of.state.gathered:
            of.state.gathered = True
            actions.append(of.report("gathered"))
        for owner in ring.members:
            if owner not in of.state.held or (owner == of.name and not begins(ring, of.name, how, whole)):
                continue
            held = of.state.held[owner].digests
            chunks = [Chunk(owner, index, count) for index in sorted(held)]
            for neighbour, some in forward(ring, of.name, how, chunks):
                sent = of.state.sent[neighbour].chunks
                fresh = [chunk.index for chunk in some if f"{owner}/{chunk.index}" not in sent]
                sent.extend(f"{owner}/{index}" for index in fresh)
                for message, objects in self._letters(owner, fresh, of.params.work.ring_chunks):
                    actions.append(of.send(neighbour, message, Lane.ACTIVATION, objects, about=_OF_ROUND))
        return actions

    def _letters(
        self, owner: str, indices: Sequence[int], most: int
    ) -> Iterator[tuple[wire.Block, tuple[Digest, ...]]]:
        """These chunks, of those held, so many at most in each."""
        of = self._of
        held = of.state.held[owner].digests
        for start in range(0, len(indices), most):
            some = indices[start : start + most]
            message = wire.Block(round=of.state.round.round, owner=owner, indices=some)
            yield message, tuple(held[index] for index in some)

    def _to_stations(self) -> list[Action]:
        of, state = self._of, self._of.state
        actions: list[Action] = []
        for station, fetch in sorted(state.fetches.items()):
            if of.now_ns >= fetch.until_ns:
                del state.fetches[station]
            elif station in of.contacts:
                fresh = wire.Fetch(until_ns=fetch.until_ns)
                for one in fetch.wanted:
                    held = state.held[one.owner].digests if one.owner in state.held else {}
                    lacking = [index for index in one.indices if index not in held]
                    if lacking:
                        fresh.wanted.add(owner=one.owner, indices=lacking)
                    there = [index for index in one.indices if index in held]
                    for message, objects in self._letters(one.owner, there, LETTER_CHUNKS):
                        until_ns, about = fetch.until_ns, wire.About(of_round=True, station=station)
                        actions.append(
                            of.send(station, message, Lane.ACTIVATION, objects, until_ns, about=about)
                        )
                fetch.CopyFrom(fresh)
        return actions
