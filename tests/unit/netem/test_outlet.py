from __future__ import annotations

import json
import os

import pytest

import netem.outlet
from netem.outlet import LARGEST_BYTES, Outlet


def test_lines_arrive_whole() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    for n in range(10):
        outlet.say({"n": n})
    lines = os.read(read, 4096).splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(10))
    os.close(read)
    os.close(write)


def test_a_reader_that_does_not_read_is_not_waited_for_and_costs_whole_lines() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    for n in range(3000):
        outlet.say({"n": n, "padding": "x" * 1000})
    assert outlet.dropped > 0
    assert outlet.waiting
    data = b""
    while True:
        outlet.flush()
        data += os.read(read, 1 << 16)
        if not outlet.waiting:
            break
    os.close(write)
    while more := os.read(read, 1 << 16):
        data += more
    os.close(read)
    lines = [json.loads(line)["n"] for line in data.splitlines()]
    assert lines == list(range(len(lines)))
    assert len(lines) == 3000 - outlet.dropped
    assert LARGEST_BYTES <= len(data) <= LARGEST_BYTES + (1 << 17)


def test_the_last_line_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netem.outlet, "PATIENCE_MS", 10)
    read, write = os.pipe()
    outlet = Outlet(write)
    outlet.say_all({"padding": "x" * 200_000})
    assert outlet.dropped == 1 and not outlet.waiting
    os.close(read)
    os.close(write)


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    os.close(read)
    outlet.say({"n": 1})
    assert outlet.closed and not outlet.waiting
    outlet.say({"n": 2})
    os.close(write)
