"""Numbers as a compact plan file has them (`contacts.compact`): columns, and blocks of samples.

A column is written byte by byte: first the lowest byte of every number (little-endian words of 64 bits), then
the next; integers as differences, each modulo 2^64 from the number before. Both only help zlib.

Standard library only.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from orbitrain.contacts.contact import PlanError, Sample

WORD_BYTES: Final = 8
_LARGEST_BLOCK_BYTES: Final = 1 << 26  # what a file may make its reader set aside, whatever it says


# --- writing ------------------------------------------------------------------------------------------------


def block_out(profiles: Sequence[tuple[Sample, ...]]) -> bytes:
    """How many samples each profile has, then t_ns, delay_ns, rate_bps, loss mean, loss burst of them all."""
    samples = [sample for profile in profiles for sample in profile]
    return b"".join(
        [
            integers_out(array("q", [len(profile) for profile in profiles])),
            integers_out(array("q", [sample.t_ns for sample in samples])),
            integers_out(array("q", [sample.delay_ns for sample in samples])),
            integers_out(array("q", [sample.rate_bps for sample in samples])),
            fractions_out(array("d", [sample.loss_mean for sample in samples])),
            fractions_out(array("d", [sample.loss_burst for sample in samples])),
        ]
    )


def integers_out(values: array[int]) -> bytes:
    """A column of integers, each 0 to 2^63 - 1."""
    # Differences fit a signed word.
    return _planes(array("q", [b - a for a, b in zip([0, *values], values, strict=False)]))


def fractions_out(values: array[float]) -> bytes:
    """A column of floats; -0.0 becomes 0.0, as in the plan's digest."""
    return _planes(array("d", [value + 0.0 for value in values]))


def _planes(values: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    data = values.tobytes()
    return b"".join([data[byte::WORD_BYTES] for byte in range(WORD_BYTES)])


# --- reading ------------------------------------------------------------------------------------------------


def unpacked(packed: memoryview, size: int | None, where: str, largest: int = _LARGEST_BLOCK_BYTES) -> bytes:
    """What zlib packed; no more than `size` bytes (or `largest`, where that is not known) are made of it."""
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(packed, largest + 1 if size is None else size + 1)
    except zlib.error as error:
        raise PlanError(f"{where}: cannot be unpacked ({error})") from None
    if size is None and len(data) <= largest and inflate.eof:
        return data
    if len(data) == size and inflate.eof:
        return data
    raise PlanError(f"{where}: must unpack to {f'{size} bytes' if size is not None else 'less'}")


def integers_in(planes: bytes) -> array[int]:
    """A column of integers."""
    values = array("q", _interleaved(planes))
    if sys.byteorder == "big":
        values.byteswap()
    try:
        return array("q", accumulate(values))
    except OverflowError:
        raise PlanError("plan: must hold integers of 64 bits") from None


def fractions_in(planes: bytes) -> array[float]:
    """A column of floats."""
    values = array("d", _interleaved(planes))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _interleaved(planes: bytes) -> bytes:
    count = len(planes) // WORD_BYTES
    data = bytearray(count * WORD_BYTES)
    for byte in range(WORD_BYTES):
        data[byte::WORD_BYTES] = planes[byte * count : (byte + 1) * count]
    return bytes(data)


class Block:
    """The samples of some profiles, read from a file's packed block."""

    __slots__ = ("_bursts", "_delays_ns", "_firsts", "_made", "_means", "_rates_bps", "_t_ns")

    def __init__(self, packed: memoryview, profiles: int, where: str) -> None:
        data = unpacked(packed, None, where)
        counts = integers_in(data[: profiles * WORD_BYTES])
        if len(counts) != profiles or min(counts) < 0:
            raise PlanError(f"{where}: must say how many samples each profile has")
        self._firsts = list(accumulate(counts, initial=0))
        size = self._firsts[-1] * WORD_BYTES
        if len(data) != profiles * WORD_BYTES + 5 * size:
            raise PlanError(f"{where}: must hold {self._firsts[-1]} samples")
        parts = (
            [data[at : at + size] for at in range(profiles * WORD_BYTES, len(data), size)]
            if size
            else [b""] * 5
        )
        self._t_ns, self._delays_ns, self._rates_bps = (integers_in(part) for part in parts[:3])
        self._means, self._bursts = (fractions_in(part) for part in parts[3:])
        self._made: dict[int, tuple[Sample, ...]] = {}

    def samples(self, profile: int) -> tuple[Sample, ...]:
        """Of one profile of the block, counted from 0."""
        made = self._made.get(profile)
        if made is None:
            part = slice(self._firsts[profile], self._firsts[profile + 1])
            made = self._made[profile] = tuple(
                map(
                    Sample,
                    self._t_ns[part],
                    self._delays_ns[part],
                    self._rates_bps[part],
                    self._means[part],
                    self._bursts[part],
                )
            )
        return made
