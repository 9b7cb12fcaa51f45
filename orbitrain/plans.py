"""The plans of a run: the one its nodes are given, the one its links follow, and the updates in between.

A run that goes on takes them from its folder; nothing is computed twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from orbitrain.contacts.network import Progress
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import spliced
from orbitrain.outputs import RunFolder, load_plan, replace_bytes, write_json
from orbitrain.planning import build_plan, build_true_plan
from orbitrain.scenario import SECOND_NS, Scenario, ScenarioError
from orbitrain.setting import Update


@dataclass(frozen=True, slots=True)
class Plans:
    """`truth` is None where links follow what is believed."""

    believed: ContactPlan
    truth: ContactPlan | None = None
    updates: tuple[Update, ...] = ()


def believed_plan(scenario: Scenario, file: Path, progress: Progress) -> ContactPlan:
    """The scenario's plan, computed. Raises ScenarioError."""
    try:
        return build_plan(scenario, progress)
    except ValueError as error:
        raise ScenarioError(f"{file}: {error}") from None


def true_plan(scenario: Scenario, file: Path, seed: int, progress: Progress) -> ContactPlan | None:
    """What the links follow, computed or read; None where there is no `[truth]`. Raises ScenarioError."""
    if scenario.truth is None:
        return None
    if scenario.truth.plan is not None:
        return _of_this(load_plan(file.parent / scenario.truth.plan), scenario, file, "truth.plan")
    try:
        return build_true_plan(scenario, seed, progress)
    except ValueError as error:
        raise ScenarioError(f"{file}: truth: {error}") from None


def plans_for(
    scenario: Scenario, file: Path, seed: int, given: ContactPlan | None, progress: Progress
) -> Plans:
    """All plans of a new run; `given` is taken for the believed one. Raises ScenarioError."""
    believed = given if given is not None else believed_plan(scenario, file, progress)
    truth = true_plan(scenario, file, seed, progress)
    updates: list[Update] = []
    newest = believed
    for n, update in enumerate(scenario.updates):
        field = f"updates[{n}].plan"
        if update.plan == "truth":
            assert truth is not None
            fresh = truth
        else:
            fresh = _of_this(load_plan(file.parent / update.plan), scenario, file, field)
        at_ns = round(update.at_s * SECOND_NS)
        try:
            newest = spliced(newest, fresh, at_ns)
        except ValueError as error:
            raise ScenarioError(f"{file}: {field}: {error}") from None
        updates.append(Update(at_ns, newest))
    return Plans(believed, truth, tuple(updates))


def _of_this(plan: ContactPlan, scenario: Scenario, file: Path, field: str) -> ContactPlan:
    if plan.scenario_sha256 != scenario.sha256:
        raise ScenarioError(
            f"{file}: {field}: is the plan of another scenario "
            f"({plan.scenario_sha256[:12]}, not {scenario.sha256[:12]})"
        )
    return plan


def keep(folder: RunFolder, plans: Plans) -> None:
    """Write a run's plans into its folder: the list of updates last, which says that all are there."""
    if folder.updates.exists():
        return
    folder.write_plan(plans.believed)
    if plans.truth is not None:
        replace_bytes(folder.truth, plans.truth.to_json())
    _keep_updates(folder, plans.updates)


def updated(folder: RunFolder, fresh: ContactPlan, at_ns: int) -> Update:
    """A further update of the run in the folder: what was believed until `at_ns`, then `fresh`.

    It is kept in the folder. Raises ScenarioError for a plan that does not follow, or a folder without a run.
    """
    plans = kept(folder)
    if plans is None:
        raise ScenarioError(f"{folder.path}: must be the folder of a run")
    latest_ns = plans.updates[-1].at_ns if plans.updates else 0
    if at_ns <= latest_ns:
        raise ScenarioError(f"--at: must be after the update before ({latest_ns / SECOND_NS:g} s)")
    newest = plans.updates[-1].plan if plans.updates else plans.believed
    try:
        update = Update(at_ns, spliced(newest, fresh, at_ns))
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    _keep_updates(folder, (*plans.updates, update))
    return update


def _keep_updates(folder: RunFolder, updates: tuple[Update, ...]) -> None:
    files = []
    for update in updates:
        name = f"plan-{update.plan.revision}.json"
        replace_bytes(folder.path / name, update.plan.to_json())
        files.append({"at_ns": update.at_ns, "plan": name})
    write_json(folder.updates, {"updates": files})


def kept(folder: RunFolder) -> Plans | None:
    """The plans of a run that was begun in the folder. Raises ScenarioError."""
    if not folder.identity.exists() or not folder.updates.exists():
        return None
    try:
        listed = json.loads(folder.updates.read_bytes())["updates"]
        updates = [(int(one["at_ns"]), str(one["plan"])) for one in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{folder.updates}: cannot be read: {error}") from None
    return Plans(
        load_plan(folder.plan),
        load_plan(folder.truth) if folder.truth.exists() else None,
        tuple(Update(at_ns, load_plan(folder.path / name)) for at_ns, name in updates),
    )
