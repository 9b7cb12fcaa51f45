"""`orbitrain links up`, `links verify` and `orbitrain clean`: links for any program, without a run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orbitrain.contacts.plan import ContactPlan
from orbitrain.display import working
from orbitrain.outputs import load_plan
from orbitrain.plan_commands import LINE_WIDTH
from orbitrain.plans import plans_for
from orbitrain.runtime.clock import SECOND_NS, ClockFile
from orbitrain.scenario import Scenario, ScenarioError, load_scenario
from orbitrain.testbed.bare_links import BareLinks, replay, verify
from orbitrain.testbed.cues import check_endpoint
from orbitrain.testbed.emulator import ANY_ADDRESSES, Places
from orbitrain.testbed.host import INSIDE_VARIABLE, PREFERRED, check_fit, enter, fit
from orbitrain.testbed.leftovers import clean

SCENARIO_SUFFIX = ".toml"

BEFORE_S = 2.0
"""Scenario seconds before the first contact at which `verify` begins, so that it sees the link come up."""

UNJUDGED = {
    "small": "too slow a link or too short a pass for dense probes",
    "late": "probe came too late or paused",
    "crowded": "too many at once",
    "traffic": "other packets in the way",
    "losses": "planned losses may hide it",
}
"""Why the probe did not judge an edge."""

LEAST_SECONDS = 5.0
"""Below that nothing can be told of a link."""


class BackEnd(StrEnum):
    """What moves the packets."""

    AUTO = "auto"
    KERNEL = "kernel"
    TUN = "tun"


class OutageOption(StrEnum):
    """What becomes of what flies when a contact ends."""

    HOLD = "hold"
    CUT = "cut"


PlanOrScenario = Annotated[
    Path, typer.Argument(metavar="PLAN|SCENARIO", help="A plan file, or a scenario's TOML file.")
]
LinksOption = Annotated[
    BackEnd, typer.Option("--links", help="What moves the packets; auto: the first that works.")
]
Rate = Annotated[float, typer.Option("--rate", metavar="R", help="Scenario seconds per wall second.")]
From = Annotated[
    float | None, typer.Option("--from", metavar="S", min=0, help="Scenario time to begin at, in seconds.")
]
OutageRule = Annotated[
    OutageOption, typer.Option("--outage", help="At a contact's end what flies arrives, or is lost.")
]
RunId = Annotated[
    str | None, typer.Option("--run-id", metavar="ID", help="Names the namespaces: ob-ID-NODE.")
]
Addresses = Annotated[
    str, typer.Option("--addresses", metavar="NET", help="Of the nodes, in the plan's order from the first.")
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=(1 << 63) - 1, help="Of losses; the scenario's, or 0."),
]
Cues = Annotated[
    str | None,
    typer.Option(
        "--cues",
        metavar="ENDPOINT",
        help="Tells ZeroMQ subscribers when links come and go: ipc://PATH or tcp://127.0.0.1:PORT.",
    ),
]


def links_up(
    plan: PlanOrScenario,
    links: LinksOption = BackEnd.AUTO,
    rate: Rate = 1.0,
    from_s: From = None,
    outage: OutageRule = OutageOption.HOLD,
    run_id: RunId = None,
    addresses: Addresses = ANY_ADDRESSES,
    seed: Seed = None,
    cues: Cues = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Clock, cues and statistics on standard error, a JSON line each."),
    ] = False,
) -> None:
    """Links for any program: a network namespace a node, until interrupted.

    Prints one JSON line, {node: {netns, address}}, when programs can be started in them.
    """
    if cues is not None:
        check_endpoint(cues)
    wanted = replace(_wanted(plan, links, rate, from_s or 0.0, outage, run_id, addresses, seed), cues=cues)

    def ready(places: Places, clock: ClockFile) -> None:
        print(json.dumps(places), flush=True)
        if INSIDE_VARIABLE in os.environ:
            place = next(iter(places.values()))
            print(
                "orbitrain: these namespaces are seen from inside alone; enter with: nsenter --target "
                f"{os.getpid()} --user --mount --preserve-credentials ip netns exec {place['netns']} PROGRAM",
                file=sys.stderr,
                flush=True,
            )
        if verbose:
            told("clock", {name: getattr(clock, name) for name in ("unix_ns", "scenario_ns", "rate")})

    def told(what: str, value: Any) -> None:
        if verbose:
            print(json.dumps({what: value}), file=sys.stderr, flush=True)

    replay(wanted, ready, told)


def links_verify(
    plan: PlanOrScenario,
    links: LinksOption = BackEnd.AUTO,
    rate: Rate = 1.0,
    from_s: Annotated[
        float | None,
        typer.Option(
            "--from", metavar="S", min=0, help="Scenario time to begin at; just before the first contact."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", help="How long to measure, in wall seconds.")
    ] = 30.0,
    outage: OutageRule = OutageOption.HOLD,
    addresses: Addresses = ANY_ADDRESSES,
    seed: Seed = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was found as one JSON object.")] = False,
) -> None:
    """Bring links up, measure them, and hold them to the plan.

    Exit code 0 if they were what the plan says, 1 if not.
    """
    if not LEAST_SECONDS <= seconds <= 86_400:
        raise ScenarioError(f"--seconds: must be from {LEAST_SECONDS:g} to 86400, not {seconds:g}")
    wanted = _wanted(plan, links, rate, from_s, outage, None, addresses, seed)
    found = verify(wanted, seconds)
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, wanted)
    if found["links_truth"]["verdict"] not in ("as_flown", "as_scaled"):
        raise typer.Exit(1)


def clean_command(
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="Only what is left of this run.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove what killed runs have left: nodes' network namespaces, folders of sockets."""
    found = clean(run_id, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    for name in found.namespaces:
        print(f"{verb} network namespace {name}")
    for folder in found.folders:
        print(f"{verb} folder {folder}")
    for name in found.in_use:
        print(f"kept network namespace {name}: its run goes on")
    if not (found.namespaces or found.folders or found.in_use):
        print("nothing is left of any run" if run_id is None else f"nothing is left of run {run_id}")


# --- what is wanted -----------------------------------------------------------------------------------------


def _wanted(
    file: Path,
    links: BackEnd,
    rate: float,
    from_s: float | None,
    outage: OutageOption,
    run_id: str | None,
    addresses: str,
    seed: int | None,
) -> BareLinks:
    """Everything that can be wrong with what the user gave, then with the host. Raises ScenarioError."""
    if not 0 < rate <= 100_000:
        raise ScenarioError(f"--rate: must be greater than 0 and at most 100000, not {rate:g}")
    try:
        network = IPv4Network(addresses)
    except ValueError as error:
        raise ScenarioError(f"--addresses: {error}") from None
    scenario: Scenario | None = None
    if file.suffix == SCENARIO_SUFFIX:
        scenario = load_scenario(file)
    else:
        followed = load_plan(file)
    try:
        BareLinks.check_run_id(run_id)
    except ValueError as error:
        raise ScenarioError(f"--run-id: {error}") from None
    # Before anything is computed: the command may be started anew.
    backend = _possible(PREFERRED if links is BackEnd.AUTO else [links.value])
    if scenario is not None:
        seed = scenario.seed if seed is None else seed
        followed = _built(scenario, file, seed)
    if len(followed.nodes) > network.num_addresses - 2:
        raise ScenarioError(f"--addresses: {network} are too few for {len(followed.nodes)} nodes")
    first_ns = min((contact.start_ns for contact in followed.contacts), default=0)
    from_ns = max(0, first_ns - round(BEFORE_S * SECOND_NS)) if from_s is None else round(from_s * SECOND_NS)
    if from_ns >= followed.duration_ns:
        raise ScenarioError(
            f"--from: must be before the plan's end, {followed.duration_ns / SECOND_NS:g}, not {from_s:g}"
        )
    found = fit([followed], rate, backend)
    check_fit(found, rate)
    for line in found.marks:
        print(f"orbitrain: beyond what is certain here: {line}", file=sys.stderr)
    return BareLinks(followed, backend, rate, from_ns, outage.value, run_id, network, seed or 0)


def _possible(backends: Sequence[str]) -> str:
    """The first of them that works here. Raises ScenarioError."""
    obstacles = enter(backends)
    for name in backends:
        if not obstacles[name]:
            return name
    name = backends[-1]
    raise ScenarioError(f"--links: {name} is not possible here: {obstacles[name]}")


def _built(scenario: Scenario, file: Path, seed: int) -> ContactPlan:
    """What links follow: the true plan, or without one what nodes believe, updates included."""
    for line in scenario.left_out:
        print(f"orbitrain: left out: {file}: {line}", file=sys.stderr)
    with working(Console(stderr=True)) as progress:
        plans = plans_for(scenario, file, seed, None, progress)
    if plans.truth is not None:
        return plans.truth
    return plans.updates[-1].plan if plans.updates else plans.believed


# --- what was found -----------------------------------------------------------------------------------------


def _show(found: Mapping[str, Any], wanted: BareLinks) -> None:
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    truth = found["links_truth"]
    links: Mapping[str, Mapping[str, Any]] = (found.get("probe") or {}).get("links") or {}
    measured = {name: link for name, link in links.items() if link["delays"] or link["probes"]}
    if measured:
        table = Table()
        for heading in ("source", "destination"):
            table.add_column(heading, overflow="fold")
        for heading in ("probes", "delay error ms", "rate error", "lost", "planned", "edge error ms"):
            table.add_column(heading, justify="right")
        for name, link in measured.items():
            source, _, destination = name.partition(" ")
            lost = link["lost"] / link["probes"] if link["probes"] else None
            table.add_row(
                source,
                destination,
                str(link["probes"]),
                _signed(link["delay_p50_ms"]),
                _percent(link["rate_error"]),
                "-" if lost is None else f"{lost:.2%}",
                f"{link['loss_planned']:.2%}",
                _signed(link["edge_error_ms"]),
            )
        console.print(table)
    if len(measured) < len(links):
        console.print(f"{len(links) - len(measured)} more links were not up", highlight=False)
    delay = truth.get("delay_error_ms")
    if delay is not None:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in delay.items())
        console.print(f"delay error, scenario ms: {shown}", highlight=False)
    checked = ", ".join(f"{name} {value}" for name, value in (truth.get("checked") or {}).items())
    console.print(f"checked: {checked}; clock rate {wanted.rate:g}", highlight=False, soft_wrap=True)
    unjudged = (found.get("probe") or {}).get("edges_unjudged")
    if unjudged:
        reasons = ", ".join(f"{UNJUDGED.get(why, why)} {edges}" for why, edges in unjudged.items())
        count = sum(unjudged.values())
        console.print(f"edges not judged: {count} ({reasons})", highlight=False, soft_wrap=True)
    console.print(f"{truth['verdict']}: {truth.get('reason', '')}", highlight=False, soft_wrap=True)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"
