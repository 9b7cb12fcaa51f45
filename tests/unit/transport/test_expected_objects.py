"""Letters to come keep what has come of their objects, each source within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbitrain.transport.expected import EXPECTED_MAX, LINGER_NS
from orbitrain.transport.store import (
    BlobStore,
    IncomingClosed,
    StoreError,
)
from orbitrain.transport.store.ledger import Ledger, packed, unpacked
from tests.unit.transport.partials import die, letter, partial_files, sha256


def test_partial_objects_that_no_letter_waits_for_are_collected(blobs: BlobStore) -> None:
    wanted, unwanted = sha256(b"wanted"), sha256(b"unwanted")
    for digest in (wanted, unwanted):
        incoming = blobs.shared(digest, 100, "a")
        incoming.write(0, bytes(60))
        incoming.commit()
    assert blobs.collect_partial({wanted}) == 60
    assert len(partial_files(blobs)) == 1
    assert blobs.partial(unwanted, 100, "a") is None
    with pytest.raises(IncomingClosed):
        incoming.write(60, bytes(40))


def test_what_a_letter_waits_for_outlives_a_kill_and_not_the_letter(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.expect(letter(1), ["x", "y"])
    store.expect(letter(4, role="other"), ["y"])
    die(store)
    again = BlobStore(tmp_path)
    assert again.expected(0) == again.expected(100 + LINGER_NS) == {"x", "y"}
    assert again.expected(101 + LINGER_NS) == set()
    assert again.is_expected("a", "x") and not again.is_expected("b", "x")
    again.settled("a", "r", 3, 1)
    assert again.expected(0) == {"y"}
    again.unexpect("a")
    assert again.expected(0) == set()
    again.close()
    last = BlobStore(tmp_path)
    assert last.expected(0) == set()
    last.close()


def test_a_later_letter_of_the_mailbox_says_that_the_earlier_one_is_over(blobs: BlobStore) -> None:
    blobs.expect(letter(1), ["old", "both"])
    blobs.expect(letter(1, lane=2), ["aside"])
    blobs.expect(letter(2), ["both", "new"])
    assert blobs.expected(0) == {"both", "new", "aside"}
    blobs.settled("a", "r", 3, 1)
    assert blobs.expected(0) == {"both", "new", "aside"}
    blobs.expect(letter(1, incarnation="reborn"), ["anew"])
    assert blobs.expected(0) == {"anew"}


def test_objects_of_letters_that_have_not_ended_are_kept_while_later_ones_are_offered(
    blobs: BlobStore,
) -> None:
    blobs.expect(letter(1), ["over"])
    blobs.expect(letter(4), ["two", "three", "four"], 2)
    assert blobs.expected(0) == {"two", "three", "four"}
    blobs.settled("a", "r", 3, 2)
    blobs.expect(letter(6), ["four", "six"], 3)
    assert blobs.expected(0) == {"two", "three", "four", "six"}
    blobs.expect(letter(7), ["seven"], 5)
    assert blobs.expected(0) == {"four", "six", "seven"}


def test_one_source_can_have_only_so_much_kept_and_costs_no_other_anything(blobs: BlobStore) -> None:
    blobs.expect(letter(1, source="b"), ["theirs"])
    blobs.expect(letter(1, role="other"), ["first"])
    for n in range(EXPECTED_MAX + 10):
        blobs.expect(letter(1), [f"object {n}"])
    kept = blobs.expected(0)
    assert len(kept) == EXPECTED_MAX + 1
    assert {"theirs", "first", f"object {EXPECTED_MAX + 9}"} <= kept
    assert "object 0" not in kept


def test_ranges_are_kept_as_they_are() -> None:
    ranges = ((0, 5), (7, 1 << 40))
    assert unpacked(packed(ranges)) == ranges
    for broken in (b"x", packed([(5, 5)]), packed([(6, 5)])):
        with pytest.raises(ValueError, match="ranges that are"):
            unpacked(broken)


def test_a_ledger_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"not a database at all, " * 50)
    with pytest.raises(StoreError, match="ledger"):
        Ledger(tmp_path / "ledger")
