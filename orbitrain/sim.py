"""The virtual-time driver: every node of a scenario in one thread, over a contact plan, with faults at will.

It gives machines exactly what the daemons give them - ordered inputs, confirmed contacts, letters that end
once, jobs that take their modelled time, a commit before anything leaves - and nothing else: no byte moves,
objects are names. Training is real if the `Engine` handed in trains.

Nodes believe one plan, which updates may replace; links follow the true one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import count
from typing import Any, Protocol

from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import replaces
from orbitrain.core import Core
from orbitrain.flights import (
    Load,
    Passage,
    Piece,
    arrived_bytes,
    believed_end_ns,
    choose,
    chunk_of,
    chunk_passage,
    first_bytes,
    passage,
    reconsidered_ns,
    sent_bytes,
    total_bytes,
    window_at,
)
from orbitrain.learning.outcome import JobError
from orbitrain.machine import (
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    JobDone,
    JobFailed,
    Machine,
    PlanUpdated,
    RemoteProtocolError,
)
from orbitrain.mailbox import (
    ENVELOPE_BYTES,
    Letter,
    Mark,
    Outcome,
    settle,
)
from orbitrain.memory import MemoryJournal, Shelf
from orbitrain.results import Entry
from orbitrain.step import Arrival, Event, Job
from orbitrain.transport.expected import Expected

RETRY_NS = 1_000_000_000
"""Scenario time until a letter whose answer did not come is tried again within a contact."""

_FIRST = 1 << 62
"""Taken from a place on the agenda, it goes before everything of its instant."""


class Engine(Protocol):
    """Runs jobs, and knows the objects."""

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        """The result and the outputs by name. Raises JobError."""
        ...

    def size_of(self, digest: Digest) -> int:
        """Bytes of an object. Raises KeyError for an unknown one."""
        ...

    def keep(self, digests: set[Digest]) -> None:
        """Every other object may be forgotten."""
        ...


@dataclass(slots=True)
class _Air:
    """What is on a link: pieces of objects, and after them their letter, if it goes with them."""

    letter: Letter
    pieces: tuple[Piece, ...]
    begun_ns: int
    with_letter: bool
    doubted: bool
    """The letter was in doubt before."""
    cut: bool = False
    """The link has gone, or one of its ends, with this in the air."""


class CrashPoint(StrEnum):
    """Where in a step a node may die."""

    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    """Committed; nothing has left the node, nobody has been answered."""
    AFTER_ACTIONS = "after_actions"


@dataclass(frozen=True, slots=True)
class Settings:
    """Modelled times of the network. `down_ns` is how long a crashed node takes to be back."""

    acquisition_ns: int
    handling_ns: int
    down_ns: int = 30_000_000_000


@dataclass(slots=True)
class _Node:
    name: str
    make: Callable[[], Mapping[str, Machine]]
    journal: MemoryJournal
    shelf: Shelf
    preloaded: frozenset[Digest]
    core: Core | None = None
    life: int = 0
    inbox: list[Arrival] = field(default_factory=list)
    contacts: dict[str, int] = field(default_factory=dict)
    """Confirmed contacts: peer -> end of the true window."""
    again: dict[str, int] = field(default_factory=dict)
    """When to look again at letters for a peer that were not begun."""
    air: dict[str, _Air] = field(default_factory=dict)
    """What is under way, by peer: one a link."""
    sent: dict[str, tuple[int, dict[Digest, int]]] = field(default_factory=dict)
    """Of each peer, in which life of it, how far objects have been sent that are still on their way."""
    told: dict[str, str] = field(default_factory=dict)
    """Incarnation of each peer at the last contact."""
    steps: int = 0
    arrivals: int = 0
    booted_ns: int = 0


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
        self._settings = settings
        self._engine = engine
        self._truth = truth
        self._follow = follow
        self._duration_ns = plan.duration_ns
        self._newest = plan
        self._taken: list[ContactPlan] = []
        self._waiting = 0
        self._edition = 0
        self._nodes: dict[str, _Node] = {}
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
        self._nodes[name] = _Node(name, make, journal, Shelf(set(store)), store)

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
        for _, node in sorted(self._nodes.items()):
            if node.core is not None:
                self._tell(node, plan)
        if self._truth is None:
            self._relink()

    def _tell(self, node: _Node, plan: ContactPlan) -> None:
        item, fields = PlanUpdated(plan.revision), {"sha256": plan.sha256}
        self._arrive(node, Arrival(self.now_ns, "", -2, plan.revision, None, item, fields=fields))

    def command(self, name: str, role: str, command: CommandReceived) -> bool:
        """Give a machine of a node a command now, its objects being there; False for a node that is down."""
        node = self._nodes[name]
        if node.core is None:
            return False
        node.shelf.holds.update(command.objects)
        node.arrivals += 1
        self._arrive(node, Arrival(self.now_ns, "", 0, node.arrivals, role, command))
        return True

    def run(self, until: Callable[[list[tuple[str, Event]]], bool] = lambda fresh: False) -> None:
        """`until` sees the events (node, event) as they are committed; True ends the run."""
        self._until = until
        self._ended = False
        for name in sorted(self._nodes):
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
    def _links(self) -> ContactPlan:
        """The plan that the links follow."""
        return self._truth or self.plan

    def _appoint(self) -> None:
        """Put what is still to come of the links on the agenda."""
        for a in sorted(self._nodes):
            for b in self._links.neighbours(a):
                if a < b and b in self._nodes:
                    for start_ns, end_ns in self._links.windows(a, b):
                        if end_ns > self.now_ns:
                            self._window(a, b, start_ns, end_ns)

    def _window(self, a: str, b: str, start_ns: int, end_ns: int) -> None:
        confirmed_ns = start_ns + self._settings.acquisition_ns
        if confirmed_ns < self.now_ns:  # unless it is known already, the signal is acquired from now on
            confirmed_ns = self.now_ns + self._settings.acquisition_ns
        if confirmed_ns < end_ns:
            self._link_at(confirmed_ns, lambda: self._meet(a, b, end_ns))
        if start_ns + self._settings.acquisition_ns < end_ns:
            self._link_at(end_ns, lambda: self._part(a, b))

    def _link_at(self, t_ns: int, what: Callable[[], None]) -> None:
        """As `at`, until the links follow another plan."""
        edition = self._edition
        self.at(t_ns, lambda: what() if edition == self._edition else None)

    def _relink(self) -> None:
        """The links follow an updated plan: contacts in progress go on as long as it has them."""
        self._edition += 1
        self._appoint()
        for name, node in sorted(self._nodes.items()):
            for peer in sorted(node.contacts):
                window = window_at(self._links, name, peer, self.now_ns)
                if window is not None:
                    node.contacts[peer] = window[1]
                else:
                    self._lose(node, peer)
            if node.core is not None:
                self._await_signal(node)

    # ---------------------------------------------------------------------------- life and death

    def journal(self, name: str) -> MemoryJournal:
        return self._nodes[name].journal

    def entries(self) -> list[Entry]:
        """Every event of every journal, by (time, node)."""
        rows = [
            (event.t_ns, name, n, Entry(name, incarnation, event))
            for name, node in self._nodes.items()
            for n, (incarnation, event) in enumerate(node.journal.events)
        ]
        return [entry for _, _, _, entry in sorted(rows, key=lambda row: row[:3])]

    def holds(self, name: str) -> set[Digest]:
        """The objects in a node's store."""
        return set(self._nodes[name].shelf.holds)

    def partial(self, name: str) -> dict[Digest, int]:
        """How many bytes a node has of the objects that have arrived in part."""
        return dict(self._nodes[name].shelf.partial)

    def kill(self, name: str, lose_disk: bool = False) -> None:
        """The node dies now, and is back after `down_ns`, with an empty store if its disk is lost."""
        node = self._nodes[name]
        if node.core is None:
            return
        for other in self._nodes.values():
            if name in other.air:
                self._cut_off(other, name)
        for peer in list(node.air):
            self._cut_off(node, peer)
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
        self.at(self.now_ns + self._settings.down_ns, lambda: self._boot(name))

    def _boot(self, name: str) -> None:
        node = self._nodes[name]
        durable = node.journal.load()
        node.core = Core(name, node.make(), durable, self._engine.size_of)
        node.inbox += node.core.lost(node.shelf.holds.__contains__)
        for job in durable.jobs:
            self._start_job(node, job)
        for plan in self._taken:
            if plan.revision > node.journal.revision:
                self._tell(node, plan)
        node.booted_ns = self.now_ns
        self._await_signal(node)
        self._wake(node, self.now_ns)

    def _await_signal(self, node: _Node) -> None:
        """A node that came up within a contact needs as long to acquire the signal as at its start."""
        acquired_ns = node.booted_ns + self._settings.acquisition_ns
        if acquired_ns < self.now_ns:
            return
        for peer in self._links.neighbours(node.name):
            if peer not in self._nodes:
                continue
            for start_ns, end_ns in self._links.windows(node.name, peer):
                if start_ns + self._settings.acquisition_ns <= node.booted_ns and acquired_ns < end_ns:
                    self._link_at(acquired_ns, partial(self._meet, node.name, peer, end_ns))

    # ------------------------------------------------------------------------------------ contacts

    def _meet(self, a: str, b: str, end_ns: int) -> None:
        """The ping came back: each side that did not know is told; its step starts what waits."""
        first, second = self._nodes[a], self._nodes[b]
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
                contact = self._links.active(node.name, peer.name, self.now_ns)
                link_class = contact.link_class if contact is not None else ""
                believed_ns = believed_end_ns(self.plan, node.name, peer.name, self.now_ns)
                item = ContactStarted(peer.name, link_class, believed_ns)
                self._arrive(node, Arrival(self.now_ns, peer.name, -1, 1, None, item))

    def _part(self, a: str, b: str) -> None:
        for name, peer in ((a, b), (b, a)):
            node = self._nodes[name]
            if node.core is not None and peer in node.contacts:
                self._lose(node, peer)

    def _lose(self, node: _Node, peer: str) -> None:
        del node.contacts[peer]
        air = node.air.get(peer)
        if air is not None:
            self._cut_off(node, peer)
            del node.air[peer]
            ends = (node.name, peer)
            out_bytes = sent_bytes(self._links, ends, air.begun_ns, self.now_ns)
            never = air.with_letter and out_bytes < total_bytes(air.pieces)
            if never and not air.doubted and node.core is not None:
                node.core.outbox.never_sent(air.letter.identity)
        node.sent.pop(peer, None)
        node.again.pop(peer, None)
        self._arrive(node, Arrival(self.now_ns, peer, -1, 0, None, ContactEnded(peer)))

    # ------------------------------------------------------------------------------------- letters

    def _cut_off(self, node: _Node, peer: str) -> None:
        """What is on the link to a peer ends here: what has come of it so far is there."""
        air, there = node.air[peer], self._nodes[peer]
        if there.core is None or air.cut:
            return
        air.cut = True
        nbytes = arrived_bytes(self._links, (node.name, peer), air.begun_ns, self.now_ns)
        for piece in first_bytes(air.pieces, nbytes):
            there.shelf.take(piece.digest, piece.size, piece.end)

    def _lacking(self, node: _Node, there: _Node, letter: Letter) -> list[Piece]:
        """What of a letter's objects is neither at the peer nor on its way."""
        core = node.core
        assert core is not None
        if letter.cancelled is not None or letter.expires_at_ns <= self.now_ns or not letter.objects:
            return []  # it is settled, not delivered
        named = (core.incarnation, letter.role, letter.lane, letter.sequence, letter.expires_at_ns)
        there.shelf.expected.expect(Expected(node.name, *named), [digest for digest, _ in letter.objects])
        life, sent = node.sent.get(there.name, (there.life, {}))
        pieces = []
        for digest, size in letter.objects:
            if digest not in there.shelf.holds:
                under_way = sent.get(digest, 0) if life == there.life else 0
                start = max(there.shelf.partial.get(digest, 0), under_way)
                pieces.append(Piece(digest, start, size, size))
        return pieces

    def _pump(self, node: _Node, peer: str) -> None:
        """Start what is to have the link to a peer in contact, if that is free."""
        if node.core is None or peer not in node.contacts or peer in node.air:
            return
        ends, end_ns, handling_ns = (node.name, peer), node.contacts[peer], self._settings.handling_ns
        contact = self._links.active(*ends, self.now_ns)
        if contact is None or self.now_ns >= end_ns:
            return
        believed = self.plan.active(*ends, self.now_ns)
        heads = node.core.outbox.heads(peer)
        lacking = [self._lacking(node, self._nodes[peer], letter) for letter in heads]
        loads = [
            Load(ENVELOPE_BYTES + len(letter.body), total_bytes(pieces))
            for letter, pieces in zip(heads, lacking, strict=True)
        ]
        chosen = choose(loads, believed, self.now_ns, handling_ns, chunk_of(contact, self.now_ns))
        if heads and (chosen is None or chosen.index or not chosen.fits):
            again_ns = reconsidered_ns(believed, end_ns)
            if again_ns is not None:
                self._look_again(node, peer, again_ns)
        if chosen is None:
            return
        letter, pieces = heads[chosen.index], lacking[chosen.index]
        if chosen.ahead_bytes:
            self._launch_chunk(node, peer, letter, first_bytes(pieces, chosen.ahead_bytes))
            return
        size = loads[chosen.index].total_bytes
        course = passage(self._links, ends, self.now_ns, size, handling_ns, end_ns)
        doubted = node.core.outbox.is_in_doubt(letter.identity)
        node.air[peer] = _Air(letter, tuple(pieces), self.now_ns, with_letter=True, doubted=doubted)
        fields = {"to": peer, "class": contact.link_class, "bytes": size}
        self._launch(node, peer, letter, course, fields)

    def _look_again(self, node: _Node, peer: str, t_ns: int) -> None:
        node.again[peer] = min(t_ns, node.again.get(peer, t_ns))
        self._wake(node, t_ns)

    def _launch(
        self, node: _Node, peer: str, letter: Letter, course: Passage, fields: Mapping[str, Any]
    ) -> None:
        assert node.core is not None
        node.core.outbox.attempted(letter.identity)
        life, there = node.life, self._nodes[peer].life
        if course.arrives_ns is not None:
            pieces = node.air[peer].pieces
            self.at(course.arrives_ns, lambda: self._receive(peer, there, node, life, letter, pieces))
        if course.answered_ns is not None:
            self.at(course.answered_ns, lambda: self._answer(node, life, peer, letter, fields))

    def _launch_chunk(self, node: _Node, peer: str, letter: Letter, pieces: tuple[Piece, ...]) -> None:
        """Objects go ahead of their letter; the link is free again once they are out."""
        air = _Air(letter, pieces, self.now_ns, with_letter=False, doubted=False)
        node.air[peer] = air
        ends, end_ns = (node.name, peer), node.contacts[peer]
        course = chunk_passage(self._links, ends, self.now_ns, total_bytes(pieces), end_ns)
        if course is None:
            return  # nobody can tell before the link is gone
        life, there = node.life, self._nodes[peer].life
        self.at(course[0], lambda: self._is_out(node, life, peer, there, air))
        self.at(course[1], lambda: self._has_come(self._nodes[peer], there, air))

    def _is_out(self, node: _Node, life: int, peer: str, there: int, air: _Air) -> None:
        if node.life != life or node.air.get(peer) is not air:
            return
        del node.air[peer]
        known, sent = node.sent.get(peer, (there, {}))
        if known != there:
            sent = {}
        node.sent[peer] = (there, sent)
        for piece in air.pieces:
            sent[piece.digest] = max(piece.end, sent.get(piece.digest, 0))
        self._look_again(node, peer, self.now_ns)

    def _has_come(self, node: _Node, life: int, air: _Air) -> None:
        if node.core is not None and node.life == life and not air.cut:
            for piece in air.pieces:
                node.shelf.take(piece.digest, piece.size, piece.end)

    def _receive(
        self,
        name: str,
        there: int,
        sender: _Node,
        life: int,
        letter: Letter,
        pieces: Iterable[Piece],
    ) -> None:
        """A letter has arrived, after its objects. Known ones are answered by their mark, which is there."""
        node = self._nodes[name]
        if node.core is None or node.life != there or sender.core is None or sender.life != life:
            return
        for piece in pieces:
            node.shelf.take(piece.digest, piece.size, piece.end)
        mailbox = (sender.name, sender.core.incarnation, letter.role, letter.lane)
        node.shelf.expected.settled((sender.name, letter.role, letter.lane), letter.sequence)
        if node.core.marks.find(mailbox, letter.sequence) is not None:
            return
        mark = Mark(*mailbox, letter.sequence, Outcome.DELIVERED)
        item = None
        if letter.cancelled is not None:
            mark = replace(mark, outcome=Outcome.CANCELLED)
        elif letter.expires_at_ns <= self.now_ns:
            mark = replace(mark, outcome=Outcome.EXPIRED)
        else:
            digests = tuple(digest for digest, _ in letter.objects)
            try:
                message = node.core.decode(letter.role, letter.lane, letter.kind, letter.body)
                item = Delivered(sender.name, message, digests)
                node.shelf.put(digests)
            except RemoteProtocolError as error:
                mark = replace(mark, outcome=Outcome.REFUSED, reason=str(error))
        self._arrive(
            node, Arrival(self.now_ns, sender.name, letter.lane, letter.sequence, letter.role, item, mark)
        )

    def _answer(self, node: _Node, life: int, peer: str, letter: Letter, fields: Mapping[str, Any]) -> None:
        """The receiver's answer is due: its mark, if it lived to commit one."""
        if node.core is None or node.life != life or peer not in node.air:
            return
        if node.air[peer].letter.identity != letter.identity:
            return
        del node.air[peer]
        receiver = self._nodes[peer].core
        mailbox = (node.name, node.core.incarnation, letter.role, letter.lane)
        mark = None if receiver is None else receiver.marks.find(mailbox, letter.sequence)
        if mark is None:
            self.at(self.now_ns + RETRY_NS, lambda: self._pump(node, peer))
            return
        node.core.outbox.settling(letter.identity)
        current = node.core.outbox.find(letter.sender_role, letter.key) or letter
        self._arrive(
            node,
            Arrival(
                self.now_ns,
                peer,
                letter.lane,
                letter.sequence,
                letter.sender_role,
                settle(current, mark.outcome, mark.reason),
                settles=letter.identity,
                fields=fields,
            ),
        )

    # ---------------------------------------------------------------------------------------- jobs

    def _start_job(self, node: _Node, job: Job) -> None:
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
        self._arrive(node, arrival)

    # ------------------------------------------------------------------------------------ the step

    def _arrive(self, node: _Node, arrival: Arrival) -> None:
        node.inbox.append(arrival)
        self._wake(node, arrival.due_ns)

    def _wake(self, node: _Node, t_ns: int) -> None:
        """See to it that the node steps at `t_ns`, after everything else of that instant has arrived."""
        planned = self._wakes.get(node.name)
        if planned is not None and planned <= t_ns:
            return
        self._wakes[node.name] = t_ns
        life = node.life
        self.at(t_ns, lambda: self._turn(node, life, t_ns))

    def _turn(self, node: _Node, life: int, t_ns: int) -> None:
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
                self._pump(node, peer)
        if node.core is core:
            waiting = [*(arrival.due_ns for arrival in node.inbox), *node.again.values()]
            deadline = core.deadline_ns()
            if deadline is not None:
                waiting.append(max(deadline, t_ns))
            if waiting:
                self._wake(node, min(waiting))

    def _step(self, node: _Node, core: Core, batch: list[Arrival]) -> None:
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
            self._pump(node, peer)
        self._collect(node, core)
        if self.crash(node.name, node.steps, CrashPoint.AFTER_ACTIONS):
            self.kill(node.name)

    def _collect(self, node: _Node, core: Core) -> None:
        """Drop what no snapshot, letter, job or waiting input names."""
        if node.steps % 64:
            return
        needed = core.needed() | node.preloaded
        for arrival in node.inbox:
            needed.update(arrival.objects)
        node.shelf.keep(needed, self.now_ns)
        if node.steps % 1024 == 0:
            self._engine.keep(set().union(*(other.shelf.holds for other in self._nodes.values())))
