"""Partial objects on disk: what is claimed of them is there, whenever the process went."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orbitrain.transport.store import (
    BlobStore,
    DigestMismatch,
    IncomingClosed,
    StorageFull,
)
from orbitrain.transport.store.blobs import PARTIAL_MAX
from tests.unit.transport.partials import CONTENT, DIGEST, SIZE, die, full_disk, letter, partial_files


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
