"""Objects as files named by their SHA-256: whole or absent, and durable before anyone is told of them.

A partial object is durable too, as far as its bytes are committed: it goes on after a restart, and whoever
has bytes of the object may add them.

    FOLDER/lock                 held while the store is open
    FOLDER/objects/ab/cdef...   whole objects
    FOLDER/incoming/            objects on their way in
    FOLDER/ledger.sqlite        which bytes of those are on disk, and for which letters objects are kept
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
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

from orbitrain.machine import Digest
from orbitrain.transport.expected import LINGER_NS, Expected
from orbitrain.transport.objects import Range
from orbitrain.transport.store.errors import ObjectTooLarge, StorageFull, StoreError
from orbitrain.transport.store.folders import sync_folder
from orbitrain.transport.store.incoming import Incoming, raise_full, sha256_of
from orbitrain.transport.store.ledger import Ledger, Part
from orbitrain.transport.store.lock import Lock

OBJECT_BYTES_MAX = 4 * 1024**3
"""Largest object: a bigger one crosses no contact of any plan, and a claim of one is a mistake or worse."""

QUOTA_BYTES = 64 * 1024**3
"""Objects and partial ones of a store whose owner sets no quota: a ground node's disk; boards set one."""

INCOMING_PER_SOURCE_MAX = 8
"""Objects of one source that are received for it alone, not beyond this process. Each is an open file."""

PARTIAL_MAX = 256
"""Partial objects that are kept: those of a few dozen peers, each with one for every lane."""

PARTIAL_SHARE = 0.5
"""Of a store's quota that partial objects may come to: the rest is for what is whole and in use."""

