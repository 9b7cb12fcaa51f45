"""The step that every driver takes: inputs in, one atomic change of durable state and its effects out.

`Core` owns a node's machines, outbox, marks and running jobs. A driver hands it a batch of inputs that are
due; it answers with a `Step`, which the driver commits in one transaction and only then acts upon. The
asyncio driver and the simulator share this class, so that what they must agree on exists once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError, Message

from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Digest,
    Fate,
    JobFailed,
    Lane,
    LocalProtocolError,
    Machine,
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
from orbitrain.mailbox import Identity, Letter, Mark, Marks, Outbox, Outcome
from orbitrain.step import Arrival, DeadLetter, Durable, Event, Job, Snapshot, Step

ATTEMPTS_MAX = 3
"""How often an input may make `handle` raise before it is put aside as a dead letter."""

TIMER_REST_NS = 60_000_000_000
"""Scenario time until a machine that failed on its timer is woken again: it would fail as often as it is."""

REPORTED_OBJECTS_MAX = 64
"""Objects named in event reports that are kept for the operator: two mixing cycles of any sane scenario."""

REPORTED_BYTES_MAX = 256 * 1024 * 1024
"""... as long as they fit here, the newest at least one: a board's spare storage, not its working set."""

LETTERS_MAX = 10_000
"""Letters a node may have under way; more means a machine that sends without looking at its answers."""


class _Draft:
    """A step being written; thrown away as a whole if a machine raises."""

    def __init__(self, core: Core, now_ns: int) -> None:
        self._core = core
        self.step = Step(now_ns)
        self._sequences: dict[tuple[str, str, int], int] = {}
        self._keys: dict[tuple[str, str], Identity] = {}

    def _find(self, role: str, key: str) -> Letter | None:
        identity = self._keys.get((role, key))
        if identity is not None:
            return self.step.letters[identity]
        letter = self._core.outbox.find(role, key)
        if letter is None or letter.identity in self.step.ended_letters:
            return None
        return self.step.letters.get(letter.identity, letter)

    def forgets(self, mark: Mark, since: int) -> bool:
        """See `Marks.forgets`."""
        before = [each for each in self.step.marks if each.slot == mark.slot]
        last = before[-1] if before else self._core.marks.last(mark.slot)
        return Marks.forgets(last, mark, since)

    def act(self, role: str, action: Action) -> None:
        now_ns = self.step.now_ns
        match action:
            case Send():
                self._send(role, action)
            case Withdraw(key=key):
                self._cancel(role, key, Fate.WITHDRAWN)
            case StartJob(job=job, kind=kind, params=params, objects=objects, duration_ns=duration_ns):
                identity = (role, job)
                running = identity in self._core.jobs and identity not in self.step.ended_jobs
                if running or identity in self.step.jobs:
                    raise LocalProtocolError(f"the job {job!r} is running already")
                started = Job(role, job, kind, dict(params), dict(objects), now_ns, duration_ns)
                self.step.jobs[identity] = started
            case CancelJob(job=job):
                if self.step.jobs.pop((role, job), None) is None and (role, job) in self._core.jobs:
                    self.step.ended_jobs.append((role, job))
            case Report(kind=kind, severity=severity, fields=fields, objects=digests):
                named = tuple((digest, self._core.size_of(digest)) for digest in digests)
                self.step.events.append(Event(now_ns, role, severity, kind, dict(fields), named))

    def _send(self, role: str, send: Send) -> None:
        if self._find(role, send.key) is not None:
            raise LocalProtocolError(f"a message with the key {send.key!r} has not ended yet")
        if len(self._core.outbox) + len(self.step.letters) >= LETTERS_MAX:
            raise LocalProtocolError(f"more than {LETTERS_MAX} letters under way")
        if send.supersedes is not None:
            self._cancel(role, send.supersedes, Fate.SUPERSEDED)
        mailbox = (send.to, send.role, int(send.lane))
        last = self._sequences.get(mailbox, self._core.outbox.next_sequence(*mailbox) - 1)
        self._sequences[mailbox] = last + 1
        letter = Letter(
            sender_role=role,
            key=send.key,
            destination=send.to,
            role=send.role,
            lane=int(send.lane),
            sequence=last + 1,
            kind=send.message.DESCRIPTOR.full_name,
            body=send.message.SerializeToString(deterministic=True),
            objects=tuple((digest, self._core.size_of(digest)) for digest in send.objects),
            expires_at_ns=send.expires_at_ns,
        )
        self.step.letters[letter.identity] = letter
        self._keys[role, send.key] = letter.identity

    def _cancel(self, role: str, key: str, fate: Fate) -> None:
        letter = self._find(role, key)
        if letter is not None and letter.cancelled is None:
            self.step.letters[letter.identity] = replace(letter, cancelled=fate)


