"""The ground station: passes on what server and satellites have for each other, and holds no model."""

from __future__ import annotations

from google.protobuf.message import Message

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    Lane,
    LocalProtocolError,
    Report,
    Send,
    Severity,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.sfft.checks import check, check_at_station
from orbitrain.protocols.sfft.terms import Params, is_news, letter, order
from orbitrain.v1 import sfft_pb2 as wire


class Station:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Round, wire.Status, wire.Block, wire.Fetch, wire.Features)

    def __init__(self, params: Params) -> None:
        self._params = params
        self._state = wire.StationState()
        self._contacts: dict[str, int] = {}

    def deadline_ns(self) -> int | None:
        return None

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        named = frozenset({self._state.round.head} - {""})
        return self._state.SerializeToString(deterministic=True), named

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self._state = wire.StationState.FromString(state)
        self._contacts = {}

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, Delivered):
            check(self._params, item.message, item.objects)
            check_at_station(self._params, item.source, item.message)
        match item:
            case ContactStarted(peer=peer, end_ns=end_ns) if peer != self._params.server:
                self._contacts[peer] = NEVER_NS if end_ns is None else end_ns
                return [*self._sighted(peer, True), *self._tell([peer])]
            case ContactEnded(peer=peer) if peer in self._contacts:
                del self._contacts[peer]
                return [*self._sighted(peer, False), *self._withdraw(peer)]
            case Delivered(source=source, message=wire.Round() as fresh):
                return self._begin(source, fresh)
            case Delivered(message=wire.Status() as status, objects=objects):
                return self._heard(status, objects)
            case Delivered(source=source, message=wire.Block() as block, objects=objects):
                return self._down(source, block, objects)
            case Delivered(message=wire.Fetch() as fetch):
                return self._ask(fetch)
            case Delivered(message=wire.Features() as features, objects=objects):
                return self._up(features, objects)
            case Acknowledged(key=key):
                return self._ended(key, True)
            case Undelivered(key=key):
                return self._ended(key, False)
        return []

    def _send(
        self,
        to: str,
        message: Message,
        lane: Lane,
        objects: tuple[Digest, ...] = (),
        expires_at_ns: int = NEVER_NS,
    ) -> Send:
        return letter(self._params, self._state, to, message, lane, objects, expires_at_ns)

    def _sighted(self, satellite: str, there: bool) -> list[Action]:
        """In one mailbox with what has come of the satellite: that it has left is news after that."""
        sighting = wire.Sighting(satellite=satellite, there=there)
        return [self._send(self._params.server, sighting, Lane.ACTIVATION)]

    def _begin(self, source: str, fresh: wire.Round) -> list[Action]:
        if order(fresh) <= order(self._state.round):
            return []
        self._state.round.CopyFrom(fresh)
        return self._tell(sorted(peer for peer in self._contacts if peer != source))

    def _tell(self, peers: list[str]) -> list[Action]:
        fresh = self._state.round
        if not fresh.round:
            return []
        return [self._send(peer, fresh, Lane.CONTROL, (fresh.head,)) for peer in peers]

    def _heard(self, status: wire.Status, objects: tuple[Digest, ...]) -> list[Action]:
        if not is_news(status, self._state.statuses):
            return []
        self._state.statuses[status.satellite].CopyFrom(status)
        return [self._send(self._params.server, status, Lane.CONTROL, objects)]

    def _down(self, satellite: str, block: wire.Block, objects: tuple[Digest, ...]) -> list[Action]:
        fields = {
            "round": block.round,
            "owner": block.owner,
            "satellite": satellite,
            "chunks": len(block.indices),
        }
        return [
            self._send(self._params.server, block, Lane.ACTIVATION, objects),
            Report("chunks_came", Severity.DIAGNOSTIC, fields),
        ]

    def _ask(self, fetch: wire.Fetch) -> list[Action]:
        """Whoever is out of sight is not asked: the server has been told so."""
        if fetch.satellite not in self._contacts:
            return []
        asked = wire.Fetch()
        asked.CopyFrom(fetch)
        asked.until_ns = self._contacts[fetch.satellite]
        return [self._send(fetch.satellite, asked, Lane.CONTROL, expires_at_ns=asked.until_ns)]

    def _up(self, features: wire.Features, objects: tuple[Digest, ...]) -> list[Action]:
        passing = wire.Passed(
            round=features.round,
            owner=features.owner,
            satellite=features.satellite,
            indices=features.indices,
        )
        if features.satellite not in self._contacts:
            return self._passed(passing, False)
        end_ns = self._contacts[features.satellite]
        letter = self._send(features.satellite, features, Lane.ACTIVATION, objects, end_ns)
        self._state.passing[letter.key].CopyFrom(passing)
        return [letter]

    def _withdraw(self, satellite: str) -> list[Action]:
        passing = sorted(self._state.passing.items())
        return [Withdraw(key) for key, one in passing if one.satellite == satellite]

    def _ended(self, key: str, taken: bool) -> list[Action]:
        if key not in self._state.passing:
            return []
        passing = wire.Passed.FromString(self._state.passing[key].SerializeToString())
        del self._state.passing[key]
        return self._passed(passing, taken)

    def _passed(self, passed: wire.Passed, taken: bool) -> list[Action]:
        passed.taken = taken
        return [self._send(self._params.server, passed, Lane.ACTIVATION)]
