"""`orbitrain plan diff`, `plan export` and `plan import`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orbitrain.contacts.compact import compact
from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.difference import diff
from orbitrain.contacts.interop import Numbering, RateUnit
from orbitrain.contacts.interop_hdtn import from_hdtn, to_hdtn
from orbitrain.contacts.interop_ion import from_ion, to_ion
from orbitrain.outputs import load_plan, replace_bytes
from orbitrain.scenario import ScenarioError, load_scenario


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
