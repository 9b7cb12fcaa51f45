"""A machine that remembers what it was told, a core of such machines, and what arrives at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from orbitrain.core import Core
from orbitrain.machine import (
    Action,
    CommandReceived,
    Delivered,
    Digest,
    Input,
    JobDone,
    Lane,
    LocalProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
)
from orbitrain.mailbox import Mark, Outcome
from orbitrain.step import Arrival, Durable, Step
from orbitrain.v1 import fedmeld_pb2 as wire

POLL = wire.Poll(region="north")


class Recorder:
    """A machine that remembers what it was told, durably, and does what a test says."""

    schema = 3
    accepts: tuple[type[Message], ...] = (wire.Poll,)

    def __init__(self, answer: Callable[[Input], list[Action]] = lambda item: []) -> None:
        self.answer = answer
        self.seen: list[str] = []
        self.times: list[int] = []
        self.deadline: int | None = None
        self.objects: frozenset[Digest] = frozenset()

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        name = item.message.region if isinstance(item, Delivered) else type(item).__name__
        name = f"Command {item.name}" if isinstance(item, CommandReceived) else name
        self.seen.append(name)
        self.times.append(now_ns)
        return self.answer(item)

    def deadline_ns(self) -> int | None:
        return self.deadline

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        return "\n".join(self.seen).encode(), self.objects

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.seen = state.decode().split("\n") if state else []


def sizes(digest: Digest) -> int:
    return {"big": 200 * 1024 * 1024}.get(digest, 10)


def core_of(*machines: Recorder, durable: Durable | None = None) -> Core:
    roles = {f"role-{n}": machine for n, machine in enumerate(machines)}
    return Core("me", roles, durable or Durable("store-1"), sizes)


def command(name: str, due_ns: int = 0, source: str = "", lane: int = 0, sequence: int = 0) -> Arrival:
    return Arrival(due_ns, source, lane, sequence, "role-0", CommandReceived(name))


def delivered(region: str, sequence: int = 1, objects: tuple[Digest, ...] = ()) -> Arrival:
    mark = Mark("peer", "store-9", "role-0", 0, sequence, Outcome.DELIVERED)
    item = Delivered("peer", wire.Poll(region=region), objects)
    return Arrival(0, "peer", 0, sequence, "role-0", item, mark)


def send(key: str, lane: Lane = Lane.CONTROL, **changes: Any) -> Send:
    return Send("far", "r", key, POLL, lane, **changes)


def on(plan: Mapping[str, list[Action]]) -> Callable[[Input], list[Action]]:
    """Answers commands by name."""
    return lambda item: list(plan.get(item.name, [])) if isinstance(item, CommandReceived) else []


def does(core: Core, name: str, now_ns: int = 0) -> Step:
    return core.step([command(name)], now_ns)


def fails_on(*names: str) -> Callable[[Input], list[Action]]:
    def answer(item: Input) -> list[Action]:
        region = item.message.region if isinstance(item, Delivered) else ""
        if region in names or (isinstance(item, CommandReceived) and item.name in names):
            raise ZeroDivisionError("of ours")
        return [Report("done", Severity.DIAGNOSTIC, {"what": region})]

    return answer


def job(name: str, *inputs: Digest) -> StartJob:
    return StartJob(name, "train", {}, {f"i{n}": digest for n, digest in enumerate(inputs)}, 5)


def done(name: str, *outputs: Digest) -> Arrival:
    objects = {f"o{n}": digest for n, digest in enumerate(outputs)}
    return Arrival(9, "", 0, 1, "role-0", JobDone(name, {}, objects), ends_job=("role-0", name))
