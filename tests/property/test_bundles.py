"""Bundles over random plans that may be wrong, with crashes at will: each arrives, and once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.learning.outcome import JobError
from orbitrain.machine import CommandReceived, Digest, Lane, Machine
from orbitrain.protocols.bundles import COMMAND, ROLE, Custodian, Order, bundles_held
from orbitrain.routes import PlanRoutes
from orbitrain.sim import CrashPoint, Settings, Simulation
from orbitrain.step import Job

S = 1_000_000_000
NAMES = ("a", "b", "c", "d", "e")
SETTINGS = Settings(acquisition_ns=S, handling_ns=S // 5, down_ns=3 * S)
END_S, DURATION_S = 200, 900
FILES = 6


class Inboxes:
    """Files as names; an inbox that now and then has no room."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.received: list[tuple[str, str]] = []

    def size_of(self, digest: Digest) -> int:
        return 1_000 + 97 * (int(digest[:6], 16) % 200)

    def keep(self, digests: set[Digest]) -> None:
        pass

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        assert job.kind == "inbox"
        if self._random.random() < 0.2:
            raise JobError("the disk is full")
        return {}, {}


def plan_from(seed: int) -> ContactPlan:
    """Sparse, at 20 to 100 kbit/s; at the end all meet, one pair after the other, so that all can arrive."""
    random = Random(seed)
    contacts: list[Contact] = []

    def both(a: str, b: str, start_s: int, end_s: int) -> None:
        rate = random.randrange(20, 100) * 1000
        for ends in ((a, b), (b, a)):
            samples = (Sample(start_s * S, 50_000_000, rate, 0.0, 1.0),)
            contacts.append(Contact(*ends, "inter_isl", start_s * S, end_s * S, samples))

    for a, b in itertools.combinations(NAMES, 2):
        if random.random() < 0.5:
            continue
        edges = sorted(random.sample(range(1, END_S), 2 * random.randrange(1, 4)))
        for start_s, end_s in zip(edges[::2], edges[1::2], strict=True):
            both(a, b, start_s, end_s)
    for n, (a, b) in enumerate(itertools.combinations(NAMES, 2)):
        both(a, b, END_S + 40 * n + 1, END_S + 40 * n + 39)
        both(a, b, END_S + 410, DURATION_S)
    nodes = tuple(PlanNode(name, "satellite") for name in NAMES)
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_S * S, nodes, tuple(contacts))


crashes = st.sets(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 30), st.sampled_from(CrashPoint)), max_size=6
)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), crashes)
def test_each_file_arrives_once_whoever_dies_and_whatever_the_plan_gets_wrong(
    seed: int, truth_seed: int | None, where: set[tuple[str, int, CrashPoint]]
) -> None:
    random = Random(seed)
    believed = plan_from(seed)
    truth = None if truth_seed is None else plan_from(truth_seed)
    simulation = Simulation(believed, SETTINGS, Inboxes(seed), truth)

    def make(name: str) -> dict[str, Machine]:
        routes = PlanRoutes(believed, name, SETTINGS.acquisition_ns, S // 10)
        return {ROLE: Custodian(name, routes)}

    for name in NAMES:
        simulation.add(name, lambda name=name: make(name))
    simulation.crash = lambda *at: at in where
    queued: list[str] = []

    def send(n: int) -> None:
        source, destination = random.sample(NAMES, 2)
        digest = f"{n:02x}" * 32
        order = Order(destination, f"file-{n}", random.choice([Lane.ACTIVATION, Lane.UPDATE, Lane.BULK]))
        arguments = {**order.arguments(), "bytes": simulation._engine.size_of(digest)}
        if simulation.command(source, ROLE, CommandReceived(COMMAND, arguments, (digest,))):
            queued.append(order.name)

    for n in range(FILES):
        simulation.at(random.randrange(1, END_S) * S, lambda n=n: send(n))
    simulation.run()

    events = Counter(
        (entry.event.kind, entry.event.fields["name"])
        for entry in simulation.entries()
        if "name" in entry.event.fields
    )
    committed = [name for name in queued if events["bundle_queued", name]]
    held = Counter(
        each.bundle.name
        for name in NAMES
        if (kept := simulation.journal(name).load().snapshots.get(ROLE)) is not None
        for each in bundles_held(kept.state)
    )
    for name in committed:
        assert events["file_received", name] == 1, (name, held[name], seed, truth_seed)
        assert held[name] == 0
        assert events["bundle_lost", name] == events["bundle_expired", name] == 0
    assert simulation.dead_letters == 0
