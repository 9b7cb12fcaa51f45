"""What is said of how true a run's links were (`links_truth`), beyond what one probe finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WORST_LAST: Final = ("as_flown", "as_scaled", "unchecked", "unshaped", "untrue")


def unchecked(backend: str, why: str) -> dict[str, Any]:
    """Links that were shaped, and nobody has measured them."""
    return {"backend": backend, "verdict": "unchecked", "reason": why}


def worse(before: Mapping[str, Any] | None, now: dict[str, Any]) -> Mapping[str, Any]:
    """Of two starts of a run, the findings that hold for it as a whole."""
    if before is None or before.get("verdict") not in _WORST_LAST or now.get("verdict") not in _WORST_LAST:
        return now
    by_rank = _WORST_LAST.index
    return before if by_rank(before["verdict"]) > by_rank(now["verdict"]) else now
