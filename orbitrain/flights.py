"""Modelled transfers: what a node begins by what it believes, and what becomes of it by the true links. Pure.

The objects of a letter go before it, chunk by chunk, each as soon as the one before is out; the last of them
and the letter itself go together. At the border of a chunk the sender chooses anew. What a link takes away
has arrived as far as its bits had: the rest goes in a later contact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan, Window
from orbitrain.machine import Digest
from orbitrain.transport.objects import Pace

_BYTE = 8 * 1_000_000_000
"""1e-9 bit of a byte."""


@dataclass(frozen=True, slots=True)
class Flight:
    """Modelled instants of a transfer, scenario time: last bit out, arrival, and the answer's return."""

    sent_ns: int
    arrives_ns: int
    answered_ns: int


def flight(
    contact: Contact, start_ns: int, size_bytes: int, handling_ns: int, spare_ns: int = 0
) -> Flight | None:
    """When a letter of `size_bytes` that starts now is there, and its answer back; None if it will not fit.

    `handling_ns` is the modelled time for a node to take in a letter or an answer, beside what the link
    takes. The answer must be back `spare_ns` before loss of signal: what will not fit is not begun.
    """
    sent_ns = contact.finish_ns(start_ns, size_bytes)
    if sent_ns is None:
        return None
    delay_ns = contact.delay_ns_at(sent_ns)
    arrives_ns = sent_ns + delay_ns + handling_ns
    answered_ns = arrives_ns + delay_ns + handling_ns
    return None if answered_ns + spare_ns > contact.end_ns else Flight(sent_ns, arrives_ns, answered_ns)


def is_begun(
    believed: Contact | None, start_ns: int, size_bytes: int, handling_ns: int, spare_ns: int = 0
) -> bool:
    """Whether a node in contact begins a letter, by what it believes.

    `believed` is the contact in progress by its plan: the answer must be back `spare_ns` before that ends.
    Without one (the pass was not announced, or lasts longer than believed) nothing speaks against trying.
    """
    return believed is None or flight(believed, start_ns, size_bytes, handling_ns, spare_ns) is not None


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


def _sending(truth: ContactPlan, ends: tuple[str, str], start_ns: int) -> Iterator[tuple[Contact, int]]:
    """The true contact of the start and those that touch it, each with when sending goes on in it."""
    sending_ns = start_ns
    for contact in truth.from_instant(*ends, start_ns):
        if contact.start_ns > sending_ns:
            return
        yield contact, sending_ns
        sending_ns = contact.end_ns


def _out(truth: ContactPlan, ends: tuple[str, str], start_ns: int, size_bytes: int) -> tuple[int, int] | None:
    """When the last bit is out, and how long it travels; None if the link ends before."""
    volume = Fraction(size_bytes * _BYTE)
    for contact, sending_ns in _sending(truth, ends, start_ns):
        sent_ns = contact.finish_of_ns(sending_ns, volume)
        if sent_ns is not None:
            return sent_ns, contact.delay_ns_at(sent_ns)
        volume -= contact.volume_bit_e9(sending_ns, contact.end_ns)
    return None


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
    out = _out(truth, ends, start_ns, size_bytes)
    if out is None:
        return Passage(None, None)
    sent_ns, delay_ns = out
    arrives_ns = sent_ns + delay_ns + handling_ns
    answered_ns = arrives_ns + delay_ns + handling_ns
    # At the instant of its end the contact is over.
    return Passage(arrives_ns if arrives_ns < end_ns else None, answered_ns if answered_ns < end_ns else None)


def chunk_passage(
    truth: ContactPlan, ends: tuple[str, str], start_ns: int, size_bytes: int, end_ns: int
) -> tuple[int, int] | None:
    """When a chunk is out, so that the next can go, and when it is there; None if the link is gone before."""
    out = _out(truth, ends, start_ns, size_bytes)
    if out is None or sum(out) >= end_ns:
        return None
    return out[0], sum(out)