APART_MAX = 256
"""Objects whose mixed bytes were wrong, and that are therefore received from each source apart."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


class BlobStore:
    """The objects of one node."""

    def __init__(
        self, folder: Path, quota_bytes: int = QUOTA_BYTES, partial_quota_bytes: int | None = None
    ) -> None:
        """Opens or makes the store. `quota_bytes` bounds whole and partial objects together.

        `partial_quota_bytes` bounds what the partial objects that are kept come to once they are whole, so
        that each that was begun can be finished; without it, PARTIAL_SHARE of the other. Raises StoreLocked
        if the store is open already.
        """
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.partial_quota_bytes = partial_quota_bytes or int(quota_bytes * PARTIAL_SHARE)
        folder.mkdir(parents=True, exist_ok=True)
        self._held = Lock(folder / "lock")
        self._objects = folder / "objects"
        self._arriving = folder / "incoming"
        self._scratch = folder / "scratch"
        if self._scratch.exists():
            shutil.rmtree(self._scratch)
        for needed in (self._objects, self._arriving, self._scratch):
            needed.mkdir(exist_ok=True)
        self.remarks: list[str] = []
        """What was found wrong at open, a line each."""
        try:
            self._ledger = self._open_ledger(folder / "ledger.sqlite")
        except StoreError:
            self._held.close()
            raise
        # Guards what follows; taken after an Incoming's own lock, never before it.
        self._lock = threading.RLock()
        self._sizes: dict[Digest, int] = {}
        self._total_bytes = 0
        self._partial_bytes = 0
        self._serial = 0
        self._incoming: dict[str, dict[tuple[Digest, int], Incoming]] = {}
        self._partial: dict[str, Incoming] = {}
        self._owners: dict[str, str] = {}
        self._apart: dict[tuple[Digest, int], None] = {}
        for shelf in sorted(self._objects.iterdir()):
            for path in sorted(shelf.iterdir()):
                digest = shelf.name + path.name
                if is_digest(digest):
                    self._sizes[digest] = path.stat().st_size
        self._total_bytes = sum(self._sizes.values())
        self._take_up()

    def _open_ledger(self, path: Path) -> Ledger:
        """A ledger that cannot be read costs repeats, no object: what it spoke of is begun anew."""
        try:
            return Ledger(path)
        except StoreError as error:
            self.remarks.append(f"partial objects are begun anew: {error}")
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return Ledger(path)

    def _take_up(self) -> None:
        """Go on with the partial objects that the ledger and the folder agree on; the rest is removed."""
        for part in self._ledger.parts:
            path = self._arriving / part.name
            wanted = max((end for _, end in part.held), default=0)
            there = path.is_file() and wanted <= path.stat().st_size and wanted <= part.size
            if not there or part.digest in self._sizes or not is_digest(part.digest):
                self._ledger.drop(part.name)
                continue
            self._partial[part.name] = Incoming(self, part.digest, part.size, path, kept=True, held=part.held)
            self._owners[part.name] = part.source
            self._partial_bytes += self._partial[part.name].held_bytes
        for path in self._arriving.iterdir():
            if path.name not in self._partial:
                path.unlink()

    def close(self) -> None:
        """Release the lock. Partial objects that are kept are committed first, the others dropped."""
        with self._lock:
            partial = [each for group in self._incoming.values() for each in group.values()]
            partial += self._partial.values()
        for incoming in partial:
            incoming.release()
        self._ledger.close()
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

    def check_whole(self, size: int) -> None:
        """Raises ObjectTooLarge and StorageFull where `adopt` would, for an object of so many bytes."""
        self._check_room(size)

    def put(self, data: bytes) -> Digest:
        """Keep these bytes; durable on return. Raises ObjectTooLarge, StorageFull."""
        with self._lock:
            self._serial += 1
            path = self._arriving / f"put.{self._serial}"
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise_full(error)
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
            digest = sha256_of(file)
            if not self.has(digest):
                os.fsync(file.fileno())
        self.publish(path, digest, size)
        return digest

    def incoming(self, digest: Digest, size: int, source: str = "") -> Incoming:
        """The object as it arrives from `source` alone: a new one, or the one that the source began before.

        It does not outlive the process. Raises ObjectTooLarge, StorageFull, and ValueError for what is no
        digest or no size.
        """
        self._check_claim(digest, size)
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

    def shared(self, digest: Digest, size: int, source: str) -> Incoming:
        """The object as it arrives from whoever has bytes of it, across restarts.

        Bytes of several sources that made no object when put together have to come from each source apart:
        then one source cannot spoil it for another again. Raises as `incoming`.
        """
        with self._lock:
            name, owner = self._part_name(digest, size, source)
            found = self._partial.get(name)
            if found is None:
                self._check_partial(digest, size)
                found = Incoming(self, digest, size, self._arriving / name, kept=True)
                self._partial[name], self._owners[name] = found, owner
            return found

    def check_room(self, digest: Digest, size: int, source: str) -> None:
        """Raises as `shared` would, without beginning anything."""
        with self._lock:
            if self._part_name(digest, size, source)[0] not in self._partial:
                self._check_partial(digest, size)

    def _check_partial(self, digest: Digest, size: int) -> None:
        self._check_claim(digest, size)
        if len(self._partial) >= PARTIAL_MAX:
            raise StorageFull(f"no room for more than {PARTIAL_MAX} partial objects")
        begun_bytes = sum(each.size for each in self._partial.values())
        if begun_bytes + size > self.partial_quota_bytes:
            raise StorageFull(
                f"no room for a partial object of {size} bytes beside those of {begun_bytes} "
                f"within their quota of {self.partial_quota_bytes}"
            )

    def partial(self, digest: Digest, size: int, source: str) -> Incoming | None:
        """As `shared`, without beginning one."""
        with self._lock:
            return self._partial.get(self._part_name(digest, size, source)[0])

    def _part_name(self, digest: Digest, size: int, source: str) -> tuple[str, str]:
        """The file's name, and the source that it is of: "" for all."""
        if (digest, size) not in self._apart:
            return f"{digest}-{size}", ""
        return f"{digest}-{size}-{hashlib.sha256(source.encode()).hexdigest()[:16]}", source

    # --------------------------------------------------------------------------- letters to come

    def expect(self, letter: Expected, digests: Iterable[Digest], oldest: int = 0) -> None:
        """Keep these objects, and bytes of them, for a letter to come. See `Ledger.expect`. Raises
        StoreError."""
        self._ledger.expect(letter, digests, oldest)

    def settled(self, source: str, role: str, lane: int, sequence: int) -> None:
        """A letter has ended here: nothing is kept for it, nor for earlier ones of its mailbox."""
        self._ledger.settled((source, role, lane), sequence)

    def unexpect(self, source: str) -> None:
        """No letter of a source is to come."""
        self._ledger.forget(source)

    def letters(self) -> list[tuple[Digest, Expected]]:
        """Every object that is expected, with the letter it is for."""
        return self._ledger.letters()

    def parts(self) -> list[tuple[Digest, int, int]]:
        """The partial objects that are kept: (digest, bytes, bytes committed)."""
        with self._lock:
            kept = list(self._partial.values())
        return [(one.digest, one.size, sum(b - a for a, b in one.committed)) for one in kept]

    def is_expected(self, source: str, digest: Digest) -> bool:
        """Whether a source has offered an object for a letter to come."""
        return self._ledger.is_expected(source, digest)

    def expected(self, now_ns: int, linger_ns: int = LINGER_NS) -> set[Digest]:
        """Objects to keep at scenario time `now_ns` for letters to come, `linger_ns` longer than those."""
        return self._ledger.expected(now_ns, linger_ns)

    # ----------------------------------------------------------------------------------- removing

    def verify(self, digest: Digest) -> bool:
        """Whether a whole object still is what its name says; one that is not, or cannot be read, is removed.

        Raises KeyError if it is not here. Takes as long as reading it does.
        """
        path = self.path(digest)
        with suppress(OSError), io.FileIO(path) as file:
            if sha256_of(file) == digest:
                return True
        with self._lock:
            path.unlink(missing_ok=True)
            self._total_bytes -= self._sizes.pop(digest, 0)
        return False

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

    def collect_partial(self, needed: Set[Digest]) -> int:
        """Drop the partial objects that are kept and are not needed, or are whole by now.

        Returns the bytes freed. One that is just being synced or hashed stays until the next time.
        """
        with self._lock:
            dropped = [
                each
                for each in self._partial.values()
                if each.digest not in needed or each.digest in self._sizes
            ]
        freed = 0
        for incoming in dropped:
            held_bytes = incoming.held_bytes
            if incoming.discard(wait=False):  # takes its own lock, hence not under ours
                freed += held_bytes
        return freed

    # ------------------------------------------------------------------------- for Incoming's use

    def _check_claim(self, digest: Digest, size: int) -> None:
        if not is_digest(digest) or size < 0:
            raise ValueError("not the name of an object")
        self._check_room(size)

    def _check_room(self, size: int) -> None:
        if size > OBJECT_BYTES_MAX:
            raise ObjectTooLarge(f"an object of {size} bytes; the largest is {OBJECT_BYTES_MAX}")
        with self._lock:
            if self._total_bytes + self._partial_bytes + size > self.quota_bytes:
                raise StorageFull(f"no room for {size} bytes within the quota of {self.quota_bytes}")

    def reserve(self, nbytes: int) -> None:
        """See `Shelf`."""
        with self._lock:
            if nbytes > 0 and self._total_bytes + self._partial_bytes + nbytes > self.quota_bytes:
                raise StorageFull(f"no room for {nbytes} bytes within the quota of {self.quota_bytes}")
            self._partial_bytes += nbytes

    def claim(self, incoming: Incoming, held: tuple[Range, ...]) -> None:
        """See `Shelf`."""
        name = incoming.path.name
        if not incoming.committed:
            sync_folder(self._arriving)
        self._ledger.claim(Part(name, incoming.digest, incoming.size, self._owners.get(name, ""), held))

    def publish(self, path: Path, digest: Digest, size: int) -> None:
        """See `Shelf`. If the object is here already, only remove the file."""
        with self._lock:
            if digest in self._sizes:
                path.unlink(missing_ok=True)
                return
            target = self._path(digest)
            with suppress(FileExistsError):
                target.parent.mkdir()
                sync_folder(self._objects)
            path.rename(target)
            sync_folder(target.parent)
            self._sizes[digest] = size
            self._total_bytes += size

    def ended(self, incoming: Incoming, *, mismatched: bool) -> None:
        """See `Shelf`."""
        name = incoming.path.name
        with self._lock:
            for source, group in list(self._incoming.items()):
                if group.get((incoming.digest, incoming.size)) is incoming:
                    del group[incoming.digest, incoming.size]
                if not group:
                    del self._incoming[source]
            if self._partial.get(name) is not incoming:
                return
            del self._partial[name], self._owners[name]
            if mismatched:
                self._apart[incoming.digest, incoming.size] = None
                if len(self._apart) > APART_MAX:
                    del self._apart[next(iter(self._apart))]
        if incoming.was_claimed:
            with suppress(StoreError):  # a line without a file is struck at the next open
                self._ledger.drop(name)
