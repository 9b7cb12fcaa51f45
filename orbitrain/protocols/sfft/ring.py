"""Who sends what to whom within a plane: gathering blocks, summing heads, delivering features. Names only.

That the satellites of a plane form a ring, and that embeddings are spread and heads summed by a ring
all-reduce in two phases, is of arXiv 2504.10403; the rules here are our derivation.

A real ring has no lockstep, so each rule says what follows from what a member holds, and from nothing else:

- **gather** (`forward`): where a chunk goes next depends on whose it is and who holds it. From whom it came
  does not matter, nor whether it comes twice. After a ring is formed anew, apply `forward` under the new ring
  to all that is held, less what the neighbour says it has: it delivers what is lacking.
- **reduce** (`visits`): each part of a head makes a tour. The first K visits add, the K-1 after them store.
  The sum is of one ring's members: after a ring is formed anew the tours begin again.
- **relay** (`toward`): one neighbour nearer to the owner.

`gather_steps` and `reduce_steps` run the same rules in lockstep, a block a link and step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, TypeVar

T = TypeVar("T")

_RINGS_KNOWN: Final = 256
"""Members whose visits are remembered: all of a large fleet's, as each asks for its own after every input."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Members of a plane in the order of flight, each in sight of the next; `closed`: the last of the first.

    Where it is not closed it is a chain. One or two members are closed: nobody is missing between them. At
    least one member, no name twice (ValueError).
    """

    members: tuple[str, ...]
    closed: bool = True

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError(f"members: must be one or more different names, not {self.members}")
        if len(self.members) <= 2:
            object.__setattr__(self, "closed", True)

    @staticmethod
    def formed(members: Sequence[str], sees: Callable[[str, str], bool]) -> tuple[Ring, ...]:
        """The ring of these members in their order, or the chains into which gaps cut it, the longest first.

        With one member of a ring missing that is a ring if its neighbours see each other, else one chain of
        those left. `sees(a, b)`, the same as `sees(b, a)`, is asked of members next to each other.
        """
        gaps = [place for place in range(len(members)) if not sees(members[place - 1], members[place])]
        if len(members) <= 1 or not gaps:
            return (Ring(tuple(members)),) if members else ()
        around = (*members, *members)
        ends = [*gaps[1:], gaps[0] + len(members)]
        chains = [Ring(around[start:end], closed=False) for start, end in zip(gaps, ends, strict=True)]
        return tuple(sorted(chains, key=lambda chain: -len(chain)))

    def __len__(self) -> int:
        return len(self.members)

    def at(self, place: int) -> str | None:
        """The member at a place, which on a ring goes round; None beyond a chain's end."""
        if self.closed:
            return self.members[place % len(self)]
        return self.members[place] if 0 <= place < len(self) else None

    def hops(self, one: str, other: str) -> tuple[int, int]:
        """(ahead, back): hops from one member to another in the order of flight, and against it.

        On a chain one of them is -1: there is no such way. ValueError for a name that is no member.
        """
        ahead = self.members.index(other) - self.members.index(one)
        if self.closed:
            return ahead % len(self), -ahead % len(self)
        return (ahead, 0 if ahead == 0 else -1) if ahead >= 0 else (-1, -ahead)

    def links(self) -> tuple[tuple[str, str], ...]:
        """Every directed link, (sender, receiver), sorted."""
        pairs = zip(self.members, self.members[1:] + self.members[:1] * self.closed, strict=False)
        return tuple(sorted({way for a, b in pairs if a != b for way in ((a, b), (b, a))}))


def toward(ring: Ring, me: str, owner: str) -> str | None:
    """The neighbour to whom what is for `owner` goes next: the shorter way, ahead where both are as long.

    None where `me` is the owner. At most floor(K/2) hops on a ring. ValueError for a name that is no member.
    """
    ahead, back = ring.hops(me, owner)
    if ahead == 0:
        return None
    place = ring.members.index(me)
    return ring.at(place - 1 if ahead < 0 or 0 < back < ahead else place + 1)


# --- gathering: every member gets every block ---------------------------------------------------------------


