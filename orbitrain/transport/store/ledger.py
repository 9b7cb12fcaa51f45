"""What a store knows of objects that are still arriving: their bytes that are on disk, and who will name
them.

One small SQLite database beside the objects. A range of bytes is written here after the bytes have been
synced, so what it claims is there, whenever the process or the power went; what it does not claim comes
again. Which letters an object is expected for is not synced at once: power loss may cost a repeat, never a
byte that is not there.

Calls may come from several threads.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orbitrain.machine import Digest
from orbitrain.transport.expected import LINGER_NS, Box, Changes, Expectations, Expected
from orbitrain.transport.objects import Range
from orbitrain.transport.store.errors import StorageFull, StoreError
from orbitrain.transport.store.journal import open_database, transaction

SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE parts (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    source TEXT NOT NULL,
    held BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE expected (
    source TEXT NOT NULL,
    role TEXT NOT NULL,
    lane INTEGER NOT NULL,
    digest TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    expires_at_ns INTEGER NOT NULL,
    PRIMARY KEY (source, role, lane, digest)
);
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A partial object: the file's name, what it is of, whose it is ("" for everybody's), its bytes on
    disk."""

    name: str
    digest: Digest
    size: int
    source: str
    held: tuple[Range, ...]


class Ledger:
    """Opened, used and closed by one `BlobStore`, which holds the lock."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError for a file that is not a ledger of this version, or is damaged."""
        self._lock = threading.Lock()
        self._db, _ = open_database(path, "normal", SCHEMA_VERSION, _TABLES)
        try:
            self._expected = self._load()
            self.parts = self._load_parts()
            """The partial objects that were there at the start."""
        except (sqlite3.Error, ValueError, struct.error) as error:
            self._db.close()
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        """Whoever calls later, from another thread, gets a StoreError."""
        with self._lock:
            self._db.close()

    def _load(self) -> Expectations:
        rows = self._db.execute(
            "SELECT digest, source, incarnation, role, lane, sequence, expires_at_ns FROM expected"
            " ORDER BY rowid"
        )
        return Expectations((digest, Expected(*named)) for digest, *named in rows)

    def _load_parts(self) -> list[Part]:
        rows = self._db.execute("SELECT name, digest, size, source, held FROM parts ORDER BY name").fetchall()
        return [Part(name, digest, size, source, unpacked(held)) for name, digest, size, source, held in rows]

    @contextmanager
    def _write(self, *, synced: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction. The caller holds the lock."""
        try:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        except sqlite3.Error as error:
            raise StoreError(f"the ledger cannot be written: {error}") from error
        try:
            with transaction(self._db) as db:
                yield db
        except StoreError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull("the disk is full") from error
            raise

    # -------------------------------------------------------------------------------- partial objects

    def claim(self, part: Part) -> None:
        """These bytes of a file are on disk; durable on return. The caller has synced the file."""
        with self._lock, self._write(synced=True) as db:
            db.execute(
                "INSERT OR REPLACE INTO parts (name, digest, size, source, held) VALUES (?, ?, ?, ?, ?)",
                (part.name, part.digest, part.size, part.source, packed(part.held)),
            )

    def drop(self, name: str) -> None:
        """The file is gone, or about to go."""
        with self._lock, self._write() as db:
            db.execute("DELETE FROM parts WHERE name = ?", (name,))

    # ------------------------------------------------------------------------------ letters to come

    def expect(self, letter: Expected, digests: Iterable[Digest], oldest: int = 0) -> None:
        """Keep these objects for a letter (`Expectations.expect`)."""
        with self._lock:
            self._put(self._expected.expect(letter, digests, oldest))

    def settled(self, box: Box, sequence: int) -> None:
        """A letter of a mailbox has ended here (`Expectations.settled`)."""
        with self._lock:
            self._put(self._expected.settled(box, sequence))

    def forget(self, source: str) -> None:
        """Nothing is expected of a source any more."""
        with self._lock:
            self._put(self._expected.forget(source))

    def _put(self, changed: Changes) -> None:
        """Write down what is expected now of some mailboxes. The caller holds the lock."""
        if not changed:
            return
        with self._write() as db:
            db.executemany("DELETE FROM expected WHERE source = ? AND role = ? AND lane = ?", list(changed))
            db.executemany(
                "INSERT INTO expected (source, incarnation, role, lane, sequence, expires_at_ns, digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (e.source, e.incarnation, e.role, e.lane, e.sequence, e.expires_at_ns, digest)
                    for found in changed.values()
                    for digest, e in found.items()
                ],
            )

    def letters(self) -> list[tuple[Digest, Expected]]:
        """Every object that is expected, with the letter it is for."""
        with self._lock:
            return self._expected.letters()

    def is_expected(self, source: str, digest: Digest) -> bool:
        """Whether a source has offered an object for a letter to come."""
        with self._lock:
            return self._expected.has(source, digest)

    def expected(self, now_ns: int, linger_ns: int = LINGER_NS) -> set[Digest]:
        """Objects to keep at scenario time `now_ns`, `linger_ns` longer than their letters."""
        with self._lock:
            return self._expected.digests(now_ns, linger_ns)


def packed(ranges: Iterable[Range]) -> bytes:
    """Ranges as they are kept: two big-endian 64-bit numbers each."""
    return b"".join(struct.pack(">QQ", start, end) for start, end in ranges)


def unpacked(data: bytes) -> tuple[Range, ...]:
    """Raises ValueError for what `packed` does not make."""
    if len(data) % 16:
        raise ValueError("ranges that are cut short")
    ranges = tuple(struct.iter_unpack(">QQ", data))
    if any(not start < end for start, end in ranges):
        raise ValueError("ranges that are none")
    return ranges
