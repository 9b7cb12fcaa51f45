"""The go-between of a program in a nursery (see `runtime.nursery`): standard library alone, run as a file.

To the nursery's socket: one message with the request as JSON, {"module", "arguments", "folder",
"environment"}, and with it standard input, output, error and the network namespace as file descriptors. Then
a byte for each signal, its number. From it: the child's end, as decimal text, an exit code or, less than 0, a
signal. When this process goes, so does the child.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from types import FrameType

LARGEST_BYTES = 1 << 20
"""Of a request: an environment may have some ten thousand bytes."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2)
DIE_WITH_PARENT = "--die-with-parent"
_PR_SET_PDEATHSIG = 1


def main(place: str, module: str, *arguments: str) -> int:
    if DIE_WITH_PARENT in arguments:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    request = json.dumps(
        {
            "module": module,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
    ).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nursery:
        nursery.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_BYTES)
        nursery.connect(place)

        def pass_on(number: int, frame: FrameType | None) -> None:
            nursery.send(bytes([number]))

        # Held back until the request is out: a signal must find a child.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        for number in PASSED_ON:
            signal.signal(number, pass_on)
        network = os.open("/proc/self/ns/net", os.O_RDONLY)
        socket.send_fds(nursery, [request], [0, 1, 2, network])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        # The ends of pipes are the child's now: held here too, nobody would learn that it closed them.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        said = nursery.recv(16)
    if not said:
        print("nursery: it is gone", file=sys.stderr)
        return 70
    code = int(said)
    if code < 0:
        # The same end, so that whoever waits for us sees it.
        if -code in PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
