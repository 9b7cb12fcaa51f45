"""`orbitrain plan show`, `plan slice`, `plan diff`, `plan export` and `plan import`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from orbitrain.contacts.compact import CompactPlan, Link, compact, is_compact
from orbitrain.contacts.contact import LINK_CLASSES, Contact, PlanError
from orbitrain.contacts.difference import diff
from orbitrain.contacts.interop import Numbering, RateUnit
from orbitrain.contacts.interop_hdtn import from_hdtn, to_hdtn
from orbitrain.contacts.interop_ion import from_ion, to_ion
from orbitrain.contacts.plan import NODE_KINDS, ContactPlan, PlanNode
from orbitrain.contacts.slices import slice_for
from orbitrain.outputs import load_plan, replace_bytes
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import ScenarioError, load_scenario

COMPACT_SUFFIX = ".plan"

DEFAULT_LIMIT = 100
"""Lines of the table; a person reads no more, and the rest is a filter away."""

LINE_WIDTH = 240
"""Columns at most where the output is no terminal: for two of the longest names, and no line is broken."""

SLOW_JSON_BYTES = 64 << 20
"""Takes seconds to read, which is worth a word."""


class SliceFormat(StrEnum):
    """What a plan is kept as."""

    JSON = "json"
    COMPACT = "compact"


class ClassOption(StrEnum):
    """A link class."""

    SERVICE = "service"
    FEEDER = "feeder"
    INTRA_ISL = "intra_isl"
    INTER_ISL = "inter_isl"
    BACKHAUL = "backhaul"


class ExportFormat(StrEnum):
    """What a plan is written as."""

    ION = "ion"
    HDTN = "hdtn"
    COMPACT = "compact"
    JSON = "json"


class ImportFormat(StrEnum):
    """What other tools write."""

    ION = "ion"
    HDTN = "hdtn"


PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file, JSON or compact.")]
NodesFile = Annotated[
    Path | None,
    typer.Option("--nodes", metavar="FILE", help="Which number is which node: JSON, as export writes it."),
]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; else to the terminal.")
]


def plan_show(
    plan: PlanFile,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Only contacts of this node.")
    ] = None,
    link_class: Annotated[
        ClassOption | None, typer.Option("--class", help="Only contacts of this class.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="Lines of the table at most; 0: all.")
    ] = DEFAULT_LIMIT,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw them instead, with ground tracks.")
    ] = None,
) -> None:
    """Show a plan's contacts, one line a pass, or draw them."""
    loaded = _opened(plan)
    if node is not None and node not in {one.name for one in loaded.nodes}:
        raise ScenarioError(f"{plan}: --node: {node!r} is not a node of the plan")
    every: Sequence[Contact] | list[Link] = (
        list(loaded.links()) if isinstance(loaded, CompactPlan) else loaded.contacts
    )
    wanted = [
        one
        for one in every
        if (link_class is None or one.link_class == link_class)
        and (node is None or node in (one.source, one.destination))
    ]
    if plot is not None:
        _plot(plot, loaded, wanted, node, link_class)
        print(f"{plot}: {len(wanted)} contacts of {len(every)}, plan sha256 {loaded.sha256}")
        return
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    for line in _head_lines(loaded, every):
        console.print(line, highlight=False, soft_wrap=True)
    contacts = loaded if isinstance(loaded, CompactPlan) else loaded.contacts
    chosen = (
        one
        for one in (contacts if node is None else loaded.contacts_of(node))
        if link_class is None or one.link_class == link_class
    )
    with _naming(plan):  # a compact plan's contacts are checked when they are read
        shown = list(islice(chosen, limit or None))
    if shown:
        console.print(_table(shown))
    if len(shown) < len(wanted):
        console.print(
            f"{len(shown):,} of {len(wanted):,} contacts; --limit 0 shows all, --node and --class fewer",
            highlight=False,
        )
    elif not wanted:
        console.print("no such contacts" if every else "no contacts", highlight=False)


