"""`orbitrain send` at a node that does not run, and what a user can get wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.protocols.bundles import ROLE, bundles_held
from orbitrain.runtime.config import dump_toml
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.journal import Journal

Refused = Callable[..., str]

S = 1_000_000_000
END_S = 400 * 365 * 86_400 // 10
SAMPLES = (Sample(0, 1_000_000, 8_000_000, 0.0, 1.0),)
PLAN = ContactPlan(
    1,
    "ab" * 32,
    "2020-01-01T00:00:00Z",
    END_S * S,
    tuple(PlanNode(name, "satellite") for name in ("home", "relay", "far", "alone")),
    tuple(
        Contact(*ends, "service", 0, END_S * S, SAMPLES)
        for ends in (("home", "relay"), ("relay", "home"), ("relay", "far"), ("far", "relay"))
    ),
)
CONFIG: dict[str, Any] = {
    "name": "home",
    "kind": "satellite",
    "seed": 1,
    "link": {"listen": "127.0.0.1:0", "peers": {"relay": "127.0.0.1:9"}},
}
SEND = ("send", "photo.jpg", "--to", "far", "--node", "node.toml")


@pytest.fixture(autouse=True)
def node(place: Any) -> None:
    """A node whose folder never ran, and a file."""
    place.write("photo.jpg", b"abc")
    place.write("plan.json", PLAN.to_json())
    configure(place)


def configure(place: Any, **changes: Any) -> None:
    operator = {"listen": f"unix:{place.folder}/desk"}
    place.write("node.toml", dump_toml({**CONFIG, "operator": operator, **changes}))


def shown(place: Any) -> list[dict[str, Any]]:
    ended = place.run("transfers", "--node", "node.toml", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert (document["node"], document["running"]) == ("home", False)
    found: list[dict[str, Any]] = document["transfers"]
    return found


# --------------------------------------------------------------------------------------------- queued


def test_a_file_is_queued_at_a_node_that_never_ran_and_shown(place: Any) -> None:
    ended = place.run(*SEND)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "photo.jpg: in custody of home, for far; home does not run\n"
    (one,) = shown(place)
    assert (one["direction"], one["peer"], one["destination"], one["role"]) == (
        "out",
        "relay",
        "far",
        "custodian",
    )
    assert (one["bytes"], one["lane"], one["expires_s"]) == (3, "update", None)
    assert one["key"].startswith("photo.jpg/")
    assert (place.folder / "photo.jpg").read_bytes() == b"abc"


def test_a_file_that_has_no_route_is_queued_and_shown_as_such(place: Any) -> None:
    assert place.run("send", "photo.jpg", "--to", "alone", "--node", "node.toml").code == 0
    (one,) = shown(place)
    assert (one["peer"], one["destination"], one["key"], one["contact"]) == (None, "alone", "photo.jpg", None)
    ended = place.run("transfers", "--node", "node.toml")
    assert "alone (no route)" in ended.out and "photo.jpg" in ended.out


@pytest.mark.parametrize(
    ("priority", "lane"), [("expedited", "activation"), ("normal", "update"), ("bulk", "bulk")]
)
def test_priority_expiry_and_name_are_as_asked_for(place: Any, priority: str, lane: str) -> None:
    options = ("--priority", priority, "--expires", "5000", "--name", "n\u00e4me 1.jpg")
    assert place.run(*SEND, *options).code == 0
    (one,) = shown(place)
    assert (one["lane"], one["key"].rpartition("/")[0]) == (lane, "n\u00e4me 1.jpg")
    assert one["expires_s"] > 5000


def test_the_same_file_may_be_sent_twice(place: Any) -> None:
    for _ in range(2):
        assert place.run(*SEND).code == 0
    assert len(shown(place)) == 2


def test_a_node_without_a_plan_sends_to_its_peers(place: Any) -> None:
    configure(place, no_plan=True)
    assert place.run("send", "photo.jpg", "--to", "relay", "--node", "node.toml").code == 0
    (one,) = shown(place)
    assert (one["peer"], one["destination"]) == ("relay", "relay")
    line = place.run(*SEND)
    assert (line.code, line.err) == (2, "orbitrain: destination: 'far' is not a node of the plan\n")


def test_a_folder_named_in_another_place_is_used(place: Any) -> None:
    configure(place, state="deep/er")
    assert place.run(*SEND).code == 0
    with Journal(place.folder / "deep" / "er" / "journal.sqlite", "full") as journal:
        assert len(journal.load().letters) == 1


def test_an_update_of_the_plan_that_waits_is_not_taken_for_one_that_was_taken_up(place: Any) -> None:
    newer = replace(PLAN, revision=PLAN.revision + 1)
    (place.folder / "state" / "plans").mkdir(parents=True)
    at_ns = 10 * S
    path = place.folder / "state" / "plans" / f"{newer.revision:019d}-{at_ns:019d}.plan"
    path.write_bytes(newer.to_json())
    assert place.run(*SEND, "--expires", "1000").code == 0
    with Journal(place.folder / "state" / "journal.sqlite", "full") as journal:
        durable = journal.load()
    assert durable.committed_ns < at_ns  # the machines have yet to be told
    (held,) = bundles_held(durable.snapshots[ROLE].state)
    assert held.bundle.expires_at_ns > 1000 * S + at_ns  # but it is later than that
    (one,) = shown(place)
    assert one["peer"] is None  # the newer plan says whither


# --------------------------------------------------------------------------------------------- refused


def test_a_file_that_is_not_there_is_named(refused: Refused) -> None:
    line = refused("send", "gone.jpg", "--to", "far", "--node", "node.toml")
    assert line == "gone.jpg: must be a file that can be read"


def test_a_folder_or_a_pipe_is_no_file(place: Any, refused: Refused) -> None:
    (place.folder / "album").mkdir()
    assert refused("send", "album", "--to", "far", "--node", "node.toml") == (
        "album: must be a file that can be read"
    )


def test_a_pipe_is_no_file(place: Any) -> None:
    os.mkfifo(place.folder / "pipe")
    ended = place.run("send", "pipe", "--to", "far", "--node", "node.toml")
    assert (ended.code, ended.err) == (2, "orbitrain: pipe: must be a file that can be read\n")


WRONG = [
    (("--to", "moon"), "destination: 'moon' is not a node of the plan"),
    (("--to", "home"), "destination: must be another node than home"),
    (("--to", ""), "destination: '' is not the name of a node"),
    (("--to", "\udcff"), "destination: '\\udcff' is not the name of a node"),
    (("--priority", "urgent"), "--priority: must be expedited, normal, bulk, not 'urgent'"),
    *(
        (("--expires", value), f"--expires: must be more than 0, and at most 3155760000, not {value}")
        for value in ("0", "-1", "nan", "inf", "-inf", "1e+12")
    ),
    (("--name", ""), "name: must have 1 to 200 bytes, not 0"),
    (("--name", "a/b"), "name: must be printable, without slashes"),
    (("--name", ".."), "name: must not begin with a dot, nor begin or end with a space"),
    (("--name", "a\nb"), "name: must be printable, without slashes"),
    (("--name", "n" * 201), "name: must have 1 to 200 bytes, not 201"),
    (("--name", "\udcff"), "name: must be UTF-8"),
]


@pytest.mark.parametrize(("options", "line"), WRONG, ids=[f"{row[0][0]} {n}" for n, row in enumerate(WRONG)])
def test_what_cannot_be_sent_is_one_line_and_no_folder_is_made(
    refused: Refused, options: tuple[str, str], line: str
) -> None:
    assert refused(*SEND, *options) == line


def test_a_file_whose_own_name_is_no_name_is_refused(place: Any, refused: Refused) -> None:
    Path(os.fsdecode(os.fsencode(place.folder) + b"/\xff.jpg")).write_bytes(b"x")
    name = "\udcff.jpg"
    assert refused("send", name, "--to", "far", "--node", "node.toml") == "name: must be UTF-8"
    assert place.run("send", name, "--to", "far", "--node", "node.toml", "--name", "good.jpg").code == 0


def test_an_expiry_that_is_no_number_is_a_usage_error(place: Any) -> None:
    before = place.files()
    ended = place.run(*SEND, "--expires", "soon")
    assert ended.code == 2 and "Traceback" not in ended.err
    assert place.files() == before


def test_a_quota_that_is_too_small_is_told_and_no_folder_is_made(place: Any, refused: Refused) -> None:
    configure(place, store={"quota_bytes": 2})
    assert refused(*SEND) == "no room for 3 bytes within the quota of 2"


def test_a_quota_that_others_have_filled_is_told(place: Any) -> None:
    configure(place, store={"quota_bytes": 5})
    assert place.run(*SEND).code == 0
    place.write("photo.jpg", b"def")
    ended = place.run(*SEND)
    assert (ended.code, ended.err) == (2, "orbitrain: no room for 3 bytes within the quota of 5\n")
    assert len(shown(place)) == 1
    store = BlobStore(place.folder / "state" / "blobs")
    assert store.total_bytes() == 3
    store.close()


def test_a_node_that_runs_and_does_not_answer_is_left_alone(place: Any) -> None:
    with Journal(place.folder / "state" / "journal.sqlite", "full") as journal:
        ended = place.run(*SEND)
        assert ended.code == 2 and ended.err.count("\n") == 1
        assert ended.err.endswith("home runs, and does not answer there\n")
        assert not journal.load().letters


@pytest.mark.parametrize("data", [b"", b"[[[", b"name = 3"], ids=["empty", "no toml", "wrong"])
def test_a_configuration_that_cannot_be_used_is_named(place: Any, refused: Refused, data: bytes) -> None:
    place.write("node.toml", data)
    assert refused(*SEND).startswith("node.toml: ")


def test_a_plan_that_cannot_be_read_is_named(place: Any, refused: Refused) -> None:
    place.write("plan.json", b"{")
    assert refused(*SEND).startswith("plan.json: ")
    (place.folder / "plan.json").unlink()
    assert refused(*SEND) == "plan.json: cannot be read: No such file or directory"


def test_a_node_that_is_not_there_is_named(refused: Refused) -> None:
    line = refused("send", "photo.jpg", "--to", "far", "--node", "gone.toml")
    assert line == "gone.toml: cannot be read: No such file or directory"


def test_transfers_of_a_folder_in_which_no_node_ran_are_refused(refused: Refused) -> None:
    assert refused("transfers", "--node", "node.toml") == "state: no node has run there"
