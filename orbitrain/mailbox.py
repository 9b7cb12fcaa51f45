"""Mailboxes: every message ends exactly once, delivered or undelivered with a reason.

A mailbox is (source, destination, role, lane). Its letters are numbered by the sender and settled in order,
one in the air at a time; lanes share a contact by priority. A letter that was never attempted can be taken
back by the sender alone. One that was attempted is *in doubt*: only the receiver knows whether it consumed
it, so it stays until the two meet again, and the receiver's mark decides. That is what makes "expired" and
"withdrawn" true statements, and a doubled delivery impossible, across any crash of either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan, Window
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
    def mailbox(self) -> tuple[str, str, int]:
        return (self.destination, self.role, self.lane)


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

    def heads(self, destination: str) -> list[Letter]:
        """The first letter of each mailbox towards `destination`, by lane, then role.

        None for a mailbox whose first letter this side ends next.
        """
        queues = self._queues.get(destination, {})
        first = [self._letters[queue[0]] for queue in queues.values() if queue]
        ready = [
            letter
            for letter in first
            if letter.identity not in self._settling
            and (letter.cancelled is None or letter.identity in self._in_doubt)
        ]
        return sorted(ready, key=lambda letter: (letter.lane, letter.role))

    def attempted(self, identity: Identity) -> None:
        """From now on only the receiver can say what became of it."""
        self._in_doubt.add(identity)

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
    """The marks of one node. One per mailbox is enough, since letters are settled in order."""

    def __init__(self, marks: Iterable[Mark] = ()):
        self._last = {mark.slot: mark for mark in marks}

    def find(self, mailbox: tuple[str, str, str, int], sequence: int) -> Mark | None:
        """The mark of a letter settled before, or None if it is new.

        An older letter than the last can only be a repeat whose sender has had its answer: delivered.
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


# ------------------------------------------------------------------------- believed and true links


@dataclass(frozen=True, slots=True)
class Flight:
    """Modelled instants of a transfer, scenario time: last bit out, arrival, and the answer's return."""

    sent_ns: int
    arrives_ns: int
    answered_ns: int


def flight(contact: Contact, start_ns: int, size_bytes: int, handling_ns: int) -> Flight | None:
    """When a letter of `size_bytes` that starts now is there, and its answer back; None if it will not fit.

    `handling_ns` is the modelled time for a node to take in a letter or an answer, beside what the link
    takes. The answer must be back before loss of signal: what will not fit is not begun.
    """
    sent_ns = contact.finish_ns(start_ns, size_bytes)
    if sent_ns is None:
        return None
    delay_ns = contact.delay_ns_at(sent_ns)
    arrives_ns = sent_ns + delay_ns + handling_ns
    answered_ns = arrives_ns + delay_ns + handling_ns
    return None if answered_ns > contact.end_ns else Flight(sent_ns, arrives_ns, answered_ns)


def is_begun(believed: Contact | None, start_ns: int, size_bytes: int, handling_ns: int) -> bool:
    """Whether a node in contact begins a letter, by what it believes.

    `believed` is the contact in progress by its plan: the answer must be back before that ends. Without one
    (the pass was not announced, or lasts longer than believed) nothing speaks against trying.
    """
    return believed is None or flight(believed, start_ns, size_bytes, handling_ns) is not None


def reconsidered_ns(believed: Contact | None, end_ns: int) -> int | None:
    """When a letter that is not begun is looked at again: at the believed end, should the link outlast it."""
    return None if believed is None or believed.end_ns >= end_ns else believed.end_ns


@dataclass(frozen=True, slots=True)
class Passage:
    """What really becomes of a letter that is begun. None: the link is gone by then.

    One without `arrives_ns` never arrives. One without `answered_ns` stays in doubt at its sender until the
    next contact. Either keeps the link until it is gone, as nobody can tell before.
    """

    arrives_ns: int | None
    answered_ns: int | None


def passage(
    truth: ContactPlan,
    ends: tuple[str, str],
    start_ns: int,
    size_bytes: int,
    handling_ns: int,
    end_ns: int,
) -> Passage:
    """What becomes of a letter from `ends[0]` to `ends[1]` that starts within the true window until `end_ns`.

    The window is one of both directions; within it sending goes on from one contact to the next that touches.
    """
    volume = Fraction(size_bytes * 8 * 1_000_000_000)
    sending_ns = start_ns
    for contact in truth.from_instant(*ends, start_ns):
        if contact.start_ns > sending_ns:
            break
        sent_ns = contact.finish_of_ns(sending_ns, volume)
        if sent_ns is not None:
            delay_ns = contact.delay_ns_at(sent_ns)
            arrives_ns = sent_ns + delay_ns + handling_ns
            answered_ns = arrives_ns + delay_ns + handling_ns
            # At the instant of its end the contact is over.
            return Passage(
                arrives_ns if arrives_ns < end_ns else None, answered_ns if answered_ns < end_ns else None
            )
        volume -= contact.volume_bit_e9(sending_ns, contact.end_ns)
        sending_ns = contact.end_ns
    return Passage(None, None)


def window_at(plan: ContactPlan, a: str, b: str, t_ns: int) -> Window | None:
    """The (start_ns, end_ns) with both directions active that holds `t_ns`."""
    return next((window for window in plan.windows(a, b) if window[0] <= t_ns < window[1]), None)


def believed_end_ns(plan: ContactPlan, a: str, b: str, t_ns: int) -> int | None:
    """When the plan ends the contact in progress at `t_ns`; None where it has none."""
    window = window_at(plan, a, b, t_ns)
    return None if window is None else window[1]
