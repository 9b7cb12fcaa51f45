"""Gathers every node's journal over the management plane, and evaluates each model that was aggregated.

Nothing here takes part in learning: what the operator reads never crosses a contact, and nodes go on without
it. What it has gathered is in its archive; after a loss it reads the journals again from their beginning.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from orbitrain.learning.outcome import JobError
from orbitrain.machine import Digest, Severity
from orbitrain.runtime.clock import Clock
from orbitrain.runtime.daemon import Duty, Node
from orbitrain.step import Event
from orbitrain.systems.watches import WATCHED, watched
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused
from orbitrain.transport.store.archive import Archive
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.errors import PageRejected, StorageFull
from orbitrain.v1 import operator_pb2 as wire

ROUND_S = 1.0
"""Wall seconds between two readings of the journals: the live display's latency."""

CALL_TIMEOUT_S = 5.0
"""Wall seconds for one page or one model over the management network."""

_log = logging.getLogger(__name__)


class _Source:
    """One node's journal, read to `event` and `metric` of its present store."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.client = OperatorClient(address)
        self.incarnation = ""
        self.event = 0
        self.metric = 0


class Gatherer(Duty):
    def __init__(self, node: Node) -> None:
        self._node = node
        state = node.folder / node.config.state
        self._archive = Archive(archive_path(state))
        self._blobs = BlobStore(state / "gathered")
        self._wanted: dict[Digest, str] = {}
        """Models that were aggregated and not evaluated yet: digest -> node that holds it."""
        self._watch, self._evaluation = watched(node.config, node.folder)
        self._turn = asyncio.Lock()
        self._sources: list[_Source] = []

    async def run(self, clock: Clock) -> None:
        gather = {**self._node.config.gather.nodes, self._node.config.name: self._node.config.operator.listen}
        self._sources = [_Source(name, address) for name, address in sorted(gather.items())]
        for node, _, event in self._archive.events():
            self._see(node, event)
        try:
            while True:
                async with self._turn:
                    await self._read_all()
                    await self._evaluate_all()
                    self._publish()
                await asyncio.sleep(ROUND_S)
        finally:
            for source in self._sources:
                await source.client.close()
            self._archive.close()
            self._blobs.close()

    def _publish(self) -> None:
        """How far the run is; said again every round, since the bus may drop it."""
        scores = {
            digest: score
            for digest in self._watch.newest()
            if (score := self._archive.evaluation(digest)) is not None
        }
        fields = {"finished": self._watch.finished, **self._watch.shown(scores)}
        self._node.telemetry.publish("progress", fields)

    async def gather(self) -> list[str]:
        """Read every journal to its end and evaluate what is left; the nodes that cannot be reached."""
        async with self._turn:
            unreachable = await self._read_all()
            await self._evaluate_all()
        return unreachable

    # ---------------------------------------------------------------------------------- journals

    async def _read_all(self) -> list[str]:
        unreachable = []
        for source in self._sources:
            try:
                await self._read(source)
            except LinkDown:
                unreachable.append(source.name)
            except (PeerRefused, PageRejected) as error:
                _log.warning("%s: %s", source.name, error)
                unreachable.append(source.name)
        return unreachable

    async def _read(self, source: _Source) -> None:
        while True:
            page = await source.client.read_journal(source.event, source.metric, CALL_TIMEOUT_S)
            if page.node != source.name:
                raise PeerRefused(f"the journal there is {page.node[:64]!r}'s")
            if page.incarnation != source.incarnation:
                source.incarnation = page.incarnation
                source.event, source.metric = self._archive.cursor(source.name, page.incarnation)
                continue
            if not page.events and not page.metrics:
                return
            self._archive.add_page(page)
            source.event, source.metric = self._archive.cursor(source.name, page.incarnation)
            for row in page.events:
                self._see_row(source.name, row)

    def _see_row(self, node: str, row: wire.JournalEvent) -> None:
        if row.kind in WATCHED:
            severity = Severity(row.severity)
            self._see(node, Event(row.t_ns, row.role, severity, row.kind, json.loads(row.fields_json)))

    def _see(self, node: str, event: Event) -> None:
        for wanted in self._watch.see(event, node):
            if self._archive.evaluation(wanted) is None:
                self._wanted[wanted] = node

    # -------------------------------------------------------------------------------- evaluation

    async def _evaluate_all(self) -> None:
        addresses = {source.name: source.client for source in self._sources}
        blobs, kept = self._blobs, set(self._watch.newest())
        for digest, node in list(self._wanted.items()) + [(digest, "") for digest in sorted(kept)]:
            if not blobs.has(digest):
                holders = [addresses[node]] if node in addresses else list(addresses.values())
                await self._fetch(digest, holders)
            if digest in self._wanted and blobs.has(digest):
                await self._evaluate(digest)
        blobs.collect(kept | set(self._wanted))

    async def _fetch(self, digest: Digest, holders: list[OperatorClient]) -> None:
        for client in holders:
            try:
                if await client.get_object(digest, self._blobs, CALL_TIMEOUT_S):
                    return
            except LinkDown:
                return  # it will be back: ask again the next time round
            except (PeerRefused, StorageFull) as error:
                _log.warning("%s: %s", digest[:12], error)
        self._wanted.pop(digest, None)  # nobody has it any more

    async def _evaluate(self, digest: Digest) -> None:
        how, blobs = self._evaluation, self._blobs
        others = {name: self._node.blobs.path(each) for name, each in how.objects.items()}
        inputs = {**others, how.subject: blobs.path(digest)}
        try:
            done = await self._node.jobs.run(how.kind, how.params, inputs, blobs.scratch / "evaluate")
        except JobError as error:
            _log.warning("model %s: %s", digest[:12], error)
        else:
            self._archive.put_evaluation(digest, float(done.result["accuracy"]), dict(done.result))
        self._wanted.pop(digest, None)


def archive_path(state: Path) -> Path:
    """Where a ground node with this state folder keeps what it gathered."""
    return state / "archive.sqlite"
