"""A process that has loaded what programs need, and forks one for each that is asked for.

`python -m orbitrain.testbed.nursery SOCKET MODULE ...` loads the modules, listens, and says `ready`. Requests
are those of `orbitrain/runtime/nursling.py`. It ends, and all its children with it, when its standard input
closes. It has one thread: a child of more would have half of a process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netem.syscalls import CLONE_NEWNET, setns
from orbitrain.runtime.nursling import LARGEST_BYTES, PASSED_ON

_FILES: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """A program to become; `files`: its standard input, output, error, and its network namespace."""

    module: str
    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    files: tuple[int, ...]

    @staticmethod
    def read(data: bytes, files: Sequence[int]) -> Request:
        """ValueError, KeyError, TypeError."""
        found = json.loads(data)
        if len(files) != _FILES:
            raise ValueError(f"{len(files)} files")
        return Request(
            found["module"], tuple(found["arguments"]), found["folder"], found["environment"], tuple(files)
        )


class Nursery:
    """`serve` returns in the parent at its end (None), and in each child with what it is to become."""

    def __init__(self, place: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(place)
        self._listener.listen(64)
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        self._asked: dict[int, socket.socket] = {}  # by descriptor, those that have not sent their request
        self._children: dict[int, tuple[socket.socket, int, int]] = {}  # connection's: (it, pid, pidfd)
        self._ends: dict[int, int] = {}  # pidfd: connection's descriptor

    def serve(self) -> Request | None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == 0:
                    if not os.read(0, 4096):
                        self._end()
                        return None
                elif fd == self._listener.fileno():
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LARGEST_BYTES)
                    self._asked[connection.fileno()] = connection
                    self._poll.register(connection, select.POLLIN)
                elif fd in self._asked:
                    request = self._fork(self._asked.pop(fd))
                    if request is not None:
                        return request
                elif fd in self._children:
                    self._told(fd)
                elif fd in self._ends:
                    self._ended(fd)

    def _fork(self, connection: socket.socket) -> Request | None:
        """None in the parent."""
        fd = connection.fileno()
        data, files, _, _ = socket.recv_fds(connection, LARGEST_BYTES, _FILES)
        try:
            request = Request.read(data, files)
        except (ValueError, KeyError, TypeError):
            self._poll.unregister(fd)
            connection.close()
            for file in files:
                os.close(file)
            return None
        pid = os.fork()
        if pid == 0:
            return request
        for file in files:
            os.close(file)
        pidfd = os.pidfd_open(pid)
        self._children[fd] = connection, pid, pidfd
        self._ends[pidfd] = fd
        self._poll.register(pidfd, select.POLLIN)
        return None

    def _told(self, fd: int) -> None:
        """A signal for the child, or that its go-between is gone."""
        connection, _, pidfd = self._children[fd]
        try:
            said = connection.recv(16)
        except OSError:
            said = b""
        numbers = list(said) or [int(signal.SIGKILL)]
        if not said:
            self._poll.unregister(fd)  # its end comes by the pidfd
        for number in numbers:
            with contextlib.suppress(ProcessLookupError, ValueError):
                signal.pidfd_send_signal(pidfd, number)

    def _ended(self, pidfd: int) -> None:
        fd = self._ends.pop(pidfd)
        connection, pid, _ = self._children.pop(fd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)
        connection.close()

    def _end(self) -> None:
        for pidfd in list(self._ends):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._ended(pidfd)

    def leave(self) -> None:
        """In a child: nothing of the parent's stays open."""
        self._listener.close()
        for connection in self._asked.values():
            connection.close()
        for connection, _, pidfd in self._children.values():
            connection.close()
            os.close(pidfd)


def become(request: Request) -> None:
    """Run the program in this process, as its own interpreter would. SystemExit comes out here."""
    os.setsid()
    for number, file in enumerate(request.files[:3]):
        os.dup2(file, number)
    setns(request.files[3], CLONE_NEWNET)
    for file in request.files:
        os.close(file)
    for number in PASSED_ON:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    for path in reversed(request.environment.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(0, path)
    sys.argv = [request.module, *request.arguments]
    gc.enable()
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def main() -> None:
    place, *modules = sys.argv[1:]
    for module in modules:
        with contextlib.suppress(Exception):  # a user's module: the program that needs it will tell
            importlib.import_module(module)
    nursery = Nursery(place)
    try:
        gc.disable()
        gc.freeze()  # what is loaded stays shared: no child's collector touches it
        print("ready", flush=True)
        request = nursery.serve()
    finally:
        nursery.leave()
    if request is None:
        Path(place).unlink(missing_ok=True)
        return
    become(request)


if __name__ == "__main__":
    main()
