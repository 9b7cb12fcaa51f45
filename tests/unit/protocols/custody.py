"""A custodian of bundles alone, its routes by hand, and what it is given and does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from orbitrain.machine import (
    NEVER_NS,
    Action,
    CommandReceived,
    ContactStarted,
    Delivered,
    Lane,
    Report,
    Send,
    StartJob,
)
from orbitrain.protocols.bundles import COMMAND, Custodian, Leg, Order, bundles_held
from orbitrain.v1 import bundles_pb2 as wire

S = 1_000_000_000
NOW = 100 * S
DIGEST = "ab" * 32


@dataclass
class Ways:
    """Routes by hand: where a bundle goes next by its destination, the best way first."""

    legs: dict[str, list[Leg]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def knows(self, node: str) -> bool:
        return node in ("home", "relay", "other", "far")

    def leg(
        self, bundle: str, destination: str, now_ns: int, size_bytes: int, without: Collection[str]
    ) -> Leg | None:
        self.kept.discard(bundle)
        for leg in self.legs.get(destination, ()):
            if leg.ends_ns > now_ns and leg.node not in without:
                self.kept.add(bundle)
                return leg
        return None

    def release(self, bundle: str) -> None:
        self.kept.discard(bundle)


RELAY, OTHER = Leg("relay", NOW + 50 * S), Leg("other", NOW + 80 * S)


def node(*legs: Leg, name: str = "home") -> tuple[Custodian, Ways]:
    ways = Ways({"far": list(legs or (RELAY, OTHER))})
    return Custodian(name, ways), ways


def bundle(**changes: Any) -> wire.Bundle:
    values = {
        "source": "start",
        "created_ns": 5,
        "sequence": 1,
        "destination": "far",
        "name": "photo.jpg",
        "digest": DIGEST,
        "size": 7,
        "lane": int(Lane.UPDATE),
        "expires_at_ns": NEVER_NS,
        "custodians": ["start", "before"],
        **changes,
    }
    return wire.Bundle(**values)


def offered(
    machine: Custodian, what: wire.Bundle, source: str = "before", objects: tuple[str, ...] = (DIGEST,)
) -> list[Action]:
    return machine.handle(Delivered(source, what, objects), NOW)


def command(token: str = "", **changes: Any) -> CommandReceived:
    order = Order("far", "photo.jpg", Lane.UPDATE)
    arguments = {**order.arguments(), "bytes": 7, "token": token, **changes}
    return CommandReceived(COMMAND, arguments, (DIGEST,))


def reports(actions: list[Action]) -> list[str]:
    return [one.kind for one in actions if isinstance(one, Report)]


def fields(actions: list[Action], kind: str) -> Mapping[str, Any]:
    (found,) = [one.fields for one in actions if isinstance(one, Report) and one.kind == kind]
    return found


def letter(actions: list[Action]) -> Send:
    (found,) = [one for one in actions if isinstance(one, Send)]
    return found


def job(actions: list[Action]) -> StartJob:
    (found,) = [one for one in actions if isinstance(one, StartJob)]
    return found


def deeds(actions: list[Action]) -> list[Action]:
    return [one for one in actions if not isinstance(one, Report)]


def held(machine: Custodian) -> list[wire.Held]:
    return bundles_held(machine.snapshot()[0])


def met(peer: str, end_ns: int | None = None) -> ContactStarted:
    return ContactStarted(peer, "inter_isl", end_ns)
