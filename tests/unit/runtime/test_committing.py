"""Nothing of a step leaves a node before that is on disk, over whichever links."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from orbitrain.contacts.always import always_in_contact
from orbitrain.runtime import modelled, transfers
from orbitrain.runtime.outlook import Outlook, RealLinks

S = 1_000_000_000


class Asked(Exception):
    """Somebody has looked for a letter to send."""


class Outbox:
    def heads(self, destination: str, landing: Any = ()) -> list[Any]:
        raise Asked


class Node:
    """A driver with a step on its way to the disk."""

    def __init__(self) -> None:
        self.plan = self.links = always_in_contact("a", "device", ["b"])
        self.core = SimpleNamespace(node="a", outbox=Outbox(), incarnation="x")
        self.clock = SimpleNamespace(now_ns=lambda: S, rate=1.0)
        self.latest_ns, self.draining = S, False
        self.lacking: dict[tuple[str, str], int] = {}
        self.written = asyncio.Event()

    @property
    def committing(self) -> bool:
        return not self.written.is_set()

    async def committed(self) -> None:
        await self.written.wait()

    def told(self, peer: str) -> bool:
        return True


def looks(pump: Any, here: Any) -> bool:
    try:
        pump(here)
    except Asked:
        return True
    return False


async def test_no_letter_begins_over_real_links_before_the_step_is_written() -> None:
    node: Any = Node()
    outlook = Outlook(node, RealLinks(planned=False), 0)
    sender = transfers.Transfers(node, outlook, 0, lambda peer, incarnation: None)
    here: Any = SimpleNamespace(
        name="b", met=True, air=None, landing={}, landing_letters=frozenset(), proved_ns=0
    )
    assert not looks(sender.pump, here)
    node.written.set()
    assert looks(sender.pump, here)


async def test_no_letter_begins_over_modelled_links_before_the_step_is_written() -> None:
    node: Any = Node()
    sender = modelled.ModelledTransfers(node, 0, lambda peer, incarnation: None)
    here: Any = SimpleNamespace(name="b", confirmed=True, waiting=False, busy_ns=0, end_ns=9 * S, gaps={})
    assert not looks(sender.pump, here)
    node.written.set()
    assert looks(sender.pump, here)


async def test_what_was_asked_before_a_step_is_chosen_from_when_that_is_written() -> None:
    node: Any = Node()
    sender = modelled.ModelledTransfers(node, 0, lambda peer, incarnation: None)
    here: Any = SimpleNamespace(name="b", waiting=True, gaps={})
    asking = asyncio.create_task(sender._ask(here, [], S))
    await asyncio.sleep(0)
    assert not asking.done() and here.waiting
    node.written.set()
    await asyncio.wait([asking])
    assert isinstance(asking.exception(), Asked)
