"""A receiver killed at any byte or step claims only what it has."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orbitrain.transport.objects import RangeSet
from orbitrain.transport.store import (
    BlobStore,
)
from orbitrain.transport.store import blobs as blobs_module
from orbitrain.transport.store import incoming as incoming_module
from orbitrain.transport.store.folders import sync_folder
from tests.unit.transport.partials import CONTENT, DIGEST, SIZE, die, partial_files


class Killed(BaseException):
    """The process is gone."""


class Reaper:
    """Kills at a given byte written, or at the n-th step of the disk."""

    def __init__(self, rng: random.Random) -> None:
        self.bytes_left = rng.randrange(1, 2 * SIZE)
        self.steps_left = rng.choice([rng.randrange(1, 12), 10_000])
        self.written_bytes = 0

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        written = _pwrite(descriptor, data[: self.bytes_left], offset)
        self.written_bytes += written
        self.bytes_left -= written
        if self.bytes_left <= 0:
            raise Killed
        return written

    def step(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            self.steps_left -= 1
            if self.steps_left == 0:
                raise Killed  # before it
            value = work(*arguments)
            self.steps_left -= 1
            if self.steps_left == 0:
                raise Killed  # after it
            return value

        return done

    def attach(self, patched: pytest.MonkeyPatch, store: BlobStore) -> None:
        patched.setattr(incoming_module.os, "pwrite", self.pwrite)
        patched.setattr(incoming_module.os, "fdatasync", self.step(os.fdatasync))
        patched.setattr(incoming_module.os, "fsync", self.step(os.fsync))
        patched.setattr(blobs_module, "sync_folder", self.step(sync_folder))
        patched.setattr(store._ledger, "claim", self.step(store._ledger.claim))
        patched.setattr(store._ledger, "drop", self.step(store._ledger.drop))


_pwrite = os.pwrite


def receive(store: BlobStore, rng: random.Random) -> None:
    """A part of the object, or all of it, in whatever pieces."""
    incoming = store.shared(DIGEST, SIZE, rng.choice("ab"))
    for start, end in incoming.missing:
        offset = start
        while offset < end:
            stop = min(end, offset + rng.randrange(1, 900))
            incoming.write(offset, CONTENT[offset:stop])
            offset = stop
            if rng.random() < 0.3:
                incoming.commit()
            if rng.random() < 0.3:
                incoming.hash_ahead()
    incoming.finish()


@pytest.mark.parametrize("seed", range(300))
def test_a_receiver_killed_at_any_byte_or_step_goes_on_from_what_it_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 4)):
        store = BlobStore(tmp_path)
        if store.has(DIGEST):
            die(store)
            break
        claimed = RangeSet()
        with monkeypatch.context() as patched, suppress(Killed):
            Reaper(rng).attach(patched, store)
            receive(store, rng)
        found = store.partial(DIGEST, SIZE, "a")
        for span in [] if found is None else found.committed:
            claimed.add(*span)
        die(store)
        again = BlobStore(tmp_path)
        part = again.partial(DIGEST, SIZE, "a")
        if again.has(DIGEST):
            assert again.path(DIGEST).read_bytes() == CONTENT
        else:
            held = [] if part is None else part.committed
            # What anybody was told is there, and what is there is right.
            assert all(not RangeSet(held).missing(*span) for span in claimed), (held, list(claimed))
            data = b"" if part is None else part.path.read_bytes()
            assert all(data[start:end] == CONTENT[start:end] for start, end in held)
        die(again)
    last = BlobStore(tmp_path)
    if not last.has(DIGEST):
        receive(last, rng)
    assert last.path(DIGEST).read_bytes() == CONTENT
    assert (partial_files(last), last._partial_bytes, last.total_bytes()) == ([], 0, SIZE)
    last.close()
    final = BlobStore(tmp_path)
    assert final._ledger.parts == []
    final.close()
