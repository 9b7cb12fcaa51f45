from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.transport.store import (
    OBJECT_BYTES_MAX,
    BlobStore,
    DigestMismatch,
    IncomingClosed,
    ObjectTooLarge,
    OutOfBounds,
    StorageFull,
    StoreLocked,
)
from orbitrain.transport.store.blobs import INCOMING_PER_SOURCE_MAX
from orbitrain.transport.store.incoming import PARTS_MAX


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    store = BlobStore(tmp_path / "store")
    yield store
    store.close()


def partial_files(store: BlobStore) -> list[Path]:
    return list((store.folder / "incoming").iterdir())


def test_bytes_put_are_found_by_their_digest_after_reopening(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"weights")
    assert store.put(b"weights") == digest == sha256(b"weights")
    store.close()
    again = BlobStore(tmp_path)
    assert again.path(digest).read_bytes() == b"weights"
    assert (again.size(digest), again.has(digest), again.digests()) == (7, True, {digest})
    assert again.total_bytes() == 7
    assert partial_files(again) == []
    again.close()


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64])
def test_an_object_that_is_not_here_is_a_key_error(blobs: BlobStore, name: str) -> None:
    assert not blobs.has(name)
    with pytest.raises(KeyError):
        blobs.path(name)
    with pytest.raises(KeyError):
        blobs.size(name)


def test_a_workers_file_is_adopted_and_gone_from_scratch(blobs: BlobStore) -> None:
    for _ in range(2):  # the second time the object is here already
        output = blobs.scratch / "model"
        output.write_bytes(b"trained")
        digest = blobs.adopt(output)
        assert not output.exists()
        assert blobs.path(digest).read_bytes() == b"trained"
    assert blobs.total_bytes() == 7


def test_a_link_or_a_pipe_is_not_adopted(blobs: BlobStore, tmp_path: Path) -> None:
    (blobs.scratch / "link").symlink_to("/etc/hostname")
    os.mkfifo(blobs.scratch / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):
            blobs.adopt(blobs.scratch / name)
    assert blobs.digests() == set()


def test_scratch_and_partial_objects_are_dropped_at_open(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    (store.scratch / "left").write_bytes(b"x")
    (tmp_path / "incoming" / "crashed").write_bytes(b"x")
    store.close()
    again = BlobStore(tmp_path)
    assert list(again.scratch.iterdir()) == []
    assert partial_files(again) == []
    again.close()


def test_a_store_is_opened_once(blobs: BlobStore) -> None:
    with pytest.raises(StoreLocked, match=str(blobs.folder)):
        BlobStore(blobs.folder)


def test_collecting_leaves_what_is_needed(blobs: BlobStore) -> None:
    kept, dropped = blobs.put(b"kept"), blobs.put(b"dropped")
    assert blobs.collect({kept, "0" * 64}) == len(b"dropped")
    assert blobs.digests() == {kept}
    assert blobs.total_bytes() == 4
    assert blobs.put(b"dropped") == dropped


def test_the_quota_holds_for_whole_and_partial_objects(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=100)
    store.put(bytes(60))
    with pytest.raises(StorageFull):
        store.put(bytes(41))
    with pytest.raises(StorageFull):
        store.incoming("0" * 64, 41)
    first, second = store.incoming("1" * 64, 40), store.incoming("2" * 64, 40)
    first.write(0, bytes(30))
    with pytest.raises(StorageFull):
        second.write(0, bytes(11))
    first.discard()
    second.write(0, bytes(40))
    assert len(partial_files(store)) == 1
    store.close()


@given(data=st.data(), content=st.binary(max_size=200))
def test_an_object_arrives_whole_whatever_the_order_of_its_bytes(data: st.DataObject, content: bytes) -> None:
    size = len(content)
    cuts = sorted(data.draw(st.sets(st.integers(0, size), max_size=8)) | {0, size})
    parts = list(itertools.pairwise(cuts))
    overlaps = data.draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size)), max_size=4))
    order = data.draw(st.permutations(parts + [(min(pair), max(pair)) for pair in overlaps]))
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(Path(folder))
        incoming = store.incoming(sha256(content), size)
        held: set[int] = set()
        for start, end in order:
            incoming.write(start, content[start:end])
            held |= set(range(start, end))
            assert {n for a, b in incoming.held for n in range(a, b)} == held
            assert {n for a, b in incoming.missing for n in range(a, b)} == set(range(size)) - held
        incoming.finish()
        assert store.path(sha256(content)).read_bytes() == content
        assert partial_files(store) == []
        assert store._partial_bytes == 0
        store.close()