class Core:
    """A node's machines and everything about them that must survive a crash."""

    def __init__(
        self, node: str, machines: Mapping[str, Machine], durable: Durable, size_of: Callable[[Digest], int]
    ) -> None:
        """`machines` are fresh; they take the state that `durable` holds for their role.

        `size_of` tells an object's bytes; it raises KeyError for one that is not in the store.
        """
        self.node = node
        self.machines = dict(machines)
        self.incarnation = durable.incarnation
        self.size_of = size_of
        self.outbox = Outbox(durable.letters, durable.sequences)
        self.marks = Marks(durable.marks)
        self.jobs = {job.identity: job for job in durable.jobs}
        self._reported = deque(durable.reported)
        self._states: dict[str, Snapshot] = {}
        self._contacts: dict[str, ContactStarted] = {}
        self._rests_until_ns: dict[str, int] = {}
        self._kinds = {
            role: {message.DESCRIPTOR.full_name: message for message in machine.accepts}
            for role, machine in self.machines.items()
        }
        for role, machine in self.machines.items():
            kept = durable.snapshots.get(role)
            if kept is not None:
                machine.restore(kept.state, kept.schema)
                self._states[role] = kept
            else:
                self._states[role] = self._snapshot(machine)

    @staticmethod
    def _snapshot(machine: Machine) -> Snapshot:
        state, objects = machine.snapshot()
        return Snapshot(state, machine.schema, objects)

    def state_of(self, role: str) -> bytes:
        """The snapshot of a machine as of the last step; empty for a role that is not here."""
        return self._states[role].state if role in self._states else b""

    @property
    def reported(self) -> tuple[tuple[Digest, int], ...]:
        """Objects kept because an event report named them, (digest, bytes), oldest first."""
        return tuple(self._reported)

    # ------------------------------------------------------------------------------- what is due

    def deadline_ns(self) -> int | None:
        """The next instant at which a machine wants its timer, or a letter ends by itself."""
        wanted = [self._wants_ns(role) for role in self.machines]
        wanted.append(self.outbox.next_expiry_ns())
        return min((instant for instant in wanted if instant is not None), default=None)

    def timers(self, now_ns: int) -> list[Arrival]:
        """The timers that are due, and the letters that this node alone can end."""
        due = []
        for role in sorted(self.machines):
            deadline = self._wants_ns(role)
            if deadline is not None and deadline <= now_ns:
                due.append(Arrival(deadline, "", -1, 0, role, TimerFired()))
        for letter, item in self.outbox.certain_ends(now_ns):
            self.outbox.settling(letter.identity)
            due.append(
                Arrival(
                    now_ns,
                    "",
                    letter.lane,
                    letter.sequence,
                    letter.sender_role,
                    item,
                    settles=letter.identity,
                    fields={"to": letter.destination, "bytes": 0},
                )
            )
        return due

    def _wants_ns(self, role: str) -> int | None:
        """When a machine wants its timer, and may have it."""
        deadline = self.machines[role].deadline_ns()
        rests_ns = self._rests_until_ns.get(role)
        return deadline if deadline is None or rests_ns is None else max(deadline, rests_ns)

    def decode(self, role: str, lane: int, kind: str, body: bytes) -> Message:
        """A peer's message. Raises RemoteProtocolError for a role, lane or kind unknown, or broken bytes."""
        if lane not in tuple(Lane):
            raise RemoteProtocolError(f"there is no lane {lane}")
        kinds = self._kinds.get(role)
        if kinds is None:
            raise RemoteProtocolError(f"this node has no role {role[:64]!r}")
        if kind not in kinds:
            raise RemoteProtocolError(f"role {role!r} does not understand {kind[:128]!r}")
        try:
            return kinds[kind].FromString(body)
        except DecodeError as error:
            raise RemoteProtocolError(f"{kind} cannot be decoded") from error

    def needed(self) -> set[Digest]:
        """Every object that must stay, but for those that wait in the driver's hands."""
        digests = {digest for digest, _ in self._reported}
        for state in self._states.values():
            digests |= state.objects
        for letter in self.outbox:
            digests.update(digest for digest, _ in letter.objects)
        for job in self.jobs.values():
            digests.update(job.objects.values())
        return digests

    def lost(self, present: Callable[[Digest], bool]) -> list[Arrival]:
        """ObjectLost for each object that a restored machine names and the store does not hold."""
        return [
            Arrival(0, "", -1, 0, role, ObjectLost(digest))
            for role, state in sorted(self._states.items())
            for digest in sorted(state.objects)
            if not present(digest)
        ]

    # ---------------------------------------------------------------------------------- the step

    def step(self, arrivals: Iterable[Arrival], now_ns: int) -> Step:
        """Consume a batch of inputs in order. Never raises for what a machine does with them."""
        batch = sorted(arrivals, key=lambda arrival: arrival.order)
        draft = _Draft(self, now_ns)
        touched = self._touched(batch)
        try:
            for arrival in batch:
                self._consume(draft, arrival)
        except Exception:  # noqa: BLE001 - whatever a machine raises: the node goes on
            draft = self._one_by_one(batch, now_ns)
            touched = sorted(self.machines)
        step = draft.step
        for role in touched:
            state = self._snapshot(self.machines[role])
            if state != self._states[role]:
                step.snapshots[role] = state
        self._apply(step)
        for arrival in batch:
            match arrival.item:
                case ContactStarted(peer=peer) as contact:
                    self._contacts[peer] = contact
                case ContactEnded(peer=peer):
                    self._contacts.pop(peer, None)
        return step

    def _touched(self, batch: Sequence[Arrival]) -> list[str]:
        if any(arrival.role is None for arrival in batch):
            return sorted(self.machines)
        return sorted({arrival.role for arrival in batch if arrival.role in self.machines})

    def _one_by_one(self, batch: Sequence[Arrival], now_ns: int) -> _Draft:
        """The slow way after a machine raised: find the input that does it, put it aside, keep the rest.

        A reloaded machine knows of no contact, so those that go on are told again, before everything else.
        """
        contacts = [
            Arrival(now_ns, peer, -1, 1, None, contact, fields={"reloaded": True})
            for peer, contact in sorted(self._contacts.items())
        ]
        good: list[Arrival] = []
        aside: list[tuple[DeadLetter, Event]] = []
        self._reload(self._states)
        draft = _Draft(self, now_ns)
        for arrival in [*contacts, *batch]:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                try:
                    self._consume(draft, arrival)
                    good.append(arrival)
                    break
                except Exception as error:  # noqa: BLE001 - goes to the dead letters
                    self._reload(self._states)
                    draft = _Draft(self, now_ns)
                    for earlier in good:
                        self._consume(draft, earlier)
                    if attempt == ATTEMPTS_MAX:
                        quiet, dead, event = self._put_aside(arrival, now_ns, error)
                        if isinstance(arrival.item, TimerFired) and arrival.role is not None:
                            self._rests_until_ns[arrival.role] = now_ns + TIMER_REST_NS
                        self._consume(draft, quiet)
                        good.append(quiet)
                        aside.append((dead, event))
        draft.step.dead_letters += [dead for dead, _ in aside]
        draft.step.events += [event for _, event in aside]
        return draft

    def _reload(self, states: Mapping[str, Snapshot]) -> None:
        for role, state in states.items():
            self.machines[role].restore(state.state, state.schema)

    @staticmethod
    def _put_aside(arrival: Arrival, now_ns: int, error: Exception) -> tuple[Arrival, DeadLetter, Event]:
        role = arrival.role or ""
        text, why = str(arrival.item)[:2000], f"{type(error).__name__}: {error}"[:500]
        mark = arrival.mark
        if mark is not None:
            mark = replace(mark, outcome=Outcome.REFUSED, reason="the receiver failed on it")
        fields = {"input": type(arrival.item).__name__, "source": arrival.source, "error": why}
        return (
            replace(arrival, item=None, mark=mark),
            DeadLetter(now_ns, role, text, why),
            Event(now_ns, role, Severity.FATAL, "dead_letter", fields),
        )

    def _consume(self, draft: _Draft, arrival: Arrival) -> None:
        step = draft.step
        mark = arrival.mark
        if mark is not None and arrival.since is not None and draft.forgets(mark, arrival.since):
            step.left_alone.append(mark)
            return
        if arrival.settles is not None:
            step.ended_letters.append(arrival.settles)
        if arrival.ends_job is not None:
            if arrival.ends_job not in self.jobs or arrival.ends_job in step.ended_jobs:
                return  # cancelled while its result waited
            step.ended_jobs.append(arrival.ends_job)
        before = len(step.events)
        if arrival.item is not None:
            roles = sorted(self.machines) if arrival.role is None else [arrival.role]
            for role in roles:
                try:
                    for action in self.machines[role].handle(arrival.item, step.now_ns):
                        draft.act(role, action)
                except RemoteProtocolError as error:
                    if mark is None:
                        raise
                    mark = replace(mark, outcome=Outcome.REFUSED, reason=str(error)[:500])
        if isinstance(arrival.item, CommandReceived):
            step.answers[arrival.sequence] = step.events[before:]
        if mark is not None:
            step.marks.append(mark)
        step.events.extend(self._driver_events(arrival, mark, step.now_ns))

    @staticmethod
    def _driver_events(arrival: Arrival, mark: Mark | None, now_ns: int) -> list[Event]:
        """What the journal says of an input whatever the protocol makes of it."""
        role = arrival.role or ""
        fields = dict(arrival.fields)
        match arrival.item:
            case Acknowledged(key=key):
                fields["key"] = key
                return [Event(now_ns, role, Severity.DIAGNOSTIC, "letter_delivered", fields)]
            case Undelivered(key=key, fate=fate, reason=reason):
                fields |= {"key": key, "fate": fate.value, "reason": reason}
                return [Event(now_ns, role, Severity.ACTIVITY_LO, "letter_undelivered", fields)]
            case ContactStarted(peer=peer, link_class=link_class):
                fields |= {"peer": peer, "class": link_class}
                return [Event(now_ns, role, Severity.DIAGNOSTIC, "contact_started", fields)]
            case ContactEnded(peer=peer):
                return [Event(now_ns, role, Severity.DIAGNOSTIC, "contact_ended", {"peer": peer} | fields)]
            case PlanUpdated(revision=revision):
                return [
                    Event(now_ns, role, Severity.ACTIVITY_HI, "plan_updated", {"revision": revision} | fields)
                ]
            case JobFailed(job=job, reason=reason):
                fields |= {"job": job, "reason": reason}
                return [Event(now_ns, role, Severity.WARNING_HI, "job_failed", fields)]
        if mark is not None and mark.outcome is Outcome.REFUSED:
            fields |= {"source": mark.source, "reason": mark.reason}
            return [Event(now_ns, role, Severity.WARNING_LO, "message_refused", fields)]
        return []

    def _apply(self, step: Step) -> None:
        """Make the step this core's state. The driver commits it before anything leaves the node."""
        for identity in step.ended_letters:
            step.letters.pop(identity, None)
            self.outbox.remove(identity)
        for letter in step.letters.values():
            if letter.cancelled is not None and self.outbox.find(letter.sender_role, letter.key) is not None:
                self.outbox.cancel(letter.identity, letter.cancelled)
            else:
                self.outbox.post(letter)
        for mark in step.marks:
            self.marks.put(mark)
        for job_identity in step.ended_jobs:
            self.jobs.pop(job_identity, None)
        self.jobs.update(step.jobs)
        self._states.update(step.snapshots)
        fresh = [each for event in step.events for each in event.objects]
        if not fresh:
            return
        self._reported.extend(fresh)
        total = sum(size for _, size in self._reported)
        while len(self._reported) > 1 and (
            len(self._reported) > REPORTED_OBJECTS_MAX or total > REPORTED_BYTES_MAX
        ):
            total -= self._reported.popleft()[1]
