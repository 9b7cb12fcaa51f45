"""Two nodes and one link in virtual time: a satellite that acts by a script and a device that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from orbitrain.contacts.plan import ContactPlan
from orbitrain.learning.outcome import JobError
from orbitrain.machine import (
    Acknowledged,
    Action,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    Lane,
    Machine,
    PlanUpdated,
    Report,
    Send,
    Severity,
    TimerFired,
    Undelivered,
)
from orbitrain.mailbox import ENVELOPE_BYTES
from orbitrain.sim import CrashPoint, Settings, Simulation
from orbitrain.step import Job
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, plan_of, ring

DEVICE = "home-0"
SETTINGS = Settings(acquisition_ns=SECOND_NS, handling_ns=SECOND_NS, down_ns=3 * SECOND_NS)
SLOW_BPS = (ENVELOPE_BYTES + 44) * 8
"""About a second for a letter, a second more for each 300 bytes of objects."""

Script = Callable[[Input, int], Iterable[Action]]


class Scripted:
    """Does what a function says at whole seconds (`wakes`), and writes down what it hears."""

    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Poll,)

    def __init__(self, script: Script, wakes: Iterable[int], log: list[str]) -> None:
        self.script, self.log = script, log
        self.wakes = sorted(wakes)
        self.done = 0

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        text = type(item).__name__
        match item:
            case Delivered(message=wire.Poll() as poll):
                text += f" {poll.region}"
            case Acknowledged(key=key):
                text += f" {key}"
            case Undelivered(key=key, fate=fate, reason=reason):
                text += f" {key} {fate.value} {reason}".rstrip()
            case JobDone(job=job, objects=objects):
                text += f" {job} {','.join(objects.values())}"
            case JobFailed(job=job, reason=reason):
                text += f" {job} {reason}"
            case ContactStarted(peer=peer) | ContactEnded(peer=peer):
                text += f" {peer}"
            case PlanUpdated(revision=revision):
                text += f" {revision}"
            case TimerFired():
                self.done += 1
        actions = list(self.script(item, now_ns // SECOND_NS))
        return [*actions, Report("heard", Severity.DIAGNOSTIC, {"what": text})]

    def deadline_ns(self) -> int | None:
        left = self.wakes[self.done :]
        return left[0] * SECOND_NS if left else None

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        return str(self.done).encode(), frozenset({"kept"})

    def restore(self, state: bytes, schema: int) -> None:
        self.done = int(state)


class Workshop:
    """Objects of 300 bytes, unless said otherwise; a job's output is named after its input."""

    def __init__(self, sizes: Mapping[Digest, int] = MappingProxyType({})) -> None:
        self.sizes = sizes

    def size_of(self, digest: Digest) -> int:
        return self.sizes.get(digest, 300)

    def keep(self, digests: set[Digest]) -> None:
        pass

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        if job.kind == "fail":
            raise JobError("no luck")
        return {}, {"out": f"out-of-{job.objects['in']}"}


def nothing(item: Input, second: int) -> Iterable[Action]:
    return ()


def at_seconds(plan: Mapping[int, list[Action]]) -> Script:
    def script(item: Input, second: int) -> Iterable[Action]:
        return plan.get(second, ()) if isinstance(item, TimerFired) else ()

    return script


def letter(key: str, *objects: Digest, lane: Lane = Lane.UPDATE, to: str = DEVICE, **changes: Any) -> Send:
    return Send(to, "role", key, wire.Poll(region=key), lane, objects, **changes)


def plan(*windows: tuple[int, int], duration_s: int = 100) -> ContactPlan:
    rates = {("sat", DEVICE): SLOW_BPS}
    return plan_of(ring("home", devices=1), {("sat", "home"): windows}, duration_s, rates)


def simulate(
    contacts: ContactPlan,
    sends: Mapping[int, list[Action]],
    faults: Callable[[Simulation], None] = lambda simulation: None,
    answers: Script = nothing,
    truth: ContactPlan | None = None,
    sizes: Mapping[Digest, int] = MappingProxyType({}),
) -> Simulation:
    """The satellite acts at the given seconds; the device answers. `sizes` are of objects, bytes."""
    simulation = Simulation(contacts, SETTINGS, Workshop(sizes), truth)

    def satellite() -> Mapping[str, Machine]:
        return {"role": Scripted(at_seconds(sends), sends, [])}

    sent = {
        digest for some in sends.values() for one in some if isinstance(one, Send) for digest in one.objects
    }
    simulation.add("sat", satellite, sorted({"kept", *sent}))
    simulation.add(DEVICE, lambda: {"role": Scripted(answers, (), [])}, ["kept"])
    faults(simulation)
    simulation.run()
    return simulation


def heard(simulation: Simulation, node: str) -> list[str]:
    """`second: what`, without the timers."""
    lines = [
        f"{entry.event.t_ns // SECOND_NS}: {entry.event.fields['what']}"
        for entry in simulation.entries()
        if entry.node == node and entry.event.kind == "heard"
    ]
    return [line for line in lines if not line.endswith("TimerFired")]


def kill(t_s: int, node: str, lose_disk: bool = False) -> Callable[[Simulation], None]:
    return lambda simulation: simulation.at(t_s * SECOND_NS, lambda: simulation.kill(node, lose_disk))


def crash(node: str, step: int, point: CrashPoint) -> Callable[[Simulation], None]:
    def fault(simulation: Simulation) -> None:
        simulation.crash = lambda *where: where == (node, step, point)

    return fault
