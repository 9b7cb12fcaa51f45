"""Which back end moves the packets of a run, and why."""

from __future__ import annotations

from typing import Final

from orbitrain.outputs import RunFolder
from orbitrain.scenario import ScenarioError
from orbitrain.setting import Setting
from orbitrain.testbed.host import Obstacles, check_fit, fit
from orbitrain.testbed.run import begun_with

AUTO: Final = "auto"
NONE: Final = "none"

_PLAIN: Final = "none (contacts gated by the plan, nothing shaped)"
_HOW: Final = {
    "kernel": "Linux netem between network namespaces",
    "tun": "real packets between network namespaces, through user space",
}


def choose(
    setting: Setting, folder: RunFolder, wanted: str, obstacles: Obstacles, rate: float
) -> tuple[str | None, str]:
    """(back end, how it is); None: nothing is shaped. `auto` goes on with what the run was begun with.

    Raises ScenarioError where links cannot be shaped and must.
    """
    begun = begun_with(folder) if wanted == AUTO else None
    if NONE in (wanted, begun):
        return None, _PLAIN
    free = wanted == AUTO and begun is None
    skipped = []
    for name in obstacles if free else (begun or wanted,):
        if obstacles[name]:
            if not free:
                raise ScenarioError(f"--links: {name} is not possible here: {obstacles[name]}")
            skipped.append(f"{name}: {obstacles[name]}")
            continue
        plans = [setting.plan, *(update.plan for update in setting.updates)]
        found = fit(plans if setting.truth is None else [setting.truth], rate, name)
        if free and found.refused:
            skipped.append(f"for {name} --rate must be {found.highest_rate:g} or less: {found.refused[0]}")
            continue
        check_fit(found, rate)
        marks = f"; beyond what is certain here: {'; '.join(found.marks)}" if found.marks else ""
        without = f"; not {'; not '.join(skipped)}" if skipped else ""
        return name, f"{name} ({_HOW[name]}{marks}{without})"
    return None, f"{_PLAIN}: {'; '.join(skipped)}"
