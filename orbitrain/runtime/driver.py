"""The asyncio driver: a `Core` over real sockets, a real journal and a real clock.

One task steps the machines; others only bring arrivals and wait for the commit. A step is taken at the
*modelled* instant of its inputs: what arrives in time is handled as of its due time, so that how long this
host took does not add up over a run. What comes later than modelled is an `overrun` event, and is handled as
of now. Over real links what arrives is due as it comes, and only jobs can be late. The order of a step:
updates of the plan that are due, machines, commit (off the event loop), then answers, jobs and letters.

What peers ask of this node is in `reception`, its contacts and what leaves over them in `contacts`, or, where
links are real, in `real_contacts`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from orbitrain.contacts.plan import ContactPlan
from orbitrain.core import Core
from orbitrain.flights import believed_end_ns
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.machine import (
    CommandReceived,
    ContactStarted,
    Digest,
    JobDone,
    JobFailed,
    PlanUpdated,
    Severity,
)
from orbitrain.protocols.bundles import ROLE as BUNDLES
from orbitrain.runtime.clock import SECOND_NS, Clock
from orbitrain.runtime.compute import Jobs
from orbitrain.runtime.contacts import Contacts, Times
from orbitrain.runtime.outlook import RealLinks
from orbitrain.runtime.plans import PlanShelf
from orbitrain.runtime.real_contacts import RealContacts
from orbitrain.runtime.reception import Reception
from orbitrain.runtime.telemetry import Telemetry
from orbitrain.step import Arrival, Event, Job, Step
from orbitrain.transfers import incoming, listed, outgoing
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.journal import Journal
from orbitrain.v1.operator_pb2 import TransferList

COLLECT_STEPS = 64
"""Steps between collections. An object goes when two in a row found nobody naming it."""


class Driver:
    """Drives a node's machines until `drain`."""

    def __init__(
        self,
        core: Core,
        plans: PlanShelf,
        clock: Clock,
        stores: tuple[Journal, BlobStore],
        jobs: Jobs,
        telemetry: Telemetry,
        disk: ThreadPoolExecutor,
        truth: ContactPlan | None = None,
        real: RealLinks | None = None,
    ) -> None:
        """`truth` is what the links follow; without one it is the plan believed, which `plans` holds.

        `real` links carry or do not, and nothing about them is modelled here.
        `disk` runs the calls of the journal, one at a time.
        """
        self.core = core
        self.clock = clock
        self.telemetry = telemetry
        self.truth = truth
        self.has_real_links = real is not None
        self.boot_ns = 0
        self._written = asyncio.Event()
        self._written.set()
        self._plans = plans
        self._journal, self.blobs = stores
        self._runner = jobs
        self._disk = disk
        self._inbox: list[Arrival] = []
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._jobs: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._notes: list[Event] = []
        self._draining = False
        self._steps = 0
        self._sequence = 0
        self._unnamed: set[Digest] = set()
        self._latest_ns = 0
        self._failure: BaseException | None = None
        self._commands: dict[int, asyncio.Future[list[Event]]] = {}
        """Commands that wait for their commit, by their arrival's sequence."""
        self.lacking: dict[tuple[str, Digest], int] = {}
        """Bytes that a peer is known to lack of an object, for the operator."""
        self.reception = Reception(self)
        self.contacts: Contacts | RealContacts = Contacts(self) if real is None else RealContacts(self, real)

    # ----------------------------------------------------------------------------------- running

    async def run(
        self, peers: Mapping[str, str], times: Times, preloaded: Collection[Digest], committed_ns: int
    ) -> None:
        """Step until drained.

        `peers` are addresses by name; `preloaded` objects are never collected; `committed_ns` is the time of
        the last commit, before which no step may be.
        """
        self._preloaded = frozenset(preloaded)
        self.boot_ns = self._latest_ns = max(self.clock.now_ns(), committed_ns)
        self._inbox += [
            replace(arrival, due_ns=self._latest_ns) for arrival in self.core.lost(self.blobs.has)
        ]
        for job in list(self.core.jobs.values()):
            self._start_job(job)
        for line in self.blobs.remarks:
            self.note("store_damaged", Severity.WARNING_HI, {"reason": line[:500]})
        self.contacts.begin(peers, times)
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
        self.reception.close()
        for answer in self._commands.values():
            answer.cancel()

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """A task whose failure ends the node."""
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
    def plan(self) -> ContactPlan:
        """The plan that this node believes."""
        return self._plans.plan

    @property
    def links(self) -> ContactPlan:
        """The plan that the links follow."""
        return self.truth or self._plans.plan

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def committing(self) -> bool:
        """A step is taken and not on disk yet: nothing of it may leave the node."""
        return not self._written.is_set()

    async def committed(self) -> None:
        """Wait until every step that is taken is on disk."""
        await self._written.wait()

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

    def _due_ns(self) -> int:
        """The next instant at which something is due."""
        waiting = [arrival.due_ns for arrival in self._inbox]
        waiting += [self.contacts.again_ns(), self._plans.next_ns()]
        deadline = self.core.deadline_ns()
        if deadline is not None:
            waiting.append(deadline)
        due_ns = max(min(waiting), self._latest_ns)
        now_ns = max(self.clock.now_ns(), self._latest_ns)
        return now_ns if due_ns > now_ns and self._notes else due_ns

    async def _turn(self) -> None:
        """Wait for the next instant at which something is due, and step."""
        self._news.clear()
        due_ns, now_ns = self._due_ns(), max(self.clock.now_ns(), self._latest_ns)
        if due_ns <= now_ns and due_ns >= self.contacts.ending_ns():
            await self._news.wait()  # for a contact that is just being ended
            return
        if due_ns > now_ns:
            timeout_s = min(self.clock.wall_s_until(due_ns), 3600.0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)
            return
        async with self._plans.stepping:
            # What has come meanwhile can only be due earlier.
            if not self._draining:
                await self._step(self._due_ns())

    async def _step(self, due_ns: int) -> None:
        updates = self._replan(due_ns)
        batch = [self._dated(arrival, due_ns) for arrival in self._inbox if arrival.due_ns <= due_ns]
        self._inbox = [arrival for arrival in self._inbox if arrival.due_ns > due_ns]
        batch += updates
        batch += self.core.timers(due_ns)
        self._latest_ns = due_ns
        for severity, kind, fields in self._plans.take_remarks():
            self.note(kind, severity, fields)
        if not batch and not self._notes:
            self.contacts.pump()
            return
        self._written.clear()
        step = self.core.step(batch, due_ns)
        notes, self._notes = self._notes, []
        step.events += notes
        await self.on_disk(self._journal.commit, step, self.core.reported)
        self._written.set()
        self._act(step)
        self._answer_commands(batch, step)

    def _replan(self, due_ns: int) -> list[Arrival]:
        """Take up the updates of the plan whose instant has come: inputs of a step see the new plan."""
        updates = []
        for at_ns, plan in self._plans.take(due_ns):
            item, fields = PlanUpdated(plan.revision), {"sha256": plan.sha256}
            updates.append(Arrival(at_ns, "", -2, plan.revision, None, item, fields=fields))
        if updates and self.truth is None:
            self.contacts.relink(due_ns)
        return updates

    def _dated(self, arrival: Arrival, due_ns: int) -> Arrival:
        """With what the plan believed now says of the end of a contact that begins."""
        if isinstance(arrival.item, ContactStarted):
            end_ns = believed_end_ns(self.plan, self.core.node, arrival.item.peer, due_ns)
            return replace(arrival, item=replace(arrival.item, end_ns=end_ns))
        return arrival

    def told(self, peer: str) -> bool:
        """Whether the machines have heard of a contact that has begun."""
        return not any(
            isinstance(arrival.item, ContactStarted) and arrival.item.peer == peer for arrival in self._inbox
        )

    def _act(self, step: Step) -> None:
        self.reception.committed(step)
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
            self.telemetry.event(event)
        self.contacts.pump()
        self._steps += 1
        if self._steps % COLLECT_STEPS == 0:
            self._collect()

    @property
    def inbox_length(self) -> int:
        """Waiting inputs."""
        return len(self._inbox)

    def wake(self) -> None:
        """Something has changed that decides when the next step is due."""
        self._news.set()

    def take(self, arrival: Arrival) -> None:
        """Queue an input that is handled at its due time, or now if that is past."""
        self._inbox.append(arrival)
        self.wake()

    def arrive(self, arrival: Arrival, what: str) -> None:
        """Queue an input that is handled at its due time; one that comes later than modelled is reported."""
        now_ns = self.clock.now_ns()
        if now_ns > arrival.due_ns:
            late_s = (now_ns - arrival.due_ns) / SECOND_NS
            arrival = replace(arrival, due_ns=now_ns)
            fields = {"what": what, "late_s": round(late_s, 3), "peer": arrival.source}
            self.note("overrun", Severity.ACTIVITY_LO, fields)
        self.take(arrival)

    async def command(self, role: str, command: CommandReceived) -> list[Event]:
        """Give a machine a command; once it is committed, what the machine reported of it: nothing if it
        failed."""
        self._sequence += 1
        answer: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
        self._commands[self._sequence] = answer
        now_ns = max(self.clock.now_ns(), self._latest_ns)
        self.take(Arrival(now_ns, "", 0, self._sequence, role, command))
        return await answer

    def _answer_commands(self, batch: Iterable[Arrival], step: Step) -> None:
        for arrival in batch:
            if isinstance(arrival.item, CommandReceived):
                answer = self._commands.pop(arrival.sequence, None)
                if answer is not None and not answer.done():
                    answer.set_result(step.answers.get(arrival.sequence, []))

    def note(self, kind: str, severity: Severity, fields: Mapping[str, Any]) -> None:
        """An event report of the driver's own, committed with the next step."""
        self._notes.append(Event(max(self.clock.now_ns(), self._latest_ns), "", severity, kind, dict(fields)))
        self.wake()

    def transfers(self) -> TransferList:
        """What is under way, for the operator."""
        return listed(
            self.plan,
            self.core.node,
            max(self.clock.now_ns(), self._latest_ns),
            outgoing(self.core.outbox, self.lacking, self.core.state_of(BUNDLES)),
            incoming(self.blobs.parts(), self.blobs.letters()),
        )

    async def examine(self, digest: Digest) -> bool:
        """Whether an object here is what its name says. One that is not goes, and the machines are told."""
        try:
            if await asyncio.to_thread(self.blobs.verify, digest):
                return True
        except KeyError:
            return False
        self.note("object_damaged", Severity.WARNING_HI, {"digest": digest})
        now_ns = max(self.clock.now_ns(), self._latest_ns)
        for arrival in self.core.lost(lambda each: each != digest):
            self.take(replace(arrival, due_ns=now_ns))
        return False

    def _collect(self) -> None:
        """Delete what nobody named at this collection nor the last: a job's output is named by then."""
        expected = self.blobs.expected(self._latest_ns)
        needed = self.core.needed() | self._preloaded | expected
        for arrival in self._inbox:
            needed.update(arrival.objects)
        present = set(self.blobs.digests())
        unnamed = present - needed
        self.blobs.collect(present - (unnamed & self._unnamed))
        self.blobs.collect_partial(expected)
        going = {(letter.destination, digest) for letter in self.core.outbox for digest, _ in letter.objects}
        self.lacking = {known: nbytes for known, nbytes in self.lacking.items() if known in going}
        self._unnamed = unnamed

    # ---------------------------------------------------------------------------------------- jobs

    def _start_job(self, job: Job) -> None:
        task = self._jobs[job.identity] = asyncio.create_task(self._work(job))
        task.add_done_callback(self._ended)

    async def _work(self, job: Job) -> None:
        self._sequence += 1
        sequence, folder = self._sequence, self.blobs.scratch / f"job-{self._sequence}"
        item: JobDone | JobFailed
        try:
            inputs = {name: self.blobs.path(digest) for name, digest in job.objects.items()}
            done: JobResult = await self._runner.run(job.kind, job.params, inputs, folder)
            outputs = {name: await self._adopt(path) for name, path in sorted(done.outputs.items())}
            item = JobDone(job.job, done.result, outputs)
            self.telemetry.job(job.kind, done.seconds)
        except KeyError as error:
            item = JobFailed(job.job, f"the object {error} is not in the store")
        except JobError as error:
            item = JobFailed(job.job, str(error))
        due_ns = max(job.due_ns, 0)
        arrival = Arrival(due_ns, "", 0, sequence, job.role, item, ends_job=job.identity)
        self.arrive(arrival, "job")

    async def _adopt(self, path: Any) -> Digest:
        digest: Digest = await asyncio.get_running_loop().run_in_executor(None, self.blobs.adopt, path)
        return digest
