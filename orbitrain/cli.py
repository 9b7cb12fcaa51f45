"""The `orbitrain` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from orbitrain.contacts.compact import compact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.display import Display, show_result, working
from orbitrain.doctor_command import doctor_command
from orbitrain.learning.outcome import JobError
from orbitrain.links_commands import Cues, clean_command, links_up, links_verify
from orbitrain.machine import Digest
from orbitrain.outputs import RunFolder, load_plan, replace_bytes
from orbitrain.passes_command import passes_command
from orbitrain.plan_commands import (
    COMPACT_SUFFIX,
    plan_diff,
    plan_export,
    plan_import,
    plan_show,
    plan_slice,
)
from orbitrain.plans import believed_plan, keep, kept, plans_for, true_plan
from orbitrain.results import UNSHAPED
from orbitrain.runtime.clock import SECOND_NS, utc_stamp, wall_s
from orbitrain.scenario import Scenario, ScenarioError, load_scenario
from orbitrain.send_command import send_command
from orbitrain.setting import Setting
from orbitrain.step import Event
from orbitrain.systems.choice import system_of
from orbitrain.systems.system import Watch
from orbitrain.testbed.choice import choose
from orbitrain.testbed.cues import check_endpoint
from orbitrain.testbed.guest import command_in_guest, in_guest
from orbitrain.testbed.host import PREFERRED, Obstacles, enter
from orbitrain.testbed.run import Ended, Interrupted, collect, run_daemons
from orbitrain.testbed.shaping import Shaping
from orbitrain.testbed.supervisor import DaemonFailed
from orbitrain.testbed.tcp import choose_congestion
from orbitrain.testbed.warmth import warmed
from orbitrain.transfers_command import transfers_command
from orbitrain.update_command import plan_update
from orbitrain.virtual import workshop

app = typer.Typer(
    help="Learning across satellites, ground stations and devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
plan_app = typer.Typer(help="Contact plans.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")
app.command("passes")(passes_command)
plan_app.command("show")(plan_show)
plan_app.command("diff")(plan_diff)
plan_app.command("slice")(plan_slice)
plan_app.command("export")(plan_export)
plan_app.command("import")(plan_import)
plan_app.command("update")(plan_update)
links_app = typer.Typer(help="Emulated links for any program.", no_args_is_help=True)
app.add_typer(links_app, name="links")
links_app.command("up")(links_up)
links_app.command("verify")(links_verify)
app.command("send")(send_command)
app.command("transfers")(transfers_command)
app.command("clean")(clean_command)
app.command("doctor")(doctor_command)


class Where(StrEnum):
    """Which kernel a run's processes are on."""

    HOST = "host"
    UML = "uml"


class Links(StrEnum):
    """How links are made."""

    AUTO = "auto"
    KERNEL = "kernel"
    TUN = "tun"
    NONE = "none"


ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="The scenario's TOML file.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; runs/NAME-UTC.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=(1 << 63) - 1, help="Instead of the scenario's."),
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Do not repeat the scenario isolated.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only the final table.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="A plan of this scenario, made before.")
]


@dataclass(frozen=True, slots=True)
class _Run:
    setting: Setting
    folder: RunFolder
    finished: dict[str, Any] | None


def _prepare(
    file: Path,
    out: Path | None,
    seed: int | None,
    plan_file: Path | None,
    driver: str,
    console: Console,
    vet: Callable[[Setting, RunFolder], None] = lambda setting, folder: None,
) -> _Run:
    """Everything that can be wrong with what the user gave, before anything starts.

    `vet` raises ScenarioError for what the driver cannot do, unless the run is finished.
    """
    scenario = _loaded(file)
    seed = scenario.seed if seed is None else seed
    given = load_plan(plan_file) if plan_file is not None else None
    if given is not None:
        _check_plan(given, scenario, plan_file)
    folder = RunFolder(out if out is not None else Path("runs") / f"{scenario.name}-{utc_stamp()}")
    plans = kept(folder)
    if plans is None:
        with working(console) as progress:
            plans = plans_for(scenario, file, seed, given, progress)
    elif given is not None and plans.believed.sha256 != given.sha256:
        raise ScenarioError(f"{plan_file}: --plan: must be the plan that {folder.path} was begun with")
    setting = Setting(scenario, str(file), file.parent, seed, plans.believed, plans.truth, plans.updates)
    if not folder.result.exists():
        vet(setting, folder)
    if not folder.identity.exists():
        # A task that cannot be used must be known before anything is written.
        with workshop(setting) as shop:
            shop.objects()
    finished = folder.claim({"scenario_sha256": scenario.sha256, "seed": seed, "driver": driver})
    _check_plan(plans.believed, scenario, folder.plan)
    keep(folder, plans)
    return _Run(setting, folder, finished)


