"""What of a partial object is hashed ahead, and what is read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orbitrain.transport.store import (
    BlobStore,
    StorageFull,
)
from orbitrain.transport.store import incoming as incoming_module
from tests.unit.transport.partials import CONTENT, DIGEST, SIZE, full_disk


def read_lengths(patched: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read for a digest from now on."""
    lengths: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        lengths.append(preadv(*arguments))
        return lengths[-1]

    patched.setattr(incoming_module.os, "preadv", counted)
    return lengths


def test_what_was_hashed_ahead_is_not_read_again(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.hash_ahead()
    for start in (0, 6000, 4000):  # the middle last
        incoming.write(start, CONTENT[start : start + 2000])
        incoming.hash_ahead()
    incoming.rest()
    incoming.write(2000, CONTENT[2000:4000])
    incoming.rest()
    incoming.hash_ahead()
    assert incoming._file is None
    incoming.write(8000, CONTENT[8000:])
    lengths = read_lengths(monkeypatch)
    incoming.finish()
    assert lengths == [2000]
    assert blobs.path(DIGEST).read_bytes() == CONTENT
    incoming.hash_ahead()


def test_bytes_of_before_a_restart_are_hashed_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.hash_ahead()
    store.close()
    again = BlobStore(tmp_path)
    found = again.shared(DIGEST, SIZE, "a")
    found.write(4000, CONTENT[4000:])
    lengths = read_lengths(monkeypatch)
    found.finish()
    assert sum(lengths) == SIZE
    again.close()


def test_bytes_that_a_failed_sync_let_go_of_are_hashed_as_they_come_again(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:1000])
    incoming.commit()
    incoming.write(1000, bytes(3000))
    incoming.hash_ahead()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full_disk)
        with pytest.raises(StorageFull):
            incoming.commit()
    incoming.write(1000, CONTENT[1000:])
    incoming.finish()
    assert blobs.path(DIGEST).read_bytes() == CONTENT


def test_bytes_that_cannot_be_read_ahead_are_left_to_the_end(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT)
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", full_disk)
        incoming.hash_ahead()
    incoming.finish()
    assert blobs.has(DIGEST)
