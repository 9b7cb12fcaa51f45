"""Which of many alike cases are for every change, and which for the full lane alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def every_other_in_full(cases: Sequence[tuple[Any, ...]], by: int = 1) -> list[Any]:
    """Parameters for `parametrize`: of so many in a row, then as many that are marked `full`, and so on.

    With an odd number of values in the last place that is a chessboard: each value is met in either lane.
    """
    return [
        pytest.param(*case, marks=[pytest.mark.full] if n // by % 2 else []) for n, case in enumerate(cases)
    ]
