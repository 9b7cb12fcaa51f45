"""The committed code in orbitrain/v1 is what proto/ generates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("orbitrain/v1")


def generated_files(root: Path) -> dict[str, str]:
    paths = (root / PACKAGE).glob("*_pb2*.py*")
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def test_committed_code_is_what_the_proto_files_generate(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the generator comes with the dev extra")
    command = [sys.executable, str(ROOT / "tools" / "regenerate_proto.py"), "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr

    committed, fresh = generated_files(ROOT), generated_files(tmp_path)
    assert sorted(committed) == sorted(fresh), "run `make proto` and commit orbitrain/v1"
    stale = [name for name in fresh if committed[name] != fresh[name]]
    assert not stale, f"out of date: {stale}; run `make proto` and commit orbitrain/v1"


def test_generated_package_is_a_regular_package() -> None:
    assert (ROOT / PACKAGE / "__init__.py").is_file()
