"""Run a command inside User-Mode Linux, where the kernel has netem: python tools/run_in_uml.py -- COMMAND ...

Its exit code is ours; 124: it took too long, 125: the guest ended before the command did, 2: there is no
guest to be had here. Killed, the guest is gone within seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netem.namespaces import HostError
from netem.uml.guest import MEMORY_MB
from orbitrain.testbed.guest import run_in_guest

NO_GUEST = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, metavar="MB")
    parser.add_argument("--timeout-s", type=float, default=600.0, metavar="S")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--nice", type=int, default=0, metavar="N")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        return run_in_guest(
            options.command,
            environment=dict(text.partition("=")[::2] for text in options.env),
            memory_mb=options.memory_mb,
            niceness=options.nice,
            timeout_s=options.timeout_s,
        )
    except (HostError, ValueError) as error:
        print(f"run_in_uml: {error}", file=sys.stderr)
        return NO_GUEST


if __name__ == "__main__":
    sys.exit(main())
