"""Which objects a node keeps for letters that are still to come. Pure.

A sender offers objects for the first letters of a mailbox that have not ended, and says which is the oldest
of them, so what it offered for earlier ones is not wanted any more: the newest win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from orbitrain.machine import Digest

EXPECTED_MAX: Final = 512
"""Objects of one source that are kept for letters to come: two letters' worth."""

LINGER_NS: Final = 86_400 * 1_000_000_000
"""Scenario time for which bytes outlive the expiry of the letter they came for: within a day any satellite
passes again, and the same object is likely to be offered for another letter."""

Box: TypeAlias = tuple[str, str, int]
"""A mailbox as its receiver names it: (source, role, lane)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A letter to come, and until when (scenario time): its objects are kept for it."""

    source: str
    incarnation: str
    role: str
    lane: int
    sequence: int
    expires_at_ns: int

    @property
    def box(self) -> Box:
        return (self.source, self.role, self.lane)

    def replaces(self, earlier: Expected, oldest: int = 0) -> bool:
        """Whether this letter, being offered, says that an earlier one of its source is not to come.

        `oldest` is the first letter of its mailbox that has not ended; 0 if it is that itself.
        """
        return earlier.incarnation != self.incarnation or (
            earlier.box == self.box and earlier.sequence < (oldest or self.sequence)
        )


Changes: TypeAlias = Mapping[Box, Mapping[Digest, Expected]]
"""What is expected now of the mailboxes of which that has changed."""


class Expectations:
    """The letters to come, by the objects that are kept for them."""

    def __init__(self, letters: Iterable[tuple[Digest, Expected]] = ()) -> None:
        self._boxes: dict[Box, dict[Digest, Expected]] = {}
        for digest, letter in letters:
            self._boxes.setdefault(letter.box, {})[digest] = letter

    def expect(self, letter: Expected, digests: Iterable[Digest], oldest: int = 0) -> Changes:
        """Keep these objects for a letter that is offered. Beyond EXPECTED_MAX the source's oldest go.

        `oldest` as for `Expected.replaces`.
        """
        wanted = dict.fromkeys(digests, letter)
        changed = {
            box: {digest: each for digest, each in found.items() if not letter.replaces(each, oldest)}
            for box, found in self._boxes.items()
            if box[0] == letter.source and any(letter.replaces(each, oldest) for each in found.values())
        }
        before = self._boxes.get(letter.box, {})
        mine = changed.get(letter.box, before)
        if not changed and wanted.items() <= mine.items():
            return {}
        theirs = sum(len(found) for box, found in self._boxes.items() if box[0] == letter.source)
        room = max(EXPECTED_MAX - theirs + len(before), len(wanted))
        mine = {**{digest: each for digest, each in mine.items() if digest not in wanted}, **wanted}
        changed[letter.box] = dict(list(mine.items())[-room:])
        return self._put(changed)

    def settled(self, box: Box, sequence: int) -> Changes:
        """A letter of a mailbox has ended here: nothing is kept for it, nor for those before it."""
        found = self._boxes.get(box, {})
        kept = {digest: each for digest, each in found.items() if each.sequence > sequence}
        return self._put({box: kept}) if len(kept) < len(found) else {}

    def forget(self, source: str) -> Changes:
        """Nothing is expected of a source any more."""
        return self._put({box: {} for box in self._boxes if box[0] == source})

    def _put(self, changed: Changes) -> Changes:
        for box, found in changed.items():
            self._boxes.pop(box, None)
            if found:
                self._boxes[box] = dict(found)
        return changed

    def letters(self) -> list[tuple[Digest, Expected]]:
        """Every object that is expected, with the letter it is for."""
        return [(digest, letter) for found in self._boxes.values() for digest, letter in found.items()]

    def has(self, source: str, digest: Digest) -> bool:
        """Whether a source has offered an object for a letter to come."""
        return any(digest in found for box, found in self._boxes.items() if box[0] == source)

    def digests(self, now_ns: int, linger_ns: int = LINGER_NS) -> set[Digest]:
        """Objects to keep at scenario time `now_ns`: `linger_ns` longer than their letters."""
        return {
            digest
            for found in self._boxes.values()
            for digest, letter in found.items()
            if letter.expires_at_ns >= now_ns - linger_ns
        }
