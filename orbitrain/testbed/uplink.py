"""The operator's uplink: gives the nodes of a run an update of their contact plan."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from orbitrain.contacts.compact import compact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import SECOND_NS, Clock, ClockError, ClockFile, wall_s
from orbitrain.scenario import ScenarioError
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused

CALL_TIMEOUT_S = 20.0
"""Wall seconds for one node to take an update: the largest file over the management network, and its disk."""

AWAY_S = 20.0
"""Wall seconds for which a node that does not answer is asked again: it may be being started again."""

RETRY_S = 0.2

LEAD_S = 5.0
"""Wall seconds from now to the instant of an update, where none is given: every node has it by then."""

AT_ONCE = 8
"""Nodes given an update at once: each parses it, on the same cores where they run on one host."""


class Given(StrEnum):
    """What became of an update at one node."""

    TAKEN = "taken"
    KNOWN = "known"
    """The node has it already, or a later one."""
    REFUSED = "refused"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`at_ns` is from when on the node believes the update; `reason` is one line, empty if it took it."""

    outcome: Given
    at_ns: int
    reason: str = ""


def soon_ns(folder: Path) -> int:
    """Scenario time LEAD_S from now of the run in `folder`. Raises ScenarioError where none is going on."""
    try:
        anchor = ClockFile.read(folder / "clock.json").anchor
    except ClockError as error:
        raise ScenarioError(f"{folder}: no run of daemons is going on there: {error}") from None
    if anchor is None:
        raise ScenarioError(f"{folder}: the run has not started its clock")
    clock = Clock(anchor)
    return clock.now_ns() + round(LEAD_S * clock.rate * SECOND_NS)


def push(folder: Path, plan: ContactPlan, at_ns: int) -> dict[str, Outcome]:
    """Give an update to all nodes of the run that is going on in `folder`; what became of it, by node.

    Raises ScenarioError where no run is going on.
    """
    if at_ns < 1:
        raise ScenarioError(f"at_ns: must be 1 or more, not {at_ns}")
    addresses = desks(folder)
    if not addresses:
        raise ScenarioError(f"{folder}: no run of daemons is going on there")
    return asyncio.run(give(addresses, plan, at_ns))


def desks(folder: Path) -> dict[str, str]:
    """The management addresses of a run's nodes, by name. Raises ScenarioError."""
    found = {}
    for path in sorted((folder / "nodes").glob("*.toml")):
        try:
            found[path.stem] = str(tomllib.loads(path.read_text(encoding="utf-8"))["operator"]["listen"])
        except (OSError, KeyError, ValueError) as error:
            raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return found


async def give(addresses: Mapping[str, str], plan: ContactPlan, at_ns: int) -> dict[str, Outcome]:
    """Give an update to nodes, by name and management address, and wait for what each says."""
    data, few = compact(plan), asyncio.Semaphore(AT_ONCE)

    async def one(address: str) -> Outcome:
        async with few:
            return await _give(address, plan.revision, data, at_ns)

    outcomes = await asyncio.gather(*(one(address) for address in addresses.values()))
    return dict(zip(addresses, outcomes, strict=True))


async def _give(address: str, revision: int, data: bytes, at_ns: int) -> Outcome:
    deadline_s, reason = wall_s() + AWAY_S, ""
    while wall_s() < deadline_s:
        client = OperatorClient(address)
        try:
            reply = await client.update_plan(at_ns, data, CALL_TIMEOUT_S)
            if reply.accepted:
                return Outcome(Given.TAKEN, reply.at_ns)
            known = reply.revision >= revision
            return Outcome(Given.KNOWN if known else Given.REFUSED, 0, reply.reason)
        except PeerRefused as error:
            return Outcome(Given.REFUSED, 0, str(error))
        except LinkDown as error:
            reason = str(error)
            await asyncio.sleep(RETRY_S)
        finally:
            await client.close()
    return Outcome(Given.AWAY, 0, reason)
