"""Partial objects on disk: what is claimed of them is there, whenever the process went."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orbitrain.transport.expected import EXPECTED_MAX, LINGER_NS, Expected
from orbitrain.transport.objects import RangeSet
from orbitrain.transport.store import (
    BlobStore,
    DigestMismatch,
    IncomingClosed,
    StorageFull,
    StoreError,
)
from orbitrain.transport.store import blobs as blobs_module
from orbitrain.transport.store import incoming as incoming_module
from orbitrain.transport.store.blobs import PARTIAL_MAX
from orbitrain.transport.store.folders import sync_folder
from orbitrain.transport.store.ledger import Ledger, packed, unpacked


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CONTENT = random.Random(5).randbytes(10_000)
DIGEST = sha256(CONTENT)
SIZE = len(CONTENT)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    store = BlobStore(tmp_path / "store")
    yield store
    store.close()


def die(store: BlobStore) -> None:
    """As far as the store's files go, the process is killed now."""
    store._ledger.close()
    store._held.close()


def partial_files(store: BlobStore) -> list[str]:
    return sorted(path.name for path in (store.folder / "incoming").iterdir())


def test_committed_bytes_are_there_after_a_kill_and_the_others_are_not_claimed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.write(6000, CONTENT[6000:7000])
    assert (incoming.committed, incoming.uncommitted_bytes) == ([], 5000)
    incoming.commit()
    incoming.write(4000, CONTENT[4000:5000])
    assert (incoming.committed, incoming.uncommitted_bytes) == ([(0, 4000), (6000, 7000)], 1000)
    die(store)
    again = BlobStore(tmp_path)
    found = again.shared(DIGEST, SIZE, "b")
    assert found.held == found.committed == [(0, 4000), (6000, 7000)]
    assert again._partial_bytes == 5000
    for start, end in found.missing:
        found.write(start, CONTENT[start:end])
    found.finish()
    assert again.path(DIGEST).read_bytes() == CONTENT
    assert (partial_files(again), again._partial_bytes) == ([], 0)
    again.close()
    last = BlobStore(tmp_path)
    assert (last.digests(), last._ledger.parts) == ({DIGEST}, [])
    last.close()


