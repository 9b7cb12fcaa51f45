"""What the operator's seat has gathered: the events and metrics of all nodes, and how models did.

A node is known by (node, incarnation): a reflashed one begins a new journal, and the old one stays. Pages
come from the wire and are checked before anything is kept.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orbitrain.machine import Digest, Severity
from orbitrain.step import Event, canonical_json
from orbitrain.transport.store.errors import PageRejected, StoreError
from orbitrain.transport.store.journal import (
    EVENT_FIELDS_BYTES_MAX,
    PAGE_ROWS_MAX,
    open_database,
    transaction,
)
from orbitrain.v1 import operator_pb2

SCHEMA_VERSION = 1

NAME_CHARACTERS_MAX = 256
"""Names of nodes, roles, kinds and metrics: ours are short; a longer one is not ours."""

_TABLES = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE events (
    node TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    t_ns INTEGER NOT NULL,
    role TEXT NOT NULL,
    severity TEXT NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL,
    PRIMARY KEY (node, incarnation, sequence)
) WITHOUT ROWID;
CREATE INDEX events_by_time ON events (t_ns, node, sequence);
CREATE TABLE metrics (
    node TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    t_ns INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (node, incarnation, sequence)
) WITHOUT ROWID;
CREATE INDEX metrics_by_time ON metrics (t_ns, node, sequence);
CREATE TABLE evaluations (
    digest TEXT PRIMARY KEY,
    accuracy REAL NOT NULL,
    metrics TEXT NOT NULL
) WITHOUT ROWID;
"""


def _check_name(name: str, what: str) -> None:
    if len(name) > NAME_CHARACTERS_MAX:
        raise PageRejected(f"a {what} of {len(name)} characters")


def _event_row(event: operator_pb2.JournalEvent) -> tuple[int, int, str, str, str, str]:
    if event.sequence < 1:
        raise PageRejected(f"an event numbered {event.sequence}")
    _check_name(event.role, "role")
    _check_name(event.kind, "kind")
    if len(event.fields_json) > EVENT_FIELDS_BYTES_MAX:
        raise PageRejected(f"event {event.sequence} has fields of {len(event.fields_json)} bytes")
    try:
        severity = Severity(event.severity)
        fields = json.loads(event.fields_json)
    except (ValueError, RecursionError):
        raise PageRejected(f"event {event.sequence} cannot be read") from None
    if not isinstance(fields, dict):
        raise PageRejected(f"the fields of event {event.sequence} are not an object")
    return (
        event.sequence,
        event.t_ns,
        event.role,
        severity.value,
        event.kind,
        canonical_json(fields).decode("ascii"),
    )


def _metric_row(metric: operator_pb2.JournalMetric) -> tuple[int, int, str, float]:
    if metric.sequence < 1:
        raise PageRejected(f"a metric numbered {metric.sequence}")
    _check_name(metric.name, "metric's name")
    return (metric.sequence, metric.t_ns, metric.name, metric.value)


class Archive:
    """Not locked: the command may read while the ground node gathers."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError for a file that is not an archive of this version."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # What power loss takes from it can be gathered again.
        self._db, _ = open_database(path, "normal", SCHEMA_VERSION, _TABLES)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cursor(self, node: str, incarnation: str) -> tuple[int, int]:
        """The last event and the last metric that are here: where to read on. Zeros for a new incarnation.

        A page whose incarnation is not the one asked about was read from the wrong place: read again from
        the cursor of that incarnation, as `add_page` cannot know what was skipped.
        """
        last = [
            self._db.execute(
                f"SELECT max(sequence) FROM {table} WHERE node = ? AND incarnation = ?", (node, incarnation)
            ).fetchone()[0]
            for table in ("events", "metrics")
        ]
        return (last[0] or 0, last[1] or 0)

    def add_page(self, page: operator_pb2.JournalPage) -> None:
        """Keep a page at once; rows that are here already change nothing. Raises PageRejected, StoreError."""
        if len(page.events) > PAGE_ROWS_MAX or len(page.metrics) > PAGE_ROWS_MAX:
            raise PageRejected(f"a page of {len(page.events)} events and {len(page.metrics)} metrics")
        _check_name(page.node, "node's name")
        _check_name(page.incarnation, "node's incarnation")
        key = (page.node, page.incarnation)
        events = [(*key, *_event_row(event)) for event in page.events]
        metrics = [(*key, *_metric_row(metric)) for metric in page.metrics]
        with transaction(self._db) as db:
            db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", events)
            db.executemany("INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, ?)", metrics)

    def events(self) -> Iterator[tuple[str, str, Event]]:
        """(node, incarnation, event) of every event, by (time, node, sequence). Their objects stay behind."""
        rows = self._rows(
            "SELECT node, incarnation, t_ns, role, severity, kind, fields FROM events"
            " ORDER BY t_ns, node, sequence, incarnation"
        )
        for node, incarnation, t_ns, role, severity, kind, fields in rows:
            yield node, incarnation, Event(t_ns, role, Severity(severity), kind, json.loads(fields))

    def metrics(self) -> Iterator[tuple[int, str, str, float]]:
        """(t_ns, node, name, value) of every metric, by (time, node, sequence)."""
        rows = self._rows(
            "SELECT t_ns, node, name, value FROM metrics ORDER BY t_ns, node, sequence, incarnation"
        )
        for t_ns, node, name, value in rows:
            yield t_ns, node, name, math.nan if value is None else value

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    # -------------------------------------------------------------------------------- evaluations

    def put_evaluation(self, digest: Digest, accuracy: float, metrics: Mapping[str, Any]) -> None:
        """How a model did on the test data; a second word on the same model replaces the first."""
        text = canonical_json(dict(metrics)).decode("ascii")
        with transaction(self._db) as db:
            db.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?)", (digest, accuracy, text))

    def evaluation(self, digest: Digest) -> float | None:
        """The accuracy of a model, between 0 and 1, or None if it was not evaluated."""
        row = self._db.execute("SELECT accuracy FROM evaluations WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else float(row[0])

    def evaluations(self) -> list[tuple[Digest, float, dict[str, Any]]]:
        """(digest, accuracy, metrics) of every model evaluated, by digest."""
        rows = self._db.execute("SELECT digest, accuracy, metrics FROM evaluations ORDER BY digest")
        return [(digest, accuracy, json.loads(metrics)) for digest, accuracy, metrics in rows]
