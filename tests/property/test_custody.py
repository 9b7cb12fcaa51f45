"""Letters that come together, whatever is lost and whoever dies: each ends once, as its sender is told."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.core import Core
from orbitrain.machine import NEVER_NS, Action, Delivered, Input, Lane, RemoteProtocolError
from orbitrain.memory import MemoryJournal
from orbitrain.runtime.reception import Reception
from orbitrain.step import Arrival
from orbitrain.transport.rpc.custody import compressed, expanded
from orbitrain.v1 import fedmeld_pb2, link_pb2

TREATMENTS = ("taken", "taken", "taken", "refused", "failed", "malformed", "expired")
FATES = ("heard", "lost", "unheard", "late", "died before commit", "died after commit")
WITHDRAWN = "withdrawn"


class Taker:
    """A machine that takes messages, or refuses or fails on them as they say themselves."""

    schema = 1
    accepts: tuple[type[Message], ...] = (fedmeld_pb2.Poll,)

    def __init__(self) -> None:
        self.taken: list[str] = []

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, Delivered) and isinstance(item.message, fedmeld_pb2.Poll):
            name = item.message.region
            if "refused" in name:
                raise RemoteProtocolError("not wanted")
            if "failed" in name:
                raise ValueError(name)
            self.taken.append(name)
        return []

    def deadline_ns(self) -> int | None:
        return None

    def snapshot(self) -> tuple[bytes, frozenset[str]]:
        return json.dumps(self.taken).encode(), frozenset()

    def restore(self, state: bytes, schema: int) -> None:
        self.taken = json.loads(state)


@dataclass
class Node:
    """A receiver, of which only the journal outlives a crash."""

    journal: MemoryJournal = field(default_factory=lambda: MemoryJournal("receiver"))
    inbox: list[Arrival] = field(default_factory=list)
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.inbox.clear()
        self.machine = Taker()
        self.core = Core("b", {"taker": self.machine}, self.journal.load(), lambda _: 0)
        driver = SimpleNamespace(
            core=self.core,
            has_real_links=True,
            clock=SimpleNamespace(now_ns=lambda: self.now_ns),
            take=self.inbox.append,
            note=lambda *_: None,
        )
        self.reception = Reception(cast("Any", driver))

    def step(self, *, committed: bool = True) -> None:
        self.now_ns += 1
        batch, self.inbox[:] = list(self.inbox), []
        step = self.core.step(batch, self.now_ns)
        if committed:
            self.journal.commit(step, ())
            self.reception.committed(step)


def written(number: int, treatment: str, *, cancelled: bool) -> link_pb2.Letter:
    return link_pb2.Letter(
        source="a",
        incarnation="sender",
        destination="b",
        role="taker",
        lane=int(Lane.CONTROL),
        sequence=3 * number + 1,
        kind="no such" if treatment == "malformed" else fedmeld_pb2.Poll.DESCRIPTOR.full_name,
        body=fedmeld_pb2.Poll(region=f"{number} {treatment}").SerializeToString(),
        due_ns=1,
        expires_at_ns=0 if treatment == "expired" else NEVER_NS,
        cancelled=WITHDRAWN if cancelled else "",
    )


async def ends(
    treatments: Sequence[str], calls: Sequence[tuple[int, str, int | None]]
) -> tuple[list[link_pb2.Receipt], Counter[str]]:
    """What the sender is told of each letter, and what the receiver's machine has taken."""
    node, told, withdrawn = Node(), list[link_pb2.Receipt](), set[int]()
    late: list[list[link_pb2.Letter]] = []
    rest = [(len(treatments), "heard", None)] * len(treatments)
    for count, fate, cancel in [*calls, *rest]:
        if len(told) == len(treatments):
            break
        if cancel is not None and cancel >= len(told):
            withdrawn.add(cancel)
        numbers = range(len(told), min(len(told) + count, len(treatments)))
        letters = [written(n, treatments[n], cancelled=n in withdrawn) for n in numbers]
        if fate == "late":
            late.append(letters)
        if fate in ("lost", "late"):
            continue
        # Whatever was held up comes now, and nobody hears its answer; it may share a step with this.
        tasks = [asyncio.create_task(node.reception.hand(each)) for each in (*late, letters)]
        late.clear()
        for _ in range(4):
            await asyncio.sleep(0)
        if fate.startswith("died"):
            node.step(committed=fate == "died after commit")
            node.start()
        while fate in ("heard", "unheard") and not all(task.done() for task in tasks):
            node.step()
            for _ in range(4):
                await asyncio.sleep(0)
        if fate == "heard":
            sequences = [letter.sequence for letter in letters]
            told += expanded(compressed(sequences, tasks[-1].result()), sequences)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return told, Counter(node.machine.taken)


OUTCOMES: Mapping[str, int] = {
    "taken": link_pb2.OUTCOME_DELIVERED,
    "refused": link_pb2.OUTCOME_REFUSED,
    "failed": link_pb2.OUTCOME_REFUSED,
    "malformed": link_pb2.OUTCOME_REFUSED,
    "expired": link_pb2.OUTCOME_EXPIRED,
}


@given(
    st.lists(st.sampled_from(TREATMENTS), min_size=1, max_size=7),
    st.lists(
        st.tuples(st.integers(1, 7), st.sampled_from(FATES), st.none() | st.integers(0, 6)), max_size=12
    ),
)
def test_each_letter_ends_as_its_sender_is_told(
    treatments: list[str], calls: list[tuple[int, str, int | None]]
) -> None:
    told, taken = asyncio.run(ends(treatments, calls))
    assert len(told) == len(treatments)
    may_be_withdrawn = {cancel for _, _, cancel in calls}
    for number, (treatment, receipt) in enumerate(zip(treatments, told, strict=True)):
        delivered = receipt.outcome == link_pb2.OUTCOME_DELIVERED
        assert taken.pop(f"{number} {treatment}", 0) == delivered
        if receipt.outcome == link_pb2.OUTCOME_CANCELLED:
            assert number in may_be_withdrawn
        elif number not in may_be_withdrawn:
            assert receipt.outcome == OUTCOMES[treatment]
        if receipt.outcome == link_pb2.OUTCOME_REFUSED:
            assert receipt.reason
    assert not taken


def test_letters_that_are_all_delivered_end_in_one_call_and_one_range() -> None:
    async def run() -> None:
        node = Node()
        letters = [written(n, "taken", cancelled=False) for n in range(64)]
        task = asyncio.create_task(node.reception.hand(letters))
        await asyncio.sleep(0)
        node.step()
        signal = compressed([letter.sequence for letter in letters], await task)
        assert [(one.first, one.last) for one in signal.ranges] == [(1, 190)]

    asyncio.run(run())
