"""How an operator's file gets into a node's custody, whether the node runs or not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from orbitrain.contacts.plan import ContactPlan
from orbitrain.core import Core
from orbitrain.machine import NEVER_NS, CommandReceived, Digest
from orbitrain.protocols.bundles import COMMAND, ROLE, Custodian, Order, OrderError, order_of
from orbitrain.step import Arrival, Event
from orbitrain.transport.rpc import Refusal
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import operator_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver


TOKEN_CHARACTERS_MAX = 64
"""Longest name of an order: a thousand of them are in a snapshot."""


def order_from(order: wire.SendOrder, now_ns: int) -> Order:
    """An order as it came, taken now. Raises OrderError."""
    if len(order.token) > TOKEN_CHARACTERS_MAX:
        raise OrderError(f"token: must have at most {TOKEN_CHARACTERS_MAX} characters")
    if order.expires_in_ns <= 0:
        raise OrderError(f"expires: must be more than 0 s, not {order.expires_in_ns} ns")
    return order_of(
        {
            "destination": order.destination,
            "name": order.name,
            "lane": order.lane,
            "expires_at_ns": min(order.expires_in_ns + now_ns, NEVER_NS),
        }
    )


def check_destination(order: Order, plan: ContactPlan, node: str) -> None:
    """Raises OrderError for a file that can go nowhere."""
    if order.destination == node:
        raise OrderError(f"destination: must be another node than {node}")
    if all(each.name != order.destination for each in plan.nodes):
        raise OrderError(f"destination: {order.destination[:64]!r} is not a node of the plan")


class FileDesk:
    """Takes an operator's files while the node runs."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def admit(self, order: wire.SendOrder, size: int) -> None:
        """Raises Refusal for an order that cannot be taken, StorageFull and ObjectTooLarge for a size."""
        self._refuse_at_the_end()
        self._order(order)
        self._driver.blobs.check_whole(size)

    def _refuse_at_the_end(self) -> None:
        if self._driver.draining:  # no step would come
            raise Refusal("the node takes nothing more: it is ending")

    def _order(self, asked: wire.SendOrder) -> Order:
        driver = self._driver
        try:
            order = order_from(asked, max(driver.clock.now_ns(), driver.latest_ns))
            check_destination(order, driver.plan, driver.core.node)
        except OrderError as error:
            raise Refusal(str(error)) from None
        return order

    async def take(self, asked: wire.SendOrder, path: Path) -> wire.SendFileReply:
        """Queue a file of this file system, which is moved. Raises as `admit`."""
        order, driver = self._order(asked), self._driver
        # Nothing names the object yet: it must not be collected before the command does.
        digest: Digest = await asyncio.to_thread(driver.blobs.adopt, path)
        self._refuse_at_the_end()
        command = _command(order, asked.token, digest, driver.blobs.size(digest))
        return _reply(await driver.command(ROLE, command))


def queue_at_rest(
    custodian: Custodian,
    node: str,
    stores: tuple[Journal, BlobStore],
    file: Path,
    asked: wire.SendOrder,
    order: Order,
    now_ns: int,
) -> wire.SendFileReply:
    """Queue a file at a node that does not run: a step is taken for it. Raises StoreError and OSError.

    `order` is what was `asked`, as of `now_ns`.
    """
    journal, blobs = stores
    copy = blobs.scratch / "file"
    try:
        blobs.check_whole(file.stat().st_size)
        shutil.copyfile(file, copy)
        digest = blobs.adopt(copy)
    finally:
        copy.unlink(missing_ok=True)
    core = Core(node, {ROLE: custodian}, journal.load(), blobs.size)
    command = _command(order, asked.token, digest, blobs.size(digest))
    step = core.step([Arrival(now_ns, "", 0, 1, ROLE, command)], now_ns)
    journal.commit(step, core.reported)
    return _reply(step.answers.get(1, ()))


def _command(order: Order, token: str, digest: Digest, size: int) -> CommandReceived:
    return CommandReceived(COMMAND, {**order.arguments(), "bytes": size, "token": token}, (digest,))


def _reply(events: Iterable[Event]) -> wire.SendFileReply:
    for event in events:
        if event.kind in ("bundle_queued", "bundle_queued_before"):
            return wire.SendFileReply(bundle=str(event.fields["bundle"]))
        if event.kind == "bundle_refused":
            return wire.SendFileReply(refused=str(event.fields["reason"]))
    return wire.SendFileReply(refused="the node failed on it")