def _loaded(file: Path) -> Scenario:
    """A scenario; what it leaves out is told."""
    scenario = load_scenario(file)
    for line in scenario.left_out:
        print(f"orbitrain: left out: {file}: {line}", file=sys.stderr)
    return scenario


def _check_plan(plan: ContactPlan, scenario: Scenario, file: Path | None) -> None:
    if plan.scenario_sha256 != scenario.sha256:
        raise ScenarioError(
            f"{file}: scenario_sha256: is the plan of another scenario "
            f"({plan.scenario_sha256[:12]}, not {scenario.sha256[:12]})"
        )


def _result(run: _Run, driver: str, scenario_ns: int, ended: Ended) -> dict[str, Any]:
    scenario = run.setting.scenario
    return {
        "scenario": scenario.name,
        "protocol": scenario.protocol.name,
        "seed": run.setting.seed,
        "links": ended.links_truth["backend"],
        "links_truth": dict(ended.links_truth),
        "congestion": None,
        "driver": driver,
        "plan_sha256": run.setting.plan.sha256,
        "scenario_seconds": round(scenario_ns / SECOND_NS, 3),
        "wall_seconds": round(ended.wall_seconds, 3),
        "restarts": ended.restarts,
    }


def _compared(run: _Run, wanted: bool, console: Console, quiet: bool) -> dict[str, Any]:
    """What the same scenario comes to by the system's baseline, in virtual time."""
    system = system_of(run.setting)
    if not wanted:
        return system.compared(None, 0)
    if not quiet:
        console.print(f"repeating the scenario {system.baseline} in virtual time", highlight=False)
    with workshop(run.setting) as shop:
        done = shop.simulate(shop.objects(), baseline=True)
    return system.compared(done.summary, done.scenario_ns)


_HEAD = (
    *("scenario", "protocol", "seed", "links", "congestion", "driver", "plan_sha256"),
    *("scenario_seconds", "wall_seconds"),
)
_TAIL = ("restarts", "overruns", "model_sha256", "links_truth")


def _finish(run: _Run, result: dict[str, Any], console: Console) -> None:
    order = (*_HEAD, *system_of(run.setting).order(), *_TAIL)
    ordered = {key: result[key] for key in order}
    run.folder.write_result(ordered)
    show_result(ordered, str(run.folder.path), console)


@app.command("run")
def run_command(
    scenario: ScenarioFile,
    out: Out = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="R", help="Scenario seconds per wall second.")
    ] = None,
    seed: Seed = None,
    links: Annotated[Links, typer.Option("--links", help="auto picks the first that works.")] = Links.AUTO,
    no_baseline: NoBaseline = False,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Do not measure the links while the run goes on.")
    ] = False,
    cues: Cues = None,
    inside: Annotated[
        Where, typer.Option("--in", help="uml: inside User-Mode Linux, whose kernel has netem (x86).")
    ] = Where.HOST,
    quiet: Quiet = False,
    plan: PlanFile = None,
) -> None:
    """Run a scenario on real processes on this host."""
    console = Console()
    if rate is not None and not 0 < rate <= 100_000:
        raise ScenarioError(f"--rate: must be greater than 0 and at most 100000, not {rate:g}")
    asked = load_scenario(scenario)  # what is wrong with it is said first
    if inside is Where.UML and not in_guest():
        if cues is not None:
            raise ScenarioError("--cues: the sockets of a guest are its own: not with --in uml")
        raise typer.Exit(command_in_guest())
    obstacles: Obstacles = {}
    if links is not Links.NONE:
        # The command may be started anew, as a process that may emulate links.
        obstacles = enter(PREFERRED if links is Links.AUTO else [links.value])
    if cues is not None:
        check_endpoint(cues)
    backend: str | None = None
    congestion: str | None = None
    why, speed = "", 1.0

    def vet(setting: Setting, folder: RunFolder) -> None:
        nonlocal backend, why, speed, congestion
        speed = rate if rate is not None else setting.scenario.clock.rate
        backend, why = choose(setting, folder, links, obstacles, speed)
        if backend is not None:
            congestion = choose_congestion(setting.scenario.links.congestion)

    with warmed(asked, scenario.parent) if in_guest() else nullcontext():
        run = _prepare(scenario, out, seed, plan, "daemons", console, vet)
        if run.finished is not None:
            show_result(run.finished, str(run.folder.path), console)
            return
        if not quiet:
            console.print(f"links: {why}", highlight=False, markup=False, soft_wrap=True)
        with Display(run.setting, console, quiet) as display:
            shaping = None if backend is None else Shaping(backend, not no_probe, cues, congestion)
            ended, system = run_daemons(run.setting, run.folder, speed, display, shaping)
        summary, end_ns = collect(run.setting, run.folder, system)
        compared = _compared(run, not no_baseline, console, quiet)
    head = {**_result(run, "daemons", end_ns, ended), "congestion": congestion}
    _finish(run, {**head, **summary, **compared}, console)


