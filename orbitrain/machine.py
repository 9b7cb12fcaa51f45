"""The contract between a protocol and whatever drives it.

A protocol role is a `Machine`: a pure object that is handed inputs and the time, and answers with actions.
It reads no clock, opens no socket, starts no thread and touches no tensor; objects are names (digests).
The same object runs under the virtual-time driver (`orbitrain.sim`) and under the daemons
(`orbitrain.runtime.driver`). What both drivers promise is written in ARCHITECTURE.md, "The contract".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import Message

Digest: TypeAlias = str
"""SHA-256 of an object's bytes, 64 lower-case hexadecimal digits."""

NEVER_NS = (1 << 63) - 1
"""The instant that does not come; the largest expiry a letter can carry."""


class Lane(IntEnum):
    """Priority of a message inside a contact; lower goes first (transfers: control > ... > bulk)."""

    CONTROL = 0
    ACKNOWLEDGEMENT = 1
    ACTIVATION = 2
    UPDATE = 3
    BULK = 4


class Severity(StrEnum):
    """Severity of an event report, as in flight software (F prime)."""

    DIAGNOSTIC = "diagnostic"
    ACTIVITY_LO = "activity_lo"
    ACTIVITY_HI = "activity_hi"
    WARNING_LO = "warning_lo"
    WARNING_HI = "warning_hi"
    FATAL = "fatal"


class Fate(StrEnum):
    """Why a message ended undelivered."""

    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class LocalProtocolError(Exception):
    """This node's own machine broke the contract: a defect of ours."""


class RemoteProtocolError(Exception):
    """A peer's message breaks the protocol. The message is refused with this text as the reason.

    A machine raises it before it changes anything of its own.
    """


# ------------------------------------------------------------------------------------------------ inputs


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message whose objects are all in this node's store."""

    source: str
    message: Message
    objects: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The message sent under `key` was consumed by its receiver, which has committed it."""

    key: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The message sent under `key` has ended without being delivered, and never will be."""

    key: str
    fate: Fate
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ObjectLost:
    """An object that the snapshot names is not in the store any more."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class ContactStarted:
    """A ping came back, `acquisition_s` after the link was there at the earliest.

    `end_ns` is when the plan that this node believes ends it: None where that plan does not have it. It may
    end earlier or later than that, as links follow the true plan, and an update of the plan may move it.
    """

    peer: str
    link_class: str
    end_ns: int | None


@dataclass(frozen=True, slots=True)
class ContactEnded:
    peer: str


@dataclass(frozen=True, slots=True)
class PlanUpdated:
    """From now on the plan that this node believes is the one with this revision.

    What a machine asks the plan through its services answers from that plan already. Contacts in progress
    go on.
    """

    revision: int


@dataclass(frozen=True, slots=True)
class JobDone:
    """`objects` are the job's outputs by name, already in the store."""

    job: str
    result: Mapping[str, Any]
    objects: Mapping[str, Digest]


@dataclass(frozen=True, slots=True)
class JobFailed:
    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """An operator's command, with objects that are in this node's store."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    objects: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The instant of `deadline_ns` has come."""


Input: TypeAlias = (
    Delivered
    | Acknowledged
    | Undelivered
    | ObjectLost
    | ContactStarted
    | ContactEnded
    | PlanUpdated
    | JobDone
    | JobFailed
    | CommandReceived
    | TimerFired
)

# ----------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to the machine `role` of node `to`, its objects first.

    `key` names it towards this machine in `Acknowledged`, `Undelivered`, `Withdraw` and `supersedes`; it is
    unique among the machine's messages that have not ended.
    """

    to: str
    role: str
    key: str
    message: Message
    lane: Lane
    objects: tuple[Digest, ...] = ()
    expires_at_ns: int = NEVER_NS
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Do not deliver the message sent under `key` if that can still be helped."""

    key: str


@dataclass(frozen=True, slots=True)
class StartJob:
    """Long work for the worker process. `job` is unique among this machine's running jobs.

    `duration_ns` is its modelled duration in scenario time: `JobDone` never comes earlier.
    `objects` are its inputs by name.
    """

    job: str
    kind: str
    params: Mapping[str, Any]
    objects: Mapping[str, Digest]
    duration_ns: int


@dataclass(frozen=True, slots=True)
class CancelJob:
    job: str


@dataclass(frozen=True, slots=True)
class Report:
    """An event report. `objects` are ones the operator may want to fetch: kept for a while."""

    kind: str
    severity: Severity
    fields: Mapping[str, Any]
    objects: tuple[Digest, ...] = ()


Action: TypeAlias = Send | Withdraw | StartJob | CancelJob | Report


class Machine(Protocol):
    """One role of one protocol on one node."""

    schema: int
    """Version of the snapshot's form; handed back to `restore`."""

    accepts: tuple[type[Message], ...]
    """Messages this role understands; anything else is refused before it reaches `handle`."""

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        """Consume one input. Raises RemoteProtocolError, before any change, to refuse a message."""
        ...

    def deadline_ns(self) -> int | None:
        """The next instant at which it wants `TimerFired`."""
        ...

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        """Its small state, and the objects it still needs."""
        ...

    def restore(self, state: bytes, schema: int) -> None:
        """Take the state of an earlier snapshot. Raises LocalProtocolError for a schema it cannot read."""
        ...
