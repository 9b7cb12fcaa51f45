"""Run a command inside User-Mode Linux, where the kernel has netem: python tools/run_in_uml.py -- COMMAND ...

Its console goes to standard output, its exit code is ours; 124: it took too long, 125: the guest ended before
the command did, 2: there is no guest to be had here. Killed, the guest is gone within seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netem.namespaces import HostError
from netem.uml.guest import MEMORY_MB, Guest

TOO_LONG, NO_END, NO_GUEST = 124, 125, 2
PASSED = ("CI", "HOME", "LANG", "PATH", "PYTHONPATH", "PYTHONHASHSEED")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, metavar="MB")
    parser.add_argument("--timeout-s", type=float, default=600.0, metavar="S")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--nice", type=int, default=0, metavar="N")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    environment.update(text.partition("=")[::2] for text in options.env)
    # SIGTERM must not leave the folder and the guest behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="orbitrain-uml-"))
    try:
        guest = Guest(
            options.command,
            folder,
            Path.cwd(),
            environment,
            memory_mb=options.memory_mb,
            niceness=options.nice,
        )
        guest.prepare()
        for preparation in guest.preparations():
            subprocess.run(preparation, check=True)
        return _run(guest, options.timeout_s)
    except (HostError, ValueError) as error:
        print(f"run_in_uml: {error}", file=sys.stderr)
        return NO_GUEST
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(guest: Guest, timeout_s: float) -> int:
    with subprocess.Popen(
        guest.arguments(),
        env={**os.environ, **guest.host_environment()},
        stdin=subprocess.DEVNULL,
        # Not our own descriptor: the guest changes the mode of its console's.
        stdout=subprocess.PIPE,
        process_group=0,
        preexec_fn=guest.child,  # noqa: PLW1509 - this process has one thread
    ) as process:
        forward = subprocess.Popen(["cat"], stdin=process.stdout)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            print(f"run_in_uml: not done after {timeout_s:g} s", file=sys.stderr)
            return TOO_LONG
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # helpers of a guest that was killed, or does not end
            forward.wait()
    code = guest.exit_code()
    if code is None:
        print("run_in_uml: the guest ended before the command did", file=sys.stderr)
        return NO_END
    return code


if __name__ == "__main__":
    sys.exit(main())
