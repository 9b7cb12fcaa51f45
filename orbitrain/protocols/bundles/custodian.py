"""The one role of bundles: every node that may have custody of one runs it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.message import Message

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    CancelJob,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Fate,
    Input,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    RemoteProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.bundles.order import COMMAND, NODE, PRIORITIES, OrderError, order_of, why_no_name
from orbitrain.v1 import bundles_pb2 as wire

ROLE: Final = "custodian"

INBOX_JOB: Final = "inbox"
"""Kind of the job that puts a file into the inbox: parameters `origin` and `name`, object `file`."""

HELD_MAX: Final = 1_000
"""Bundles in custody of one node: all are in its snapshot, and each asks the plan for a route."""

HOPS_MAX: Final = 32
"""Custodians of one bundle: more than the planes of any constellation that it could cross."""

KNOWN_MAX: Final = 1_024
"""Bundles and orders that a node remembers to have accepted. Only a repeat after so many is not known for
one; and of a bundle there is one copy, which does not come to the same node twice."""

RETRY_NS: Final = 60_000_000_000
"""Scenario time until a file is put into the inbox again where that failed: a full disk is not soon empty."""

FULL: Final = "full"
"""How a refusal begins that says that the receiver has no room now."""

DUPLICATE: Final = "duplicate"
"""A refusal that says that the receiver has had the bundle."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Leg:
    """The first part of a route: to whom, and when the contact ends that the route counts on."""

    node: str
    ends_ns: int


class Routes(Protocol):
    """What a custodian asks the plan that its node believes."""

    def knows(self, node: str) -> bool:
        """Whether there is such a node."""
        ...

    def leg(
        self, bundle: str, destination: str, now_ns: int, size_bytes: int, without: Collection[str]
    ) -> Leg | None:
        """Where a bundle goes next so as to arrive first; what that takes of contacts is kept for it.

        `without` are nodes that it must not go to. A bundle has one route: an earlier one is given back. None
        if there is none.
        """
        ...

    def release(self, bundle: str) -> None:
        """Give back what is kept for a bundle."""
        ...


def identity(bundle: wire.Bundle) -> str:
    """What tells bundles apart. The digest is part of it: a clock and a disk may both be lost."""
    return f"{bundle.source}:{bundle.created_ns}:{bundle.sequence}:{bundle.digest[:16]}"


def _told(bundle: wire.Bundle) -> dict[str, object]:
    return {
        "bundle": identity(bundle),
        "name": bundle.name,
        "origin": bundle.source,
        "destination": bundle.destination,
        "digest": bundle.digest,
        "size_bytes": bundle.size,  # not "bytes", which are those that an event has moved
    }


