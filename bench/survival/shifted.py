"""A clock that is off: a time namespace leaves UTC alone, so a small library is preloaded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).parent / "programs" / "shifted_clock.c"


def can_shift() -> bool:
    """Whether this host has a compiler."""
    return shutil.which("cc") is not None


def shifted_clock(folder: Path, ahead_s: int) -> dict[str, str]:
    """The environment in which a program's UTC is ahead; made in `folder`. subprocess.CalledProcessError."""
    library = folder / "shifted_clock.so"
    if not library.exists():
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True
        )
    return {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_S": str(ahead_s)}
