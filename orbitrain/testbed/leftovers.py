"""What runs have left that were killed: namespaces of nodes, folders of sockets. Nothing else is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netem import namespaces
from netem.namespaces import HostError
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.deployment import sweep


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Names of namespaces, as `ip netns` shows them; `in_use` are those of runs that go on."""

    namespaces: tuple[str, ...]
    in_use: tuple[str, ...]
    folders: tuple[Path, ...]


def clean(run_id: str | None = None, *, dry_run: bool = False) -> Leftovers:
    """Remove what is left of one run, or of all; with `dry_run` only say what would go.

    A network namespace is gone when the last process in it ends: daemons and emulators end by themselves
    when their supervisor does. Raises ScenarioError.
    """
    try:
        if dry_run:
            found = namespaces.owned(run_id)
            kept = [one for one in found if namespaces.held(one.tag)]
            removed = [one for one in found if one not in kept]
        else:
            removed, kept = namespaces.clean(run_id)
    except HostError as error:
        raise ScenarioError(f"clean: {error}") from None
    except ValueError as error:
        raise ScenarioError(f"--run-id: {error}") from None
    return Leftovers(
        tuple(one.path.name for one in removed),
        tuple(one.path.name for one in kept),
        tuple(sweep(run_id, dry_run=dry_run)),
    )
