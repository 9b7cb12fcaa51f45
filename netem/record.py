"""A JSON file that is replaced by newer ones in a thread of its own, as that may wait for the disk.

On a journaling file system a rename waits for what other programs have on its way to the disk. In a loop that
moves packets that held up every link: 260 ms were seen while another program synced its files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Record:
    """`put` as often as wanted, `close` in the end. The path's other name, with `.fresh`, is ours too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh = path.with_name(f"{path.name}.fresh")
        self._latest: bytes | None = None
        self._failure: OSError | None = None
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._thread: Thread | None = None

    def put(self, document: Mapping[str, Any]) -> None:
        """Never waits. One that is not begun when the next is put, is left out; a failure is, too."""
        self._latest = json.dumps(document).encode("ascii") + b"\n"
        if self._thread is None:
            # Now, not before: it has the caller's priority. With less it might keep the interpreter's lock
            # while others have the processor.
            self._thread = Thread(target=self._write_all, daemon=True)
            self._thread.start()
        if self._wake.empty():
            self._wake.put(True)

    def close(self, document: Mapping[str, Any]) -> None:
        """Waits until this one, the last, is there. Raises OSError."""
        self.put(document)
        self._wake.put(False)
        assert self._thread is not None
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write_all(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._wake.get()
            data, self._latest = self._latest, None
            if data is not None:
                self._failure = None
                try:
                    self._write(data)
                except OSError as error:
                    self._failure = error

    def _write(self, data: bytes) -> None:
        fd = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.replace(self._fresh, self._path)