class Gather(StrEnum):
    """How blocks are spread. On a chain no way leads round: there `ONE_WAY` is `TWO_WAY`."""

    TWO_WAY = "two_way"
    """Own block both ways; with K even each half of the opposite block comes another way."""
    ONE_WAY = "one_way"
    """All blocks ahead, all the way round."""
    SEQUENTIAL = "sequential"
    """The baseline: as one way, but members begin in turn."""


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """Chunk `index` of the `count` that the block of `owner` is cut into.

    To broadcast what one member got for all (a head, another plane's sum), that member is the owner.
    """

    owner: str
    index: int
    count: int


Send = tuple[str, tuple[Chunk, ...]]
"""To which neighbour, and what."""


def block(owner: str, count: int) -> tuple[Chunk, ...]:
    """All chunks of a member's block."""
    return tuple(Chunk(owner, index, count) for index in range(count))


def forward(ring: Ring, me: str, how: Gather, chunks: Iterable[Chunk]) -> tuple[Send, ...]:
    """What `me` sends on of chunks that it holds, its own or others', to each neighbour in the order given.

    What is of nobody on the ring goes nowhere. When own chunks may be sent `begins` says.
    """
    sends: dict[str, list[Chunk]] = {}
    place = ring.members.index(me)
    next_ones = ring.at(place + 1), ring.at(place - 1)
    owners: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for chunk in chunks:
        owner = chunk.owner
        if owner not in owners:
            owners[owner] = _goes_on(ring, me, how, owner, next_ones)
        for neighbour in owners[owner][2 * chunk.index < chunk.count]:
            sends.setdefault(neighbour, []).append(chunk)
    return tuple((neighbour, tuple(some)) for neighbour, some in sends.items())


