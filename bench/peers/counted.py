"""Another command, what goes into its standard input counted: python -m bench.peers.counted COUNT COMMAND...

Its output is this process's, and this one ends when it does. COUNT adds up over all that are started with the
same file, one after the other.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path


def copy(count: Path, to: int) -> None:
    total = int(count.read_text()) if count.exists() else 0
    with contextlib.suppress(BrokenPipeError):
        while data := os.read(0, 1 << 16):
            view = memoryview(data)
            while view:
                view = view[os.write(to, view) :]
            total += len(data)
            count.write_text(str(total))
    os.close(to)


def main(count: Path, command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    threading.Thread(target=copy, args=(count, os.dup(process.stdin.fileno())), daemon=True).start()
    process.stdin.close()
    return process.wait()


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1]), sys.argv[2:]))  # without waiting for whoever still has our input
