"""Objects as files named by their SHA-256: whole or absent, and durable before anyone is told of them.

    FOLDER/lock                 held while the store is open
    FOLDER/objects/ab/cdef...   whole objects
    FOLDER/incoming/            objects on their way in; emptied at open
    FOLDER/scratch/             for the outputs of workers; emptied at open

Methods may be called from several threads of one process; those that hash or fsync take milliseconds and
belong off the event loop.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import threading
from collections.abc import Set
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import NoReturn

from orbitrain.machine import Digest
from orbitrain.transport.objects import Range, RangeSet
from orbitrain.transport.store.errors import (
    DigestMismatch,
    IncomingClosed,
    ObjectTooLarge,
    OutOfBounds,
    StorageFull,
)
from orbitrain.transport.store.lock import Lock

OBJECT_BYTES_MAX = 4 * 1024**3
"""Largest object: a bigger one crosses no contact of any plan, and a claim of one is a mistake or worse."""

QUOTA_BYTES = 64 * 1024**3
"""Objects and partial ones of a store whose owner sets no quota: a ground node's disk; boards set one."""

PARTS_MAX = 1024
"""Separate ranges of one partial object: a sender goes in order, so few; this bounds the list's memory."""

INCOMING_PER_SOURCE_MAX = 8
"""Partial objects of one source: one is under way, others wait for a contact. Each is an open file."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: io.FileIO) -> Digest:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _raise_full(error: OSError) -> NoReturn:
    """An OSError of a write, as StorageFull where that is what it says."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StorageFull("the disk is full") from error
    raise error


class _State(Enum):
    OPEN = auto()
    PUBLISHED = auto()
    DISCARDED = auto()
    MISMATCHED = auto()


class Incoming:
    """One object being received. Made by `BlobStore.incoming`.

    A byte that is held is never written again, so what `finish` has hashed is what it publishes, whatever
    another writer of the same object does meanwhile.
    """

    def __init__(self, store: BlobStore, digest: Digest, size: int, path: Path) -> None:
        self.digest = digest
        self.size = size
        self._store = store
        self._path = path
        self._held = RangeSet()
        self._lock = threading.Lock()
        self._state = _State.OPEN
        self._file = io.FileIO(path, "x+")

    @property
    def held(self) -> list[Range]:
        """Ranges of bytes that are here, in order."""
        with self._lock:
            return [(0, self.size)] if self._state is _State.PUBLISHED else list(self._held)

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
            if self._state is _State.PUBLISHED:
                return
            if self._state is not _State.OPEN:
                raise IncomingClosed(f"object {self.digest[:12]} is not being received any more")
            gaps = self._held.missing(offset, end)
            if len(self._held) >= PARTS_MAX and not self._joins(offset, end):
                raise OutOfBounds(f"more than {PARTS_MAX} separate parts of an object")
            self._store._reserve(sum(stop - start for start, stop in gaps))
            try:
                for start, stop in gaps:
                    self._write(start, memoryview(data)[start - offset : stop - offset])
            except OSError as error:
                self._store._reserve(-sum(stop - start for start, stop in gaps))
                _raise_full(error)
            self._held.add(offset, end)

    def _joins(self, start: int, end: int) -> bool:
        """Whether [start, end) touches a range that is held, and so adds no further one."""
        return any(a <= end and start <= b for a, b in self._held)

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            offset += written
            data = data[written:]

    def finish(self) -> None:
        """Publish the object if every byte is here and the digest agrees. Again after success: nothing.

        Raises OutOfBounds while bytes are missing (they may still come), DigestMismatch (the bytes are
        removed) and IncomingClosed.
        """
        with self._lock:
            if self._state is _State.PUBLISHED:
                return
            if self._state is _State.MISMATCHED:
                raise DigestMismatch(f"the bytes received are not object {self.digest}")
            if self._state is _State.DISCARDED:
                raise IncomingClosed(f"object {self.digest[:12]} is not being received any more")
            gaps = self._held.missing(0, self.size)
            if gaps:
                raise OutOfBounds(f"bytes {gaps[0][0]} to {gaps[0][1]} of {self.digest[:12]} are missing")
            if _sha256(self._file) != self.digest:
                self._drop(_State.MISMATCHED)
                raise DigestMismatch(f"the bytes received are not object {self.digest}")
            try:
                os.fsync(self._file.fileno())
                self._store._publish(self._path, self.digest, self.size)
            except OSError as error:
                self._drop(_State.DISCARDED)
                _raise_full(error)
            self._state = _State.PUBLISHED
            self._file.close()
            self._store._reserve(-self.size)
            self._store._ended(self)

    def discard(self) -> None:
        """Drop what was received. Nothing happens to an object that is published."""
        with self._lock:
            if self._state is _State.OPEN:
                self._drop(_State.DISCARDED)

    def _drop(self, state: _State) -> None:
        self._state = state
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._store._reserve(-self._held.total_bytes)
        self._store._ended(self)


