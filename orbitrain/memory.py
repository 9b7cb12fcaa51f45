"""What a simulated node has on disk: its journal, and of its objects the names and counts of bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from orbitrain.machine import Digest
from orbitrain.mailbox import Identity, Letter, Mark
from orbitrain.step import DeadLetter, Durable, Event, Job, Step
from orbitrain.transport.expected import Expectations


class MemoryJournal:
    """What a simulated node has on disk."""

    def __init__(self, incarnation: str) -> None:
        self.durable = Durable(incarnation)
        self.events: list[tuple[str, Event]] = []
        """(incarnation, event): also those of earlier stores of the node, which the operator had gathered."""
        self.dead_letters: list[DeadLetter] = []
        self.revision = 0
        """Of the plan that the machines know of."""
        self._letters: dict[Identity, Letter] = {}
        self._sequences: dict[tuple[str, str, int], int] = {}
        self._marks: dict[tuple[str, str, int], Mark] = {}
        self._jobs: dict[tuple[str, str], Job] = {}
        self._reported: tuple[tuple[Digest, int], ...] = ()

    def commit(self, step: Step, reported: Iterable[tuple[Digest, int]]) -> None:
        for identity in step.ended_letters:
            self._letters.pop(identity, None)
        for identity, letter in step.letters.items():
            self._letters[identity] = letter
            mailbox = letter.mailbox
            self._sequences[mailbox] = max(self._sequences.get(mailbox, 0), letter.sequence)
        for mark in step.marks:
            self._marks[mark.slot] = mark
        for job in step.ended_jobs:
            self._jobs.pop(job, None)
        self._jobs.update(step.jobs)
        self.events += [(self.durable.incarnation, event) for event in step.events]
        self.dead_letters += step.dead_letters
        for event in step.events:
            if event.kind == "plan_updated":
                self.revision = max(self.revision, event.fields["revision"])
        self._reported = tuple(reported)
        self.durable = replace(
            self.durable,
            committed_ns=step.now_ns,
            snapshots={**self.durable.snapshots, **step.snapshots},
        )

    def load(self) -> Durable:
        return replace(
            self.durable,
            letters=tuple(self._letters.values()),
            sequences=tuple((*mailbox, n) for mailbox, n in self._sequences.items()),
            marks=tuple(self._marks.values()),
            jobs=tuple(self._jobs.values()),
            reported=self._reported,
        )


@dataclass(slots=True)
class Shelf:
    """What a simulated node has of objects on disk."""

    holds: set[Digest]
    partial: dict[Digest, int] = field(default_factory=dict)
    """Objects of which only so many bytes are here. Senders go in order, so these are the first ones."""
    expected: Expectations = field(default_factory=Expectations)

    def take(self, digest: Digest, size: int, upto: int) -> None:
        """The bytes of an object before `upto` are here."""
        if digest in self.holds:
            return
        self.partial[digest] = max(self.partial.get(digest, 0), upto)
        if self.partial[digest] >= size:
            self.put([digest])

    def put(self, digests: Iterable[Digest]) -> None:
        """Objects are here."""
        for digest in digests:
            self.holds.add(digest)
            self.partial.pop(digest, None)

    def keep(self, needed: set[Digest], now_ns: int) -> None:
        """Drop what nobody needs, and no letter is expected for."""
        expected = self.expected.digests(now_ns)
        self.holds &= needed | expected
        self.partial = {digest: n for digest, n in self.partial.items() if digest in expected}
