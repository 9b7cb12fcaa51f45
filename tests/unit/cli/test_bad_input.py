"""What a user can get wrong is one line on stderr, exit code 2, before anything is started or written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orbitrain.learning.tensors import encode_tensors

Refused = Callable[..., str]

SIM = ("sim", "scenario.toml", "--out", "out")
RUN = ("run", "scenario.toml", "--out", "out")

SECOND_SHELL = """\
[[constellation]]
name = "sat"
altitude_km = 600
inclination_degrees = 5
satellites = 1

"""

WRONG_FIELDS = [
    # (passage, what replaces it, field and what is allowed)
    ("rounds = 2", "rounds = 2\nround = 3", "round: unknown key, allowed are clock, compute, constellation"),
    ("rate = 100", "rat = 100", "clock.rat: unknown key, allowed are rate"),
    ("rounds = 2", 'rounds = "two"', "rounds: must be a whole number from 1 to 1000000, not 'two'"),
    ("rounds = 2", "", "rounds: is missing, must be a whole number from 1 to 1000000"),
    ("[clock]\nrate = 100", "clock = 3", "clock: must be a table, not 3"),
    (
        "devices = 2",
        "devices = 0",
        "regions[0].devices: must be a number from 1 to 1000 or a list of names, not 0",
    ),
    (
        "devices = 2",
        "devices = []",
        "regions[0].devices: must be a number from 1 to 1000 or a list of names, not []",
    ),
    ("mask_degrees = 10", "mask_degrees = 195", "sites[0].mask_degrees: must be a number at least 0"),
    ("alpha = 0.5", "alpha = 1.7", "protocol.alpha: must be a number from 0 to 1, not 1.7"),
    ("delta = 1", "delta = -3", "protocol.delta: must be a whole number from 1 to 100000, not -3"),
    (
        "[[sites]]",
        SECOND_SHELL + "[[sites]]",
        "constellation[1].name: must differ, 'sat-0' is the name of 2 nodes",
    ),
    ("devices = 2", 'devices = ["a", "a"]', "regions[0].devices: must differ, 'a' is the name of 2 nodes"),
    ("devices = 2", 'devices = ["sat-1"]', "regions[0].devices: must differ, 'sat-1' is the name of 2 nodes"),
    ("seed = 7", "seed = -1", "seed: must be a whole number at least 0 and below 9223372036854775808"),
    ("[task]", "[task]\nwhen = 2026-01-01", "task.when: must be a string, number, boolean, list or table"),
]


@pytest.mark.parametrize(
    "old, new, line", WRONG_FIELDS, ids=[line.split(":")[0] for *_, line in WRONG_FIELDS]
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    place: Any, refused: Refused, old: str, new: str, line: str
) -> None:
    place.edit(old, new)
    assert refused(*SIM).startswith(f"scenario.toml: {line}")


def test_run_refuses_a_wrong_field_as_sim_does(place: Any, refused: Refused) -> None:
    place.edit("alpha = 0.5", "alpha = 1.7")
    assert refused(*RUN) == refused(*SIM)


def test_plan_build_refuses_a_wrong_field_and_writes_no_plan(place: Any, refused: Refused) -> None:
    place.edit("alpha = 0.5", "alpha = 1.7")
    assert "protocol.alpha" in refused("plan", "build", "scenario.toml", "--out", "plan.json")


# -------------------------------------------------------------------------------------------- the file


def test_broken_toml_is_named_with_its_place(place: Any, refused: Refused) -> None:
    place.write("scenario.toml", 'name = "small"\n[[[')
    assert refused().startswith("scenario.toml: not valid TOML: ")


def test_a_file_that_is_not_there_is_named(refused: Refused) -> None:
    assert refused("sim", "gone.toml") == "gone.toml: cannot be read: No such file or directory"


def test_a_folder_is_no_scenario(refused: Refused) -> None:
    assert refused("sim", ".") == ".: cannot be read: Is a directory"


def test_a_file_that_is_not_utf_8_is_refused(place: Any, refused: Refused) -> None:
    place.write("scenario.toml", b'name = "\xff"')
    assert refused() == "scenario.toml: cannot be read: not UTF-8"


# -------------------------------------------------------------------------------------------- the task


def test_a_task_that_cannot_be_imported_is_named_with_the_reason(place: Any, refused: Refused) -> None:
    place.edit("lookout:Lookout", "nowhere:Lookout")
    assert refused() == (
        "scenario.toml: task.task: task 'nowhere:Lookout': cannot import 'nowhere': "
        "ModuleNotFoundError: No module named 'nowhere'"
    )


def test_a_task_that_is_not_in_its_module_is_named(place: Any, refused: Refused) -> None:
    place.edit("lookout:Lookout", "lookout:Lookup")
    assert "module 'lookout' has no 'Lookup'" in refused()


def test_an_option_that_the_task_refuses_is_told_in_its_words(place: Any, refused: Refused) -> None:
    place.edit("[task]", "[task]\nspeed = 3")
    assert refused().endswith("task 'lookout:Lookout': unknown option 'speed'; there are none")


def test_an_init_file_that_is_not_there_is_named(place: Any, refused: Refused) -> None:
    place.edit("[task]", '[task]\ninit = "gone.safetensors"')
    assert refused() == (
        "scenario.toml: task.init: gone.safetensors cannot be read: No such file or directory"
    )


def test_an_init_file_that_is_no_safetensors_is_refused(place: Any, refused: Refused) -> None:
    place.edit("[task]", '[task]\ninit = "weights.safetensors"')
    place.write("weights.safetensors", b"junk")
    assert "too short to be safetensors" in refused()


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": np.zeros(3, np.float32)},
        {"w": np.zeros(2, np.float64)},
        {"v": np.zeros(2, np.float32)},
        {"w": np.full(2, np.nan, np.float32)},
    ],
    ids=["shape", "dtype", "name", "not finite"],
)
def test_initial_weights_unlike_the_tasks_own_are_refused(
    place: Any, refused: Refused, tensors: dict[str, Any]
) -> None:
    place.edit("[task]", '[task]\ninit = "weights.safetensors"')
    place.write("weights.safetensors", encode_tensors(tensors))
    assert refused().startswith("scenario.toml: task.init: weights.safetensors: tensor ")


# -------------------------------------------------------------------------------------------- the plan


def test_a_plan_of_another_scenario_is_refused(place: Any, refused: Refused) -> None:
    place.edit("altitude_km = 550", "altitude_km = 560", name="other.toml")
    assert place.run("plan", "build", "other.toml", "--out", "other.json").code == 0
    line = refused(*SIM, "--plan", "other.json")
    assert line.startswith("other.json: scenario_sha256: is the plan of another scenario (")


def test_a_plan_of_this_scenario_is_taken(place: Any) -> None:
    assert place.run("plan", "build", "scenario.toml", "--out", "plan.json").code == 0
    assert place.run(*SIM, "--no-baseline", "--quiet", "--plan", "plan.json").code == 0


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"version": 1}'], ids=repr)
def test_a_broken_plan_is_refused(place: Any, refused: Refused, data: bytes) -> None:
    place.write("plan.json", data)
    assert refused(*SIM, "--plan", "plan.json").startswith("plan.json: ")
    assert refused("plan", "show", "plan.json").startswith("plan.json: ")


def test_a_plan_that_was_changed_by_hand_is_refused(place: Any, refused: Refused) -> None:
    assert place.run("plan", "build", "scenario.toml", "--out", "plan.json").code == 0
    data = (place.folder / "plan.json").read_text()
    place.write("plan.json", data.replace('"duration_ns": 600000000000', '"duration_ns": 600000000001'))
    assert refused(*SIM, "--plan", "plan.json").startswith(
        "plan.json: sha256: must be the digest of the plan"
    )


def test_a_plan_that_cannot_be_written_is_told(place: Any, refused: Refused) -> None:
    line = refused("plan", "build", "scenario.toml", "--out", "no/such/folder/plan.json")
    assert line == "no/such/folder/plan.json: --out: cannot be written: No such file or directory"


# ----------------------------------------------------------------------------------------- the options


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "100001"])
def test_a_rate_that_no_clock_can_have_is_refused(refused: Refused, rate: str) -> None:
    line = refused("run", "scenario.toml", "--out", "out", "--rate", rate)
    assert line.startswith("--rate: must be greater than 0 and at most 100000, not ")


@pytest.mark.parametrize("links", ["kernel", "tun"])
def test_links_that_this_host_cannot_emulate_are_refused(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    nowhere = {links: "network namespaces: not today; be root"}
    monkeypatch.setattr("orbitrain.testbed.host.obstacles", lambda backends: nowhere)
    line = refused("run", "scenario.toml", "--out", "out", "--links", links)
    assert line == f"--links: {links} is not possible here: network namespaces: not today; be root"


@pytest.mark.parametrize(
    "endpoint, line",
    [
        ("tcp://10.1.1.1:5000", "--cues: tcp://10.1.1.1:5000: not ipc:// and not tcp:// on loopback"),
        ("ipc://gone/away", "--cues: ipc://gone/away: No such file or directory"),
    ],
)
def test_an_endpoint_at_which_nobody_may_listen_is_refused(
    refused: Refused, endpoint: str, line: str
) -> None:
    assert refused("run", "scenario.toml", "--out", "out", "--links", "none", "--cues", endpoint) == line


def test_cues_of_a_guest_are_refused(refused: Refused) -> None:
    line = refused("run", "scenario.toml", "--out", "out", "--in", "uml", "--cues", "ipc://x")
    assert line == "--cues: the sockets of a guest are its own: not with --in uml"


def test_a_guest_that_this_host_cannot_have_is_refused_with_what_to_install(place: Any) -> None:
    before = place.files()
    command = Path(sys.executable).with_name("orbitrain")
    done = subprocess.run(
        [command, "run", "scenario.toml", "--out", "out", "--in", "uml"],
        cwd=place.folder, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("orbitrain: --in: uml is not possible here: User-Mode Linux: no linux.uml")
    assert place.files() == before


def test_a_rate_at_which_links_would_be_the_hosts_and_not_the_plans_is_refused(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orbitrain.testbed.host.obstacles", lambda backends: dict.fromkeys(backends, ""))
    line = refused("run", "scenario.toml", "--out", "out", "--links", "tun", "--rate", "1000")
    assert line.startswith("--rate: at 1000 the links ask for a link of ")
    highest = float(line.split("; ")[-1].split()[0])
    assert 0 < highest < 1000


def test_a_congestion_control_that_the_kernel_lacks_is_refused(
    place: Any, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(name: str, value: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("orbitrain.testbed.host.obstacles", lambda backends: dict.fromkeys(backends, ""))
    monkeypatch.setattr("orbitrain.testbed.tcp.unshare", lambda flags: None)
    monkeypatch.setattr("orbitrain.testbed.tcp.network_kept", nullcontext)
    monkeypatch.setattr("orbitrain.testbed.tcp._write", lacking)
    place.edit("[protocol]", '[links]\ncongestion = "warp"\n\n[protocol]')
    line = refused("run", "scenario.toml", "--out", "out", "--links", "tun", "--rate", "1")
    assert line.startswith("links.congestion: this kernel has no 'warp', it has ")


def test_a_folder_that_holds_something_else_is_refused(place: Any, refused: Refused) -> None:
    (place.folder / "out").mkdir()
    place.write("out/notes.txt", "mine")
    for command in (SIM, RUN):
        assert refused(*command) == "out: --out: must be an empty folder, or that of an unfinished run"


def test_a_file_is_no_folder_to_write_to(place: Any, refused: Refused) -> None:
    place.write("out", "mine")
    assert refused(*SIM) == "out: --out: must be an empty folder, or that of an unfinished run"
    assert refused("sim", "scenario.toml", "--out", "out/inner").startswith(
        "out/inner: --out: cannot be written"
    )


def test_the_folder_of_another_run_is_refused(place: Any, refused: Refused) -> None:
    assert place.run(*SIM, "--no-baseline", "--quiet").code == 0
    assert "holds a run with another seed (7, not 8)" in refused(*SIM, "--seed", "8")
    assert "holds a run with another driver (sim, not daemons)" in refused(*RUN)
    place.edit("rounds = 2", "rounds = 3")
    assert "holds a run with another scenario_sha256" in refused(*SIM)


def test_the_folder_of_a_finished_run_is_shown_and_left_alone(place: Any) -> None:
    first = place.run(*SIM, "--no-baseline", "--quiet")
    before = place.files()
    again = place.run(*SIM, "--no-baseline", "--quiet")
    assert (first.code, again.code, again.out) == (0, 0, first.out)
    assert place.files() == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("sim",),
        ("sim", "scenario.toml", "--seed", "-1"),
        ("sim", "scenario.toml", "--seed", "x"),
        ("sim", "scenario.toml", "--rate", "3"),
        ("run", "scenario.toml", "--rate", "fast"),
        ("run", "scenario.toml", "--links", "string"),
        ("plan", "build"),
        ("plan", "show"),
    ],
    ids=" ".join,
)
def test_arguments_that_cannot_be_parsed_are_a_usage_error(place: Any, arguments: tuple[str, ...]) -> None:
    before = place.files()
    ended = place.run(*arguments)
    assert ended.code == 2
    assert "Usage:" in ended.err + ended.out
    assert "Traceback" not in ended.err
    assert place.files() == before


def test_a_seed_too_large_for_a_scenario_is_refused(place: Any) -> None:
    before = place.files()
    assert place.run(*SIM, "--seed", str(1 << 63)).code == 2
    assert place.files() == before


# ------------------------------------------------------------------------------------ as a real process


@pytest.mark.parametrize(
    "edit, arguments",
    [
        (("alpha = 0.5", "alpha = 1.7"), RUN),
        (("lookout:Lookout", "nowhere:Lookout"), RUN),
        (("", ""), ("run", "scenario.toml", "--out", "out", "--rate", "0")),
    ],
    ids=["field", "task", "option"],
)
def test_the_installed_command_leaves_one_line_and_no_process(
    place: Any, edit: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    if edit[0]:
        place.edit(*edit)
    before = place.files()
    command = Path(sys.executable).with_name("orbitrain")
    process = subprocess.Popen(
        [command, *arguments],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
    assert place.files() == before
    with pytest.raises(ProcessLookupError):  # nobody is left in its process group
        os.killpg(process.pid, 0)
