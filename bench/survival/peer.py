"""What the bench wants of a system: made ready, started on a stage, asked how the update fares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from bench.survival.link import Shape
from bench.survival.processes import Processes

MARKS: Final = "ORBITRAIN_BENCH_MARKS"
"""In the environment of a peer's programs: the folder in which they say how far they have come."""

READY, HELD, LOST = "ready", "held", "lost"
"""Marks: the sender has the update in its hands; the receiver has it, whole; it was told it never will."""


class Link(Protocol):
    """What a peer knows of the link between `SERVER` and `CLIENT`."""

    shape: Shape

    def address(self, node: str) -> str:
        """Where the other one reaches it."""

    def inside(self, node: str) -> list[str]:
        """What a command begins with to run in the node's namespace."""


class Refused(Exception):
    """One side would not begin; the peer's own reason in one line. That is an outcome."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a peer plays: the link is up, nothing else is there."""

    link: Link
    processes: Processes
    folder: Path
    update_bytes: int
    client_clock_s: int = 0
    """How far the client's clock is ahead of the server's."""
    file: Path | None = None
    """What the update is; None: bytes of the bench's own."""
    go: Path | None = None
    """The client holds the update back until this is there."""

    def mark(self, name: str) -> dict[str, Any] | None:
        """{"s": monotonic seconds, "text": ...}, once it is there."""
        try:
            return dict(json.loads((self.folder / "marks" / name).read_text()))
        except (FileNotFoundError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`at_s` on the monotonic clock, `reason` in the peer's own words."""

    state: Literal["complete", "lost", "open"]
    at_s: float
    reason: str = ""


class Peer(Protocol):
    """A system with its settings, for one case after the other."""

    name: str
    settings: str
    """What differs from its defaults, in words for the table."""

    def prepare(self) -> str:
        """Its environment is there afterwards; its version."""

    def start(self, stage: Stage) -> None:
        """Server, client, and the task that makes the client send; soon the update is on the link.

        Raises Refused; RuntimeError where the bench is to blame.
        """

    def restart(self, stage: Stage, node: str) -> None:
        """Of a node whose processes were killed: the command that its service manager would give again."""

    def daemon(self, node: str) -> str:
        """The name of the node's processes on the stage."""

    def outcome(self, stage: Stage) -> Outcome | None:
        """None while it may still come; daemons that have ended are not its concern."""

    def last_words(self, stage: Stage) -> str:
        """The latest error or warning in its logs."""
