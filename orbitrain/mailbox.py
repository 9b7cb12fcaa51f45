"""Mailboxes: every message ends exactly once, delivered or undelivered with a reason.

A mailbox is (source, destination, role, lane). Its letters are numbered by the sender and settled in order;
one call is in the air at a time, with one letter or, over real links, with several; lanes share a contact by
priority. A letter that was never attempted can be taken back by the sender alone. One that was attempted is
*in doubt*: only the receiver knows whether it consumed it, so it stays until the two meet again, and the
receiver's mark decides. That is what makes "expired" and "withdrawn" true statements, and a doubled delivery
impossible, across any crash of either side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import dropwhile
from typing import TypeAlias

from orbitrain.machine import Acknowledged, Digest, Fate, LocalProtocolError, Undelivered

ENVELOPE_BYTES = 256
"""Modelled bytes of a letter beside its body and objects: its names, and the call that carries it."""


class Outcome(StrEnum):
    """What a receiver's mark says of a letter."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way. `sender_role` is the machine that sent it; `objects` are (digest, bytes)."""

    sender_role: str
    key: str
    destination: str
    role: str
    lane: int
    sequence: int
    kind: str
    body: bytes
    objects: tuple[tuple[Digest, int], ...]
    expires_at_ns: int
    cancelled: Fate | None = None

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """(destination, role, lane, sequence): unique in its sender's store."""
        return (self.destination, self.role, self.lane, self.sequence)

    @property
    def mailbox(self) -> Mailbox:
        return (self.destination, self.role, self.lane)


Mailbox: TypeAlias = tuple[str, str, int]
Identity: TypeAlias = tuple[str, str, int, int]
Settlement: TypeAlias = Acknowledged | Undelivered


def settle(letter: Letter, outcome: Outcome, reason: str = "") -> Settlement:
    """What the sending machine is told, given the receiver's word."""
    match outcome:
        case Outcome.DELIVERED:
            return Acknowledged(letter.key)
        case Outcome.REFUSED:
            return Undelivered(letter.key, Fate.REFUSED, reason)
        case Outcome.EXPIRED:
            return Undelivered(letter.key, Fate.EXPIRED, reason)
        case Outcome.CANCELLED:
            return Undelivered(letter.key, letter.cancelled or Fate.WITHDRAWN, reason)


