"""Files between real daemons: over a relay, to a node that is off, without a plan, with wrong clocks."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from orbitrain.runtime.clock import SECOND_NS, ClockFile, unix_ns
from tests.e2e.depot import Depot, line_plan
from tests.e2e.lab import Lab, wait_until

KINDS = {"farm": "device", "bird": "satellite", "dish": "ground"}
PEERS = {"farm": ["bird"], "bird": ["farm", "dish"], "dish": ["bird"]}


def made(folder: Path, name: str, nbytes: int) -> Path:
    path = folder / name
    path.write_bytes(os.urandom(nbytes))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def arrived(depot: Depot, node: str, origin: str, file: Path) -> None:
    there = depot.inbox(node, origin) / file.name
    wait_until(f"{file.name} is in the inbox of {node}", lambda: depot.told(node, "file_received"))
    assert sha256(there) == sha256(file)


def test_a_file_crosses_a_relay_between_nodes_that_never_meet(lab: Lab) -> None:
    depot = Depot(lab, KINDS, PEERS, line_plan(KINDS))
    file = made(lab.folder, "scene.tif", 3_000_000)
    # Nobody runs yet: it is queued in the folder, and shown from there.
    assert depot.send("farm", file, "dish", "--priority", "expedited").code == 0
    shown = json.loads(lab.orbitrain("transfers", "--node", depot.file("farm"), "--json").said)
    (one,) = shown["transfers"]
    assert (one["peer"], one["destination"], one["bytes"]) == ("bird", "dish", 3_000_000)
    assert (one["lane"], shown["running"]) == ("activation", False)
    file_there = lab.folder / "gone"
    file.rename(file_there)  # the node has a copy: what becomes of the file is nothing to it
    depot.start("farm", "bird", "dish")
    file_there.rename(file)
    arrived(depot, "dish", "farm", file)
    assert [fields["to"] for fields in depot.told("farm", "custody_moved")] == ["bird"]
    wait_until("custody has moved", lambda: depot.told("bird", "custody_moved"))
    again = made(lab.folder, "again.tif", 1_000)
    assert depot.send("dish", again, "farm").code == 0  # asked of a node that runs
    arrived(depot, "farm", "dish", again)
    depot.stop()


def test_without_a_plan_the_link_decides(lab: Lab) -> None:
    depot = Depot(lab, KINDS, PEERS)
    file = made(lab.folder, "model.bin", 2_000_000)
    depot.start("farm")
    assert depot.send("farm", file, "bird", "--expires", "3600").code == 0
    depot.start("bird")
    arrived(depot, "bird", "farm", file)
    depot.stop()


def test_a_file_that_vanishes_while_it_is_queued_is_an_event_and_nothing_else_stops(lab: Lab) -> None:
    depot = Depot(lab, KINDS, PEERS)
    lost, kept = made(lab.folder, "lost", 100_000), made(lab.folder, "kept", 100_000)
    depot.start("farm")
    assert depot.send("farm", lost, "bird").code == 0
    assert depot.send("farm", kept, "bird").code == 0
    digest = sha256(lost)
    (depot.folder("farm") / "state" / "blobs" / "objects" / digest[:2] / digest[2:]).unlink()
    depot.start("bird")
    arrived(depot, "bird", "farm", kept)
    wait_until("it is told", lambda: depot.told("farm", "bundle_lost"))
    assert [fields["name"] for fields in depot.told("farm", "bundle_lost")] == ["lost"]
    depot.stop()


@pytest.mark.parametrize(
    "off_s", [3600, *(pytest.param(off_s, marks=pytest.mark.full) for off_s in (-3600, None))]
)
def test_a_node_whose_clock_is_wrong_transfers_and_is_told(lab: Lab, off_s: int | None) -> None:
    """By an hour, or not set at all since it booted: then its time stands at the plan's epoch."""
    clocks = {name: lab.folder / f"{name}.clock" for name in KINDS}
    for name, path in clocks.items():
        anchor_ns = unix_ns() - 1800 * SECOND_NS
        if name == "farm":
            anchor_ns -= (off_s if off_s is not None else -56 * 365 * 86_400) * SECOND_NS
        ClockFile(anchor_ns, 0, 1.0, 0).write(path)
    depot = Depot(lab, KINDS, PEERS, line_plan(KINDS), clocks)
    there, back = made(lab.folder, "there", 200_000), made(lab.folder, "back", 200_000)
    depot.start("farm", "bird", "dish")
    assert depot.send("farm", there, "dish").code == 0
    assert depot.send("bird", back, "farm", "--expires", "1200").code == 0
    arrived(depot, "dish", "farm", there)
    arrived(depot, "farm", "bird", back)
    for node, peer in (("farm", "bird"), ("bird", "farm")):
        wait_until(f"{node} is told", lambda node=node: depot.told(node, "clock_differs"))
        fields = depot.told(node, "clock_differs")[0]
        assert fields["peer"] == peer
    assert not depot.told("dish", "clock_differs")
    depot.stop()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_fifty_kills_of_sender_relay_and_receiver_lose_and_double_nothing(lab: Lab) -> None:
    """Each when so many bytes of a file have come, as a seed says."""
    seed = 20_261_127
    chance = random.Random(seed)
    depot = Depot(lab, KINDS, PEERS, line_plan(KINDS))
    depot.start(*KINDS)
    files = [made(lab.folder, f"part-{n}", 24_000_000) for n in range(9)]
    kills = 0
    for file in files:
        assert depot.send("farm", file, "dish").code == 0
        for _ in range(6):
            victim, watched = chance.choice(list(KINDS)), chance.choice(["bird", "dish"])
            offset = chance.randrange(file.stat().st_size)

            def due(watched: str = watched, offset: int = offset, name: str = file.name) -> bool:
                done = any(fields["name"] == name for fields in depot.told("dish", "file_received"))
                return done or depot.arriving_bytes(watched) >= offset

            wait_until(f"{watched} has {offset} bytes (seed {seed})", due)
            depot.kill(victim)
            kills += 1
            depot.start(victim)
        wait_until(
            f"{file.name} has come (seed {seed})",
            lambda name=file.name: any(f["name"] == name for f in depot.told("dish", "file_received")),
        )
    assert kills >= 50
    depot.stop()
    received = [fields["name"] for fields in depot.told("dish", "file_received")]
    assert sorted(received) == sorted(file.name for file in files), "each once"
    inbox = depot.inbox("dish", "farm")
    assert {path.name for path in inbox.iterdir()} == {file.name for file in files}
    for file in files:
        assert sha256(inbox / file.name) == sha256(file)
    for name in KINDS:
        blobs = depot.folder(name) / "state" / "blobs"
        assert not list((blobs / "incoming").iterdir()), name
        assert not depot.told(name, "dead_letter") and not depot.told(name, "bundle_lost")
