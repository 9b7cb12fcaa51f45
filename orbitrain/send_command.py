"""`orbitrain send`: queue a file at a node, whether it runs or not."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from orbitrain.machine import NEVER_NS, Lane, LocalProtocolError
from orbitrain.protocols.bundles import PRIORITIES, Custodian, Order, OrderError, order_of
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.runtime.config import ConfigError, NodeConfig, load_config
from orbitrain.runtime.daemon import blobs_path, journal_path, load_plans, plan_routes, time_at_rest
from orbitrain.runtime.plans import PlanShelf
from orbitrain.runtime.sending import check_destination, order_from, queue_at_rest
from orbitrain.scenario import ScenarioError
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.errors import StorageFull, StoreError, StoreLocked
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import operator_pb2 as wire

EXPIRES_S_MAX = 100 * 365.25 * 86_400
"""A hundred years: beyond it, no expiry is meant."""


def send_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file; it is copied into the node.")],
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="The node that it is for.")],
    node: Annotated[Path, typer.Option("--node", metavar="CONFIG", help="The sending node's TOML file.")],
    priority: Annotated[
        str, typer.Option("--priority", metavar="P", help="expedited, normal or bulk.")
    ] = "normal",
    expires: Annotated[
        float | None,
        typer.Option("--expires", metavar="S", help="Scenario seconds until it is not wanted any more."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="In the other node's inbox, instead of FILE's."),
    ] = None,
) -> None:
    """Queue a file for another node, which finds it in its inbox."""
    if priority not in PRIORITIES:
        raise ScenarioError(f"--priority: must be {', '.join(PRIORITIES)}, not {priority!r}")
    if expires is not None and not 0 < expires <= EXPIRES_S_MAX:
        raise ScenarioError(
            f"--expires: must be more than 0, and at most {EXPIRES_S_MAX:.0f}, not {expires:g}"
        )
    try:
        if not file.is_file():
            raise ScenarioError(f"{file}: must be a file that can be read")
        config = load_config(node)
        order = _order(to, file.name if name is None else name, PRIORITIES[priority], expires)
        reply = _ask(config, order, file)
        running = reply is not None
        if reply is None:
            reply = _queue(config, node, order, file)
    except (ConfigError, OrderError, StoreError, LocalProtocolError) as error:
        raise ScenarioError(str(error)) from None
    except PeerRefused as error:
        raise ScenarioError(f"{config.name}: {error}") from None
    except OSError as error:
        raise ScenarioError(f"{error.filename or file}: {error.strerror or error}") from None
    if reply.refused:
        raise ScenarioError(f"{config.name}: {reply.refused}")
    state = "" if running else f"; {config.name} does not run"
    print(f"{order.name}: in custody of {config.name}, for {to}{state}")


def _order(to: str, name: str, lane: Lane, expires_s: float | None) -> wire.SendOrder:
    """Raises OrderError for one that no node would take."""
    wanted = order_of(Order(to, name, lane).arguments())
    return wire.SendOrder(
        destination=wanted.destination,
        name=wanted.name,
        lane=int(wanted.lane),
        expires_in_ns=NEVER_NS if expires_s is None else max(1, round(expires_s * SECOND_NS)),
        token=secrets.token_hex(16),
    )


def _ask(config: NodeConfig, order: wire.SendOrder, file: Path) -> wire.SendFileReply | None:
    """What a running node says; None for one that does not run."""
    size = file.stat().st_size

    async def ask() -> wire.SendFileReply | None:
        client = OperatorClient(config.operator.listen)
        try:
            return await client.send_file(order, file, size)
        except LinkDown:
            return None
        finally:
            await client.close()

    return asyncio.run(ask())


def _queue(config: NodeConfig, path: Path, order: wire.SendOrder, file: Path) -> wire.SendFileReply:
    """Put it into the folder of a node that does not run. Raises StoreError, OrderError, ConfigError."""
    state = path.parent / config.state
    plan, _ = load_plans(config, path)
    quotas = config.store
    if not journal_path(state).exists():  # no folder is made for what cannot be sent
        check_destination(order_from(order, 0), PlanShelf(state / "plans", plan, 0).plan, config.name)
        if file.stat().st_size > quotas.quota_bytes:
            raise StorageFull(
                f"no room for {file.stat().st_size} bytes within the quota of {quotas.quota_bytes}"
            )
    try:
        with Journal(journal_path(state), config.journal.sync) as journal:
            committed_ns = journal.load().committed_ns
            shelf = PlanShelf(state / "plans", plan, committed_ns)
            plan = shelf.plan
            now_ns = time_at_rest(config, plan.epoch, committed_ns)
            taken = order_from(order, now_ns)
            check_destination(taken, plan, config.name)
            if shelf.next_ns() <= now_ns:
                # The update is for all machines of the node, which take it up when it runs: this step must
                # not be after it, nor is a route by the plan before it worth anything.
                now_ns, plan = shelf.next_ns() - 1, replace(plan, contacts=())
            blobs = BlobStore(blobs_path(state), quotas.quota_bytes, quotas.partial_quota_bytes)
            try:
                custodian = Custodian(config.name, plan_routes(config, plan))
                return queue_at_rest(custodian, config.name, (journal, blobs), file, order, taken, now_ns)
            finally:
                blobs.close()
    except StoreLocked:
        raise ScenarioError(
            f"{config.operator.listen}: {config.name} runs, and does not answer there"
        ) from None