def plan_slice(
    plan: PlanFile,
    node: Annotated[str, typer.Option("--node", metavar="NAME", help="The node that it is for.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="A device of a region whose services the node follows, or a member of its plane; repeat it.",
        ),
    ] = None,
    form: Annotated[
        SliceFormat | None,
        typer.Option("--format", help="As a plan is kept; else compact where FILE ends in .plan."),
    ] = None,
) -> None:
    """Write the part of a plan that one node needs."""
    loaded = _opened(plan)
    try:
        part = slice_for(loaded, node, device or ())
    except ValueError as error:
        raise ScenarioError(f"{plan}: {error}") from None
    if form is None:
        form = SliceFormat.COMPACT if out.suffix == COMPACT_SUFFIX else SliceFormat.JSON
    _write(out, "--out", compact(part) if form is SliceFormat.COMPACT else part.to_json())
    print(
        f"{out}: {len(part.contacts)} contacts, {len(part.nodes)} nodes for {node}, sha256 {part.sha256}, "
        f"of {part.of_sha256}"
    )


def plan_diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A plan file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another plan file.")],
) -> None:
    """Say which contacts appeared (+), vanished (-) or moved (~) from plan A to plan B."""
    for line in diff(load_plan(first), load_plan(second)).lines():
        print(line)


def plan_export(
    plan: PlanFile,
    form: Annotated[ExportFormat, typer.Option("--format", help="Which tool is to read it.")],
    out: OutFile = None,
    nodes: NodesFile = None,
    write_nodes: Annotated[
        Path | None,
        typer.Option("--write-nodes", metavar="FILE", help="Where to write which number is which node."),
    ] = None,
) -> None:
    """Write a plan for another tool; what it cannot say is told as warnings."""
    loaded = load_plan(plan)
    numbering = _numbering_in(nodes) or Numbering.of(loaded.nodes)
    warnings: tuple[str, ...] = ()
    if form is ExportFormat.COMPACT:
        data = compact(loaded)
    elif form is ExportFormat.JSON:
        data = loaded.to_json()
    else:
        with _naming(nodes or plan):
            exported = to_ion(loaded, numbering) if form is ExportFormat.ION else to_hdtn(loaded, numbering)
        data, warnings = exported.text.encode("ascii"), exported.warnings
    for warning in warnings:
        print(f"{plan}: warning: {warning}", file=sys.stderr)
    if write_nodes is not None:
        _write(write_nodes, "--write-nodes", numbering.to_json())
    if out is not None:
        _write(out, "--out", data)
    elif form is ExportFormat.COMPACT:
        raise ScenarioError("--out: must be given for a file that is not text")
    else:
        print(data.decode("ascii"), end="")


def plan_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A contact plan of ION or HDTN.")],
    form: Annotated[
        ImportFormat | None, typer.Option("--format", help="Else told from how the file begins.")
    ] = None,
    unit: Annotated[
        RateUnit | None, typer.Option("--unit", help="What its rates are in; else what the format says.")
    ] = None,
    out: OutFile = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what cannot be used, and say so.")
    ] = False,
    nodes: NodesFile = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", metavar="UTC", help="The instant that its times count from.")
    ] = None,
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", metavar="SCENARIO", help="The scenario to use it for: epoch, duration."),
    ] = None,
) -> None:
    """Make a plan of another tool's file."""
    try:
        text = _bytes_of(file).decode("utf-8")
    except UnicodeDecodeError:
        raise ScenarioError(f"{file}: must be text in UTF-8") from None
    if form is None:
        form = ImportFormat.HDTN if text.lstrip()[:1] in ("{", "[") else ImportFormat.ION
    known = None if scenario is None else load_scenario(scenario)
    if known is not None and epoch is None:
        epoch = known.epoch.replace(tzinfo=None).isoformat() + "Z"
    numbering = _numbering_in(nodes)
    reader = from_ion if form is ImportFormat.ION else from_hdtn
    with _naming(file):
        result = reader(
            text,
            numbering=numbering,
            unit=unit,
            epoch=epoch,
            duration_ns=None if known is None else known.duration_ns,
            scenario_sha256=None if known is None else known.sha256,
            skip_bad=skip_bad,
        )
    for skipped in result.skipped:
        print(f"{file}: skipped: {skipped}", file=sys.stderr)
    for warning in result.warnings:
        print(f"{file}: warning: {warning}", file=sys.stderr)
    plan = result.plan
    print(f"{file}: {form} plan, rates in {result.unit}", file=sys.stderr)
    if out is None:
        print(plan.to_json().decode("ascii"), end="")
    else:
        _write(out, "--out", plan.to_json())
        print(f"{out}: {len(plan.contacts)} contacts, {len(plan.nodes)} nodes, sha256 {plan.sha256}")


