"""Whether this host can emulate a run's links, found by doing; how to get where it can; what is too fast."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from netem.backends import BACKENDS
from netem.limits import Limits
from netem.namespaces import HostError, check_rights
from netem.schedule import Schedule
from orbitrain.contacts.plan import ContactPlan
from orbitrain.scenario import ScenarioError
from orbitrain.testbed.emulator import STEPS

PREFERRED: Final = tuple(BACKENDS)
"""All back ends, in the order in which `auto` prefers them."""

INSIDE_VARIABLE: Final = "ORBITRAIN_INSIDE"
"""Set for a command that was started again inside namespaces of its own: there is no further way."""

PROBE_S: Final = 30.0
"""Wall seconds in which a process starts, makes namespaces, and a packet passes."""

Obstacles = dict[str, str]
"""Why links cannot be emulated by each back end; empty words: they can."""


def obstacles(backends: Sequence[str]) -> Obstacles:
    """For this very process. Tried, not guessed."""
    try:
        check_rights()
    except HostError as error:
        return dict.fromkeys(backends, str(error))
    return {name: _obstacle(name) for name in backends}


def _obstacle(backend: str) -> str:
    try:
        BACKENDS[backend].probe()
    except HostError as error:
        return str(error)
    return ""


def enter(backends: Sequence[str]) -> Obstacles:
    """Get to where links can be emulated by one of these back ends, or say why that cannot be.

    Where this process may not do it, but an unprivileged user may have namespaces of his own, the command is
    started anew inside such ones, in place of this process: then this does not return.
    """
    here = obstacles(backends)
    if not all(here.values()) or INSIDE_VARIABLE in os.environ:
        return here
    arguments = sys.argv[1:]
    if sys.orig_argv[len(sys.orig_argv) - len(arguments) :] != arguments:
        return here  # called from within another program, which must go on
    command = [sys.executable, "-m", "orbitrain.testbed.inside"]
    found = subprocess.run(
        [*command, "--try", *backends],
        capture_output=True,
        text=True,
        timeout=PROBE_S,
        check=False,
        env=_environment(),
    )
    try:
        inside = json.loads(found.stdout)
    except ValueError:
        inside = dict.fromkeys(backends, (found.stderr.strip().splitlines() or ["?"])[-1])
    if all(inside.values()):
        return {name: f"{why}; in a user namespace: {inside[name]}" for name, why in here.items()}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [*command, *arguments], _environment())


def _environment() -> dict[str, str]:
    return {**os.environ, INSIDE_VARIABLE: "1"}


@dataclass(frozen=True, slots=True)
class Fit:
    """What links ask of a back end at a rate: lines of what is refused, and of what is less than true."""

    backend: str
    refused: tuple[str, ...]
    marks: tuple[str, ...]
    highest_rate: float
    """That is not refused."""


def fit(plans: Iterable[ContactPlan], rate: float, backend: str) -> Fit:
    """Hold plans that links are to follow to the limits of a back end.

    A link too fast or too many changes are refused: what the nodes would see is the host's limit, not the
    plan. A delay that is too short is marked: by how much it is too long is little beside the times of a
    pass, and the truth probe measures it.
    """
    limits = BACKENDS[backend].limits
    refused: dict[str, None] = {}
    marks: dict[str, None] = {}
    highest = float("inf")
    for plan in plans:
        demand = Schedule(plan, rate, STEPS).demand()
        hard = limits.refuses(demand)
        for line in limits.beyond(demand):
            (refused if hard and not line.startswith("a delay") else marks)[line] = None
        for line in limits.doubtful(demand):
            marks[line] = None
        highest = min(highest, _highest(plan, rate, limits) if hard else highest)
    return Fit(backend, tuple(refused), tuple(marks), highest)


def _highest(plan: ContactPlan, rate: float, limits: Limits) -> float:
    """The highest rate below a refused one that is not refused, to two digits, rounded down."""
    low, high = 0.0, rate
    for _ in range(12):
        middle = (low + high) / 2
        if limits.refuses(Schedule(plan, middle, STEPS).demand()):
            high = middle
        else:
            low = middle
    if low < 0.01:
        return low
    unit = 10.0 ** (math.floor(math.log10(low)) - 1)
    return float(f"{math.floor(low / unit * (1 - 1e-9)) * unit:.2g}")


def check_fit(found: Fit, rate: float) -> None:
    """Raises ScenarioError where something is refused."""
    if found.refused:
        raise ScenarioError(
            f"--rate: at {rate:g} the links ask for {'; '.join(found.refused)} (back end {found.backend}); "
            f"{found.highest_rate:g} would do"
        )
