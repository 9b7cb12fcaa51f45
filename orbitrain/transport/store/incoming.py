"""One object on its way in: bytes at any offset, committed as they come, published when they are the object.

The order that makes it survive a death at any point: bytes into the file, the file synced, the ranges into
the ledger, and only then is anybody told of them. Publishing moves a file whose digest agrees and which is
synced to its place, syncs the folder, and strikes the ledger's line.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import NoReturn, Protocol

from orbitrain.machine import Digest
from orbitrain.transport.objects import Range, RangeSet
from orbitrain.transport.store.errors import (
    DigestMismatch,
    IncomingClosed,
    OutOfBounds,
    StorageFull,
    StoreError,
)

PARTS_MAX = 1024
"""Separate ranges of one partial object: a sender goes in order, so few; this bounds the list's memory."""

HASH_AHEAD_BYTES = 64 * 1024 * 1024
"""Hashed at once while more comes: more than comes meanwhile, so that it catches up after a restart."""

HASH_READ_BYTES = 256 * 1024
"""Read for that at a time: within a processor's cache."""


def sha256_of(file: io.FileIO) -> Digest:
    """Of all of an open file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def raise_full(error: OSError) -> NoReturn:
    """An OSError of a write, as StorageFull where that is what it says."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StorageFull("the disk is full") from error
    raise error


class Shelf(Protocol):
    """What an `Incoming` asks of the store that made it."""

    def reserve(self, nbytes: int) -> None:
        """Count bytes of partial objects; negative to let go. Raises StorageFull."""
        ...

    def claim(self, incoming: Incoming, held: tuple[Range, ...]) -> None:
        """Write down that these bytes are on disk; durable on return. Raises StoreError."""
        ...

    def publish(self, path: Path, digest: Digest, size: int) -> None:
        """Move a synced file into its place."""
        ...

    def ended(self, incoming: Incoming, *, mismatched: bool) -> None:
        """It is published or dropped: forget it."""
        ...


class _State(Enum):
    OPEN = auto()
    FINISHING = auto()
    PUBLISHED = auto()
    DISCARDED = auto()
    MISMATCHED = auto()


class _Prefix:
    """SHA-256 of a file's bytes from its start on."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.end = 0
        """Bytes that are in it."""

    def extend(self, descriptor: int, end: int) -> None:
        """Take in the bytes up to `end`, or the file's end."""
        buffer = memoryview(bytearray(HASH_READ_BYTES))
        while self.end < end:
            count = os.preadv(descriptor, [buffer[: end - self.end]], self.end)
            if not count:
                return
            self.sha256.update(buffer[:count])
            self.end += count


