"""The asyncio driver: a `Core` over real sockets, a real journal and a real clock.

One task steps the machines; others only bring arrivals and wait for the commit. A step is taken at the
*modelled* instant of its inputs: what arrives in time is handled as of its due time, so that how long this
host took does not add up over a run. What comes later than modelled is an `overrun` event, and is handled as
of now. The order of a step: machines, commit (off the event loop), then answers, jobs and letters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.core import Arrival, Core, Event, Job, Step
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.machine import (
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    JobDone,
    JobFailed,
    RemoteProtocolError,
    Severity,
)
from orbitrain.mailbox import ENVELOPE_BYTES, Flight, Letter, Mark, Outcome, flight, settle
from orbitrain.runtime.clock import SECOND_NS, Clock
from orbitrain.runtime.compute import Compute
from orbitrain.runtime.telemetry import Telemetry
from orbitrain.transport.rpc import LinkClient, LinkDown, PeerRefused
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import link_pb2 as wire

PING_TIMEOUT_S = 2.0
"""Wall seconds for a ping's answer: long for any link of ours, short against a pass."""

RETRY_S = 0.2
"""Wall seconds between tries within a contact."""

ANSWER_MARGIN_S = 10.0
"""Wall seconds beyond its modelled end that a delivery may take before the call is given up."""

CLOCK_SLACK_S = 0.5
"""Wall seconds by which a peer may be early or late at the edges of a contact."""

COLLECT_STEPS = 64
"""Steps between collections. An object goes when two in a row found nobody naming it."""

REFUSALS_MAX = 1_000
"""Refusals of one caller that are reported in one life: a hostile peer must not fill the journal."""

INBOX_MAX = 10_000
"""Waiting inputs; beyond it peers are refused until the node has caught up."""

T = TypeVar("T")

_OUTCOMES = {
    Outcome.DELIVERED: wire.OUTCOME_DELIVERED,
    Outcome.REFUSED: wire.OUTCOME_REFUSED,
    Outcome.EXPIRED: wire.OUTCOME_EXPIRED,
    Outcome.CANCELLED: wire.OUTCOME_CANCELLED,
}
_FROM_WIRE = {value: outcome for outcome, value in _OUTCOMES.items()}


@dataclass(frozen=True, slots=True)
class Times:
    """Modelled times of the links, scenario time."""

    acquisition_ns: int
    handling_ns: int


@dataclass(slots=True)
class _Peer:
    """A peer in a window of the plan."""

    name: str
    end_ns: int
    client: LinkClient
    incarnation: str = ""
    confirmed: bool = False
    met: bool = False
    """The machines have been told."""
    air: asyncio.Task[None] | None = None
    busy_ns: int = 0
    """Until when the last letter's answer keeps the link, scenario time."""
    unfit: set[tuple[str, str, int, int]] = field(default_factory=set)
    """Letters that will not fit into what is left of this contact."""
    counted: int = 0
    """Bytes of `client` that are in the journal already."""

    def fresh_bytes(self) -> int:
        moved = sum(self.client.bytes_moved)
        fresh, self.counted = moved - self.counted, moved
        return fresh


