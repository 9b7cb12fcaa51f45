"""A lock for the life of a store: released by the kernel when its process dies, however that is."""

from __future__ import annotations

import fcntl
from pathlib import Path

from orbitrain.transport.store.errors import StoreLocked


class Lock:
    """Held from construction until `close`. Raises StoreLocked, which names the path."""

    def __init__(self, path: Path) -> None:
        # Python's descriptors close on exec: a worker that outlives its daemon does not keep the lock.
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StoreLocked(f"{path}: the store is in use by another process") from None

    def close(self) -> None:
        self._file.close()
