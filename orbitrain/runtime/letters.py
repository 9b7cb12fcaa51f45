"""A node's letters as they travel, and as they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orbitrain.core import Core
from orbitrain.mailbox import ENVELOPE_BYTES, Letter, Outcome, settle
from orbitrain.runtime.reception import OUTCOMES
from orbitrain.step import Arrival
from orbitrain.transport.rpc import Parcel
from orbitrain.v1 import link_pb2 as wire

RETRY_S: Final = 0.2
"""Wall seconds between tries within a contact."""

DAMAGED: Final = "DATA_LOSS"
"""The kind of refusal of bytes that are not what they are said to be."""

FROM_WIRE = {value: outcome for outcome, value in OUTCOMES.items()}


def written(letter: Letter, core: Core, due_ns: int) -> wire.Letter:
    """A letter of this node as it travels, due at its receiver at `due_ns`; over real links, sent then."""
    return wire.Letter(
        source=core.node,
        incarnation=core.incarnation,
        destination=letter.destination,
        role=letter.role,
        lane=letter.lane,
        sequence=letter.sequence,
        kind=letter.kind,
        body=letter.body,
        objects=[wire.ObjectName(digest=digest, size=size) for digest, size in letter.objects],
        due_ns=due_ns,
        expires_at_ns=letter.expires_at_ns,
        cancelled=letter.cancelled.value if letter.cancelled is not None else "",
    )


def parcel(letters: Sequence[Letter], core: Core) -> Parcel:
    """What the objects of letters are offered for, which are of one mailbox, in order.

    One before them that is still landing needs its own.
    """
    last, expires_at_ns = letters[-1], max(letter.expires_at_ns for letter in letters)
    oldest = next(core.outbox.queue(last.mailbox), letters[0]).sequence
    return Parcel(core.incarnation, last.role, last.lane, last.sequence, expires_at_ns, oldest)


def ended(
    letter: Letter, core: Core, outcome: Outcome, reason: str, due_ns: int, fields: Mapping[str, Any]
) -> Arrival:
    """The input that ends a letter of this node; it is not tried again meanwhile."""
    core.outbox.settling(letter.identity)
    current = core.outbox.find(letter.sender_role, letter.key) or letter
    return Arrival(
        due_ns,
        letter.destination,
        letter.lane,
        letter.sequence,
        letter.sender_role,
        settle(current, outcome, reason),
        settles=letter.identity,
        fields=fields,
    )


def letter_bytes(letter: Letter) -> int:
    """Modelled bytes of a letter itself."""
    return ENVELOPE_BYTES + len(letter.body)


def is_settled_only(letter: Letter, now_ns: int) -> bool:
    """Whether a letter goes without its objects: it is not to be delivered, only its end to be known."""
    return letter.cancelled is not None or letter.expires_at_ns <= now_ns