def _goes_on(
    ring: Ring, me: str, how: Gather, owner: str, next_ones: tuple[str | None, str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """To which of the next ones (ahead, back) chunks of a block's second half go, and those of its first."""
    if owner not in ring.members:
        return (), ()
    hops = ring.hops(owner, me)

    def neighbours(first_half: bool) -> tuple[str, ...]:
        each = zip(hops, _reach(ring, how, first_half), next_ones, strict=True)
        return tuple(name for way, far, name in each if 0 <= way < far and name is not None)

    return neighbours(False), neighbours(True)


def _reach(ring: Ring, how: Gather, first_half: bool) -> tuple[int, int]:
    """How many hops ahead and back of its owner a chunk is taken: to each other member by one way."""
    others = len(ring) - 1
    if not ring.closed:
        return others, others  # to the ends, of which there is nothing beyond
    if how is not Gather.TWO_WAY:
        return others, 0
    ahead = (others + first_half) // 2
    return ahead, others - ahead


def begins(ring: Ring, me: str, how: Gather, whole: Collection[str]) -> bool:
    """Whether `me` may send its own block, holding the whole blocks of these owners.

    In turn (`SEQUENTIAL`), once it holds the blocks of all who go before it. On a ring each turn goes to the
    member that the broadcast before it reaches last, so broadcasts follow each other. On a chain no member
    is always the last: turns go from the middle outwards, each to the other side.
    """
    if how is not Gather.SEQUENTIAL:
        return True
    turns = _turns(ring)
    return set(turns[: turns.index(me)]) <= set(whole)


def _turns(ring: Ring) -> tuple[str, ...]:
    if ring.closed:
        return ring.members[:1] + ring.members[:0:-1]
    last = len(ring) - 1
    return tuple(
        ring.members[place] for place in sorted(range(last + 1), key=lambda i: (abs(2 * i - last), -i))
    )


# --- reducing: every member gets the sum of all heads -------------------------------------------------------


class Reduce(StrEnum):
    """How heads are summed. The paper's is `RING`; what `AUTO` stands for `costs.resolved` says."""

    RING = "ring"
    """A head in K parts, each going round twice: scatter-reduce, then gather. On a chain the parts follow
    each other as one does in `CHAIN`."""
    CHAIN = "chain"
    """The baseline: the whole head is accumulated from the first member to the last, and broadcast back."""
    GATHER = "gather"
    """Whole heads by `Gather.TWO_WAY`; each member sums all of them in ascending order of names."""
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Visit:
    """A part of a head at a stop of its tour, where it comes with the message (part, step).

    `adds`: the member adds its own part to what came (at step 0 its own is all there is); else it stores what
    came. `names` are in the sum then, in the order of addition; `whole` says whether all are. On goes the sum
    to `to`, as (part, step + 1); None at the end of the tour.
    """

    part: int
    step: int
    member: str
    adds: bool
    whole: bool
    names: tuple[str, ...]
    to: str | None


def parts(ring: Ring, how: Reduce) -> int:
    """Into how many parts a head is cut for `RING` or `CHAIN` (ValueError for the others)."""
    if how is Reduce.RING:
        return len(ring)
    if how is Reduce.CHAIN:
        return 1
    raise ValueError(f"how: {how} has no parts")


def visit(ring: Ring, how: Reduce, part: int, step: int) -> Visit | None:
    """What is done with message (part, step), and by whom; None where this ring knows no such message."""
    if not 0 <= part < parts(ring, how):
        return None
    tour = _tour(ring, how, part)
    if not 0 <= step < len(tour):
        return None
    adds = step < len(ring)
    names = tour[: min(step + 1, len(ring))]
    to = tour[step + 1] if step + 1 < len(tour) else None
    return Visit(part, step, tour[step], adds, len(names) == len(ring), names, to)


@lru_cache(maxsize=_RINGS_KNOWN)
def visits(ring: Ring, how: Reduce, me: str) -> tuple[Visit, ...]:
    """All that `me` does in a reduction, by part and step. Those of step 0 wait for no message."""
    return tuple(
        found
        for part in range(parts(ring, how))
        for step in range(2 * len(ring) - 1)
        if (found := visit(ring, how, part, step)) is not None and found.member == me
    )


def _tour(ring: Ring, how: Reduce, part: int) -> tuple[str, ...]:
    """K members that add and K-1 that store. Every member adds each part once, in one order: bit for bit the
    same sum for all."""
    if how is Reduce.RING and ring.closed:
        around = ring.members[part:] + ring.members[:part]
        return around + around[:-1]
    return ring.members + ring.members[-2::-1]


# --- in lockstep --------------------------------------------------------------------------------------------

Steps = tuple[tuple[tuple[str, str, tuple[Chunk, ...]], ...], ...]
"""Of each step all (sender, receiver, chunks)."""
ReduceSteps = tuple[tuple[tuple[str, str, Visit], ...], ...]
"""Of each step all (sender, receiver, what the receiver does)."""


def gather_steps(ring: Ring, how: Gather, chunks_per_block: int = 2) -> Steps:
    """A gather in which every link passes one block, or what it passes of one, in each step."""
    held: dict[str, set[Chunk]] = {name: set() for name in ring.members}
    begun: set[str] = set()

    def sent(me: str, chunks: tuple[Chunk, ...]) -> Iterable[tuple[str, str, tuple[Chunk, ...]]]:
        held[me].update(chunks)
        yield from ((me, *send) for send in forward(ring, me, how, chunks))
        whole = {name for name in ring.members if held[me].issuperset(block(name, chunks_per_block))}
        if me not in begun and begins(ring, me, how, whole):
            begun.add(me)
            yield from sent(me, block(me, chunks_per_block))

    return _lockstep([each for name in ring.members for each in sent(name, ())], sent)


def reduce_steps(ring: Ring, how: Reduce) -> ReduceSteps:
    """A reduction by `RING` or `CHAIN` in which every link passes one part in each step."""

    def sent(me: str, done: Visit) -> Iterable[tuple[str, str, Visit]]:
        following = visit(ring, how, done.part, done.step + 1)
        return () if following is None else ((me, following.member, following),)

    own = [each for name in ring.members for each in visits(ring, how, name) if each.step == 0]
    return _lockstep([each for done in own for each in sent(done.member, done)], sent)


def _lockstep(
    first: Iterable[tuple[str, str, T]], sent: Callable[[str, T], Iterable[tuple[str, str, T]]]
) -> tuple[tuple[tuple[str, str, T], ...], ...]:
    waiting: dict[tuple[str, str], deque[T]] = {}
    steps = []
    leaving = list(first)
    while leaving or any(waiting.values()):
        for sender, receiver, what in leaving:
            waiting.setdefault((sender, receiver), deque()).append(what)
        steps.append(tuple((*link, queue.popleft()) for link, queue in sorted(waiting.items()) if queue))
        leaving = [each for _, receiver, what in steps[-1] for each in sent(receiver, what)]
    return tuple(steps)