def test_wrong_bytes_are_removed_and_the_object_can_come_again(blobs: BlobStore) -> None:
    digest = sha256(b"right")
    wrong = blobs.incoming(digest, 5)
    wrong.write(0, b"wrong")
    with pytest.raises(DigestMismatch):
        wrong.finish()
    with pytest.raises(IncomingClosed):
        wrong.write(0, b"right")
    assert not blobs.has(digest)
    assert partial_files(blobs) == []
    right = blobs.incoming(digest, 5)
    right.write(0, b"right")
    right.finish()
    right.finish()
    assert blobs.has(digest)


@pytest.mark.parametrize(("offset", "data"), [(-1, b"a"), (4, b"ab"), (10**12, b"a"), (0, b"abcdef")])
def test_bytes_outside_the_object_are_refused(blobs: BlobStore, offset: int, data: bytes) -> None:
    incoming = blobs.incoming("0" * 64, 5)
    with pytest.raises(OutOfBounds):
        incoming.write(offset, data)
    assert incoming.held == []


def test_an_unfinished_object_is_not_published_and_may_go_on(blobs: BlobStore) -> None:
    digest = sha256(b"abcdef")
    incoming = blobs.incoming(digest, 6, "peer")
    incoming.write(0, b"abc")
    with pytest.raises(OutOfBounds, match="missing"):
        incoming.finish()
    assert blobs.incoming(digest, 6, "peer") is incoming
    assert incoming.held == [(0, 3)]
    assert blobs.incoming(digest, 6, "other").held == []
    incoming.write(3, b"def")
    incoming.finish()
    assert blobs.path(digest).read_bytes() == b"abcdef"


def test_a_claim_of_a_trillion_bytes_is_refused_and_costs_nothing(blobs: BlobStore) -> None:
    with pytest.raises(ObjectTooLarge):
        blobs.incoming("0" * 64, 10**12)
    with pytest.raises(ObjectTooLarge):
        blobs.incoming("0" * 64, OBJECT_BYTES_MAX + 1)
    with pytest.raises(ValueError):
        blobs.incoming("../" * 21 + "x", 1)
    assert partial_files(blobs) == []


def test_a_dust_of_single_bytes_is_refused_but_gaps_may_be_filled(blobs: BlobStore) -> None:
    incoming = blobs.incoming("0" * 64, 4 * PARTS_MAX)
    for part in range(PARTS_MAX):
        incoming.write(2 * part, b"x")
    with pytest.raises(OutOfBounds):
        incoming.write(2 * PARTS_MAX + 4, b"x")
    incoming.write(1, b"x")
    assert incoming.held[0] == (0, 3)


def test_a_source_with_many_partial_objects_loses_its_own_oldest(blobs: BlobStore) -> None:
    other = blobs.incoming("f" * 64, 9, "other")
    mine = [blobs.incoming(f"{n:064x}", 9, "mine") for n in range(INCOMING_PER_SOURCE_MAX + 1)]
    with pytest.raises(IncomingClosed):
        mine[0].write(0, b"x")
    for incoming in (*mine[1:], other):
        incoming.write(0, b"x")


def test_two_writers_of_one_object_both_succeed_and_neither_spoils_it(blobs: BlobStore) -> None:
    content = os.urandom(300_000)
    digest = sha256(content)
    spoiler = blobs.incoming(digest, len(content), "spoiler")
    spoiler.write(0, bytes(len(content)))
    failures: list[Exception] = []

    def receive(source: str) -> None:
        try:
            incoming = blobs.incoming(digest, len(content), source)
            for start in range(0, len(content), 10_000):
                incoming.write(start, content[start : start + 10_000])
            incoming.finish()
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=receive, args=(source,)) for source in "aabc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with pytest.raises(DigestMismatch):
        spoiler.finish()
    assert blobs.path(digest).read_bytes() == content
    assert blobs.total_bytes() == len(content)
    assert partial_files(blobs) == []
