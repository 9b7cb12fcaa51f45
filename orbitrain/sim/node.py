"""A node as the simulator has it, and what it is told of the network and of faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from orbitrain.core import Core
from orbitrain.flights import Piece
from orbitrain.machine import Digest, Machine
from orbitrain.mailbox import Letter
from orbitrain.memory import MemoryJournal, Shelf
from orbitrain.step import Arrival, Job


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
class Air:
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
class SimNode:
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
    air: dict[str, Air] = field(default_factory=dict)
    """What is under way, by peer: one a link."""
    sent: dict[str, tuple[int, dict[Digest, int]]] = field(default_factory=dict)
    """Of each peer, in which life of it, how far objects have been sent that are still on their way."""
    told: dict[str, str] = field(default_factory=dict)
    """Incarnation of each peer at the last contact."""
    steps: int = 0
    arrivals: int = 0
    booted_ns: int = 0
