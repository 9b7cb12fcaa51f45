"""Scenario time: the only place that reads a clock.

Scenario time is integer nanoseconds since the scenario's epoch. A run anchors it to the host's UTC and gives
it a rate; all processes of the run read the same `clock.json`. A standalone node takes UTC itself, at rate 1.
Inside a process time follows the monotonic clock, so it never goes back.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

SECOND_NS = 1_000_000_000

POLL_S = 0.05
"""How often a daemon looks whether its run's clock has been started."""


class ClockError(ValueError):
    """A clock file that cannot be used; one line."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Scenario time `scenario_ns` is UTC `unix_ns`; `rate` scenario seconds pass per wall second."""

    unix_ns: int
    scenario_ns: int
    rate: float

    @staticmethod
    def of_epoch(epoch: str) -> Anchor:
        """UTC at rate 1: scenario time 0 is the epoch (ISO 8601)."""
        instant = datetime.fromisoformat(epoch).astimezone(UTC)
        since = instant - datetime(1970, 1, 1, tzinfo=UTC)
        return Anchor((since.days * 86_400 + since.seconds) * SECOND_NS + since.microseconds * 1_000, 0, 1.0)


def unix_ns() -> int:
    """UTC now."""
    return time.time_ns()


def utc_stamp() -> str:
    """UTC now as a name: 20260101T000000Z."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def wall_s() -> float:
    """Seconds on the monotonic clock, for measuring."""
    return time.monotonic()


def monotonic_ns() -> int:
    """Nanoseconds on the monotonic clock, for deadlines and lateness."""
    return time.monotonic_ns()


class Clock:
    """Scenario time in this process."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._monotonic_at_anchor = time.monotonic_ns() - (time.time_ns() - anchor.unix_ns)
        self._latest_ns = anchor.scenario_ns

    @property
    def rate(self) -> float:
        return self._anchor.rate

    def _raw_ns(self) -> int:
        """Before the anchor's instant this is less than its scenario time."""
        since_ns = time.monotonic_ns() - self._monotonic_at_anchor
        return self._anchor.scenario_ns + int(since_ns * self._anchor.rate)

    def now_ns(self) -> int:
        """Never goes back, and stands at the anchor's scenario time until its instant has come."""
        self._latest_ns = max(self._latest_ns, self._raw_ns())
        return self._latest_ns

    def wall_s_until(self, t_ns: int) -> float:
        """Wall seconds from now until scenario time `t_ns`; 0 if it has come."""
        return max(0.0, (t_ns - self._raw_ns()) / self._anchor.rate / SECOND_NS)


@dataclass(frozen=True, slots=True)
class ClockFile:
    """`clock.json`: `unix_ns` is null until the run starts its clock; `committed_ns` is how far it came."""

    unix_ns: int | None
    scenario_ns: int
    rate: float
    committed_ns: int

    def write(self, path: Path) -> None:
        """Replace the file in one go."""
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(asdict(self)) + "\n", encoding="ascii")
        fresh.replace(path)

    @staticmethod
    def read(path: Path) -> ClockFile:
        """Raises ClockError."""
        try:
            values = json.loads(path.read_bytes())
            unix, scenario, rate = values["unix_ns"], values["scenario_ns"], values["rate"]
            committed = values["committed_ns"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClockError(f"{path}: not a clock file: {error}") from None
        whole = all(type(value) is int for value in (scenario, committed)) and (
            unix is None or type(unix) is int
        )
        if not whole or type(rate) not in (int, float) or not 0 < rate <= 1e6:
            raise ClockError(
                f"{path}: unix_ns, scenario_ns, committed_ns must be integers, rate a number > 0"
            )
        return ClockFile(unix, scenario, float(rate), committed)

    @property
    def anchor(self) -> Anchor | None:
        return None if self.unix_ns is None else Anchor(self.unix_ns, self.scenario_ns, self.rate)


async def started(path: Path) -> Clock:
    """The run's clock, once the run has started it. Raises ClockError."""
    while (anchor := ClockFile.read(path).anchor) is None:  # noqa: ASYNC110 - a file of another process
        await asyncio.sleep(POLL_S)
    return Clock(anchor)