class Custodian:
    """Keeps bundles, and hands each to the next custodian."""

    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Bundle,)

    def __init__(self, name: str, routes: Routes) -> None:
        self._name = name
        self._routes = routes
        self._state = wire.CustodianState()
        self._contacts: set[str] = set()
        """In progress; whoever drives this tells them again after a restart."""

    def deadline_ns(self) -> int | None:
        state = self._state
        wanted = [arrived.retry_ns for arrived in state.arrived if not arrived.job]
        for held in state.held:
            wanted.append(held.review_ns if held.next else held.bundle.expires_at_ns)
        return min((instant for instant in wanted if instant < NEVER_NS), default=None)

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self._state
        named = {held.bundle.digest for held in state.held}
        named |= {arrived.bundle.digest for arrived in state.arrived}
        return state.SerializeToString(deterministic=True), frozenset(named)

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self._state = wire.CustodianState.FromString(state)
        self._contacts.clear()

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        match item:
            case CommandReceived(name=name) as command if name == COMMAND:
                return self._ordered(command, now_ns)
            case Delivered(source=source, message=wire.Bundle() as bundle, objects=objects):
                return self._offered(source, bundle, objects, now_ns)
            case Acknowledged(key=key):
                return self._moved(key)
            case Undelivered(key=key, fate=fate, reason=reason):
                return self._returned(key, fate, reason, now_ns)
            case ContactStarted(peer=peer):
                return self._met(peer, now_ns)
            case ContactEnded(peer=peer):
                return self._parted(peer, now_ns)
            case PlanUpdated():
                return self._replanned(now_ns)
            case TimerFired():
                return self._reviewed(now_ns)
            case JobDone(job=job):
                return self._stored(job)
            case JobFailed(job=job, reason=reason):
                return self._not_stored(job, reason, now_ns)
            case ObjectLost(digest=digest):
                return self._lost(digest)
        return []

    # ------------------------------------------------------------------------------- coming in

    def _ordered(self, command: CommandReceived, now_ns: int) -> list[Action]:
        """An operator's file."""
        try:
            order = order_of(command.arguments)
            (digest,) = command.objects
        except (OrderError, ValueError) as error:
            return [Report("bundle_refused", Severity.WARNING_LO, {"reason": str(error)})]
        state = self._state
        token = f"order {command.arguments.get('token', '')}"
        if any(known.id == token for known in state.known):
            return [Report("bundle_queued_before", Severity.ACTIVITY_LO, {"bundle": token})]
        wrong = None
        if not self._routes.knows(order.destination):
            wrong = f"{order.destination[:64]!r} is not a node of the plan"
        elif len(state.held) >= HELD_MAX:
            wrong = f"{HELD_MAX} bundles are in custody"
        if wrong is not None:
            fields = {"name": order.name, "destination": order.destination[:64], "reason": wrong}
            return [Report("bundle_refused", Severity.WARNING_LO, fields)]
        state.sequence += 1
        bundle = wire.Bundle(
            source=self._name,
            created_ns=now_ns,
            sequence=state.sequence,
            destination=order.destination,
            name=order.name,
            digest=digest,
            size=int(command.arguments["bytes"]),
            lane=int(order.lane),
            expires_at_ns=order.expires_at_ns,
        )
        if command.arguments.get("token"):
            self._know(token, NEVER_NS, now_ns)
        return self._taken(bundle, "bundle_queued", now_ns)

    def _taken(self, bundle: wire.Bundle, kind: str, now_ns: int) -> list[Action]:
        """It is in this node's custody from now on."""
        self._know(identity(bundle), bundle.expires_at_ns, now_ns)
        report = Report(kind, Severity.ACTIVITY_HI, _told(bundle))
        if bundle.destination == self._name:
            arrived = self._state.arrived.add(bundle=bundle)
            return [report, self._store(arrived)]
        held = self._state.held.add(bundle=bundle)
        return [report, *self._route(held, now_ns)]

    def _offered(
        self, source: str, bundle: wire.Bundle, objects: tuple[Digest, ...], now_ns: int
    ) -> list[Action]:
        """Another node's bundle. Raises RemoteProtocolError for one that is not accepted."""
        self._check(source, bundle, objects)
        if any(known.id == identity(bundle) for known in self._state.known):
            raise RemoteProtocolError(DUPLICATE)
        if self._name in bundle.custodians:
            raise RemoteProtocolError("loop: it has been in this node's custody")
        # One that has arrived is taken: it is late only by this node's clock, not by its sender's.
        if bundle.expires_at_ns <= now_ns and bundle.destination != self._name:
            raise RemoteProtocolError("expired")
        if len(self._state.held) + len(self._state.arrived) >= HELD_MAX:
            raise RemoteProtocolError(f"{FULL}: {HELD_MAX} bundles are in custody")
        if bundle.destination != self._name:
            if len(bundle.custodians) >= HOPS_MAX:
                raise RemoteProtocolError(f"custodians: {HOPS_MAX} have had it: nobody would take it on")
            if self._next(bundle, now_ns) is None:
                raise RemoteProtocolError(f"no route to {bundle.destination[:64]!r}")
        return self._taken(bundle, "bundle_accepted", now_ns)

    @staticmethod
    def _check(source: str, bundle: wire.Bundle, objects: tuple[Digest, ...]) -> None:
        """Raises RemoteProtocolError for what no custodian of ours would send."""
        if not _DIGEST.fullmatch(bundle.digest) or objects != (bundle.digest,):
            raise RemoteProtocolError("a bundle is of one object, which comes with it")
        if not 1 <= len(bundle.custodians) <= HOPS_MAX:
            raise RemoteProtocolError(f"custodians: must be 1 to {HOPS_MAX}, not {len(bundle.custodians)}")
        if bundle.custodians[-1] != source or bundle.custodians[0] != bundle.source:
            raise RemoteProtocolError("custodians: must begin with its source and end with its sender")
        names = (bundle.source, bundle.destination, *bundle.custodians)
        if not all(NODE.fullmatch(name) for name in names):
            raise RemoteProtocolError("a name of a node is none")
        wrong = why_no_name(bundle.name)
        if wrong is not None:
            raise RemoteProtocolError(f"name: {wrong}")
        if bundle.lane not in tuple(PRIORITIES.values()) or bundle.size < 0 or bundle.created_ns < 0:
            raise RemoteProtocolError("lane, size or created_ns is of no bundle")

    def _know(self, known: str, expires_at_ns: int, now_ns: int) -> None:
        kept = [each for each in self._state.known if each.expires_at_ns > now_ns][1 - KNOWN_MAX :]
        del self._state.known[:]
        self._state.known.extend(kept)
        self._state.known.add(id=known, expires_at_ns=expires_at_ns)

    # ------------------------------------------------------------------------------ going out

    def _next(self, bundle: wire.Bundle, now_ns: int, refused_by: Collection[str] = ()) -> Leg | None:
        """By the plan; but whoever a bundle is for may have it while it is here, announced or not."""
        without = {self._name, *bundle.custodians, *refused_by}
        leg = self._routes.leg(identity(bundle), bundle.destination, now_ns, bundle.size, without)
        if bundle.destination in self._contacts and (leg is None or leg.node != bundle.destination):
            self._routes.release(identity(bundle))
            return Leg(bundle.destination, NEVER_NS)
        return leg

    def _route(self, held: wire.Held, now_ns: int) -> list[Action]:
        """Choose the next custodian, and send it there unless it is on its way to it."""
        leg = self._next(held.bundle, now_ns, held.refused_by)
        if held.key and (leg is None or leg.node == held.next):
            held.review_ns = NEVER_NS if leg is None else leg.ends_ns
            return []
        if held.key:
            return self._recall(held)
        if leg is None:
            held.next, held.review_ns = "", 0
            return [Report("bundle_waits", Severity.ACTIVITY_LO, _told(held.bundle))]
        return self._send(held, leg)

    def _recall(self, held: wire.Held) -> list[Action]:
        """Where it goes next is chosen once the end of the letter under way is known."""
        held.review_ns = NEVER_NS
        if held.withdrawn:
            return []
        held.withdrawn = True
        return [Withdraw(held.key)]

    def _send(self, held: wire.Held, leg: Leg) -> list[Action]:
        state, bundle = self._state, wire.Bundle()
        bundle.CopyFrom(held.bundle)
        bundle.custodians.append(self._name)
        state.serial += 1
        held.next, held.review_ns, held.withdrawn = leg.node, leg.ends_ns, False
        held.key = f"{bundle.name}/{state.serial}"
        fields = {**_told(bundle), "to": leg.node, "by_ns": leg.ends_ns}
        return [
            Report("bundle_routed", Severity.DIAGNOSTIC, fields),
            Send(
                leg.node,
                ROLE,
                held.key,
                bundle,
                Lane(bundle.lane),
                (bundle.digest,),
                expires_at_ns=bundle.expires_at_ns,
            ),
        ]

    def _find(self, key: str) -> wire.Held | None:
        return next((held for held in self._state.held if held.key == key), None)

    def _ended(self, held: wire.Held, kind: str, severity: Severity, **fields: object) -> list[Action]:
        """It is not in this node's custody any more."""
        self._state.held.remove(held)
        self._routes.release(identity(held.bundle))
        return [Report(kind, severity, {**_told(held.bundle), **fields})]

    def _moved(self, key: str) -> list[Action]:
        held = self._find(key)
        if held is None:
            return []
        return self._ended(held, "custody_moved", Severity.ACTIVITY_HI, to=held.next)

    def _returned(self, key: str, fate: Fate, reason: str, now_ns: int) -> list[Action]:
        held = self._find(key)
        if held is None:
            return []
        peer = held.next
        if fate is Fate.EXPIRED:
            return self._ended(held, "bundle_expired", Severity.WARNING_LO)
        if fate is Fate.REFUSED and reason == DUPLICATE:
            return self._ended(held, "custody_moved", Severity.ACTIVITY_HI, to=peer)
        held.key, held.next, held.withdrawn = "", "", False
        if fate is not Fate.REFUSED:
            return self._route(held, now_ns)
        if peer == held.bundle.destination and not reason.startswith(FULL):
            return self._ended(held, "bundle_refused", Severity.WARNING_HI, by=peer, reason=reason)
        held.refused_by.append(peer)
        fields = {**_told(held.bundle), "by": peer, "reason": reason}
        return [Report("bundle_refused", Severity.WARNING_LO, fields), *self._route(held, now_ns)]

    def _met(self, peer: str, now_ns: int) -> list[Action]:
        """What is for it goes to it, announced or not; and what nobody else takes is offered once more."""
        self._contacts.add(peer)
        actions: list[Action] = []
        for held in list(self._state.held):
            refused = peer in held.refused_by and not held.next
            if refused:
                held.refused_by.remove(peer)
            if refused or (held.bundle.destination == peer and held.next != peer):
                actions += self._route(held, now_ns)
        return actions

    def _parted(self, peer: str, now_ns: int) -> list[Action]:
        """What was meant for a contact by the plan, or for one that it did not have, goes another way."""
        self._contacts.discard(peer)
        actions: list[Action] = []
        for held in list(self._state.held):
            if held.next == peer and not held.withdrawn and not now_ns < held.review_ns < NEVER_NS:
                actions += self._route(held, now_ns)
        return actions

    def _replanned(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for held in list(self._state.held):
            del held.refused_by[:]
            actions += self._route(held, now_ns)
        return actions

    def _reviewed(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for held in list(self._state.held):
            if not held.next:
                if held.bundle.expires_at_ns <= now_ns:
                    actions += self._ended(held, "bundle_expired", Severity.WARNING_LO)
            elif held.review_ns <= now_ns and held.next in self._contacts:
                held.review_ns = NEVER_NS  # it lasts longer than the plan says: its end will tell
            elif held.review_ns <= now_ns:
                actions += self._route(held, now_ns)
        for arrived in self._state.arrived:
            if not arrived.job and arrived.retry_ns <= now_ns:
                actions.append(self._store(arrived))
        return actions

    # ------------------------------------------------------------------------------ arriving

    def _store(self, arrived: wire.Arrived) -> Action:
        self._state.serial += 1
        arrived.job, bundle = f"inbox/{self._state.serial}", arrived.bundle
        params = {"origin": bundle.source, "name": bundle.name}
        return StartJob(arrived.job, INBOX_JOB, params, {"file": bundle.digest}, 0)

    def _stored(self, job: str) -> list[Action]:
        for arrived in self._state.arrived:
            if arrived.job == job:
                self._state.arrived.remove(arrived)
                return [Report("file_received", Severity.ACTIVITY_HI, _told(arrived.bundle))]
        return []

    def _not_stored(self, job: str, reason: str, now_ns: int) -> list[Action]:
        for arrived in self._state.arrived:
            if arrived.job == job:
                arrived.job, arrived.retry_ns = "", now_ns + RETRY_NS
                fields = {**_told(arrived.bundle), "reason": reason}
                return [Report("file_not_stored", Severity.WARNING_HI, fields)]
        return []

    def _lost(self, digest: Digest) -> list[Action]:
        """The file is gone from the store: nothing brings it back to this node."""
        actions: list[Action] = []
        for held in [held for held in self._state.held if held.bundle.digest == digest]:
            if held.key:
                actions.append(Withdraw(held.key))
            actions += self._ended(held, "bundle_lost", Severity.WARNING_HI)
        for arrived in [each for each in self._state.arrived if each.bundle.digest == digest]:
            if arrived.job:
                actions.append(CancelJob(arrived.job))
            self._state.arrived.remove(arrived)
            actions.append(Report("bundle_lost", Severity.WARNING_HI, _told(arrived.bundle)))
        return actions


def bundles_held(snapshot: bytes) -> list[wire.Held]:
    """The bundles in custody, of a snapshot of a `Custodian`."""
    return list(wire.CustodianState.FromString(snapshot).held)
