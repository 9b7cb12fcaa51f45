"""A node's journal: every step in one transaction of SQLite (WAL), the truth that a restart goes on from.

`sync` is "full": a commit survives loss of power; or "normal": it survives the death of the process, and
power loss may take the last ones. Calls may come from any thread, one at a time: the caller serialises them
(the driver has one thread for it).
"""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from orbitrain.machine import Digest, Fate, Severity
from orbitrain.mailbox import Letter, Mark, Outcome
from orbitrain.step import DeadLetter, Durable, Event, Job, Snapshot, Step, canonical_json
from orbitrain.transport.store.errors import StoreError
from orbitrain.transport.store.lock import Lock
from orbitrain.v1 import operator_pb2

Sync: TypeAlias = Literal["full", "normal"]

SCHEMA_VERSION = 1

PAGE_ROWS_MAX = 2000
"""Events, and metrics, of one page for the operator: some hundred milliseconds of a small board's time."""

PAGE_BYTES_MAX = 2 * 1024 * 1024
"""Bytes of one page: half of what a gRPC message may hold, so that the last row cannot overflow it."""

EVENT_FIELDS_BYTES_MAX = 1024 * 1024
"""Fields of one event as a page carries them; larger ones are left out of the page, which says so."""

WAL_BYTES_KEPT = 16 * 1024 * 1024
"""Size to which the write-ahead log is cut back after a checkpoint: a board's flash is small."""