@app.command("sim")
def sim_command(
    scenario: ScenarioFile,
    out: Out = None,
    seed: Seed = None,
    no_baseline: NoBaseline = False,
    quiet: Quiet = False,
    plan: PlanFile = None,
) -> None:
    """Run a scenario in virtual time, with real training."""
    console = Console()
    run = _prepare(scenario, out, seed, plan, "sim", console)
    if run.finished is not None:
        show_result(run.finished, str(run.folder.path), console)
        return
    begun_s = wall_s()
    with (
        run.folder.only_one(),
        workshop(run.setting) as shop,
        Display(run.setting, console, quiet) as display,
    ):

        def watch(node: str, event: Event, progress: Watch, scores: Mapping[Digest, float]) -> None:
            display("progress", progress.shown(scores))
            display("event", {"node": node, "event": event.kind, "fields": event.fields})
            display("time", {"t_ns": event.t_ns, "restarts": 0})

        done = shop.simulate(shop.objects(), watch=watch)
        run.folder.write_events(done.entries)
        run.folder.write_metrics(sorted(shop.system.metrics(done.entries, done.scores)))
        run.folder.write_models(done.models)
    head = _result(run, "sim", done.scenario_ns, Ended(wall_s() - begun_s, 0, UNSHAPED))
    compared = _compared(run, not no_baseline, console, quiet)
    _finish(run, {**head, **done.summary, **compared}, console)


@plan_app.command("build")
def plan_build(
    scenario: ScenarioFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")] = Path(
        "plan.json"
    ),
    true: Annotated[
        bool, typer.Option("--true", help="What the links follow, where the scenario has a [truth].")
    ] = False,
    seed: Seed = None,
) -> None:
    """Compute a scenario's contact plan; a name that ends in .plan gives its compact form."""
    loaded = _loaded(scenario)
    with working(Console(stderr=True)) as progress:
        if true:
            plan = true_plan(loaded, scenario, loaded.seed if seed is None else seed, progress)
        else:
            plan = believed_plan(loaded, scenario, progress)
    if plan is None:
        raise ScenarioError(f"{scenario}: truth: must be there for --true")
    try:
        replace_bytes(out, compact(plan) if out.suffix == COMPACT_SUFFIX else plan.to_json())
    except OSError as error:
        raise ScenarioError(f"{out}: --out: cannot be written: {error.strerror}") from None
    print(f"{out}: {len(plan.contacts)} contacts, {len(plan.nodes)} nodes, sha256 {plan.sha256}")


def main() -> None:
    """Entry point: one line and exit code 2 for what the user can mend."""
    try:
        app()
    except ScenarioError as error:
        print(f"orbitrain: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted:
        print("orbitrain: stopped; the same command with this --out goes on from here", file=sys.stderr)
        sys.exit(130)
    except (DaemonFailed, JobError) as error:
        print(f"orbitrain: {error}", file=sys.stderr)
        sys.exit(1)
