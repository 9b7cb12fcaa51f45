"""What differs between the systems in everything that makes a run of a scenario: one interface for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orbitrain.contacts.plan import ContactPlan
from orbitrain.machine import Digest, Machine
from orbitrain.results import Entry
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.step import Event

Objects = Mapping[str, Digest]
"""What nodes begin with, by name."""

Row = tuple[int, str, str, float]
"""Of metrics.csv: scenario ns, node, metric, value."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The job that measures a model, which is its input `subject`; others come from `objects`."""

    kind: str
    params: Mapping[str, Any]
    subject: str
    objects: Objects


class Watch(Protocol):
    """How far a run is, kept up to date event by event."""

    @property
    def finished(self) -> bool: ...

    def see(self, event: Event, node: str) -> tuple[Digest, ...]:
        """Take an event in; the models that are to be measured for it."""
        ...

    def shown(self, scores: Mapping[Digest, float]) -> Mapping[str, Any]:
        """For the display: `rounds` and `accuracy`, by row."""
        ...

    def newest(self) -> tuple[Digest, ...]:
        """Models that are worth keeping."""
        ...


class Cast(Protocol):
    """Who plays in the simulator."""

    def machines(self, kind: str, name: str) -> Mapping[str, Machine]:
        """A node's, made afresh."""
        ...

    def follow(self, plan: ContactPlan) -> None:
        """What machines ask the plan answers from this one from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """What a host is measured by: the job of which most run at once, and for how long contacts last.

    `declared_s` is what the scenario says that it takes, in the field `field`.
    """

    kind: str
    params: Mapping[str, Any]
    objects: Objects
    declared_s: float
    field: str
    at_once: int
    contacts_s: Sequence[float]


class System(Protocol):
    """One of the systems, for one setting."""

    baseline: str
    """How the scenario is repeated for comparison, in words: `repeating the scenario ...`."""
    row: str
    """What a row of the display is, in a word."""

    @property
    def rows(self) -> Sequence[str]:
        """What the display has a row for, and what `Watch.shown` tells of."""
        ...

    def objects(self, engine: WorkerEngine) -> Objects:
        """What nodes begin with, in the engine's store. Raises ScenarioError for what cannot be used."""
        ...

    def files(self) -> Mapping[str, str]:
        """The file in a run's folder of each of these objects."""
        ...

    def preloaded(self, kind: str, name: str, *, baseline: bool = False) -> tuple[str, ...]:
        """Which of them a node has from the beginning, or in the system's baseline."""
        ...

    def configured(self, objects: Objects, kind: str, name: str) -> Mapping[str, Any]:
        """Its part of a node's configuration (`runtime.config.NodeConfig`)."""
        ...

    def cast(self, objects: Objects, *, baseline: bool = False) -> Cast:
        """The machines of the simulator, or those of the system's baseline."""
        ...

    def watch(self) -> Watch: ...

    def evaluation(self, objects: Objects) -> Evaluation: ...

    def trial(self, objects: Objects) -> Trial: ...

    def summarise(
        self, entries: Sequence[Entry], scores: Mapping[Digest, float], *, baseline: bool = False
    ) -> dict[str, Any]:
        """The part of result.json that journals tell, of the run or of the system's baseline.

        `configured` or `cast` has said before what nodes begin with.
        """
        ...

    def metrics(self, entries: Sequence[Entry], scores: Mapping[Digest, float]) -> list[Row]:
        """What of it is worth a row of metrics.csv."""
        ...

    def models(self, summary: Mapping[str, Any]) -> Mapping[str, Digest]:
        """The models that a run is for, by the names of their files."""
        ...

    def compared(self, summary: Mapping[str, Any] | None, scenario_ns: int) -> dict[str, Any]:
        """What result.json tells of the baseline, of which this is the summary; None where it was not run."""
        ...

    def order(self) -> Sequence[str]:
        """The keys of result.json that are its own, in their order."""
        ...
