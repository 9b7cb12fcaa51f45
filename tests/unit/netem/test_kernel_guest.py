"""What starts a guest: its arguments and its first process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from netem.namespaces import HostError
from netem.uml import guest as module
from netem.uml.guest import Guest


def test_the_first_process_runs_the_command_where_it_was_asked_for_and_keeps_its_exit_code(
    tmp_path: Path,
) -> None:
    guest = Guest(["echo", "it's", "$HOME"], tmp_path, Path("/work dir"), {"X": "a b'c"})
    script = guest.init_script()
    assert "cd '/work dir'\n" in script
    assert "setsid -c -w echo 'it'\"'\"'s' '$HOME' </dev/ttyS0 >/dev/ttyS0 2>>" in script
    assert "export X='a b'\"'\"'c'\n" in script
    assert f"mv {tmp_path}/exit-code.fresh {tmp_path}/exit-code\n" in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_what_a_guest_is_given_comes_before_what_it_has_of_its_own(tmp_path: Path) -> None:
    script = Guest(["true"], tmp_path, tmp_path, {"MALLOC_TOP_PAD_": "1"}).init_script()
    assert "export MALLOC_TOP_PAD_=1\n" in script and "MALLOC_TOP_PAD_=67108864" not in script


def test_the_exit_code_is_known_only_when_the_command_has_come_to_its_end(tmp_path: Path) -> None:
    guest = Guest(["true"], tmp_path, tmp_path)
    assert guest.exit_code() is None
    (tmp_path / "exit-code").write_text("7\n")
    assert guest.exit_code() == 7


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"command": []}, "command: must not be empty"),
        ({"memory_mb": 64}, "memory_mb: must be 128 or more, not 64"),
        ({"environment": {"A B": "1"}}, "environment: must have names of letters, digits and _, not 'A B'"),
    ],
)
def test_a_guest_that_cannot_be_is_refused(more: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        Guest(**{"command": ["true"], "folder": tmp_path, "workdir": tmp_path, **more})  # type: ignore[arg-type]
    assert str(caught.value) == words


def test_a_host_without_user_mode_linux_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "PROGRAM", "linux.that-is-not-there")
    with pytest.raises(HostError, match=r"no linux.that-is-not-there; .*apt-get install user-mode-linux"):
        Guest(["true"], tmp_path, tmp_path).prepare()


def test_a_processor_with_amx_needs_a_compiler_and_a_shim(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guest = Guest(["true"], tmp_path, tmp_path)
    monkeypatch.setattr(module, "wide_registers", lambda: False)
    assert guest.preparations() == [] and guest.host_environment() == {}
    monkeypatch.setattr(module, "wide_registers", lambda: True)
    ((compiler, *_, source),) = guest.preparations()
    assert compiler == "cc" and source == str(tmp_path / "wide.c")
    assert guest.host_environment() == {"LD_PRELOAD": str(tmp_path / "wide.so")}
