"""`orbitrain plan update`: a newer plan for a run that is going on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orbitrain.outputs import RunFolder, load_plan
from orbitrain.plans import updated
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.uplink import Given, push, soon_ns


def plan_update(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that is going on.")],
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan of its scenario, JSON or compact.")],
    at: Annotated[
        float | None,
        typer.Option("--at", metavar="S", help="From which scenario time on; a few seconds from now."),
    ] = None,
) -> None:
    """Give all nodes of a run a newer plan: theirs until an instant, this one from then on."""
    fresh = load_plan(plan)
    soonest_ns = soon_ns(run)
    at_ns = soonest_ns if at is None else round(at * SECOND_NS)
    if at is not None and at_ns < soonest_ns:
        raise ScenarioError(f"--at: must be {soonest_ns / SECOND_NS:.0f} or later, not {at:g}")
    try:
        update = updated(RunFolder(run), fresh, at_ns)
    except ScenarioError as error:
        raise ScenarioError(f"{plan}: {error}") from None
    outcomes = push(run, update.plan, at_ns)
    taken = [name for name, outcome in outcomes.items() if outcome.outcome in (Given.TAKEN, Given.KNOWN)]
    for name in sorted(outcomes.keys() - set(taken)):
        outcome = outcomes[name]
        print(f"orbitrain: {name}: {outcome.outcome}: {outcome.reason}", file=sys.stderr)
    print(
        f"revision {update.plan.revision} of the plan, believed from {at_ns / SECOND_NS:.3f} s on by "
        f"{len(taken)} of {len(outcomes)} nodes"
    )
    if len(taken) < len(outcomes):
        raise typer.Exit(1)
