"""What a plane's collectives take: seconds and bytes in closed form. Our derivation, checked by simulation.

The model: every link passes `rate_byte_per_s` in each direction at once, a member uses both neighbours at
once, a message is sent on when it is whole, and takes `delay_s` beyond its last byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from orbitrain.protocols.sfft.ring import Gather, Reduce, Ring, parts

BLOCK_LETTERS_MAX: Final = 4
"""A neighbour that gets more is not ahead by much more of what comes between two hops."""

LETTER_MESSAGES: Final = 16
"""... so that their handling adds little to a gather where it is not hidden."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the last member waits for: so many blocks (of gathers) or heads one after the other, and hops."""

    blocks: Fraction
    hops: int

    def seconds(self, size_bytes: int, rate_byte_per_s: float, delay_s: float) -> float:
        """For blocks (heads) of `size_bytes`."""
        return float(self.blocks) * size_bytes / rate_byte_per_s + self.hops * delay_s


def gather_cost(ring: Ring, how: Gather, chunks_per_block: int = 2, letters: int = 1) -> Cost:
    """From all members having their own block to all having all; a block is of so many equal chunks, and goes
    in so many equal letters.

    On a ring of K: one way K-1 hops of a block; two ways floor(K/2), of which for even K the last is of the
    larger half of a block; in turn K(K-1). On a chain of n: both ways n-1, in turn (n-1)(n+2)/2.

    Of L letters all but the first follow it over its hops: in turn H hops take n + (H-n)/L blocks. Ways that
    keep links busy all the time are no quicker but for delays, which letters hide: for them this is a bound.
    """
    n = len(ring)
    if how is Gather.SEQUENTIAL:
        hops = n * (n - 1) if ring.closed else (n - 1) * (n + 2) // 2
        return Cost(n + Fraction(hops - n, letters) if hops else Fraction(0), hops)
    if how is Gather.ONE_WAY or not ring.closed:
        return Cost(Fraction(n - 1), n - 1)
    if n <= 2:  # both halves come over the one link there is
        return Cost(Fraction(n - 1), n - 1)
    return Cost(_larger_way(n, chunks_per_block), n // 2)


def _larger_way(n: int, chunks_per_block: int) -> Fraction:
    """Blocks over each link ahead in a two-way gather on a ring; the rest of n-1 go back."""
    return Fraction((n - 1) // 2) + (
        Fraction((chunks_per_block + 1) // 2, chunks_per_block) if n % 2 == 0 else 0
    )


def reduce_cost(ring: Ring, how: Reduce) -> Cost:
    """From all members having their own head to all having the sum; parts are of equal size.

    Of K members, `CHAIN` takes 2(K-1) hops of a head, `RING` 2(K-1) hops of a K-th. On a chain `RING` is a
    pipeline: 2(n-1) hops of an n-th of a head, and the n-1 parts that follow the first. Heads are gathered
    whole (in one chunk). ValueError for `AUTO`.
    """
    n = len(ring)
    if how is Reduce.GATHER:
        return gather_cost(ring, Gather.TWO_WAY, chunks_per_block=1)
    trailing = 0 if ring.closed else parts(ring, how) - 1
    return Cost(Fraction(2 * (n - 1) + trailing, parts(ring, how)), 2 * (n - 1))


def resolved(ring: Ring, how: Reduce, head_bytes: int, rate_byte_per_s: float, delay_s: float) -> Reduce:
    """What `AUTO` stands for, the quicker of `GATHER` and `RING` (gather if both are as quick)."""
    if how is not Reduce.AUTO:
        return how
    return _quicker(ring, head_bytes, rate_byte_per_s, delay_s)


@lru_cache(maxsize=64)  # a node asks after every input, of one ring at a time
def _quicker(ring: Ring, head_bytes: int, rate_byte_per_s: float, delay_s: float) -> Reduce:
    crossover = crossover_bytes(ring, rate_byte_per_s, delay_s)
    return Reduce.GATHER if crossover is None or head_bytes <= crossover else Reduce.RING


def crossover_bytes(ring: Ring, rate_byte_per_s: float, delay_s: float) -> float | None:
    """The size of head above which `RING` is quicker than `GATHER`; None where it never is.

    On a ring of K: R t (2(K-1) - floor(K/2)) / (floor(K/2) - 2(K-1)/K). For K = 2 the denominator is 0, for
    K = 3 it is below 0: gathering moves no more bytes over a link than the ring does, in fewer hops. On a
    chain of n: R t n / (n-3), and None up to n = 3.
    """
    gather, around = reduce_cost(ring, Reduce.GATHER), reduce_cost(ring, Reduce.RING)
    more_blocks, fewer_hops = gather.blocks - around.blocks, around.hops - gather.hops
    if more_blocks <= 0:
        return None
    return rate_byte_per_s * delay_s * float(fewer_hops / more_blocks)


def block_letters(block_s: float, message_s: float) -> int:
    """Letters by which a block that takes a link `block_s` goes around: as many as BLOCK_LETTERS_MAX, while a
    letter takes LETTER_MESSAGES times as long as a node needs to take it in.

    In the model above one is as quick as several, if their handling is free. On real links they hide what
    comes between two hops.
    """
    return max(1, min(BLOCK_LETTERS_MAX, int(block_s / (LETTER_MESSAGES * message_s))))


# --- traffic ------------------------------------------------------------------------------------------------

Traffic = Mapping[tuple[str, str], Fraction]
"""Blocks (heads) over every directed link, (sender, receiver)."""


def gather_traffic(ring: Ring, how: Gather, chunks_per_block: int = 2) -> Traffic:
    """On a ring one way K-1 blocks over each link ahead, two ways about half of that over each of both; on a
    chain the blocks of all that are on the sender's side. K(K-1) in all: each member gets each once."""
    n = len(ring)
    if n == 2:
        return {link: Fraction(1) for link in ring.links()}
    if not ring.closed:
        return {
            (a, b): Fraction(i + 1 if i < j else n - i)
            for a, b in ring.links()
            for i, j in ((ring.members.index(a), ring.members.index(b)),)
        }
    ahead = _larger_way(n, chunks_per_block) if how is Gather.TWO_WAY else Fraction(n - 1)
    return {(a, b): ahead if ring.hops(a, b)[0] == 1 else n - 1 - ahead for a, b in ring.links()}


def reduce_traffic(ring: Ring, how: Reduce) -> Traffic:
    """`RING`: 2(K-1)/K heads over each link ahead; on a chain, as with `CHAIN`, one head over each both ways.

    With equal parts. ValueError for `AUTO`.
    """
    if how is Reduce.GATHER:
        return gather_traffic(ring, Gather.TWO_WAY, chunks_per_block=1)
    n = len(ring)
    if how is Reduce.RING and ring.closed and n > 2:
        share = Fraction(2 * (n - 1), n)
        return {(a, b): share if ring.hops(a, b)[0] == 1 else Fraction(0) for a, b in ring.links()}
    last, first = ring.members[-1], ring.members[0]
    unused = {(last, first), (first, last)} if n > 2 and parts(ring, how) == 1 else set()
    return {link: Fraction(link not in unused) for link in ring.links()}


@dataclass(frozen=True, slots=True)
class Load:
    """What each satellite brings to a round: its samples, bytes of each one's embedding and features, and
    bytes of its head."""

    samples: int
    embedding_bytes: int
    feature_bytes: int
    head_bytes: int


@dataclass(frozen=True, slots=True)
class RoundTraffic:
    """Bytes of a round, without messages' own: in all planes, down to the ground and up from it, and the most
    that planes send over each direction of an edge between them."""

    gather_bytes: int
    down_bytes: int
    up_bytes: int
    reduce_bytes: int
    edge_bytes_max: int


def round_traffic(rings: Sequence[Ring], load: Load, gather: Gather, reduce: Reduce) -> RoundTraffic:
    """The counters of a round with one ring or chain a plane and the planes' sums flooded.

    Each sample's embedding goes down once and its features come up once. What is relayed from where they came
    up to their owners depends on where that was: `feature_bytes` of each over each hop.
    """
    block_bytes = load.samples * load.embedding_bytes
    satellites = sum(map(len, rings))
    gathered = sum((sum(gather_traffic(ring, gather).values()) for ring in rings), Fraction(0))
    reduced = sum((sum(reduce_traffic(ring, reduce).values()) for ring in rings), Fraction(0))
    return RoundTraffic(
        gather_bytes=int(gathered) * block_bytes,
        down_bytes=satellites * block_bytes,
        up_bytes=satellites * load.samples * load.feature_bytes,
        reduce_bytes=int(reduced) * load.head_bytes,
        edge_bytes_max=len(rings) * load.head_bytes,
    )