def sent_bytes(truth: ContactPlan, ends: tuple[str, str], start_ns: int, until_ns: int) -> int:
    """Whole bytes that are out by an instant, of what begins at `start_ns`."""
    volume = Fraction(0)
    for contact, sending_ns in _sending(truth, ends, start_ns):
        if sending_ns >= until_ns:
            break
        volume += contact.volume_bit_e9(sending_ns, until_ns)
    return int(volume / _BYTE)


def arrived_bytes(truth: ContactPlan, ends: tuple[str, str], start_ns: int, until_ns: int) -> int:
    """Whole bytes that are there by an instant, of what begins at `start_ns`."""
    contacts = [contact for contact, sending_ns in _sending(truth, ends, start_ns) if sending_ns < until_ns]
    if not contacts:
        return 0
    return sent_bytes(truth, ends, start_ns, until_ns - contacts[-1].delay_ns_at(until_ns))


# --------------------------------------------------------------------------------------- what goes next


def chunk_of(link: Contact, t_ns: int) -> int:
    """Bytes of a chunk on a link, whose rate both its ends know."""
    return Pace.of(link.rate_bps_at(t_ns), 0.0).chunk_bytes


def room_bytes(believed: Contact | None, start_ns: int) -> int | None:
    """Bytes that, begun now, are there before the contact ends, as it is believed; None for no limit."""
    if believed is None:
        return None
    delay_ns = max(sample.delay_ns for sample in believed.samples)
    return believed.volume_bytes(start_ns, believed.end_ns - delay_ns)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one object of `size` bytes that go in one flight: those from `start` to `end`."""

    digest: Digest
    start: int
    end: int
    size: int


def first_bytes(pieces: Iterable[Piece], nbytes: int) -> tuple[Piece, ...]:
    """The first bytes of these pieces."""
    first = []
    for piece in pieces:
        if nbytes <= 0:
            break
        first.append(replace(piece, end=min(piece.end, piece.start + nbytes)))
        nbytes -= piece.end - piece.start
    return tuple(first)


def total_bytes(pieces: Iterable[Piece]) -> int:
    return sum(piece.end - piece.start for piece in pieces)


@dataclass(frozen=True, slots=True)
class Load:
    """A letter that could go: its own bytes, and those of its objects that the receiver lacks."""

    letter_bytes: int
    lacking_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.letter_bytes + self.lacking_bytes


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes next: bytes of the objects of a letter; or, where those are 0, the letter and what it
    lacks."""

    index: int
    ahead_bytes: int
    fits: bool
    """The letter can be answered within the contact as it is believed."""


def choose(
    loads: Sequence[Load], believed: Contact | None, start_ns: int, handling_ns: int, chunk_bytes: int
) -> Choice | None:
    """Which of the letters, in the order of their lanes, has the link now, and how.

    The first that can be answered within the contact goes. If none can, objects of the first that lacks any
    go ahead of a letter that has to wait for another contact, as far as they still arrive. None if there is
    nothing to be done.
    """
    for index, load in enumerate(loads):
        if is_begun(believed, start_ns, load.total_bytes, handling_ns):
            return Choice(index, 0 if load.lacking_bytes <= chunk_bytes else chunk_bytes, fits=True)
    room = room_bytes(believed, start_ns)
    for index, load in enumerate(loads):
        ahead = min(load.lacking_bytes, chunk_bytes if room is None else min(chunk_bytes, room))
        if ahead:
            return Choice(index, ahead, fits=False)
    return None


def window_at(plan: ContactPlan, a: str, b: str, t_ns: int) -> Window | None:
    """The (start_ns, end_ns) with both directions active that holds `t_ns`."""
    return next((window for window in plan.windows(a, b) if window[0] <= t_ns < window[1]), None)


def believed_end_ns(plan: ContactPlan, a: str, b: str, t_ns: int) -> int | None:
    """When the plan ends the contact in progress at `t_ns`; None where it has none."""
    window = window_at(plan, a, b, t_ns)
    return None if window is None else window[1]
