"""The virtual-time driver: every node of a scenario in one thread, over a contact plan, with faults at will.

It gives machines exactly what the daemons give them - ordered inputs, confirmed contacts, letters that end
once, jobs that take their modelled time, a commit before anything leaves - and nothing else: no byte moves,
objects are names. Training is real if the `Engine` handed in trains.

Nodes believe one plan, which updates may replace; links follow the true one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count

from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import replaces
from orbitrain.core import Core
from orbitrain.flights import believed_end_ns, sent_bytes, total_bytes, window_at
from orbitrain.learning.outcome import JobError
from orbitrain.machine import (
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Digest,
    JobDone,
    JobFailed,
    Machine,
    PlanUpdated,
)
from orbitrain.memory import MemoryJournal, Shelf
from orbitrain.results import Entry
from orbitrain.sim.letters import Letters
from orbitrain.sim.node import CrashPoint, Engine, Settings, SimNode
from orbitrain.step import Arrival, Event, Job

_FIRST = 1 << 62
"""Taken from a place on the agenda, it goes before everything of its instant."""


class Simulation:
    """`run` until the predicate holds, the plan ends, or nothing is left to happen."""

    def __init__(
        self,
        plan: ContactPlan,
        settings: Settings,
        engine: Engine,
        truth: ContactPlan | None = None,
        follow: Callable[[ContactPlan], None] = lambda plan: None,
    ) -> None:
        """Nodes believe `plan`; links follow `truth`, or the plan believed where there is none.

        `follow` is told of an update at its instant, before any machine: what machines ask the plan through
        must answer from it from then on.
        """
        self.plan = plan
        """The one believed now."""
        self.now_ns = 0
        self.dead_letters = 0
        self.crash: Callable[[str, int, CrashPoint], bool] = lambda node, step, point: False
        """Asked at every crash point of every step; True kills the node there."""
        self.settings = settings
        self._engine = engine
        self._letters = Letters(self)
        self._truth = truth
        self._follow = follow
        self._duration_ns = plan.duration_ns
        self._newest = plan
        self._taken: list[ContactPlan] = []
        self._waiting = 0
        self._edition = 0
        self.nodes: dict[str, SimNode] = {}
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._wakes: dict[str, int] = {}
        self._incarnations = count(1)

    # -------------------------------------------------------------------------------- set-up

    def add(
        self, name: str, make: Callable[[], Mapping[str, Machine]], preloaded: Iterable[Digest] = ()
    ) -> None:
        """A node whose machines `make` creates afresh at every boot."""
        store = frozenset(preloaded)
        journal = MemoryJournal(f"sim-{next(self._incarnations)}")
        self.nodes[name] = SimNode(name, make, journal, Shelf(set(store)), store)

    def at(self, t_ns: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (t_ns, next(self._order), what))

    def update(self, at_ns: int, plan: ContactPlan) -> None:
        """From `at_ns` on every node that runs believes `plan`, the others from when they are back.

        Raises ValueError for a plan that does not replace the newest one, those that wait included.
        """
        wanted, why = replaces(self._newest, plan)
        if not wanted:
            raise ValueError(f"plan: {why}")
        if at_ns <= self.now_ns:
            raise ValueError(f"at_ns: must be after {self.now_ns}, not {at_ns}")
        self._newest = plan
        # Before everything else of that instant.
        self._waiting += 1
        heapq.heappush(self._agenda, (at_ns, self._waiting - _FIRST, lambda: self._take(plan)))

    def _take(self, plan: ContactPlan) -> None:
        """The instant of an update has come."""
        if plan.revision <= self.plan.revision:
            return  # a later one had an earlier instant
        self.plan = plan
        self._taken.append(plan)
        self._follow(plan)
        for _, node in sorted(self.nodes.items()):
            if node.core is not None:
                self._tell(node, plan)
        if self._truth is None:
            self._relink()

    def _tell(self, node: SimNode, plan: ContactPlan) -> None:
        item, fields = PlanUpdated(plan.revision), {"sha256": plan.sha256}
        self.arrive(node, Arrival(self.now_ns, "", -2, plan.revision, None, item, fields=fields))

    def command(self, name: str, role: str, command: CommandReceived) -> bool:
        """Give a machine of a node a command now, its objects being there; False for a node that is down."""
        node = self.nodes[name]
        if node.core is None:
            return False
        node.shelf.holds.update(command.objects)
        node.arrivals += 1
        self.arrive(node, Arrival(self.now_ns, "", 0, node.arrivals, role, command))
        return True

    def run(self, until: Callable[[list[tuple[str, Event]]], bool] = lambda fresh: False) -> None:
        """`until` sees the events (node, event) as they are committed; True ends the run."""
        self._until = until
        self._ended = False
        for name in sorted(self.nodes):
            self._boot(name)
        self._appoint()
        while self._agenda:
            t_ns, _, what = heapq.heappop(self._agenda)
            # What is due at the instant of the end still happens, on whichever node.
            if t_ns > self._duration_ns or (self._ended and t_ns > self.now_ns):
                break
            self.now_ns = t_ns
            what()
        if not self._ended:
            self.now_ns = self._duration_ns

    # --------------------------------------------------------------------------------- true links

    @property
    def links(self) -> ContactPlan:
        """The plan that the links follow."""
        return self._truth or self.plan

    def _appoint(self) -> None:
        """Put what is still to come of the links on the agenda."""
        for a in sorted(self.nodes):
            for b in self.links.neighbours(a):
                if a < b and b in self.nodes:
                    for start_ns, end_ns in self.links.windows(a, b):
                        if end_ns > self.now_ns:
                            self._window(a, b, start_ns, end_ns)

    def _window(self, a: str, b: str, start_ns: int, end_ns: int) -> None:
        confirmed_ns = start_ns + self.settings.acquisition_ns
        if confirmed_ns < self.now_ns:  # unless it is known already, the signal is acquired from now on
            confirmed_ns = self.now_ns + self.settings.acquisition_ns
        if confirmed_ns < end_ns:
            self._link_at(confirmed_ns, lambda: self._meet(a, b, end_ns))
        if start_ns + self.settings.acquisition_ns < end_ns:
            self._link_at(end_ns, lambda: self._part(a, b))

    def _link_at(self, t_ns: int, what: Callable[[], None]) -> None:
        """As `at`, until the links follow another plan."""
        edition = self._edition
        self.at(t_ns, lambda: what() if edition == self._edition else None)

    def _relink(self) -> None:
        """The links follow an updated plan: contacts in progress go on as long as it has them."""
        self._edition += 1
        self._appoint()
        for name, node in sorted(self.nodes.items()):
            for peer in sorted(node.contacts):
                window = window_at(self.links, name, peer, self.now_ns)
                if window is not None:
                    node.contacts[peer] = window[1]
                else:
                    self._lose(node, peer)
            if node.core is not None:
                self._await_signal(node)

    # ---------------------------------------------------------------------------- life and death

    def journal(self, name: str) -> MemoryJournal:
        return self.nodes[name].journal

    def entries(self) -> list[Entry]:
        """Every event of every journal, by (time, node)."""
        rows = [
            (event.t_ns, name, n, Entry(name, incarnation, event))
            for name, node in self.nodes.items()
            for n, (incarnation, event) in enumerate(node.journal.events)
        ]
        return [entry for _, _, _, entry in sorted(rows, key=lambda row: row[:3])]

    def holds(self, name: str) -> set[Digest]:
        """The objects in a node's store."""
        return set(self.nodes[name].shelf.holds)

    def partial(self, name: str) -> dict[Digest, int]:
        """How many bytes a node has of the objects that have arrived in part."""
        return dict(self.nodes[name].shelf.partial)

    def kill(self, name: str, lose_disk: bool = False) -> None:
        """The node dies now, and is back after `down_ns`, with an empty store if its disk is lost."""
        node = self.nodes[name]
        if node.core is None:
            return
        for other in self.nodes.values():
            if name in other.air:
                self._letters.cut_off(other, name)
        for peer in list(node.air):
            self._letters.cut_off(node, peer)
        node.core = None
        node.life += 1
        node.inbox.clear()
        node.air.clear()
        node.sent.clear()
        node.contacts.clear()
        node.again.clear()
        node.told.clear()
        self._wakes.pop(name, None)
        if lose_disk:
            gathered = node.journal.events
            node.journal = MemoryJournal(f"sim-{next(self._incarnations)}")
            node.journal.events = gathered
            node.shelf = Shelf(set(node.preloaded))
        self.at(self.now_ns + self.settings.down_ns, lambda: self._boot(name))

    def _boot(self, name: str) -> None:
        node = self.nodes[name]
        durable = node.journal.load()
        node.core = Core(name, node.make(), durable, partial(self._size_of, node))
        node.inbox += node.core.lost(node.shelf.holds.__contains__)
        for job in durable.jobs:
            self._start_job(node, job)
        for plan in self._taken:
            if plan.revision > node.journal.revision:
                self._tell(node, plan)
        node.booted_ns = self.now_ns
        self._await_signal(node)
        self.wake(node, self.now_ns)

    def _size_of(self, node: SimNode, digest: Digest) -> int:
        """Raises KeyError for an object that is not in the node's store."""
        if digest not in node.shelf.holds:
            raise KeyError(digest)
        return self._engine.size_of(digest)

    def _await_signal(self, node: SimNode) -> None:
        """A node that came up within a contact needs as long to acquire the signal as at its start."""
        acquired_ns = node.booted_ns + self.settings.acquisition_ns
        if acquired_ns < self.now_ns:
            return
        for peer in self.links.neighbours(node.name):
            if peer not in self.nodes:
                continue
            for start_ns, end_ns in self.links.windows(node.name, peer):
                if start_ns + self.settings.acquisition_ns <= node.booted_ns and acquired_ns < end_ns:
                    self._link_at(acquired_ns, partial(self._meet, node.name, peer, end_ns))

    # ------------------------------------------------------------------------------------ contacts

    def _meet(self, a: str, b: str, end_ns: int) -> None:
        """The ping came back: each side that did not know is told; its step starts what waits."""
        first, second = self.nodes[a], self.nodes[b]
        if first.core is None or second.core is None or self.now_ns >= end_ns:
            return
        for node, peer in ((first, second), (second, first)):
            assert peer.core is not None
            known = node.told.get(peer.name)
            if peer.name in node.contacts and known != peer.core.incarnation:
                self._lose(node, peer.name)
            if peer.name not in node.contacts:
                node.contacts[peer.name] = end_ns
                node.told[peer.name] = peer.core.incarnation
                contact = self.links.active(node.name, peer.name, self.now_ns)
                link_class = contact.link_class if contact is not None else ""
                believed_ns = believed_end_ns(self.plan, node.name, peer.name, self.now_ns)
                item = ContactStarted(peer.name, link_class, believed_ns)
                self.arrive(node, Arrival(self.now_ns, peer.name, -1, 1, None, item))

    def _part(self, a: str, b: str) -> None:
        for name, peer in ((a, b), (b, a)):
            node = self.nodes[name]
            if node.core is not None and peer in node.contacts:
                self._lose(node, peer)

    def _lose(self, node: SimNode, peer: str) -> None:
        del node.contacts[peer]
        air = node.air.get(peer)
        if air is not None:
            self._letters.cut_off(node, peer)
            del node.air[peer]
            ends = (node.name, peer)
            out_bytes = sent_bytes(self.links, ends, air.begun_ns, self.now_ns)
            never = air.with_letter and out_bytes < total_bytes(air.pieces)
            if never and not air.doubted and node.core is not None:
                node.core.outbox.never_sent(air.letter.identity)
        node.sent.pop(peer, None)
        node.again.pop(peer, None)
        self.arrive(node, Arrival(self.now_ns, peer, -1, 0, None, ContactEnded(peer)))

    # ---------------------------------------------------------------------------------------- jobs

    def _start_job(self, node: SimNode, job: Job) -> None:
        due_ns = max(job.due_ns, self.now_ns)
        item: JobDone | JobFailed
        try:
            result, outputs = self._engine.run(node.name, job)
            node.shelf.put(outputs.values())
            item = JobDone(job.job, result, outputs)
        except JobError as error:
            item = JobFailed(job.job, str(error))
        node.arrivals += 1
        arrival = Arrival(due_ns, "", 0, node.arrivals, job.role, item, ends_job=job.identity)
        self.arrive(node, arrival)

    # ------------------------------------------------------------------------------------ the step

    def arrive(self, node: SimNode, arrival: Arrival) -> None:
        node.inbox.append(arrival)
        self.wake(node, arrival.due_ns)

    def wake(self, node: SimNode, t_ns: int) -> None:
        """See to it that the node steps at `t_ns`, after everything else of that instant has arrived."""
        planned = self._wakes.get(node.name)
        if planned is not None and planned <= t_ns:
            return
        self._wakes[node.name] = t_ns
        life = node.life
        self.at(t_ns, lambda: self._turn(node, life, t_ns))

    def _turn(self, node: SimNode, life: int, t_ns: int) -> None:
        core = node.core
        if core is None or node.life != life or self._wakes.get(node.name) != t_ns:
            return
        del self._wakes[node.name]
        batch = [arrival for arrival in node.inbox if arrival.due_ns <= t_ns]
        node.inbox = [arrival for arrival in node.inbox if arrival.due_ns > t_ns]
        batch += core.timers(t_ns)
        again = [peer for peer, again_ns in node.again.items() if again_ns <= t_ns]
        for peer in again:
            del node.again[peer]
        if batch:
            self._step(node, core, batch)
        else:
            for peer in sorted(again):
                self._letters.pump(node, peer)
        if node.core is core:
            waiting = [*(arrival.due_ns for arrival in node.inbox), *node.again.values()]
            deadline = core.deadline_ns()
            if deadline is not None:
                waiting.append(max(deadline, t_ns))
            if waiting:
                self.wake(node, min(waiting))

    def _step(self, node: SimNode, core: Core, batch: list[Arrival]) -> None:
        node.steps += 1
        step = core.step(batch, self.now_ns)
        if self.crash(node.name, node.steps, CrashPoint.BEFORE_COMMIT):
            self.kill(node.name)
            return
        node.journal.commit(step, core.reported)
        fresh = [(node.name, event) for event in step.events]
        if fresh and self._until(fresh):
            self._ended = True
        self.dead_letters += len(step.dead_letters)
        if self.crash(node.name, node.steps, CrashPoint.AFTER_COMMIT):
            self.kill(node.name)
            return
        if step.ended_jobs:
            # A result that still waits is of a cancelled job: its name may have been given to another.
            node.inbox = [arrival for arrival in node.inbox if arrival.ends_job not in step.ended_jobs]
        for job in step.jobs.values():
            self._start_job(node, job)
        for peer in sorted(node.contacts):
            self._letters.pump(node, peer)
        self._collect(node, core)
        if self.crash(node.name, node.steps, CrashPoint.AFTER_ACTIONS):
            self.kill(node.name)

    def _collect(self, node: SimNode, core: Core) -> None:
        """Drop what no snapshot, letter, job or waiting input names."""
        if node.steps % 64:
            return
        needed = core.needed() | node.preloaded
        for arrival in node.inbox:
            needed.update(arrival.objects)
        node.shelf.keep(needed, self.now_ns)
        if node.steps % 1024 == 0:
            self._engine.keep(set().union(*(other.shelf.holds for other in self.nodes.values())))
