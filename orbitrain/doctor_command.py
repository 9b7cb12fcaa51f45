"""`orbitrain doctor`: what this host can do, and what to do where it cannot."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orbitrain.testbed.doctor import examine, links, names


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="What was found as one JSON object.")] = False,
) -> None:
    """Say what this host can do, each tried: namespaces, TUN, netem, clocks, packages.

    Exit code 0, whatever it cannot do; 1 where a check itself failed.
    """
    console = Console()
    found = []
    width = max(map(len, names()))
    for one in examine():
        found.append(one)
        if as_json:
            continue
        mark, style = ("ok", "green") if one.finding.ok else ("no", "yellow")
        if one.crashed:
            mark, style = "!!", "red"
        line = Text.assemble((mark, style), f"  {one.name:<{width}}  {one.finding.found}")
        console.print(line, soft_wrap=True)
        if one.finding.advice:
            console.print(Text(f"    {'':<{width}}  {one.finding.advice}", style="dim"), soft_wrap=True)
    if as_json:
        print(json.dumps({"links": links(found), "checks": [one.document() for one in found]}))
    else:
        console.print(f"--links auto takes: {links(found)}", highlight=False)
    if any(one.crashed for one in found):
        raise typer.Exit(1)
