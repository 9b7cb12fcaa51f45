"""JSON lines to whoever started us, without ever waiting for him to read."""

from __future__ import annotations

import json
import os
import select
from typing import Final

LARGEST_BYTES: Final = 1 << 20
"""What is kept for a slow reader; lines beyond it are dropped and counted."""

PATIENCE_MS: Final = 5_000
"""A reader that takes nothing for so long must not keep links up that are to be removed."""

_AT_ONCE: Final = select.PIPE_BUF  # a pipe that can be written takes this much without blocking


class Outlet:
    """`say` now, `flush` later where `waiting`. The descriptor's mode stays: others may share it."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        self.closed = False
        self._fd = fd
        self._left = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    @property
    def waiting(self) -> bool:
        return bool(self._left) and not self.closed

    def say(self, document: dict[str, object]) -> None:
        line = json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
        if self.closed or len(self._left) + len(line) > LARGEST_BYTES:
            self.dropped += 1
            return
        self._left += line
        self.flush()

    def say_all(self, document: dict[str, object]) -> None:
        """Wait until it is written, or nothing was read for `PATIENCE_MS`."""
        self._left += json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
        while self.waiting:
            if not self._poll.poll(PATIENCE_MS):
                self.dropped += 1
                self._left.clear()
            self.flush()

    def flush(self) -> None:
        while self._left:
            events = self._poll.poll(0)
            if not events:
                return
            try:
                if not events[0][1] & select.POLLOUT:
                    raise BrokenPipeError
                del self._left[: os.write(self._fd, self._left[:_AT_ONCE])]
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                self._left.clear()
                return
