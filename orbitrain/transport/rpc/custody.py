"""Custody signals: what became of letters handed over together, as ranges of sequence numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orbitrain.transport.rpc.channel import PeerRefused
from orbitrain.v1 import link_pb2

LETTERS_MAX: Final = 64
"""Letters handed over at once: a round trip is shared by so many, and a step stays short."""

LETTERS_BYTES_MAX: Final = 1024 * 1024
"""... and their bytes in all, objects apart: a letter may be so large alone."""


def compressed(sequences: Sequence[int], receipts: Sequence[link_pb2.Receipt]) -> link_pb2.CustodySignal:
    """The receipts of the first of these letters, at least one, as ranges."""
    signal = link_pb2.CustodySignal(incarnation=receipts[-1].incarnation)
    for sequence, receipt in zip(sequences, receipts, strict=False):
        last = signal.ranges[-1] if signal.ranges else None
        if last is not None and (last.outcome, last.reason) == (receipt.outcome, receipt.reason):
            last.last = sequence
        else:
            signal.ranges.add(first=sequence, last=sequence, outcome=receipt.outcome, reason=receipt.reason)
    return signal


def expanded(signal: link_pb2.CustodySignal, sequences: Sequence[int]) -> list[link_pb2.Receipt]:
    """The receipts of the first of these letters. Raises PeerRefused for ranges that are not of those."""
    receipts: list[link_pb2.Receipt] = []
    for each in signal.ranges:
        ours = sequences[len(receipts) :]
        if each.last not in ours or ours[0] != each.first:
            raise PeerRefused("a custody signal of letters that were not handed over")
        receipts += [
            link_pb2.Receipt(outcome=each.outcome, reason=each.reason, incarnation=signal.incarnation)
        ] * (ours.index(each.last) + 1)
    return receipts
