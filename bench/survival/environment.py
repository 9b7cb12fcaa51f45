"""A peer's own Python environment, made once and kept: nothing of it is in the project's."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path.home() / ".cache" / "orbitrain-bench"


def environment(name: str, requirement: str, given: Path | None = None) -> Path:
    """Its folder: `given`, or one in `CACHE` with the pinned requirement. subprocess.CalledProcessError."""
    if given is not None:
        return given.resolve()
    folder = CACHE / f"{name}-{requirement.partition('==')[2]}"
    done = folder / "made"
    CACHE.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the bench may be at it
        if not done.exists():
            print(f"{name}: makes {folder} with {requirement} (pip)", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", requirement], check=True)
            done.write_text(requirement)
    return folder
