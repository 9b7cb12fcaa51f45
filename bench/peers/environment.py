"""Environments of the peers' own: they are no dependency of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path.home() / ".cache" / "orbitrain-bench"

FLOWER: Final = "flwr==1.41.0"
NVFLARE: Final = "nvflare==2.9.0"


def environment(name: str, requirement: str, module: str) -> Path | None:
    """The folder of the programs of an environment, made with venv and pip if it is not there.

    None where that fails. `module` is what it must be able to import.
    """
    programs = CACHE / name / "bin"
    known = [str(programs / "python"), "-c", f"import {module}"]
    if programs.exists() and not subprocess.run(known, capture_output=True, check=False).returncode:
        return programs
    print(f"making {CACHE / name} with {requirement}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", CACHE / name],
        [programs / "python", "-m", "pip", "install", "--quiet", requirement],
    ):
        done = subprocess.run([str(part) for part in command], check=False, capture_output=True)
        if done.returncode:
            return None
    return programs