def test_a_store_that_is_closed_commits_what_it_has(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    store.close()
    with pytest.raises(IncomingClosed):
        incoming.write(4000, CONTENT[4000:])
    again = BlobStore(tmp_path)
    assert again.shared(DIGEST, SIZE, "a").held == [(0, 4000)]
    again.close()


def test_bytes_of_several_sources_make_one_object(blobs: BlobStore) -> None:
    assert blobs.partial(DIGEST, SIZE, "a") is None
    first, second = blobs.shared(DIGEST, SIZE, "a"), blobs.shared(DIGEST, SIZE, "b")
    assert first is second is blobs.partial(DIGEST, SIZE, "c")
    first.write(0, CONTENT[:5000])
    second.write(3000, CONTENT[3000:])
    first.finish()
    second.finish()
    assert blobs.path(DIGEST).read_bytes() == CONTENT


def test_after_wrong_bytes_each_source_is_on_its_own(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    mixed = store.shared(DIGEST, SIZE, "spoiler")
    mixed.write(0, bytes(100))
    mixed.write(100, CONTENT[100:])
    with pytest.raises(DigestMismatch):
        mixed.finish()
    assert partial_files(store) == []
    spoiler, honest = store.shared(DIGEST, SIZE, "spoiler"), store.shared(DIGEST, SIZE, "honest")
    assert spoiler is not honest
    spoiler.write(0, bytes(SIZE))
    honest.write(0, CONTENT)
    honest.commit()
    with pytest.raises(DigestMismatch):
        spoiler.finish()
    honest.finish()
    assert store.path(DIGEST).read_bytes() == CONTENT
    assert partial_files(store) == []
    store.close()


def test_a_resting_object_holds_no_descriptor_and_goes_on(blobs: BlobStore) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.rest()
    assert incoming._file is None
    incoming.write(4000, CONTENT[4000:])
    incoming.finish()
    incoming.rest()
    assert blobs.path(DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("harm", ["file is gone", "file is shorter", "object is whole", "nobody knows it"])
def test_what_folder_and_ledger_do_not_agree_on_is_removed_at_open(tmp_path: Path, harm: str) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.commit()
    path = incoming.path
    if harm == "object is whole":
        store.put(CONTENT)
    store.close()
    if harm == "file is gone":
        path.unlink()
    elif harm == "file is shorter":
        os.truncate(path, 3999)
    elif harm == "nobody knows it":
        path.rename(path.with_name("orphan"))
    again = BlobStore(tmp_path)
    assert again.partial(DIGEST, SIZE, "a") is None
    assert (partial_files(again), again._partial_bytes) == ([], 0)
    again.close()
    last = BlobStore(tmp_path)
    assert last._ledger.parts == []
    last.close()


def read_lengths(patched: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read for a digest from now on."""
    lengths: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        lengths.append(preadv(*arguments))
        return lengths[-1]

    patched.setattr(incoming_module.os, "preadv", counted)
    return lengths


def test_what_was_hashed_ahead_is_not_read_again(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.hash_ahead()
    for start in (0, 6000, 4000):  # the middle last
        incoming.write(start, CONTENT[start : start + 2000])
        incoming.hash_ahead()
    incoming.rest()
    incoming.write(2000, CONTENT[2000:4000])
    incoming.rest()
    incoming.hash_ahead()
    assert incoming._file is None
    incoming.write(8000, CONTENT[8000:])
    lengths = read_lengths(monkeypatch)
    incoming.finish()
    assert lengths == [2000]
    assert blobs.path(DIGEST).read_bytes() == CONTENT
    incoming.hash_ahead()


def test_bytes_of_before_a_restart_are_hashed_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.hash_ahead()
    store.close()
    again = BlobStore(tmp_path)
    found = again.shared(DIGEST, SIZE, "a")
    found.write(4000, CONTENT[4000:])
    lengths = read_lengths(monkeypatch)
    found.finish()
    assert sum(lengths) == SIZE
    again.close()


def test_bytes_that_a_failed_sync_let_go_of_are_hashed_as_they_come_again(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:1000])
    incoming.commit()
    incoming.write(1000, bytes(3000))
    incoming.hash_ahead()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full_disk)
        with pytest.raises(StorageFull):
            incoming.commit()
    incoming.write(1000, CONTENT[1000:])
    incoming.finish()
    assert blobs.path(DIGEST).read_bytes() == CONTENT


def test_bytes_that_cannot_be_read_ahead_are_left_to_the_end(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT)
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", full_disk)
        incoming.hash_ahead()
    incoming.finish()
    assert blobs.has(DIGEST)


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["pwrite", "fdatasync"])
def test_a_full_disk_is_said_and_what_was_committed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    incoming.commit()
    with monkeypatch.context() as patched:
        patched.setattr(os, step, full_disk)
        with pytest.raises(StorageFull, match="the disk is full"):
            incoming.write(4000, CONTENT[4000:6000])
            incoming.commit()
    assert incoming.held == [(0, 4000)]
    assert store._partial_bytes == 4000
    incoming.write(4000, CONTENT[4000:])
    incoming.finish()
    assert store.path(DIGEST).read_bytes() == CONTENT
    store.close()


def test_a_bit_that_flips_on_the_disk_is_found_before_anybody_has_the_object(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    store.close()
    data = bytearray(incoming.path.read_bytes())
    data[77] ^= 4
    incoming.path.write_bytes(data)
    again = BlobStore(tmp_path)
    found = again.shared(DIGEST, SIZE, "a")
    found.write(4000, CONTENT[4000:])
    with pytest.raises(DigestMismatch):
        found.finish()
    assert not again.has(DIGEST)
    fresh = again.shared(DIGEST, SIZE, "a")
    fresh.write(0, CONTENT)
    fresh.finish()
    assert again.path(DIGEST).read_bytes() == CONTENT
    again.close()


def test_the_quota_counts_partial_objects_over_a_restart_and_lets_them_go_on(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, SIZE + 100, SIZE + 100)
    store.shared(DIGEST, SIZE, "a").write(0, CONTENT[:4000])
    store.close()
    again = BlobStore(tmp_path, SIZE + 100, SIZE + 100)
    with pytest.raises(StorageFull):
        again.put(bytes(SIZE - 3000))
    found = again.shared(DIGEST, SIZE, "a")
    found.write(4000, CONTENT[4000:])
    found.finish()
    assert again.path(DIGEST).read_bytes() == CONTENT
    again.close()


def test_only_as_much_is_begun_as_can_be_finished_within_the_quota_of_partial_objects(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=1_000, partial_quota_bytes=300)
    first = store.shared("1" * 64, 200, "a")
    why = "no room for a partial object of 101 bytes beside those of 200 within their quota of 300"
    for attempt in (store.shared, store.check_room):
        with pytest.raises(StorageFull, match=why):
            attempt("2" * 64, 101, "b")
    store.check_room("1" * 64, 200, "b")  # which has been begun
    store.shared("2" * 64, 100, "b")
    first.discard()
    store.shared("3" * 64, 200, "b")
    store.close()


def test_a_whole_object_that_is_damaged_is_found_and_removed(blobs: BlobStore) -> None:
    good, bad = blobs.put(b"good"), blobs.put(b"bad one")
    path = blobs.path(bad)
    path.write_bytes(b"bad One")
    assert blobs.verify(good)
    assert not blobs.verify(bad)
    assert (blobs.digests(), blobs.total_bytes(), path.exists()) == ({good}, 4, False)
    with pytest.raises(KeyError):
        blobs.verify(bad)


@pytest.mark.parametrize("harm", ["truncated", "overwritten", "emptied"])
def test_a_damaged_ledger_costs_repeats_and_is_said(tmp_path: Path, harm: str) -> None:
    store = BlobStore(tmp_path)
    incoming = store.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    whole = store.put(b"whole")
    store.expect(letter(1), [whole])
    store.close()
    ledger = tmp_path / "ledger.sqlite"
    size = ledger.stat().st_size
    if harm == "overwritten":
        ledger.write_bytes(os.urandom(size))
    else:
        os.truncate(ledger, size // 3 if harm == "truncated" else 0)
    again = BlobStore(tmp_path)
    assert (
        again.remarks == [] if harm == "emptied" else again.remarks[0].startswith("partial objects are begun")
    )
    assert (again.digests(), again.expected(0), partial_files(again)) == ({whole}, set(), [])
    found = again.shared(DIGEST, SIZE, "a")
    found.write(0, CONTENT)
    found.finish()
    again.close()
    last = BlobStore(tmp_path)
    assert (last.remarks, last.digests()) == ([], {DIGEST, whole})
    last.close()


def test_a_disk_too_full_for_the_ledger_is_a_full_disk(blobs: BlobStore) -> None:
    incoming = blobs.shared(DIGEST, SIZE, "a")
    incoming.write(0, CONTENT[:4000])
    blobs._ledger._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StorageFull, match="the disk is full"):
        for n in range(10_000):
            blobs.expect(letter(n, role=f"role {n}"), ["x" * 64])
    assert incoming.held == [(0, 4000)]


def test_only_so_many_partial_objects_are_kept(blobs: BlobStore) -> None:
    for n in range(PARTIAL_MAX):
        blobs.shared(f"{n:064x}", 9, "a")
    with pytest.raises(StorageFull, match=f"no room for more than {PARTIAL_MAX} partial objects"):
        blobs.shared("f" * 64, 9, "a")
    assert partial_files(blobs) == []  # a claim costs nothing


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


# --------------------------------------------------------------------------------------- letters to come


def letter(sequence: int, **changes: Any) -> Expected:
    named = {"source": "a", "incarnation": "i", "role": "r", "lane": 3, "expires_at_ns": 100}
    return Expected(sequence=sequence, **{**named, **changes})


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


# ------------------------------------------------------------------------------------------------ killed


class Killed(BaseException):
    """The process is gone."""


class Reaper:
    """Kills at a given byte written, or at the n-th step of the disk."""

    def __init__(self, rng: random.Random) -> None:
        self.bytes_left = rng.randrange(1, 2 * SIZE)
        self.steps_left = rng.choice([rng.randrange(1, 12), 10_000])
        self.written_bytes = 0

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        written = _pwrite(descriptor, data[: self.bytes_left], offset)
        self.written_bytes += written
        self.bytes_left -= written
        if self.bytes_left <= 0:
            raise Killed
        return written

    def step(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            self.steps_left -= 1
            if self.steps_left == 0:
                raise Killed  # before it
            value = work(*arguments)
            self.steps_left -= 1
            if self.steps_left == 0:
                raise Killed  # after it
            return value

        return done

    def attach(self, patched: pytest.MonkeyPatch, store: BlobStore) -> None:
        patched.setattr(incoming_module.os, "pwrite", self.pwrite)
        patched.setattr(incoming_module.os, "fdatasync", self.step(os.fdatasync))
        patched.setattr(incoming_module.os, "fsync", self.step(os.fsync))
        patched.setattr(blobs_module, "sync_folder", self.step(sync_folder))
        patched.setattr(store._ledger, "claim", self.step(store._ledger.claim))
        patched.setattr(store._ledger, "drop", self.step(store._ledger.drop))


_pwrite = os.pwrite


def receive(store: BlobStore, rng: random.Random) -> None:
    """A part of the object, or all of it, in whatever pieces."""
    incoming = store.shared(DIGEST, SIZE, rng.choice("ab"))
    for start, end in incoming.missing:
        offset = start
        while offset < end:
            stop = min(end, offset + rng.randrange(1, 900))
            incoming.write(offset, CONTENT[offset:stop])
            offset = stop
            if rng.random() < 0.3:
                incoming.commit()
            if rng.random() < 0.3:
                incoming.hash_ahead()
    incoming.finish()


@pytest.mark.parametrize("seed", range(300))
def test_a_receiver_killed_at_any_byte_or_step_goes_on_from_what_it_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 4)):
        store = BlobStore(tmp_path)
        if store.has(DIGEST):
            die(store)
            break
        claimed = RangeSet()
        with monkeypatch.context() as patched, suppress(Killed):
            Reaper(rng).attach(patched, store)
            receive(store, rng)
        found = store.partial(DIGEST, SIZE, "a")
        for span in [] if found is None else found.committed:
            claimed.add(*span)
        die(store)
        again = BlobStore(tmp_path)
        part = again.partial(DIGEST, SIZE, "a")
        if again.has(DIGEST):
            assert again.path(DIGEST).read_bytes() == CONTENT
        else:
            held = [] if part is None else part.committed
            # What anybody was told is there, and what is there is right.
            assert all(not RangeSet(held).missing(*span) for span in claimed), (held, list(claimed))
            data = b"" if part is None else part.path.read_bytes()
            assert all(data[start:end] == CONTENT[start:end] for start, end in held)
        die(again)
    last = BlobStore(tmp_path)
    if not last.has(DIGEST):
        receive(last, rng)
    assert last.path(DIGEST).read_bytes() == CONTENT
    assert (partial_files(last), last._partial_bytes, last.total_bytes()) == ([], 0, SIZE)
    last.close()
    final = BlobStore(tmp_path)
    assert final._ledger.parts == []
    final.close()
