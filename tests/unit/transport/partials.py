"""An object that comes in parts, and a store that dies."""

from __future__ import annotations

import errno
import hashlib
import random
from typing import Any

from orbitrain.transport.expected import Expected
from orbitrain.transport.store import (
    BlobStore,
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CONTENT = random.Random(5).randbytes(10_000)
DIGEST = sha256(CONTENT)
SIZE = len(CONTENT)


def die(store: BlobStore) -> None:
    """As far as the store's files go, the process is killed now."""
    store._ledger.close()
    store._held.close()


def partial_files(store: BlobStore) -> list[str]:
    return sorted(path.name for path in (store.folder / "incoming").iterdir())


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def letter(sequence: int, **changes: Any) -> Expected:
    named = {"source": "a", "incarnation": "i", "role": "r", "lane": 3, "expires_at_ns": 100}
    return Expected(sequence=sequence, **{**named, **changes})
