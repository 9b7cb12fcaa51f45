"""A satellite's models on their way: picked up where the plan designates it, dropped once they are mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orbitrain.machine import Action, Report, Severity
from orbitrain.protocols.fedmeld.rules import (
    CARRIES_MAX,
    carried_digest,
    designated,
    find_carry,
    is_mixing_round,
)
from orbitrain.v1 import fedmeld_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.fedmeld.satellite import Satellite


class Carrying:
    """Of one satellite; what it carries is in the satellite's state."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite

    def take_along(self, region: str, now_ns: int) -> list[Action]:
        """Pick up the region's newest mixing model where the plan designates this satellite."""
        session, params = self._of.state.sessions[region], self._of.params
        actions = self.drop(region)
        target = params.downstream(region)
        if target is None or not session.HasField("base"):
            return actions
        holders: dict[int, list[str]] = {}
        records: dict[int, wire.ModelRecord] = {}
        for device, status in sorted(session.statuses.items()):
            for record in status.mixing:
                holders.setdefault(record.round, []).append(device)
                records[record.round] = record
        if is_mixing_round(params, session.base.round):
            records[session.base.round] = session.base
        for round_number in sorted(records):
            if round_number + params.delta <= self._of.state.seen.get(target, 0):
                continue
            if find_carry(params, target, round_number, self._of.state.carries) is not None:
                continue
            satellite, reason = designated(params, self._of.orbits, records[round_number], now_ns)
            if satellite != self._of.name:
                continue
            digest = carried_digest(params, records[round_number])
            if digest not in session.held:
                actions += self._of.fetch(region, digest, holders.get(round_number, []))
            else:
                actions += self._pick_up(target, records[round_number], reason)
        return actions

    def _pick_up(self, target: str, record: wire.ModelRecord, reason: str) -> list[Action]:
        digest = carried_digest(self._of.params, record)
        fields = {"region": record.region, "round": record.round, "digest": digest, "target": target}
        if len(self._of.state.carries) >= CARRIES_MAX:
            why = f"{CARRIES_MAX} models on board"
            return [Report("carry_refused", Severity.WARNING_LO, {**fields, "reason": why})]
        self._of.state.carries.append(wire.Carry(target=target, record=record, digest=digest))
        actions: list[Action] = [
            Report("carry_picked_up", Severity.ACTIVITY_HI, {**fields, "reason": reason})
        ]
        if target in self._of.state.sessions and self._of.state.sessions[target].HasField("base"):
            actions += self._of.advance(target)
        return actions

    def drop(self, target: str) -> list[Action]:
        """Drop what the devices of `target` have the mixture of, or have got past."""
        actions: list[Action] = []
        kept = []
        up_to_round = self._of.state.seen.get(target, 0) - self._of.params.delta
        for carry in self._of.state.carries:
            if carry.target != target or carry.record.round > up_to_round:
                kept.append(carry)
            elif not self._has_mixed(carry):
                fields = {
                    "region": carry.record.region,
                    "round": carry.record.round,
                    "digest": carry.digest,
                    "target": target,
                }
                actions.append(Report("carry_expired", Severity.ACTIVITY_LO, fields))
        del self._of.state.carries[:]
        self._of.state.carries.extend(kept)
        return actions

    def _has_mixed(self, carry: wire.Carry) -> bool:
        """Whether the model that `carry` went into is known here, and is of this satellite's making."""
        session = self._of.state.sessions[carry.target]
        records = [session.base]
        for status in session.statuses.values():
            records += [status.model, *status.mixing]
        return any(
            record.round == carry.record.round + self._of.params.delta
            and record.satellite == self._of.name
            and carry.digest in record.parents
            for record in records
        )
