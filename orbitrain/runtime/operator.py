"""What a node answers to the operator's seat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from orbitrain.runtime.driver import Driver
from orbitrain.transport.rpc import Refusal
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import operator_pb2 as wire


class OperatorDesk:
    """An `OperatorHandler` over a node's driver and journal."""

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        stopped: Callable[[], Awaitable[int]],
        gather: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> None:
        """`stopped` ends the node's steps and returns the time of the last commit; `gather` is a ground's."""
        self._driver = driver
        self._journal = journal
        self._stopped = stopped
        self._gather = gather

    async def read_journal(self, request: wire.ReadJournalRequest) -> wire.JournalPage:
        page: wire.JournalPage = await self._driver.on_disk(
            self._journal.page, self._driver.core.node, request.after_event, request.after_metric
        )
        return page

    async def drain(self) -> wire.DrainReply:
        return wire.DrainReply(committed_ns=await self._stopped())

    async def gather(self) -> wire.GatherReply:
        if self._gather is None:
            raise Refusal("only a ground node gathers")
        return wire.GatherReply(unreachable=await self._gather())
