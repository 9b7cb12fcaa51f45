"""`orbitrain doctor`: every check comes to an answer, however the host is, whatever becomes of the check."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from orbitrain import doctor_command
from orbitrain.testbed.checks import CHECKS, PACKAGES, Finding
from orbitrain.testbed.doctor import Examined, examine, links, names, one

QUICK = tuple(CHECKS)


def _says(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_every_check_answers_without_crashing_and_says_what_to_do_where_it_fails() -> None:
    found = list(examine(QUICK))
    assert [each.name for each in found] == list(QUICK)
    for each in found:
        assert not each.crashed, each
        assert each.finding.found and "\n" not in each.finding.found + each.finding.advice
        assert each.finding.ok or each.finding.advice, each


def test_nothing_of_a_check_is_left_behind() -> None:
    def state() -> tuple[Any, ...]:
        mounts = Path("/proc/self/mountinfo")
        netns = Path("/run/netns")
        return (
            len(mounts.read_text().splitlines()) if mounts.exists() else 0,
            {path.name for path in netns.glob("ob-doctor*")} if netns.exists() else set(),
            {path.name for path in Path("/tmp").glob("orbitrain-run-*")},
        )

    before = state()
    for each in examine(("namespaces as root", "namespaces without root", "tun", "netem", "tbf")):
        assert not each.crashed, each
    assert state() == before


def test_a_check_that_fails_hangs_or_talks_nonsense_is_shown_as_crashed() -> None:
    for text, how in (
        ("raise ValueError('odd')", "the check itself ended with 1: ValueError: odd"),
        ("import os; os.kill(os.getpid(), 11)", "the check itself was killed by SIGSEGV"),
        ("print('hello')", "the check itself said nothing that can be read: nothing on standard error"),
        ("print('{\"o\": 1}')", "the check itself said nothing that can be read: nothing on standard error"),
        ("", "the check itself said nothing that can be read: nothing on standard error"),
    ):
        found = one("x", _says(text), 20.0)
        assert found.crashed and not found.finding.ok
        assert found.finding.found == how
    found = one("x", _says("import threading; threading.Event().wait()"), 0.5)
    assert found.finding.found == "the check itself did not end within 0.5 s"


def test_a_check_that_hangs_takes_its_children_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import threading; threading.Event().wait()'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "child.wait()"
    )
    assert one("x", _says(program), 3.0).crashed
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(int(pid.read_text()))
        assert select.select([ended], [], [], 10)[0] == [ended]
        os.close(ended)


def test_a_package_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('No module named matplotlib')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    (found,) = examine(("matplotlib",))
    assert not found.crashed and not found.finding.ok
    assert found.finding.advice == "for pictures of plans: pip install 'orbitrain[plot]'"


def test_user_mode_linux_is_found_with_its_modules_or_told_how_to_get(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = examine(("uml",))
    assert not found.finding.ok and "user-mode-linux" in found.finding.advice
    fake = tmp_path / "linux.uml"
    fake.write_text(f"#!{shutil.which('sh', path='/bin:/usr/bin')}\necho 0.0.0\n")
    fake.chmod(0o755)
    (found,) = examine(("uml",))
    assert "no sch_netem below /usr/lib/uml/modules/0.0.0" in found.finding.found


@pytest.mark.parametrize(
    "able, taken",
    [
        (("namespaces as root", "tun"), "tun"),
        (("namespaces without root", "tun"), "tun, in namespaces of this user's own"),
        (("namespaces as root", "tun", "netem"), "kernel"),
        (("namespaces without root", "netem"), "kernel, in namespaces of this user's own"),
        (("namespaces as root",), "none"),
        ((), "none"),
    ],
)
def test_it_says_which_links_a_run_would_take(able: tuple[str, ...], taken: str) -> None:
    assert links([Examined(name, Finding(name in able, "x")) for name in names()]) == taken


def test_the_command_answers_json_with_every_check(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Examined(name, Finding(name != "netem", "x", "y" * (name == "netem"))) for name in names()]
    monkeypatch.setattr(doctor_command, "examine", lambda: iter(said))
    ended = place.run("doctor", "--json")
    assert ended.code == 0
    document = json.loads(ended.out)
    assert document["links"] == "tun"
    assert {check["name"] for check in document["checks"]} == {*CHECKS, *PACKAGES}
    netem = next(check for check in document["checks"] if check["name"] == "netem")
    assert netem == {
        "name": "netem", "ok": False, "found": "x", "advice": "y", "values": {}, "crashed": False,
    }  # fmt: skip
    shown = place.run("doctor")
    assert shown.code == 0
    assert "no  netem" in shown.out and "--links auto takes: tun" in shown.out


def test_a_crashed_check_is_shown_and_the_exit_code_is_1(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = Examined("tun", Finding(False, "the check itself ended with 1: x", "a defect"), True)
    monkeypatch.setattr(doctor_command, "examine", lambda: iter([crashed]))
    ended = place.run("doctor")
    assert ended.code == 1 and "!!  tun" in ended.out