class Driver:
    """Drives a node's machines until `drain`. It is the `LinkHandler` of the node's server."""

    def __init__(
        self,
        core: Core,
        plan: ContactPlan,
        clock: Clock,
        stores: tuple[Journal, BlobStore],
        compute: Compute,
        telemetry: Telemetry,
    ) -> None:
        self.core = core
        self._plan = plan
        self._clock = clock
        self._journal, self._blobs = stores
        self._compute = compute
        self._telemetry = telemetry
        self._disk = ThreadPoolExecutor(1, "disk")
        self._inbox: list[Arrival] = []
        self._answers: dict[tuple[tuple[str, str, str, int], int], asyncio.Future[Mark]] = {}
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._jobs: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._peers: dict[str, _Peer] = {}
        self._notes: list[Event] = []
        self._draining = False
        self._steps = 0
        self._sequence = 0
        self._unnamed: set[Digest] = set()
        self._refusals: Counter[str] = Counter()
        self._latest_ns = self._boot_ns = 0
        self._failure: BaseException | None = None
        self.awaited: Callable[[], Collection[Digest]] = tuple
        """Objects that peers have put here for letters still to come."""
        self.forget: Callable[[str], None] = lambda peer: None
        """Told when a peer's letters will not come in this contact any more."""

    # ----------------------------------------------------------------------------------- running

    async def run(
        self, peers: Mapping[str, str], times: Times, preloaded: Collection[Digest], committed_ns: int
    ) -> None:
        """Step until drained.

        `peers` are addresses by name; `preloaded` objects are never collected; `committed_ns` is the time of
        the last commit, before which no step may be.
        """
        self._times = times
        self._preloaded = frozenset(preloaded)
        self._boot_ns = self._latest_ns = max(self._clock.now_ns(), committed_ns)
        self._inbox += [
            replace(arrival, due_ns=self._latest_ns) for arrival in self.core.lost(self._blobs.has)
        ]
        for job in list(self.core.jobs.values()):
            self._start_job(job)
        for peer in self._plan.neighbours(self.core.node):
            if peer in peers:
                self._spawn(self._meet(peer, peers[peer]))
        try:
            while not self._draining:
                await self._turn()
        finally:
            await self._stop()

    def drain(self) -> None:
        """End `run` after the step under way. Nothing more is committed."""
        self._draining = True
        self._news.set()

    async def _stop(self) -> None:
        tasks = [*self._tasks, *self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for answer in self._answers.values():
            answer.cancel()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: end the process, the supervisor starts it again from its journal.
            self._failure = error
            self.drain()

    @property
    def latest_ns(self) -> int:
        """Scenario time of the last step."""
        return self._latest_ns

    @property
    def failure(self) -> BaseException | None:
        """What ended a task of the driver, if anything did."""
        return self._failure

    async def on_disk(self, work: Any, *arguments: Any) -> Any:
        """Run a call of the journal off the event loop; calls come one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    # ---------------------------------------------------------------------------------- the step

    async def _turn(self) -> None:
        """Wait for the next instant at which something is due, and step."""
        self._news.clear()
        waiting = [arrival.due_ns for arrival in self._inbox]
        deadline = self.core.deadline_ns()
        if deadline is not None:
            waiting.append(deadline)
        due_ns = max(min(waiting, default=1 << 62), self._latest_ns)
        now_ns = max(self._clock.now_ns(), self._latest_ns)
        if due_ns > now_ns and self._notes:
            due_ns = now_ns
        if due_ns > now_ns:
            timeout_s = min(self._clock.wall_s_until(due_ns), 3600.0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)
            return
        batch = [arrival for arrival in self._inbox if arrival.due_ns <= due_ns]
        self._inbox = [arrival for arrival in self._inbox if arrival.due_ns > due_ns]
        batch += self.core.timers(due_ns)
        self._latest_ns = due_ns
        step = self.core.step(batch, due_ns)
        notes, self._notes = self._notes, []
        step.events += notes
        await self.on_disk(self._journal.commit, step, self.core.reported)
        self._act(step)

    def _act(self, step: Step) -> None:
        for mark in step.marks:
            answer = self._answers.pop((mark.mailbox, mark.sequence), None)
            if answer is not None and not answer.done():
                answer.set_result(mark)
        if step.ended_jobs:
            # A result that still waits is of a cancelled job: its name may have been given to another.
            self._inbox = [arrival for arrival in self._inbox if arrival.ends_job not in step.ended_jobs]
        for identity in step.ended_jobs:
            task = self._jobs.pop(identity, None)
            if task is not None:
                task.cancel()
        for job in step.jobs.values():
            self._start_job(job)
        for event in step.events:
            self._telemetry.event(event)
        for peer in list(self._peers.values()):
            self._pump(peer)
        self._steps += 1
        if self._steps % COLLECT_STEPS == 0:
            self._collect()

    def _arrive(self, arrival: Arrival, what: str) -> None:
        """Queue an input that is handled at its due time; one that comes later than modelled is reported."""
        now_ns = self._clock.now_ns()
        if now_ns > arrival.due_ns:
            late_s = (now_ns - arrival.due_ns) / SECOND_NS
            arrival = replace(arrival, due_ns=now_ns)
            fields = {"what": what, "late_s": round(late_s, 3), "peer": arrival.source}
            self.note("overrun", Severity.ACTIVITY_LO, fields)
        self._inbox.append(arrival)
        self._news.set()

    def note(self, kind: str, severity: Severity, fields: Mapping[str, Any]) -> None:
        """An event report of the driver's own, committed with the next step."""
        self._notes.append(
            Event(max(self._clock.now_ns(), self._latest_ns), "", severity, kind, dict(fields))
        )
        self._news.set()

    def _collect(self) -> None:
        """Delete what nobody named at this collection nor the last: a job's output is named by then."""
        needed = self.core.needed() | self._preloaded | set(self.awaited())
        for arrival in self._inbox:
            needed.update(arrival.objects)
        present = set(self._blobs.digests())
        unnamed = present - needed
        self._blobs.collect(present - (unnamed & self._unnamed))
        self._unnamed = unnamed

    # ------------------------------------------------------------------------------------ contacts

    async def _meet(self, peer: str, address: str) -> None:
        """Keep every contact with one peer, from acquisition to loss of signal."""
        for start_ns, end_ns in self._plan.windows(self.core.node, peer):
            if end_ns <= self._clock.now_ns():
                continue
            await asyncio.sleep(self._clock.wall_s_until(start_ns))
            # A node that comes up within a contact needs as long to acquire the signal as at its start.
            begun_ns = max(start_ns, self._boot_ns)
            if begun_ns + self._times.acquisition_ns >= end_ns:
                continue  # over before it could be confirmed
            here = _Peer(peer, end_ns, LinkClient(address, self.core.node))
            self._peers[peer] = here
            try:
                acquire = asyncio.create_task(self._acquire(here, begun_ns + self._times.acquisition_ns))
                try:
                    await asyncio.sleep(self._clock.wall_s_until(end_ns))
                finally:
                    acquire.cancel()
                    await asyncio.gather(acquire, return_exceptions=True)
                    if here.air is not None:
                        here.air.cancel()
                        await asyncio.gather(here.air, return_exceptions=True)
            finally:
                del self._peers[peer]
                self.forget(peer)
                with contextlib.suppress(LinkDown):
                    await here.client.close()
            if here.met:
                fields = {"class": self._link_class(peer, start_ns), "bytes": here.fresh_bytes()}
                item = ContactEnded(peer)
                self._inbox.append(Arrival(end_ns, peer, -1, 0, None, item, fields=fields))
                self._news.set()

    def _link_class(self, peer: str, t_ns: int) -> str:
        contact = self._plan.active(self.core.node, peer, t_ns)
        return contact.link_class if contact is not None else ""

    async def _acquire(self, here: _Peer, due_ns: int) -> None:
        """Ping until the peer answers; tell the machines at `due_ns`, or later if it took longer."""
        while not here.confirmed:
            request = wire.PingRequest(
                source=self.core.node,
                incarnation=self.core.incarnation,
                plan_sha256=self._plan.sha256,
                now_ns=self._clock.now_ns(),
            )
            try:
                reply = await here.client.ping(request, PING_TIMEOUT_S)
                if reply.node != here.name:
                    raise PeerRefused(f"it answers as {reply.node[:64]!r}")
                self._confirm(here, reply.incarnation, due_ns)
            except LinkDown:
                await asyncio.sleep(RETRY_S)
            except PeerRefused as error:
                self.note("contact_refused", Severity.WARNING_LO, {"peer": here.name, "reason": str(error)})
                await asyncio.sleep(PING_TIMEOUT_S)

    def _confirm(self, here: _Peer, incarnation: str, due_ns: int) -> None:
        here.confirmed, here.incarnation = True, incarnation
        self._telemetry.contact(here.name, True)
        link_class = self._link_class(here.name, self._clock.now_ns())
        item = ContactStarted(here.name, link_class, here.end_ns)
        fields = {"bytes": here.fresh_bytes()}
        here.met = True
        self._arrive(Arrival(due_ns, here.name, -1, 1, None, item, fields=fields), "contact")

    def _reborn(self, peer: str, incarnation: str) -> None:
        """A peer answers with another store than the one this contact began with: begin it again."""
        here = self._peers.get(peer)
        if here is None or not here.confirmed or here.incarnation == incarnation:
            return
        self.note("peer_reborn", Severity.WARNING_LO, {"peer": peer, "incarnation": incarnation})
        now_ns = max(self._clock.now_ns(), self._latest_ns)
        self._inbox.append(Arrival(now_ns, peer, -1, 0, None, ContactEnded(peer)))
        self._confirm(here, incarnation, now_ns)

    # ------------------------------------------------------------------------------- letters out

    def _pump(self, here: _Peer) -> None:
        """Start the next letter towards a peer in contact, if the link is free and it will fit."""
        if not here.confirmed or here.air is not None or self._draining or self._latest_ns < here.busy_ns:
            return
        contact = self._plan.active(self.core.node, here.name, self._latest_ns)
        if contact is None or not self._told(here):
            return
        for letter in self.core.outbox.heads(here.name):
            if letter.identity not in here.unfit:
                here.air = self._spawn(self._fly(here, contact, letter, self._latest_ns))
                return

    def _told(self, here: _Peer) -> bool:
        """Whether the machines have heard of the contact."""
        return not any(
            isinstance(arrival.item, ContactStarted) and arrival.item.peer == here.name
            for arrival in self._inbox
        )

    async def _fly(self, here: _Peer, contact: Contact, letter: Letter, start_ns: int) -> None:
        """Move one letter, its objects first, and bring the receiver's word."""
        try:
            receipt, times = await self._move(here, contact, letter, start_ns)
            if receipt is not None and times is not None:
                self._settle(here, letter, receipt, times)
        except LinkDown:
            await asyncio.sleep(RETRY_S)
        except PeerRefused as error:
            fields = {"peer": here.name, "key": letter.key, "reason": str(error)}
            self.note("transfer_refused", Severity.WARNING_LO, fields)
            await asyncio.sleep(PING_TIMEOUT_S)
        except KeyError:
            # An object of the letter is gone from this store: nothing will bring it back to this letter.
            self._end_unsent(letter, "an object of it is lost")
        finally:
            here.air = None
        self._pump(here)

    async def _move(
        self, here: _Peer, contact: Contact, letter: Letter, start_ns: int
    ) -> tuple[wire.Receipt | None, Flight | None]:
        objects = [] if letter.cancelled is not None else list(letter.objects)
        missing = await here.client.missing(objects) if objects else {}
        if letter not in self.core.outbox.heads(here.name):
            return None, None  # withdrawn or expired meanwhile: this side has ended it
        size = ENVELOPE_BYTES + len(letter.body)
        size += sum(nbytes for digest, nbytes in objects if digest in missing)
        times = flight(contact, start_ns, size, self._times.handling_ns)
        if times is None:
            here.unfit.add(letter.identity)
            return None, None
        self.core.outbox.attempted(letter.identity)
        timeout_s = self._clock.wall_s_until(times.answered_ns) + ANSWER_MARGIN_S
        for digest, nbytes in objects:
            if digest in missing:
                await here.client.put(digest, nbytes, self._blobs.path(digest), timeout_s)
        receipt = await here.client.deliver(self._wire_letter(letter, times), timeout_s)
        return receipt, times

    def _wire_letter(self, letter: Letter, times: Flight) -> wire.Letter:
        return wire.Letter(
            source=self.core.node,
            incarnation=self.core.incarnation,
            destination=letter.destination,
            role=letter.role,
            lane=letter.lane,
            sequence=letter.sequence,
            kind=letter.kind,
            body=letter.body,
            objects=[wire.ObjectName(digest=digest, size=size) for digest, size in letter.objects],
            due_ns=times.arrives_ns,
            expires_at_ns=letter.expires_at_ns,
            cancelled=letter.cancelled.value if letter.cancelled is not None else "",
        )

    def _settle(self, here: _Peer, letter: Letter, receipt: wire.Receipt, times: Flight) -> None:
        outcome = _FROM_WIRE.get(receipt.outcome)
        if outcome is None or self.core.outbox.find(letter.sender_role, letter.key) is None:
            return
        self._reborn(here.name, receipt.incarnation)
        here.busy_ns = times.answered_ns
        link_class = self._link_class(here.name, times.sent_ns)
        fields = {"to": here.name, "class": link_class, "bytes": here.fresh_bytes()}
        self._end(letter, outcome, receipt.reason[:500], times.answered_ns, fields)

    def _end_unsent(self, letter: Letter, reason: str) -> None:
        fields = {"to": letter.destination, "bytes": 0}
        self._end(letter, Outcome.REFUSED, reason, max(self._latest_ns, self._clock.now_ns()), fields)

    def _end(
        self, letter: Letter, outcome: Outcome, reason: str, due_ns: int, fields: Mapping[str, Any]
    ) -> None:
        self.core.outbox.settling(letter.identity)
        current = self.core.outbox.find(letter.sender_role, letter.key) or letter
        arrival = Arrival(
            due_ns,
            letter.destination,
            letter.lane,
            letter.sequence,
            letter.sender_role,
            settle(current, outcome, reason),
            settles=letter.identity,
            fields=fields,
        )
        self._arrive(arrival, "answer")

    # -------------------------------------------------------------------------------- letters in

    def admits(self, source: str) -> str | None:
        """LinkHandler: why a caller is turned away, or None."""
        if source not in self._plan.neighbours(self.core.node):
            return f"{source[:64]!r} is not a peer of {self.core.node}"
        if self._draining:
            return f"{self.core.node} is draining"
        if len(self._inbox) > INBOX_MAX:
            return f"{self.core.node} has {INBOX_MAX} inputs waiting"
        if self._contact_from(source) is None:
            return f"the plan has no contact from {source} to {self.core.node} now"
        return None

    def _contact_from(self, source: str) -> Contact | None:
        """The contact from a peer now, give or take what clocks may differ by."""
        now_ns = self._clock.now_ns()
        slack_ns = int(CLOCK_SLACK_S * self._clock.rate * SECOND_NS)
        for instant in (now_ns, now_ns + slack_ns, now_ns - slack_ns):
            contact = self._plan.active(source, self.core.node, instant)
            if contact is not None:
                return contact
        return None

    def refused(self, source: str, reason: str) -> None:
        """LinkHandler: a caller was turned away. Of each caller the first REFUSALS_MAX are reported."""
        caller = source if source in self._plan.neighbours(self.core.node) else ""
        self._refusals[caller] += 1
        if self._refusals[caller] > REFUSALS_MAX:
            return
        fields = {"source": source[:64], "reason": reason[:500]}
        if self._refusals[caller] == REFUSALS_MAX:
            fields["reason"] = "more refusals of this caller are not reported"
        self.note("message_refused", Severity.WARNING_LO, fields)

    async def ping(self, request: wire.PingRequest) -> wire.PingReply:
        """LinkHandler."""
        self._reborn(request.source, request.incarnation)
        return wire.PingReply(
            node=self.core.node, incarnation=self.core.incarnation, now_ns=self._clock.now_ns()
        )

    async def deliver(self, letter: wire.Letter) -> wire.Receipt:
        """LinkHandler: answered once the step that consumed the letter is committed."""
        mailbox = (letter.source, letter.incarnation, letter.role, letter.lane)
        place = (mailbox, letter.sequence)
        # A mark whose answer still waits is not committed yet: wait with it.
        known = None if place in self._answers else self.core.marks.find(mailbox, letter.sequence)
        if known is None:
            if place not in self._answers:
                try:
                    arrival = self._arrival(letter, mailbox)
                except RemoteProtocolError as error:
                    # Refused by its form: no mark is needed to refuse it again.
                    self.refused(letter.source, str(error))
                    return wire.Receipt(
                        outcome=wire.OUTCOME_REFUSED,
                        reason=str(error),
                        incarnation=self.core.incarnation,
                    )
                self._answers[place] = asyncio.get_running_loop().create_future()
                self._arrive(arrival, "letter")
            known = await asyncio.shield(self._answers[place])
        return wire.Receipt(
            outcome=_OUTCOMES[known.outcome], reason=known.reason, incarnation=self.core.incarnation
        )

    def _arrival(self, letter: wire.Letter, mailbox: tuple[str, str, str, int]) -> Arrival:
        """Raises RemoteProtocolError for a letter that no machine here could read."""
        if letter.destination != self.core.node:
            raise RemoteProtocolError(f"a letter for {letter.destination[:64]!r}, this is {self.core.node}")
        message = self.core.decode(letter.role, letter.lane, letter.kind, letter.body)
        mark = Mark(*mailbox, letter.sequence, Outcome.DELIVERED)
        contact = self._contact_from(letter.source)
        latest_ns = contact.end_ns if contact is not None else self._clock.now_ns()
        if letter.due_ns > latest_ns:
            # What is begun fits into its contact; a letter that waits longer would only fill the inbox.
            raise RemoteProtocolError("a letter due after the end of its contact")
        due_ns = max(letter.due_ns, 0)
        item = None
        if letter.cancelled:
            mark = replace(mark, outcome=Outcome.CANCELLED)
        elif letter.expires_at_ns <= due_ns:
            mark = replace(mark, outcome=Outcome.EXPIRED)
        else:
            digests = tuple(name.digest for name in letter.objects)
            item = Delivered(letter.source, message, digests)
        return Arrival(due_ns, letter.source, letter.lane, letter.sequence, letter.role, item, mark)

    # ---------------------------------------------------------------------------------------- jobs

    def _start_job(self, job: Job) -> None:
        task = self._jobs[job.identity] = asyncio.create_task(self._work(job))
        task.add_done_callback(self._ended)

    async def _work(self, job: Job) -> None:
        self._sequence += 1
        sequence, folder = self._sequence, self._blobs.scratch / f"job-{self._sequence}"
        item: JobDone | JobFailed
        try:
            inputs = {name: self._blobs.path(digest) for name, digest in job.objects.items()}
            done: JobResult = await self._compute.run(job.kind, job.params, inputs, folder)
            outputs = {name: await self._adopt(path) for name, path in sorted(done.outputs.items())}
            item = JobDone(job.job, done.result, outputs)
            self._telemetry.job(job.kind, done.seconds)
        except KeyError as error:
            item = JobFailed(job.job, f"the object {error} is not in the store")
        except JobError as error:
            item = JobFailed(job.job, str(error))
        due_ns = max(job.due_ns, 0)
        arrival = Arrival(due_ns, "", 0, sequence, job.role, item, ends_job=job.identity)
        self._arrive(arrival, "job")

    async def _adopt(self, path: Any) -> Digest:
        digest: Digest = await asyncio.get_running_loop().run_in_executor(None, self._blobs.adopt, path)
        return digest