class Incoming:
    """One object being received. Made by `BlobStore.incoming` and `BlobStore.shared`.

    A byte that is held is never written again, so what has been hashed, ahead or by `finish`, is what it
    publishes, whatever another writer of the same object does meanwhile. Bytes that a failed commit lets go
    of may be written again: what was hashed ahead is then forgotten.
    """

    def __init__(
        self,
        shelf: Shelf,
        digest: Digest,
        size: int,
        path: Path,
        *,
        kept: bool = False,
        held: tuple[Range, ...] = (),
    ) -> None:
        """`kept` ones outlive the process as far as they are committed; `held` is what is committed
        already."""
        self.digest = digest
        self.size = size
        self.path = path
        self.kept = kept
        self._shelf = shelf
        self._held = RangeSet(held)
        self._committed = RangeSet(held)
        self._file: io.FileIO | None = None
        self._prefix = _Prefix()
        # Taken in this order: by whoever syncs, finishes or drops it; hashes; looks or writes.
        self._settling = threading.Lock()
        self._hashing = threading.Lock()
        self._lock = threading.Lock()
        self._state = _State.OPEN
        self._claimed = bool(held)
        if not kept:
            self._opened()

    def _opened(self) -> int:
        if self._file is None:
            mode = "r+" if self.path.exists() else "x+"
            self._file = io.FileIO(self.path, mode)
        return self._file.fileno()

    @property
    def held(self) -> list[Range]:
        """Ranges of bytes that are here, in order."""
        with self._lock:
            return [(0, self.size)] if self._state is _State.PUBLISHED else list(self._held)

    @property
    def committed(self) -> list[Range]:
        """Ranges of bytes that are here and will be after a crash, in order."""
        with self._lock:
            return [(0, self.size)] if self._state is _State.PUBLISHED else list(self._committed)

    @property
    def held_bytes(self) -> int:
        """How many bytes are here."""
        return sum(end - start for start, end in self.held)

    @property
    def was_claimed(self) -> bool:
        """Whether the ledger knows of it."""
        with self._lock:
            return self.kept and self._claimed

    @property
    def uncommitted_bytes(self) -> int:
        """Bytes that a crash would take."""
        with self._lock:
            return (
                0 if self._state is _State.PUBLISHED else self._held.total_bytes - self._committed.total_bytes
            )

    @property
    def missing(self) -> list[Range]:
        """Ranges of bytes still to come, in order."""
        with self._lock:
            return [] if self._state is _State.PUBLISHED else self._held.missing(0, self.size)

    def write(self, offset: int, data: bytes) -> None:
        """Take bytes at any offset; those held already are left as they are.

        Raises OutOfBounds, StorageFull, IncomingClosed.
        """
        end = offset + len(data)
        if offset < 0 or end > self.size:
            raise OutOfBounds(f"bytes {offset} to {end} of an object of {self.size} bytes")
        with self._lock:
            if self._state in (_State.PUBLISHED, _State.FINISHING):
                return
            if self._state is not _State.OPEN:
                raise IncomingClosed(f"object {self.digest[:12]} is not being received any more")
            gaps = self._held.missing(offset, end)
            if len(self._held) >= PARTS_MAX and not self._joins(offset, end):
                raise OutOfBounds(f"more than {PARTS_MAX} separate parts of an object")
            fresh = sum(stop - start for start, stop in gaps)
            self._shelf.reserve(fresh)
            try:
                descriptor = self._opened()
                for start, stop in gaps:
                    _write(descriptor, start, memoryview(data)[start - offset : stop - offset])
            except BaseException as error:
                self._shelf.reserve(-fresh)
                if isinstance(error, OSError):
                    raise_full(error)
                raise
            self._held.add(offset, end)

    def _joins(self, start: int, end: int) -> bool:
        """Whether [start, end) touches a range that is held, and so adds no further one."""
        return any(a <= end and start <= b for a, b in self._held)

    def commit(self) -> None:
        """Make what is held survive a crash. Takes as long as the disk; others may write meanwhile.

        Nothing happens to one that is not kept, or is published or dropped. Raises StorageFull and
        StoreError; then what was not committed is not held any more.
        """
        with self._settling:
            self._commit()

    def _commit(self) -> None:
        with self._lock:
            held = tuple(self._held)
            if not self.kept or self._state is not _State.OPEN or held == tuple(self._committed):
                return
            descriptor = self._opened()
        try:
            os.fdatasync(descriptor)
            self._claimed = True
            self._shelf.claim(self, held)
        except BaseException as error:
            with self._lock:
                # Nobody knows what of it has reached the disk.
                self._shelf.reserve(self._committed.total_bytes - self._held.total_bytes)
                self._held = RangeSet(self._committed)
                self._prefix = _Prefix()
            if isinstance(error, OSError):
                raise_full(error)
            raise
        with self._lock:
            self._committed = RangeSet(held)

    def hash_ahead(self) -> None:
        """Hash bytes that are held from the start on, HASH_AHEAD_BYTES at most: `finish` has less to do then.

        Others may write and commit meanwhile. What cannot be read is left to `finish`.
        """
        with self._hashing, suppress(OSError):
            with self._lock:
                prefix = self._prefix
                gaps = self._held.missing(prefix.end, self.size)
                held_end = gaps[0][0] if gaps else self.size
                if self._state is not _State.OPEN or held_end <= prefix.end:
                    return
                # Of its own, as the object may rest, or be dropped, meanwhile.
                file = io.FileIO(self.path)
            with file:
                prefix.extend(file.fileno(), min(held_end, prefix.end + HASH_AHEAD_BYTES))

    def rest(self) -> None:
        """Commit, and let go of the file until more bytes come. Raises as `commit`."""
        with self._settling:
            self._commit()
            with self._lock:
                saved = self._held.total_bytes == self._committed.total_bytes
                if self.kept and saved and self._state is _State.OPEN:
                    self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> None:
        """Publish the object if every byte is here and the digest agrees. Again after success: nothing.

        Raises OutOfBounds while bytes are missing (they may still come), DigestMismatch (the bytes are
        removed) and IncomingClosed.
        """
        with self._settling:
            if not self._whole():
                return
            assert self._file is not None
            try:
                if self._sha256(self._file.fileno()) != self.digest:
                    self._drop(_State.MISMATCHED)
                    raise DigestMismatch(f"the bytes received are not object {self.digest}")
                os.fsync(self._file.fileno())
                self._shelf.publish(self.path, self.digest, self.size)
            except OSError as error:
                self._drop(_State.DISCARDED)
                raise_full(error)
            with self._lock:
                self._state = _State.PUBLISHED
                self._shut()
            self._shelf.reserve(-self.size)
            self._shelf.ended(self, mismatched=False)

    def _sha256(self, descriptor: int) -> Digest:
        with self._hashing:
            self._prefix.extend(descriptor, self.size)
            return self._prefix.sha256.hexdigest()

    def _whole(self) -> bool:
        """Claims the right to publish. False if it is published already."""
        with self._lock:
            if self._state is _State.PUBLISHED:
                return False
            if self._state is _State.MISMATCHED:
                raise DigestMismatch(f"the bytes received are not object {self.digest}")
            if self._state is _State.DISCARDED:
                raise IncomingClosed(f"object {self.digest[:12]} is not being received any more")
            gaps = self._held.missing(0, self.size)
            if gaps:
                raise OutOfBounds(f"bytes {gaps[0][0]} to {gaps[0][1]} of {self.digest[:12]} are missing")
            self._opened()
            self._state = _State.FINISHING
            return True

    def discard(self, *, wait: bool = True) -> bool:
        """Drop what was received; whether that was so. Nothing happens to an object that is published.

        Without `wait`, nor to one that is just being synced or hashed.
        """
        if not self._settling.acquire(blocking=wait):
            return False
        try:
            if self._state is not _State.OPEN:
                return False
            self._drop(_State.DISCARDED)
            return True
        finally:
            self._settling.release()

    def release(self) -> None:
        """The store closes: what is committed stays for the next time, what is not kept goes."""
        if not self.kept:
            self.discard()
            return
        with suppress(OSError, StoreError):
            self.commit()
        with self._settling, self._lock:
            self._shut()
            self._state = _State.DISCARDED

    def _drop(self, state: _State) -> None:
        with self._lock:
            self._state = state
            self._shut()
            self.path.unlink(missing_ok=True)
            held = self._held.total_bytes
        self._shelf.reserve(-held)
        self._shelf.ended(self, mismatched=state is _State.MISMATCHED)


def _write(descriptor: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        offset += written
        data = data[written:]
