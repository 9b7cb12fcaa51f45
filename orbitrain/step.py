"""What a step is made of, and what of a node is durable: values that drivers, journals and results share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orbitrain.machine import CommandReceived, Delivered, Digest, Input, JobDone, Severity
from orbitrain.mailbox import Identity, Letter, Mark


@dataclass(frozen=True, slots=True)
class Snapshot:
    state: bytes
    schema: int
    objects: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class Job:
    """A running job; after a restart it is run again from its beginning."""

    role: str
    job: str
    kind: str
    params: Mapping[str, Any]
    objects: Mapping[str, Digest]
    started_ns: int
    duration_ns: int

    @property
    def identity(self) -> tuple[str, str]:
        return (self.role, self.job)

    @property
    def due_ns(self) -> int:
        return self.started_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class Event:
    """An event report as it stands in the journal. `role` is empty for the driver's own."""

    t_ns: int
    role: str
    severity: Severity
    kind: str
    fields: Mapping[str, Any]
    objects: tuple[tuple[Digest, int], ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An input that made its machine raise ATTEMPTS_MAX times."""

    t_ns: int
    role: str
    text: str
    error: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """An input that waits for its instant. Those of the same instant go by (source, lane, sequence).

    `role` is None for every role. `mark` is put down with the step, `settles` is the letter that ends with
    it, `ends_job` the job. `item` is None when there is only a mark to put down. `fields` go to the journal.
    `since` is the first of the letters that came together with this one: it is left alone once one of them
    has not been delivered (`Marks.forgets`).
    """

    due_ns: int
    source: str
    lane: int
    sequence: int
    role: str | None
    item: Input | None
    mark: Mark | None = None
    settles: Identity | None = None
    ends_job: tuple[str, str] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    since: int | None = None

    @property
    def order(self) -> tuple[int, str, int, int]:
        return (self.due_ns, self.source, self.lane, self.sequence)

    @property
    def objects(self) -> tuple[Digest, ...]:
        """What must stay in the store while this waits."""
        match self.item:
            case Delivered(objects=objects) | CommandReceived(objects=objects):
                return objects
            case JobDone(objects=outputs):
                return tuple(outputs.values())
        return ()


@dataclass(slots=True)
class Step:
    """One atomic change. The driver commits all of it, then starts and cancels the jobs and wakes senders."""

    now_ns: int
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    letters: dict[Identity, Letter] = field(default_factory=dict)
    ended_letters: list[Identity] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    left_alone: list[Mark] = field(default_factory=list)
    """Of letters that were not taken, as one that came with them was not delivered. Not committed."""
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)
    ended_jobs: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    answers: dict[int, list[Event]] = field(default_factory=dict)
    """What was reported of each command, by its arrival's sequence; not for the disk."""


@dataclass(frozen=True, slots=True)
class Durable:
    """What a node's store says at start. `reported` is (digest, bytes), oldest first."""

    incarnation: str
    committed_ns: int = 0
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    letters: Sequence[Letter] = ()
    sequences: Sequence[tuple[str, str, int, int]] = ()
    marks: Sequence[Mark] = ()
    jobs: Sequence[Job] = ()
    reported: Sequence[tuple[Digest, int]] = ()


def canonical_json(value: Any) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
