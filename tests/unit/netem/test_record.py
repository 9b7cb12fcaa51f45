from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netem.record import Record


def test_the_last_one_put_stays(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    record = Record(path)
    for n in range(100):
        record.put({"n": n})
    record.close({"n": 100})
    assert json.loads(path.read_bytes()) == {"n": 100}
    assert os.listdir(tmp_path) == [path.name]


def test_one_that_was_never_put_to_is_closed_with_its_only_one(tmp_path: Path) -> None:
    Record(tmp_path / "one.json").close({"n": 1})
    assert json.loads((tmp_path / "one.json").read_bytes()) == {"n": 1}


def test_a_disk_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    slow = tmp_path / "stats.json.fresh"
    os.mkfifo(slow)  # who writes waits for a reader
    record = Record(path)
    for n in range(100):
        record.put({"n": n})
    assert not path.exists()
    with slow.open("rb") as reader:
        assert "n" in json.loads(reader.read())
    record.close({"n": 100})
    assert json.loads(path.read_bytes()) == {"n": 100}


def test_only_the_last_failure_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    record = Record(folder / "stats.json")
    record.put({"n": 1})
    with pytest.raises(FileNotFoundError, match="later"):
        Record(folder / "stats.json").close({"n": 1})
    folder.mkdir()
    record.close({"n": 2})
    assert json.loads((folder / "stats.json").read_bytes()) == {"n": 2}
