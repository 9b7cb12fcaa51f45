"""`orbitrain transfers`: what is under way on a node, whether it runs or not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orbitrain.machine import NEVER_NS, Lane
from orbitrain.protocols.bundles import ROLE
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.runtime.config import ConfigError, NodeConfig, load_config
from orbitrain.runtime.daemon import blobs_path, journal_path, load_plans, time_at_rest
from orbitrain.runtime.plans import PlanShelf
from orbitrain.scenario import ScenarioError
from orbitrain.transfers import incoming, listed, outgoing
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused
from orbitrain.transport.store.errors import StoreError, StoreLocked
from orbitrain.transport.store.journal import Journal
from orbitrain.transport.store.ledger import Ledger
from orbitrain.transport.store.lock import Lock
from orbitrain.v1 import operator_pb2 as wire

ANSWER_S = 5.0
"""Wall seconds for a node's answer: it is on this host, or next to it."""


def transfers_command(
    node: Annotated[Path, typer.Option("--node", metavar="CONFIG", help="The node's TOML file.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show every transfer of a node: bytes done, the contact it waits for, when it expires."""
    try:
        config = load_config(node)
        found, running = _ask(config), True
        if found is None:
            found, running = _read(config, node), False
    except (ConfigError, StoreError, PeerRefused) as error:
        raise ScenarioError(str(error)) from None
    if as_json:
        document = {
            "node": config.name,
            "running": running,
            "t_s": found.now_ns / SECOND_NS,
            "transfers": [_document(one) for one in found.transfers],
        }
        print(json.dumps(document))
    else:
        _print(config.name, running, found)


def _ask(config: NodeConfig) -> wire.TransferList | None:
    """What a running node says; None for one that does not run."""

    async def ask() -> wire.TransferList | None:
        client = OperatorClient(config.operator.listen)
        try:
            return await client.list_transfers(ANSWER_S)
        except LinkDown:
            return None
        finally:
            await client.close()

    return asyncio.run(ask())


def _read(config: NodeConfig, path: Path) -> wire.TransferList:
    """What the folder of a node that does not run says; nothing in it is changed. Raises StoreError."""
    state = path.parent / config.state
    if not journal_path(state).exists():
        raise ScenarioError(f"{state}: no node has run there")
    try:
        with Journal(journal_path(state), config.journal.sync) as journal:
            durable = journal.load()
    except StoreLocked:
        raise ScenarioError(
            f"{config.operator.listen}: {config.name} runs, and does not answer there"
        ) from None
    parts: list[tuple[str, int, int]] = []
    letters: list[Any] = []
    ledger_path = blobs_path(state) / "ledger.sqlite"
    if ledger_path.exists():
        lock = Lock(blobs_path(state) / "lock")
        try:
            ledger = Ledger(ledger_path)
            parts = [(one.digest, one.size, sum(b - a for a, b in one.held)) for one in ledger.parts]
            letters = ledger.letters()
            ledger.close()
        finally:
            lock.close()
    plan, _ = load_plans(config, path)
    plan = PlanShelf(state / "plans", plan, durable.committed_ns).plan
    now_ns = time_at_rest(config, plan.epoch, durable.committed_ns)
    kept = durable.snapshots.get(ROLE)
    leaving = outgoing(durable.letters, {}, kept.state if kept is not None else b"")
    return listed(plan, config.name, now_ns, leaving, incoming(parts, letters))


def _document(one: wire.Transfer) -> dict[str, Any]:
    return {
        "direction": "out" if one.outgoing else "in",
        "peer": one.peer or None,
        "destination": one.destination or None,
        "role": one.role or None,
        "lane": Lane(one.lane).name.lower() if one.peer or one.outgoing else None,
        "key": one.key or None,
        "digest": one.digest or None,
        "bytes": one.size,
        "done_bytes": None if one.done < 0 else one.done,
        "expires_s": None if one.expires_at_ns in (0, NEVER_NS) else one.expires_at_ns / SECOND_NS,
        "contact": [one.contact_start_ns / SECOND_NS, one.contact_end_ns / SECOND_NS]
        if one.contact_end_ns
        else None,
    }


def _print(name: str, running: bool, found: wire.TransferList) -> None:
    now_s = found.now_ns / SECOND_NS
    state = "runs" if running else "does not run"
    print(f"{name} {state}; scenario time {now_s:.0f} s; {len(found.transfers)} transfers")
    if not found.transfers:
        return
    table = Table(box=None, pad_edge=False)
    for title in ("", "peer", "what", "lane"):
        table.add_column(title)
    for title in ("bytes done", "of", "contact", "expires"):
        table.add_column(title, justify="right")
    for one in found.transfers:
        document = _document(one)
        table.add_row(
            "to" if one.outgoing else "from",
            _whom(one),
            one.key or one.digest[:12],
            document["lane"] or "",
            "?" if one.done < 0 else f"{one.done:,}",
            f"{one.size:,}",
            _contact(one, found.now_ns),
            "never" if document["expires_s"] is None else f"{document['expires_s']:.0f} s",
        )
    Console(width=160, highlight=False).print(table)


def _whom(one: wire.Transfer) -> str:
    if one.outgoing and not one.peer:
        return f"{one.destination} (no route)"
    far = f", for {one.destination}" if one.destination not in ("", one.peer) else ""
    return f"{one.peer or 'anybody'}{far}"


def _contact(one: wire.Transfer, now_ns: int) -> str:
    if not one.contact_end_ns:
        return "none planned"
    start_s, end_s = one.contact_start_ns / SECOND_NS, one.contact_end_ns / SECOND_NS
    when = "now" if one.contact_start_ns <= now_ns else f"from {start_s:.0f} s"
    return f"{when} to {end_s:.0f} s"
