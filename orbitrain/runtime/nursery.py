"""What starts a Python program of ours: an interpreter of its own, or a child of a process that is warm.

Where starting is dear (User-Mode Linux: 10 s for a worker with torch) a testbed keeps *nurseries*: processes
that have loaded what programs need, and fork one for each that is asked for (`orbitrain.testbed.nursery`).
The program that is started is then a small go-between (`orbitrain/runtime/nursling.py`): it hands its own
files, folder, environment and network namespace over, passes signals on, and ends as the child does. So
whoever starts a program and waits for it need not know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NURSERY_VARIABLE: Final = "ORBITRAIN_NURSERY_{}"
"""Names the Unix socket of a kind's nursery: daemon, worker."""


def python_command(kind: str, module: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """The command that runs a module; `flags` are the interpreter's."""
    place = os.environ.get(NURSERY_VARIABLE.format(kind.upper()))
    if place is None:
        return [sys.executable, *flags, "-m", module, *arguments]
    nursling = Path(__file__).with_name("nursling.py")
    # No user's settings and no packages: it starts in hundredths of a second.
    return [sys.executable, "-I", "-S", str(nursling), place, module, *arguments]
