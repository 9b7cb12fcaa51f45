"""The folder in which files are found: whole, once, none in another's place."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.runtime.inbox import Inbox, put


class Others:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        self.asked.append(kind)
        return JobResult({}, {})


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "inbox"
        self.others = Others()
        self.inbox = Inbox(self.path, self.others)

    def stored(self, data: bytes) -> Path:
        """An object as it lies in a store."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / "objects" / digest[:2] / digest[2:]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return path

    async def receive(self, name: str, data: bytes, origin: str = "sat-0") -> str:
        """The path that is answered."""
        params = {"origin": origin, "name": name}
        done = await self.inbox.run("inbox", params, {"file": self.stored(data)}, self.folder / "job-1")
        return str(done.result["path"])

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_file_is_found_under_its_origin_and_name(place: Place) -> None:
    assert await place.receive("photo.jpg", b"one") == "sat-0/photo.jpg"
    assert await place.receive("photo.jpg", b"two", "sat-1") == "sat-1/photo.jpg"
    assert await place.receive("empty", b"") == "sat-0/empty"
    assert place.files() == {"sat-0/empty": b"", "sat-0/photo.jpg": b"one", "sat-1/photo.jpg": b"two"}


async def test_the_same_file_again_is_left_as_it_is(place: Place) -> None:
    first = await place.receive("photo.jpg", b"one")
    before = os.stat(place.path / first)
    assert await place.receive("photo.jpg", b"one") == first
    assert os.stat(place.path / first) == before
    assert place.files() == {"sat-0/photo.jpg": b"one"}


@pytest.mark.parametrize(
    ("name", "second", "third"),
    [
        ("photo.jpg", "photo (2).jpg", "photo (3).jpg"),
        ("photo", "photo (2)", "photo (3)"),
        ("a.tar.gz", "a.tar (2).gz", "a.tar (3).gz"),
        ("photo.", "photo (2).", "photo (3)."),
        ("p\u00e9 1.jpg", "p\u00e9 1 (2).jpg", "p\u00e9 1 (3).jpg"),
        ("n" * 196 + ".txt", "n" * 196 + " (2).txt", "n" * 196 + " (3).txt"),
    ],
)
async def test_other_bytes_of_a_name_that_is_taken_get_a_number(
    place: Place, name: str, second: str, third: str
) -> None:
    for data, found in ((b"one", name), (b"two", second), (b"333", third), (b"two", second), (b"one", name)):
        assert await place.receive(name, data) == f"sat-0/{found}"
    assert place.files() == {
        f"sat-0/{found}": data for found, data in ((name, b"one"), (second, b"two"), (third, b"333"))
    }


async def test_a_folder_or_link_of_that_name_is_left_alone(place: Place) -> None:
    (place.path / "sat-0" / "photo.jpg").mkdir(parents=True)
    (place.path / "sat-0" / "gone").symlink_to(place.folder / "nowhere")
    assert await place.receive("photo.jpg", b"one") == "sat-0/photo (2).jpg"
    assert await place.receive("gone", b"one") == "sat-0/gone (2)"
    assert not (place.folder / "nowhere").exists()


async def test_what_the_owner_does_with_a_file_does_not_reach_the_store(place: Place) -> None:
    found = place.path / await place.receive("photo.jpg", b"one")
    found.write_bytes(b"edited")
    assert place.stored(b"one").read_bytes() == b"one"
    found.unlink()
    assert await place.receive("photo.jpg", b"one") == "sat-0/photo.jpg"


def leftovers(place: Place) -> list[Path]:
    return [path for path in place.path.rglob(".*") if path.is_file()]


class Killed(BaseException):
    """Stands for the death of the process."""


def killed_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """The process dies once this has been done; it leaves what is on disk at that moment."""
    done = getattr(module, name)

    def die(*arguments: Any, **named: Any) -> None:
        done(*arguments, **named)
        raise Killed

    monkeypatch.setattr(module, name, die)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # not even a `finally`


@pytest.mark.parametrize(("module", "name"), [(shutil, "copyfile"), (os, "link")])
def test_a_node_that_dies_while_it_copies_begins_again(place: Place, module: Any, name: str) -> None:
    source = place.stored(b"one")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, module, name)
        with pytest.raises(Killed):
            put(place.path, "sat-0", "photo.jpg", source)
    assert len(leftovers(place)) == 1
    assert put(place.path, "sat-0", "photo.jpg", source) == place.path / "sat-0" / "photo.jpg"
    assert place.files() == {"sat-0/photo.jpg": b"one"}


def test_a_file_that_is_found_is_not_written_to_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place.stored(b"one")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, os, "link")
        with pytest.raises(Killed):
            put(place.path, "sat-0", "photo.jpg", source)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        put(place.path, "sat-0", "photo.jpg", source)
    assert place.files() == {"sat-0/photo.jpg": b"one"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, f"{os.strerror(errno.EIO)}: x"),
    ],
)
async def test_what_the_disk_does_not_take_is_a_failed_job_and_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"o")
        raise OSError(code, os.strerror(code), "x")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(JobError) as caught:
            await place.receive("photo.jpg", b"one")
    assert str(caught.value) == why
    assert place.files() == {}
    assert await place.receive("photo.jpg", b"one") == "sat-0/photo.jpg"


async def test_an_inbox_that_is_a_file_or_an_object_that_is_gone_is_a_failed_job(place: Place) -> None:
    place.path.write_bytes(b"")
    with pytest.raises(JobError, match=r"^(Not a directory|File exists): "):
        await place.receive("photo.jpg", b"one")
    place.path.unlink()
    gone = place.folder / "objects" / "ab" / ("cd" * 31)
    with pytest.raises(JobError, match=r"^No such file or directory: "):
        await place.inbox.run("inbox", {"origin": "a", "name": "b"}, {"file": gone}, place.folder)


async def test_files_of_the_same_bytes_that_come_at_once_are_all_found(place: Place) -> None:
    data = os.urandom(300_000)
    names = [f"photo-{n}" for n in range(12)]
    await asyncio.gather(*(place.receive(name, data) for name in names))
    assert place.files() == {f"sat-0/{name}": data for name in names}


async def test_every_other_job_is_the_others(place: Place) -> None:
    await place.inbox.run("train", {}, {}, place.folder)
    assert place.others.asked == ["train"]
    assert not place.path.exists()
