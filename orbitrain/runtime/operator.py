"""What a node answers to the operator's seat, from before its clock starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import SECOND_NS, Clock
from orbitrain.runtime.plans import PlanRefused, PlanShelf
from orbitrain.runtime.sending import FileDesk
from orbitrain.transport.rpc import Refusal
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import operator_pb2 as wire

OnDisk = Callable[..., Awaitable[Any]]
"""Runs a call of the journal off the event loop; calls come one at a time."""


class OperatorDesk:
    """An `OperatorHandler` over a node's journal and plans."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        on_disk: OnDisk,
        plans: PlanShelf,
        gather: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> None:
        """`gather` is a ground node's."""
        self._name = name
        self._journal = journal
        self._on_disk = on_disk
        self._plans = plans
        self._gather = gather
        self._updating = asyncio.Lock()
        self._clock: Clock | None = None
        self._wake: Callable[[], None] = lambda: None
        self._stop: Callable[[], Awaitable[int]] | None = None
        self._transfers: Callable[[], wire.TransferList] | None = None
        self._files: FileDesk | None = None

    def opened(
        self,
        clock: Clock,
        wake: Callable[[], None],
        stop: Callable[[], Awaitable[int]],
        transfers: Callable[[], wire.TransferList],
        files: FileDesk | None = None,
    ) -> None:
        """The clock runs. `wake` has the node look when it steps next; `stop` ends its steps and returns the
        time of the last commit; `transfers` lists what is under way; `files` takes those to be sent."""
        self._clock, self._wake, self._stop, self._transfers = clock, wake, stop, transfers
        self._files = files

    async def read_journal(self, request: wire.ReadJournalRequest) -> wire.JournalPage:
        page: wire.JournalPage = await self._on_disk(
            self._journal.page, self._name, request.after_event, request.after_metric
        )
        return page

    async def list_transfers(self) -> wire.TransferList:
        if self._transfers is None:
            raise Refusal("the clock has not started")
        return self._transfers()

    def admit_file(self, order: wire.SendOrder, size: int) -> None:
        if self._files is None:
            raise Refusal("the clock has not started")
        self._files.admit(order, size)

    async def send_file(self, order: wire.SendOrder, path: Path) -> wire.SendFileReply:
        if self._files is None:
            raise Refusal("the clock has not started")
        return await self._files.take(order, path)

    async def drain(self) -> wire.DrainReply:
        if self._stop is None:
            raise Refusal("the clock has not started")
        return wire.DrainReply(committed_ns=await self._stop())

    async def gather(self) -> wire.GatherReply:
        if self._gather is None:
            raise Refusal("only a ground node gathers")
        return wire.GatherReply(unreachable=await self._gather())

    async def update_plan(self, at_ns: int, data: bytes) -> wire.UpdatePlanReply:
        if at_ns < 1:
            raise Refusal(f"at_ns: must be 1 or more, not {at_ns}")
        async with self._updating:
            try:
                plan = await asyncio.to_thread(_read, data)
            except PlanError as error:
                raise Refusal(str(error)) from None
            try:
                self._plans.check(plan)
                follow = await asyncio.to_thread(self._plans.examine, plan)
            except PlanRefused as error:
                return self._reply(accepted=False, reason=str(error))
            draft = await asyncio.to_thread(self._plans.draft, data)
            async with self._plans.stepping:
                now_ns = 0 if self._clock is None else self._clock.now_ns()
                taken_ns = max(at_ns, now_ns, self._plans.past_ns + 1)
                await asyncio.to_thread(self._plans.publish, draft, plan, taken_ns)
                self._plans.add(taken_ns, plan, follow)
            if taken_ns > at_ns:
                self._plans.remark_late(plan, (taken_ns - at_ns) / SECOND_NS)
            self._wake()
            return self._reply(accepted=True, at_ns=taken_ns)

    def _reply(self, *, accepted: bool, reason: str = "", at_ns: int = 0) -> wire.UpdatePlanReply:
        newest = self._plans.newest
        return wire.UpdatePlanReply(
            accepted=accepted,
            reason=reason[:500],
            at_ns=at_ns,
            revision=newest.revision,
            sha256=newest.sha256,
        )


def _read(data: bytes) -> ContactPlan:
    """Raises PlanError."""
    plan = read_plan(data)
    assert plan.sha256  # computed here, off the event loop, for good
    return plan