class BlobStore:
    """The objects of one node."""

    def __init__(self, folder: Path, quota_bytes: int = QUOTA_BYTES) -> None:
        """Opens or makes the store. `quota_bytes` bounds whole and partial objects together.

        Raises StoreLocked if it is open already.
        """
        self.folder = folder
        self.quota_bytes = quota_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._held = Lock(folder / "lock")
        self._objects = folder / "objects"
        self._arriving = folder / "incoming"
        self._scratch = folder / "scratch"
        for leftover in (self._arriving, self._scratch):
            if leftover.exists():
                shutil.rmtree(leftover)
            leftover.mkdir()
        self._objects.mkdir(exist_ok=True)
        # Guards what follows; taken after an Incoming's own lock, never before it.
        self._lock = threading.RLock()
        self._sizes: dict[Digest, int] = {}
        self._total_bytes = 0
        self._partial_bytes = 0
        self._serial = 0
        self._incoming: dict[str, dict[tuple[Digest, int], Incoming]] = {}
        for shelf in sorted(self._objects.iterdir()):
            for path in sorted(shelf.iterdir()):
                digest = shelf.name + path.name
                if is_digest(digest):
                    self._sizes[digest] = path.stat().st_size
        self._total_bytes = sum(self._sizes.values())

    def close(self) -> None:
        """Release the lock. Partial objects are dropped: they are not found again at the next open."""
        with self._lock:
            partial = [each for group in self._incoming.values() for each in group.values()]
        for incoming in partial:
            incoming.discard()
        self._held.close()

    @property
    def scratch(self) -> Path:
        """A folder on the same file system for the outputs of workers; emptied at open."""
        return self._scratch

    # ------------------------------------------------------------------------------------ looking

    def _path(self, digest: Digest) -> Path:
        return self._objects / digest[:2] / digest[2:]

    def path(self, digest: Digest) -> Path:
        """The file of an object. Raises KeyError if it is not here."""
        self.size(digest)
        return self._path(digest)

    def size(self, digest: Digest) -> int:
        """Bytes of an object. Raises KeyError if it is not here."""
        with self._lock:
            return self._sizes[digest]

    def has(self, digest: Digest) -> bool:
        with self._lock:
            return digest in self._sizes

    def digests(self) -> set[Digest]:
        with self._lock:
            return set(self._sizes)

    def total_bytes(self) -> int:
        """Bytes of all whole objects."""
        with self._lock:
            return self._total_bytes

    # ------------------------------------------------------------------------------------- adding

    def put(self, data: bytes) -> Digest:
        """Keep these bytes; durable on return. Raises ObjectTooLarge, StorageFull."""
        with self._lock:
            self._serial += 1
            path = self._arriving / f"put.{self._serial}"
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            _raise_full(error)
        try:
            return self.adopt(path)
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, path: Path) -> Digest:
        """Take over a finished file of this file system; durable on return, and gone from where it was.

        Raises ObjectTooLarge and StorageFull, which leave it there, and OSError if it is no regular file.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with io.FileIO(descriptor, "r") as file:
            if not path.is_file():
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            size = os.fstat(file.fileno()).st_size
            self._check_room(size)
            digest = _sha256(file)
            if not self.has(digest):
                os.fsync(file.fileno())
        self._publish(path, digest, size)
        return digest

    def incoming(self, digest: Digest, size: int, source: str = "") -> Incoming:
        """The object as it arrives from `source`: a new one, or the one that the source began before.

        Sources do not share partial objects, so that none can spoil another's. Raises ObjectTooLarge,
        StorageFull, and ValueError for what is no digest or no size.
        """
        if not is_digest(digest) or size < 0:
            raise ValueError("not the name of an object")
        self._check_room(size)
        while True:
            with self._lock:
                group = self._incoming.setdefault(source, {})
                found = group.pop((digest, size), None)
                if found is None and len(group) < INCOMING_PER_SOURCE_MAX:
                    self._serial += 1
                    found = Incoming(self, digest, size, self._arriving / f"{digest}.{self._serial}")
                if found is not None:
                    group[digest, size] = found  # now the one used last
                    return found
                oldest = next(iter(group.values()))
            oldest.discard()  # takes its own lock, hence not under ours

    def partial(self, digest: Digest, size: int, source: str = "") -> list[Range]:
        """What is held of an object on its way from `source`, without beginning one."""
        with self._lock:
            found = self._incoming.get(source, {}).get((digest, size))
        return [] if found is None else found.held

    # ----------------------------------------------------------------------------------- removing

    def collect(self, needed: Set[Digest]) -> int:
        """Delete the objects that are not needed; returns the bytes freed.

        Whatever may be named later must be in `needed`: also objects that arrived before their letter.
        """
        freed = 0
        with self._lock:
            for digest in [digest for digest in self._sizes if digest not in needed]:
                self._path(digest).unlink(missing_ok=True)
                freed += self._sizes.pop(digest)
            self._total_bytes -= freed
        return freed

    # ------------------------------------------------------------------------- for Incoming's use

    def _check_room(self, size: int) -> None:
        if size > OBJECT_BYTES_MAX:
            raise ObjectTooLarge(f"an object of {size} bytes; the largest is {OBJECT_BYTES_MAX}")
        with self._lock:
            if self._total_bytes + self._partial_bytes + size > self.quota_bytes:
                raise StorageFull(f"no room for {size} bytes within the quota of {self.quota_bytes}")

    def _reserve(self, nbytes: int) -> None:
        """Count bytes of partial objects; negative to let go."""
        with self._lock:
            if nbytes > 0 and self._total_bytes + self._partial_bytes + nbytes > self.quota_bytes:
                raise StorageFull(f"no room for {nbytes} bytes within the quota of {self.quota_bytes}")
            self._partial_bytes += nbytes

    def _publish(self, path: Path, digest: Digest, size: int) -> None:
        """Move a synced file into its place. If the object is here already, only remove the file."""
        with self._lock:
            if digest in self._sizes:
                path.unlink(missing_ok=True)
                return
            target = self._path(digest)
            with suppress(FileExistsError):
                target.parent.mkdir()
                _sync_folder(self._objects)
            path.rename(target)
            _sync_folder(target.parent)
            self._sizes[digest] = size
            self._total_bytes += size

    def _ended(self, incoming: Incoming) -> None:
        with self._lock:
            for source, group in list(self._incoming.items()):
                if group.get((incoming.digest, incoming.size)) is incoming:
                    del group[incoming.digest, incoming.size]
                if not group:
                    del self._incoming[source]
