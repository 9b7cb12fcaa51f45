"""How a job of the worker ends. Standard library only: the daemon knows these, and imports no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_REASON_CHARACTERS = 500
"""Longest reason of a failure: it travels in event reports, and a user's exception can hold a whole tensor.
"""


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job that succeeded."""

    result: Mapping[str, Any]
    """What it found, JSON-able."""

    outputs: Mapping[str, Path]
    """The files it wrote, by name."""

    seconds: float = field(default=0.0, compare=False)
    """Wall time that it took in the worker; no part of the result."""


class JobError(Exception):
    """A job that failed; the text is the reason, one line of at most `MAX_REASON_CHARACTERS`."""

    def __init__(self, reason: str) -> None:
        super().__init__((reason.strip().splitlines() or ["failed"])[0][:MAX_REASON_CHARACTERS])
