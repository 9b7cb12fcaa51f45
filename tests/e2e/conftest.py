"""No end-to-end test leaves a process or a folder of sockets behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orbitrain.testbed.deployment import sweep
from tests.e2e.lab import Lab


@pytest.fixture(autouse=True)
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Starts processes in the test's folder; at the end it ends what is left, and fails if anything was."""
    here = Lab(tmp_path)
    yield here
    here.leave()
    sweep()
