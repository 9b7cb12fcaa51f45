"""`orbitrain links` and `clean`: what a user can get wrong, and what is removed. No packets here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orbitrain import links_commands
from orbitrain.testbed import deployment
from orbitrain.testbed.bare_links import BareLinks
from orbitrain.testbed.deployment import OWNER, private_folder, sweep
from tests.unit.netem.plans import S, contact, plan_of

Refused = Callable[..., str]

UP, VERIFY = ("links", "up"), ("links", "verify")


def only_tun(backends: Sequence[str]) -> dict[str, str]:
    """A host whose kernel has no netem."""
    return {name: "this kernel has no netem" if name == "kernel" else "" for name in backends}


@pytest.fixture(autouse=True)
def host_that_could(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links could be emulated, and nothing is: folders of sockets are looked for in a place of their own."""
    monkeypatch.setattr(links_commands, "enter", only_tun)
    place = tmp_path_factory.mktemp("sockets")
    monkeypatch.setattr(deployment, "_place", lambda: place)
    return place


@pytest.fixture
def plan(place: Any) -> str:
    made = plan_of(contact("a", "b", 10 * S, 900 * S, (10 * S, 5_000_000, 100_000_000)))
    return str(place.write("plan.json", made.to_json()).name)


@pytest.mark.parametrize("command", [UP, VERIFY])
@pytest.mark.parametrize(
    "arguments, line",
    [
        (("--links", "kernel"), "--links: kernel is not possible here: this kernel has no netem"),
        (("--rate", "0"), "--rate: must be greater than 0 and at most 100000, not 0"),
        (("--rate", "200000"), "--rate: must be greater than 0 and at most 100000, not 200000"),
        (("--rate", "nan"), "--rate: must be greater than 0 and at most 100000, not nan"),
        (("--from", "1000"), "--from: must be before the plan's end, 1000, not 1000"),
        (("--addresses", "10.0.0.1/8"), "--addresses: 10.0.0.1/8 has host bits set"),
        (("--addresses", "10.0.0.0/31"), "--addresses: 10.0.0.0/31 are too few for 2 nodes"),
        (
            ("--rate", "10"),
            "--rate: at 10 the links ask for a link of 1000 Mbit/s: at most 300 (back end tun); ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_named_with_what_is_allowed(
    refused: Refused, plan: str, command: tuple[str, ...], arguments: tuple[str, ...], line: str
) -> None:
    assert refused(*command, plan, *arguments).startswith(line)


@pytest.mark.parametrize("seconds", ["0", "4", "nan", "1e6"])
def test_a_time_in_which_nothing_can_be_measured_is_refused(
    refused: Refused, plan: str, seconds: str
) -> None:
    assert refused(*VERIFY, plan, "--seconds", seconds).startswith("--seconds: must be from 5 to 86400, not ")


def test_a_run_id_that_cannot_be_a_name_is_refused(refused: Refused, plan: str) -> None:
    said = refused(*UP, plan, "--run-id", "my run")
    assert said.startswith("--run-id: run id: must be 1 to 128 printable ASCII characters without spaces")
    assert refused("clean", "--run-id", "my run") == said


def test_a_plan_that_is_not_there_is_named(refused: Refused) -> None:
    assert refused(*UP, "gone.json") == "gone.json: cannot be read: No such file or directory"
    assert refused(*VERIFY, "gone.toml") == "gone.toml: cannot be read: No such file or directory"


def test_a_file_that_is_no_plan_is_named(refused: Refused, place: Any) -> None:
    place.write("other.json", "{}")
    assert refused(*UP, "other.json").startswith("other.json: ")


def test_a_scenario_with_a_wrong_field_is_refused_as_everywhere(refused: Refused, place: Any) -> None:
    place.edit("alpha = 0.5", "alpha = 1.7")
    assert refused(*UP, "scenario.toml").startswith("scenario.toml: protocol.alpha: must be")


def test_what_the_host_lacks_is_said_before_anything_is_computed(
    refused: Refused, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = "/dev/net/tun: No such file; load it (modprobe tun)"
    monkeypatch.setattr(links_commands, "enter", lambda backends: dict.fromkeys(backends, lacking))
    monkeypatch.setattr(links_commands, "plans_for", None)
    for file in (plan, "scenario.toml"):
        assert refused(*UP, file) == (
            "--links: tun is not possible here: /dev/net/tun: No such file; load it (modprobe tun)"
        )


# --- which plan links follow --------------------------------------------------------------------------------


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[BareLinks]:
    """What would have been brought up."""
    seen: list[BareLinks] = []
    monkeypatch.setattr(links_commands, "replay", lambda wanted, ready, told: seen.append(wanted))
    return seen


def test_a_scenario_is_built_into_its_plan(place: Any, followed: list[BareLinks]) -> None:
    assert place.run(*UP, "scenario.toml", "--from", "5", "--outage", "cut").code == 0
    assert place.run("plan", "build", "scenario.toml").code == 0
    assert place.run(*UP, "plan.json").code == 0
    built, read = followed
    assert built.plan.sha256 == read.plan.sha256
    assert (built.seed, built.from_ns, built.outage, built.rate) == (7, 5 * S, "cut", 1.0)
    assert (read.seed, read.from_ns, read.outage, read.run_id, read.backend) == (0, 0, "hold", None, "tun")


def test_links_follow_the_true_plan_where_a_scenario_has_one(place: Any, followed: list[BareLinks]) -> None:
    place.edit("[protocol]", "[truth]\nalong_track_km = 200\n\n[protocol]")
    ended = place.run(*UP, "scenario.toml")
    assert ended.code == 0, ended.err
    assert place.run("plan", "build", "scenario.toml", "--true", "--out", "true.json").code == 0
    assert place.run(*UP, "true.json").code == 0
    assert followed[0].plan.sha256 == followed[1].plan.sha256


# --- clean --------------------------------------------------------------------------------------------------


def _left(place: Path, name: str, run: Path) -> Path:
    folder = place / f"orbitrain-{name}"
    folder.mkdir()
    (folder / "sat-0").touch()
    (folder / OWNER).write_text(str(run))
    return folder


def test_folders_of_killed_runs_are_removed_and_those_of_living_ones_stay(
    place: Any, host_that_could: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orbitrain.testbed.leftovers.namespaces.clean", lambda run_id: ([], []))
    monkeypatch.setattr("orbitrain.testbed.leftovers.namespaces.owned", lambda run_id: [])
    gone = _left(host_that_could, "gone", place.folder / "nowhere")
    strange = host_that_could / "orbitrain-strange"
    strange.mkdir()
    with private_folder() as alive:
        assert place.run("clean", "--dry-run").out == f"would remove folder {gone}\n"
        assert gone.exists()
        assert place.run("clean", "--run-id", "other").out == "nothing is left of run other\n"
        assert place.run("clean").out == f"removed folder {gone}\n"
        assert not gone.exists() and alive.exists() and strange.exists()
        assert place.run("clean").out == "nothing is left of any run\n"
    assert not alive.exists()


def test_a_folder_is_swept_by_the_name_of_its_run(place: Any, host_that_could: Path) -> None:
    one, two = (_left(host_that_could, name, place.folder / "nowhere") for name in ("one", "two"))
    assert sweep("one", dry_run=True) == [one]
    assert sweep("one") == [one]
    assert not one.exists() and two.exists()


def test_what_a_private_folder_of_a_killed_process_holds_is_swept(host_that_could: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with private_folder() as folder:
            (folder / "plan.json").touch()
            os._exit(9)
    os.waitpid(pid, 0)
    (left,) = host_that_could.iterdir()
    assert (left / "plan.json").exists()
    assert sweep() == [left]
    assert not left.exists()
