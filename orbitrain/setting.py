"""What a run works on: a scenario with its seed, its folder and its plans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orbitrain.contacts.plan import ContactPlan
from orbitrain.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Update:
    """A later issue of the plan, which every node believes from scenario time `at_ns` (1 or more) on."""

    at_ns: int
    plan: ContactPlan


@dataclass(frozen=True, slots=True)
class Setting:
    """Nodes believe `plan`, and in their turn `updates`, each of which replaces the one before it
    (`contacts.updates`). Links follow `truth`; without one they follow what is believed."""

    scenario: Scenario
    file: str
    folder: Path
    seed: int
    plan: ContactPlan
    truth: ContactPlan | None = None
    updates: tuple[Update, ...] = ()

    def believed(self, t_ns: int) -> ContactPlan:
        """The plan that nodes believe at this time."""
        told = [update.plan for update in self.updates if update.at_ns <= t_ns]
        return told[-1] if told else self.plan