_TABLES = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE node (
    incarnation TEXT NOT NULL,
    committed_ns INTEGER NOT NULL,
    reported TEXT NOT NULL
);
CREATE TABLE snapshots (
    role TEXT PRIMARY KEY,
    state BLOB NOT NULL,
    schema INTEGER NOT NULL,
    objects TEXT NOT NULL
);
CREATE TABLE letters (
    position INTEGER PRIMARY KEY,
    sender_role TEXT NOT NULL,
    key TEXT NOT NULL,
    destination TEXT NOT NULL,
    role TEXT NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    objects TEXT NOT NULL,
    expires_at_ns INTEGER NOT NULL,
    cancelled TEXT,
    UNIQUE (destination, role, lane, sequence)
);
CREATE TABLE sequences (
    position INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    role TEXT NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    UNIQUE (destination, role, lane)
);
CREATE TABLE marks (
    position INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    role TEXT NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (source, role, lane)
);
CREATE TABLE jobs (
    position INTEGER PRIMARY KEY,
    role TEXT NOT NULL,
    job TEXT NOT NULL,
    kind TEXT NOT NULL,
    params TEXT NOT NULL,
    objects TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    UNIQUE (role, job)
);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    role TEXT NOT NULL,
    severity TEXT NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL,
    objects TEXT NOT NULL
);
CREATE TABLE dead_letters (
    sequence INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE TABLE metrics (
    sequence INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL
);
"""

_PUT_SNAPSHOT = "INSERT OR REPLACE INTO snapshots (role, state, schema, objects) VALUES (?, ?, ?, ?)"
_END_LETTER = "DELETE FROM letters WHERE destination = ? AND role = ? AND lane = ? AND sequence = ?"
# An upsert keeps the row's position, so that letters and jobs are read back in the order they were begun.
_PUT_LETTER = """
INSERT INTO letters (sender_role, key, destination, role, lane, sequence, kind, body, objects, expires_at_ns,
                     cancelled)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (destination, role, lane, sequence) DO UPDATE SET
    sender_role = excluded.sender_role, key = excluded.key, kind = excluded.kind, body = excluded.body,
    objects = excluded.objects, expires_at_ns = excluded.expires_at_ns, cancelled = excluded.cancelled
"""
_PUT_SEQUENCE = """
INSERT INTO sequences (destination, role, lane, sequence) VALUES (?, ?, ?, ?)
ON CONFLICT (destination, role, lane) DO UPDATE SET sequence = max(sequence, excluded.sequence)
"""
_PUT_MARK = """
INSERT INTO marks (source, incarnation, role, lane, sequence, outcome, reason) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (source, role, lane) DO UPDATE SET
    incarnation = excluded.incarnation, sequence = excluded.sequence, outcome = excluded.outcome,
    reason = excluded.reason
"""
_END_JOB = "DELETE FROM jobs WHERE role = ? AND job = ?"
_PUT_JOB = """
INSERT INTO jobs (role, job, kind, params, objects, started_ns, duration_ns) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (role, job) DO UPDATE SET
    kind = excluded.kind, params = excluded.params, objects = excluded.objects,
    started_ns = excluded.started_ns, duration_ns = excluded.duration_ns
"""
_ADD_EVENT = "INSERT INTO events (t_ns, role, severity, kind, fields, objects) VALUES (?, ?, ?, ?, ?, ?)"
_ADD_DEAD_LETTER = "INSERT INTO dead_letters (t_ns, role, text, error) VALUES (?, ?, ?, ?)"
_ADD_METRIC = "INSERT INTO metrics (t_ns, name, value) VALUES (?, ?, ?)"


def _text(value: Any) -> str:
    return canonical_json(value).decode("ascii")


def _pairs(text: str) -> tuple[tuple[Digest, int], ...]:
    return tuple((digest, size) for digest, size in json.loads(text))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing. Whatever SQLite has to complain about comes out as StoreError."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StoreError(f"the store cannot be written: {error}") from error


def _check_length(path: Path) -> None:
    """Raises StoreError for a database that has been cut short, which SQLite sees only where it reads.

    One whose write-ahead log is not empty may rightly be: what is missing is in there.
    """
    log = path.with_name(path.name + "-wal")
    if not path.exists() or (log.exists() and log.stat().st_size):
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(100)
    if size == 0 or not header.startswith(b"SQLite format 3\0"):
        return  # a new one; or none, of which SQLite has more to say
    page_bytes = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if size < 100 or size < pages * (65_536 if page_bytes == 1 else page_bytes):
        raise StoreError(f"{path}: cut short to {size} bytes")


def open_database(path: Path, sync: Sync, version: int, tables: str) -> tuple[sqlite3.Connection, bool]:
    """A database of ours, made if absent: (connection, made just now).

    Raises StoreError if the file is no such database, or of a version that is not `version`.
    """
    _check_length(path)
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if sync == 'full' else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        connection.execute("BEGIN IMMEDIATE")
        known = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not known:
            for statement in tables.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))
        elif "schema_version" not in known:
            raise StoreError(f"{path}: not a store of orbitrain")
        found = connection.execute("SELECT version FROM schema_version").fetchone()
        if found is None or found[0] != version:
            have = "none" if found is None else found[0]
            raise StoreError(f"{path}: its schema version is {have}; this program reads version {version}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path}: {error}") from error
    except StoreError:
        connection.close()
        raise
    return connection, not known


class Journal:
    """The journal of one node, locked while it is open."""

    def __init__(self, path: Path, sync: Sync = "full") -> None:
        """Raises StoreLocked, and StoreError for a file that is not a journal of this version."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = Lock(path.with_name(path.name + ".lock"))
        try:
            self._db, _ = open_database(path, sync, SCHEMA_VERSION, _TABLES)
        except StoreError:
            self._lock.close()
            raise
        with transaction(self._db) as db:
            if db.execute("SELECT 1 FROM node").fetchone() is None:
                # A lost disk must be told from a restart: hence chance, and not the node's name.
                db.execute("INSERT INTO node VALUES (?, 0, '[]')", (secrets.token_hex(16),))
            incarnation, reported = db.execute("SELECT incarnation, reported FROM node").fetchone()
        self.incarnation: str = incarnation
        self._reported: str = reported

    def close(self) -> None:
        self._db.close()
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------- the step

    def load(self) -> Durable:
        """What the last committed step left. Raises StoreError if it cannot be read."""
        try:
            return self._load()
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _load(self) -> Durable:
        rows = self._db.execute
        incarnation, committed_ns, reported = rows("SELECT * FROM node").fetchone()
        snapshots = {
            role: Snapshot(state, schema, frozenset(json.loads(objects)))
            for role, state, schema, objects in rows("SELECT * FROM snapshots ORDER BY role")
        }
        letters = tuple(
            Letter(
                sender_role=row[1],
                key=row[2],
                destination=row[3],
                role=row[4],
                lane=row[5],
                sequence=row[6],
                kind=row[7],
                body=row[8],
                objects=_pairs(row[9]),
                expires_at_ns=row[10],
                cancelled=None if row[11] is None else Fate(row[11]),
            )
            for row in rows("SELECT * FROM letters ORDER BY position")
        )
        sequences = tuple(
            rows("SELECT destination, role, lane, sequence FROM sequences ORDER BY position").fetchall()
        )
        marks = tuple(
            Mark(source, incarnation_, role, lane, sequence, Outcome(outcome), reason)
            for _, source, incarnation_, role, lane, sequence, outcome, reason in rows(
                "SELECT * FROM marks ORDER BY position"
            )
        )
        jobs = tuple(
            Job(role, job, kind, json.loads(params), json.loads(objects), started_ns, duration_ns)
            for _, role, job, kind, params, objects, started_ns, duration_ns in rows(
                "SELECT * FROM jobs ORDER BY position"
            )
        )
        return Durable(
            incarnation, committed_ns, snapshots, letters, sequences, marks, jobs, _pairs(reported)
        )

    def commit(self, step: Step, reported: Iterable[tuple[Digest, int]]) -> None:
        """Everything of a step at once; on return it is as durable as `sync` says.

        Fields and parameters are kept as JSON: tuples come back as lists. Raises StoreError, and TypeError
        or ValueError for fields that are no JSON; then nothing of the step is kept.
        """
        kept = _text([list(pair) for pair in reported])
        letters = step.letters.values()
        with transaction(self._db) as db:
            db.executemany(
                _PUT_SNAPSHOT,
                [(role, s.state, s.schema, _text(sorted(s.objects))) for role, s in step.snapshots.items()],
            )
            db.executemany(_END_LETTER, step.ended_letters)
            db.executemany(
                _PUT_LETTER,
                [
                    (
                        letter.sender_role,
                        letter.key,
                        *letter.identity,
                        letter.kind,
                        letter.body,
                        _text([list(pair) for pair in letter.objects]),
                        letter.expires_at_ns,
                        None if letter.cancelled is None else letter.cancelled.value,
                    )
                    for letter in letters
                ],
            )
            db.executemany(_PUT_SEQUENCE, [letter.identity for letter in letters])
            db.executemany(
                _PUT_MARK, [(*m.mailbox, m.sequence, m.outcome.value, m.reason) for m in step.marks]
            )
            db.executemany(_END_JOB, step.ended_jobs)
            db.executemany(
                _PUT_JOB,
                [
                    (
                        job.role,
                        job.job,
                        job.kind,
                        _text(dict(job.params)),
                        _text(dict(job.objects)),
                        job.started_ns,
                        job.duration_ns,
                    )
                    for job in step.jobs.values()
                ],
            )
            self._add_events(db, step.events)
            db.executemany(_ADD_DEAD_LETTER, [(d.t_ns, d.role, d.text, d.error) for d in step.dead_letters])
            db.execute("UPDATE node SET committed_ns = ?", (step.now_ns,))
            if kept != self._reported:
                db.execute("UPDATE node SET reported = ?", (kept,))
        self._reported = kept

    @staticmethod
    def _add_events(db: sqlite3.Connection, events: Iterable[Event]) -> None:
        db.executemany(
            _ADD_EVENT,
            [
                (
                    event.t_ns,
                    event.role,
                    event.severity.value,
                    event.kind,
                    _text(dict(event.fields)),
                    _text([list(pair) for pair in event.objects]),
                )
                for event in events
            ],
        )

    # -------------------------------------------------------------------------- events and metrics

    def add_events(self, events: Iterable[Event]) -> None:
        """Events of the daemon itself, outside any step (a refused peer, an overrun)."""
        with transaction(self._db) as db:
            self._add_events(db, events)

    def add_metrics(self, t_ns: int, rows: Iterable[tuple[str, float]]) -> None:
        """Values by name at one instant of scenario time."""
        with transaction(self._db) as db:
            db.executemany(_ADD_METRIC, [(t_ns, name, value) for name, value in rows])

    def read_events(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """The events that follow sequence number `after`, oldest first; numbers begin at 1."""
        rows = self._db.execute(
            "SELECT sequence, t_ns, role, severity, kind, fields, objects FROM events"
            " WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        return [
            (sequence, Event(t_ns, role, Severity(severity), kind, json.loads(fields), _pairs(objects)))
            for sequence, t_ns, role, severity, kind, fields, objects in rows
        ]

    def read_metrics(self, after: int, limit: int) -> list[tuple[int, int, str, float]]:
        """(sequence, t_ns, name, value) of the metrics that follow sequence number `after`, oldest first."""
        rows = self._db.execute(
            "SELECT sequence, t_ns, name, value FROM metrics WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        # SQLite keeps NaN as NULL.
        return [(n, t_ns, name, math.nan if value is None else value) for n, t_ns, name, value in rows]

    def count_events(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM events").fetchone()
        return int(count)

    def dead_letters(self) -> list[DeadLetter]:
        """The inputs that were put aside, oldest first."""
        rows = self._db.execute("SELECT t_ns, role, text, error FROM dead_letters ORDER BY sequence")
        return [DeadLetter(*row) for row in rows]

    def page(self, node: str, after_event: int, after_metric: int) -> operator_pb2.JournalPage:
        """One bounded page for the operator. The journal is read to its end when a page is empty.

        An event of more than EVENT_FIELDS_BYTES_MAX goes without its fields: {"omitted_bytes": n}.
        """
        (committed_ns,) = self._db.execute("SELECT committed_ns FROM node").fetchone()
        page = operator_pb2.JournalPage(node=node, incarnation=self.incarnation, committed_ns=committed_ns)
        room_bytes = PAGE_BYTES_MAX
        rows = self._db.execute(
            "SELECT sequence, t_ns, role, severity, kind, fields FROM events"
            " WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after_event, PAGE_ROWS_MAX),
        )
        for sequence, t_ns, role, severity, kind, fields in rows:
            if len(fields) > EVENT_FIELDS_BYTES_MAX:
                fields = _text({"omitted_bytes": len(fields)})
            event = operator_pb2.JournalEvent(
                sequence=sequence, t_ns=t_ns, role=role, severity=severity, kind=kind, fields_json=fields
            )
            room_bytes -= event.ByteSize()
            if room_bytes < 0 and page.events:
                return page
            page.events.append(event)
        for sequence, t_ns, name, value in self.read_metrics(after_metric, PAGE_ROWS_MAX):
            metric = operator_pb2.JournalMetric(sequence=sequence, t_ns=t_ns, name=name, value=value)
            room_bytes -= metric.ByteSize()
            if room_bytes < 0 and (page.events or page.metrics):
                return page
            page.metrics.append(metric)
        return page
