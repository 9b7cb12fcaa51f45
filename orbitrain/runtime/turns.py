"""Whose turn it is on a link that is real: the letter that goes next, and those that go with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from orbitrain.flights import reconsidered_ns
from orbitrain.machine import NEVER_NS, Digest, Lane
from orbitrain.mailbox import Identity, Letter
from orbitrain.runtime.allowance import Allowance
from orbitrain.runtime.letters import is_settled_only, letter_bytes
from orbitrain.runtime.outlook import Outlook
from orbitrain.runtime.peer import Peer
from orbitrain.transport.objects import CHUNK_BYTES_MIN, Range
from orbitrain.transport.rpc import LETTERS_BYTES_MAX, LETTERS_MAX, OBJECTS_MAX

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

LETTER_NAMES_BYTES: Final = 1024
"""Of a letter on the wire beside its body and objects, at most: names have 128 characters at most."""

OBJECT_NAME_BYTES: Final = 80
"""Of an object's name on the wire."""

HEAD_START_BYTES: Final = 2 * CHUNK_BYTES_MIN
"""Of an object that its receiver cannot have, until the answer to its offer has come: what a link of some
Mbit/s carries in that time, and little if it was there after all."""


class Turns:
    """Of a node's letters."""

    def __init__(self, driver: Driver, outlook: Outlook, allowance: Allowance) -> None:
        self._driver = driver
        self._outlook = outlook
        self._allowance = allowance

    def next(self, here: Peer) -> tuple[Letter, bool] | None:
        """The letter that is to have the link, and whether only its objects go, ahead of it."""
        now_ns = self._outlook.now_ns()
        heads = [letter for letter in self.heads(here) if not is_plain(letter, now_ns)]
        for letter in heads:
            lacking = here.unfit.get(letter.identity)
            if lacking is None or self.fits(here, letter, lacking):
                return letter, False
        for letter in heads:
            if any(here.unfit[letter.identity].values()) and self._allowance.room_bytes(here, 0):
                return letter, True
        return None

    def plain(self, here: Peer) -> Iterator[list[Letter]]:
        """Those that need no objects there, of each mailbox of which no letter is landing: they go beside."""
        now_ns = self._outlook.now_ns()
        for letter in self._driver.core.outbox.heads(here.name):
            is_free = letter.mailbox not in here.landing and is_plain(letter, now_ns)
            if is_free and (letter.identity not in here.unfit or self.fits(here, letter, {})):
                yield self.together(here, letter)

    def heads(self, here: Peer) -> list[Letter]:
        """The letters that are next, beyond those that are landing."""
        return self._driver.core.outbox.heads(here.name, here.landing_letters)

    def fits(self, here: Peer, letter: Letter, lacking: Mapping[Digest, int]) -> bool:
        """Whether a letter can be answered in time; if not, it is written down, and when to look again."""
        if self._allowance.is_begun(here, letter_bytes(letter), sum(lacking.values())):
            return True
        believed = self._outlook.contact(here.name)
        here.unfit[letter.identity] = lacking
        again_ns = reconsidered_ns(believed, NEVER_NS)
        if again_ns is not None:
            here.again_ns = again_ns
            self._driver.wake()
        return False

    def together(self, here: Peer, head: Letter) -> list[Letter]:
        """The head of a mailbox, and those after it that go with it: all small, and in time; plain ones after
        a plain one."""
        most_bytes = min(self._allowance.together_bytes(here), self._allowance.room_bytes(here, 0))
        now_ns, together = self._outlook.now_ns(), list[Letter]()
        lacking, own_bytes, wire_bytes = dict[Digest, int](), 0, 0
        for letter in self._driver.core.outbox.queue(head.mailbox, here.landing_letters):
            objects = {digest: self.lacking_bytes(here, digest, size) for digest, size in letter.objects}
            lacking |= objects
            own_bytes += letter_bytes(letter)
            wire_bytes += LETTER_NAMES_BYTES + len(letter.body) + OBJECT_NAME_BYTES * len(letter.objects)
            if (
                len(together) >= LETTERS_MAX
                or is_settled_only(letter, now_ns)
                or (letter.objects and not head.objects)
                or own_bytes + sum(lacking.values()) > most_bytes
                or wire_bytes > LETTERS_BYTES_MAX
                or sum(len(each.objects) for each in together) + len(letter.objects) > OBJECTS_MAX
                or not self._allowance.is_begun(here, own_bytes, sum(lacking.values()))
            ):
                break
            together.append(letter)
        return together or [head]

    def lacking_bytes(self, here: Peer, digest: Digest, size: int) -> int:
        """Bytes of an object that a peer lacks, as far as is known."""
        return self._driver.lacking.get((here.name, digest), size)

    def standing(self, letters: list[Letter], landing: Collection[Identity] = ()) -> list[Letter]:
        """Those still the first of their mailbox, beyond those that are landing, up to one that has been
        withdrawn or has ended."""
        queue = self._driver.core.outbox.queue(letters[0].mailbox, landing) if letters else ()
        found = zip(letters, queue, strict=False)
        return [letter for letter, _ in takewhile(lambda both: both[0] == both[1], found)]

    def is_news(self, here: Peer, letter: Letter) -> bool:
        """Whether a peer cannot have any of a letter's objects yet: activations are of one round alone."""
        return (
            letter.lane == Lane.ACTIVATION
            and bool(letter.objects)
            and not any((here.name, digest) in self._driver.lacking for digest, _ in letter.objects)
            and not is_settled_only(letter, self._outlook.now_ns())
            and self.fits(here, letter, dict(letter.objects))
        )

    def lands(self, here: Peer, letter: Letter) -> bool:
        """Whether a letter is the first of its mailbox and answered in time, with all that is in the air."""
        in_time = self._allowance.is_begun(here, letter_bytes(letter), here.client.in_air_bytes)
        return in_time and bool(self.standing([letter]))


def is_plain(letter: Letter, now_ns: int) -> bool:
    """Whether a letter needs no objects where it goes to."""
    return not letter.objects or is_settled_only(letter, now_ns)


def are_news(news: Mapping[Digest, list[Range]], lacking: Mapping[Digest, list[Range]]) -> bool:
    """Whether a peer lacks objects as it was thought, or all but of a head start that has come meanwhile."""
    for digest, ((_, size),) in news.items():
        gaps = lacking.get(digest, [])
        if len(gaps) != 1 or gaps[0][0] > HEAD_START_BYTES or gaps[0][1] != size:
            return False
    return True
