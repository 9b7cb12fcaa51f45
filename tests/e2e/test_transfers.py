"""What is under way on a node, asked of it while it runs, and of its folder when it does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from orbitrain.runtime.daemon import blobs_path
from orbitrain.scenario import ScenarioError
from orbitrain.transfers_command import transfers_command
from orbitrain.transport.objects import Pace
from orbitrain.transport.rpc import LinkClient, Parcel
from tests.e2e.bench import Bench, epoch_now, plan_by_hand
from tests.e2e.lab import Lab

DATA = os.urandom(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def shown(file: Path, *, as_json: bool = True) -> Any:
    said = StringIO()
    with redirect_stdout(said):
        transfers_command(file, as_json)
    return json.loads(said.getvalue()) if as_json else said.getvalue()


@pytest.fixture
def bench(lab: Lab) -> Iterator[Bench]:
    plan = plan_by_hand({"bird": "satellite", "farm": "device"}, [("bird", "farm", 0, 3000)], epoch_now())
    yield Bench(lab, plan, {"plain": ["farm"]}, rounds=1)


async def begin(address: str, path: Path) -> None:
    """Half of an object, as from the device."""
    client = LinkClient(address, "farm", Pace(10_000, 40_000))
    parcel = Parcel("i", "satellite", 3, 1, 2_000 * 1_000_000_000)
    await client.missing([(DIGEST, len(DATA))], parcel=parcel)
    assert not await client.put(DIGEST, len(DATA), path, 10.0, [(0, 150_000)])
    await client.close()


def test_a_partial_object_is_shown_while_the_node_runs_and_after(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "object"
    source.write_bytes(DATA)
    bench.start("bird")
    file = bench.folder("bird") / "node.toml"
    asyncio.run(begin(bench.addresses["bird"], source))
    for running in (True, False):
        found = shown(file)
        assert (found["node"], found["running"]) == ("bird", running)
        (one,) = found["transfers"]
        assert (one["direction"], one["peer"], one["lane"], one["digest"]) == ("in", "farm", "update", DIGEST)
        assert (one["done_bytes"], one["bytes"], one["expires_s"]) == (150_000, 300_000, 2000.0)
        assert one["contact"] == [0.0, 3000.0]
        text = shown(file, as_json=False)
        assert "150,000" in text and "now to 3000 s" in text and DIGEST[:12] in text
        if running:
            bench.stop("bird")
    assert (blobs_path(file.parent / "state") / "incoming" / f"{DIGEST}-{len(DATA)}").exists()


def test_a_folder_without_a_node_and_a_file_that_is_none_are_one_line(bench: Bench, tmp_path: Path) -> None:
    file = bench.place("bird")
    with pytest.raises(ScenarioError, match="no node has run there"):
        transfers_command(file)
    with pytest.raises(ScenarioError, match="cannot be read"):
        transfers_command(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("quota_bytes = 10", "no room for "),
        ("partial_quota_bytes = 10", "of a model, not 10"),
        ("quota_bytes = 0", "store.quota_bytes: "),
    ],
)
def test_a_quota_below_one_model_is_one_line_at_start(bench: Bench, table: str, said: str) -> None:
    file = bench.place("farm")
    text = file.read_text(encoding="utf-8")
    begin, end = text.index("[store]"), text.index("\n\n", text.index("[store]"))
    file.write_text(f"{text[:begin]}[store]\n{table}{text[end:]}", encoding="utf-8")
    program = bench.lab.start(sys.executable, "-m", "device_node", "--config", file)
    assert program.wait() == 2
    assert said in program.complained and program.complained.count("\n") == 1, program.complained