class Outbox:
    """The letters of one node that have not ended."""

    def __init__(self, letters: Iterable[Letter] = (), sequences: Iterable[tuple[str, str, int, int]] = ()):
        """`sequences` are the last numbers given out, by mailbox: (destination, role, lane, sequence).

        Letters read back from the store may have been attempted before the crash: all are in doubt.
        """
        self._letters: dict[Identity, Letter] = {}
        self._by_key: dict[tuple[str, str], Identity] = {}
        self._queues: dict[str, dict[tuple[str, str, int], list[Identity]]] = {}
        self._in_doubt: set[Identity] = set()
        self._settling: set[Identity] = set()
        self._sequences = {(to, role, lane): n for to, role, lane, n in sequences}
        for letter in sorted(letters, key=lambda x: x.identity):
            self._insert(letter)
            self._in_doubt.add(letter.identity)

    def __iter__(self) -> Iterator[Letter]:
        return iter(self._letters.values())

    def __len__(self) -> int:
        return len(self._letters)

    def _insert(self, letter: Letter) -> None:
        self._letters[letter.identity] = letter
        self._by_key[letter.sender_role, letter.key] = letter.identity
        self._queues.setdefault(letter.destination, {}).setdefault(letter.mailbox, []).append(letter.identity)

    def find(self, sender_role: str, key: str) -> Letter | None:
        identity = self._by_key.get((sender_role, key))
        return None if identity is None else self._letters[identity]

    def next_sequence(self, destination: str, role: str, lane: int) -> int:
        return self._sequences.get((destination, role, lane), 0) + 1

    def post(self, letter: Letter) -> None:
        """Queue a letter numbered by `next_sequence`. Raises LocalProtocolError for a key in use."""
        if (letter.sender_role, letter.key) in self._by_key:
            raise LocalProtocolError(f"a message with the key {letter.key!r} has not ended yet")
        self._sequences[letter.mailbox] = letter.sequence
        self._insert(letter)

    def cancel(self, identity: Identity, fate: Fate) -> Letter:
        """Mark a letter as not wanted any more; returns it as it now stands."""
        letter = replace(self._letters[identity], cancelled=fate)
        self._letters[identity] = letter
        return letter

    def remove(self, identity: Identity) -> None:
        letter = self._letters.pop(identity)
        del self._by_key[letter.sender_role, letter.key]
        self._queues[letter.destination][letter.mailbox].remove(identity)
        self._in_doubt.discard(identity)
        self._settling.discard(identity)

    # -------------------------------------------------------------------------------- in the air

    def heads(self, destination: str, landing: Collection[Identity] = ()) -> list[Letter]:
        """The first letter of each mailbox towards `destination`, by lane, then role; beyond those that are
        `landing`.

        None for a mailbox whose first letter this side ends next.
        """
        queues = self._queues.get(destination, {}).values()
        beyond = (next(dropwhile(landing.__contains__, queue), None) for queue in queues)
        first = [self._letters[identity] for identity in beyond if identity is not None]
        ready = [letter for letter in first if self._is_ready(letter)]
        return sorted(ready, key=lambda letter: (letter.lane, letter.role))

    def queue(self, mailbox: Mailbox, landing: Collection[Identity] = ()) -> Iterator[Letter]:
        """The letters of a mailbox in their order, up to one that this side ends next; not those that are
        `landing`."""
        for identity in self._queues.get(mailbox[0], {}).get(mailbox, []):
            if identity in landing:
                continue
            letter = self._letters[identity]
            if not self._is_ready(letter):
                return
            yield letter

    def _is_ready(self, letter: Letter) -> bool:
        """Whether it can be sent: not if this side ends it next."""
        return letter.identity not in self._settling and (
            letter.cancelled is None or letter.identity in self._in_doubt
        )

    def attempted(self, identity: Identity) -> None:
        """From now on only the receiver can say what became of it."""
        self._in_doubt.add(identity)

    def never_sent(self, identity: Identity) -> None:
        """It was attempted, but the link went before the letter itself did: no receiver knows of it."""
        if identity not in self._settling:
            self._in_doubt.discard(identity)

    def is_in_doubt(self, identity: Identity) -> bool:
        """Whether only the receiver can say what became of it."""
        return identity in self._in_doubt

    def settling(self, identity: Identity) -> None:
        """Its end is known and waits to be committed: it must not be tried again."""
        self._settling.add(identity)

    def certain_ends(self, now_ns: int) -> list[tuple[Letter, Undelivered]]:
        """Letters this side alone can end: never attempted, and expired or cancelled."""
        ends = []
        for identity, letter in self._letters.items():
            if identity in self._in_doubt or identity in self._settling:
                continue
            if letter.cancelled is not None:
                ends.append((letter, Undelivered(letter.key, letter.cancelled)))
            elif letter.expires_at_ns <= now_ns:
                ends.append((letter, Undelivered(letter.key, Fate.EXPIRED)))
        return ends

    def next_expiry_ns(self) -> int | None:
        """The next instant at which `certain_ends` may say more."""
        waiting = [
            letter.expires_at_ns if letter.cancelled is None else 0
            for identity, letter in self._letters.items()
            if identity not in self._in_doubt and identity not in self._settling
        ]
        return min(waiting, default=None)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a receiver remembers of a mailbox: the last letter it settled, and how."""

    source: str
    incarnation: str
    role: str
    lane: int
    sequence: int
    outcome: Outcome
    reason: str = ""

    @property
    def mailbox(self) -> tuple[str, str, str, int]:
        return (self.source, self.incarnation, self.role, self.lane)

    @property
    def slot(self) -> tuple[str, str, int]:
        """Where it is kept: one for each (source, role, lane). An earlier store of the source is gone."""
        return (self.source, self.role, self.lane)


class Marks:
    """The marks of one node. One per mailbox is enough, since letters are settled in order.

    A sender that goes on to another letter knows how those before it ended. Of letters that come together it
    does not: of those none is taken after one that was not delivered (`forgets`).
    """

    def __init__(self, marks: Iterable[Mark] = ()):
        self._last = {mark.slot: mark for mark in marks}

    def find(self, mailbox: tuple[str, str, str, int], sequence: int) -> Mark | None:
        """The mark of a letter settled before, or None if it is new.

        An older letter than the last can only be a repeat whose sender has had its answer, or of several that
        came together and were delivered: delivered.
        """
        source, _, role, lane = mailbox
        last = self._last.get((source, role, lane))
        if last is None or last.mailbox != mailbox or sequence > last.sequence:
            return None
        if sequence == last.sequence:
            return last
        return Mark(*mailbox, sequence, Outcome.DELIVERED)

    def put(self, mark: Mark) -> None:
        self._last[mark.slot] = mark

    @staticmethod
    def forgets(last: Mark | None, mark: Mark, since: int) -> bool:
        """Whether putting down a mark after the `last` would lose an end that the sender may not know of.

        It knows of those before the letter numbered `since`, the first of those that came with this one.
        """
        return (
            last is not None
            and last.mailbox == mark.mailbox
            and since <= last.sequence < mark.sequence
            and last.outcome is not Outcome.DELIVERED
        )

    def last(self, slot: tuple[str, str, int]) -> Mark | None:
        """What was put down last there."""
        return self._last.get(slot)