def _opened(path: Path) -> ContactPlan | CompactPlan:
    """As `load_plan`, but a compact plan stays one."""
    data = _bytes_of(path)
    with _naming(path):
        if is_compact(data):
            return CompactPlan(data)
        if len(data) > SLOW_JSON_BYTES:
            print(f"{path}: {len(data) >> 20} MiB of JSON; a compact plan opens at once", file=sys.stderr)
        return ContactPlan.from_json(data)


def _head_lines(plan: ContactPlan | CompactPlan, contacts: Sequence[Contact | Link]) -> Iterator[str]:
    yield (
        f"plan version {plan.version}, epoch {plan.epoch}, {plan.duration_ns / SECOND_NS:g} s, "
        f"{len(plan.nodes)} nodes, {len(contacts)} contacts, sha256 {plan.sha256}"
    )
    kinds = Counter(node.kind for node in plan.nodes)
    classes = Counter(contact.link_class for contact in contacts)
    counted = [f"{kinds[kind]} {_KINDS[kind]}{'s' * (kinds[kind] > 1)}" for kind in NODE_KINDS if kinds[kind]]
    counted += [f"{classes[name]} {name}" for name in LINK_CLASSES if classes[name]]
    if plan.revision:
        counted.append(f"revision {plan.revision}")
    if counted:
        yield ", ".join(counted)
    if plan.for_node is not None:
        yield f"slice for {plan.for_node} of {plan.of_sha256}"


_KINDS = {"satellite": "satellite", "ground": "ground node", "device": "device"}
_NUMBERS = ("start s", "end s", "length s", "delay ms", "Mbit/s", "margin s", "confidence")


def _table(contacts: Sequence[Contact]) -> Table:
    table = Table()
    columns = ["source", "destination", "class", "start s", "end s", "length s", "delay ms", "Mbit/s"]
    with_margin = any(contact.margin_ns for contact in contacts)
    with_confidence = any(contact.confidence < 1 for contact in contacts)
    columns += ["margin s"] * with_margin + ["confidence"] * with_confidence
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for contact in contacts:
        delays = [sample.delay_ns / 1e6 for sample in contact.samples]
        rates = [sample.rate_bps / 1e6 for sample in contact.samples]
        least, most = min(rates), max(rates)
        row = [
            contact.source,
            contact.destination,
            contact.link_class,
            f"{contact.start_ns / SECOND_NS:.3f}",
            f"{contact.end_ns / SECOND_NS:.3f}",
            f"{(contact.end_ns - contact.start_ns) / SECOND_NS:.1f}",
            f"{min(delays):.2f}..{max(delays):.2f}",
            f"{least:g}" if least == most else f"{least:.4g}..{most:.4g}",
        ]
        if with_margin:
            row.append(f"{contact.margin_ns / SECOND_NS:.3f}" if contact.margin_ns else "")
        if with_confidence:
            row.append(f"{contact.confidence:.3f}" if contact.confidence < 1 else "")
        table.add_row(*row)
    return table


def _plot(
    out: Path,
    plan: ContactPlan | CompactPlan,
    contacts: Sequence[Contact | Link],
    node: str | None,
    link_class: ClassOption | None,
) -> None:
    try:
        from orbitrain.picture import drawn
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ScenarioError("--plot: needs matplotlib, which pip install 'orbitrain[plot]' brings") from None
    title = f"contact plan {plan.sha256[:12]}" + (f", revision {plan.revision}" if plan.revision else "")
    title += f": {len(contacts):,} contacts"
    title += "" if node is None else f" of {node}"
    title += "" if link_class is None else f", only {link_class}"
    nodes: Sequence[PlanNode] = plan.nodes
    if node is not None or link_class is not None:
        met = {name for contact in contacts for name in (contact.source, contact.destination)} | {node}
        nodes = [one for one in plan.nodes if one.name in met]
    _write(
        out,
        "--plot",
        drawn(nodes, contacts, title=title, epoch=plan.epoch, duration_ns=plan.duration_ns),
    )


def _numbering_in(path: Path | None) -> Numbering | None:
    if path is None:
        return None
    data = _bytes_of(path)
    with _naming(path):
        return Numbering.from_json(data)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is wrong with a plan is told with its file."""
    try:
        yield
    except PlanError as error:
        raise ScenarioError(f"{path}: {error}") from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None


def _write(path: Path, option: str, data: bytes) -> None:
    try:
        replace_bytes(path, data)
    except OSError as error:
        raise ScenarioError(f"{path}: {option}: cannot be written: {error.strerror}") from None
