"""Cues of links for dashboards and rigs on this host: when one comes up or goes down, and when next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from orbitrain.scenario import ScenarioError
from orbitrain.transport.bus import Broadcaster

Cue = Mapping[str, Any]
"""source, destination, up, t_ns, next_ns (`Broadcaster`)."""


def check_endpoint(endpoint: str) -> None:
    """Raises ScenarioError for an endpoint at which cues cannot be sent, tried."""
    _bound(endpoint).close()


@contextlib.asynccontextmanager
async def cueing(endpoint: str | None) -> AsyncIterator[Callable[[Cue], None]]:
    """What to call with each cue while it is entered; None: nobody is told. Raises ScenarioError."""
    if endpoint is None:
        yield lambda cue: None
        return
    broadcaster = _bound(endpoint)
    repeating = asyncio.create_task(broadcaster.keep_repeating())
    try:
        yield lambda cue: broadcaster.publish("link", (cue["source"], cue["destination"]), cue)
    finally:
        repeating.cancel()
        await asyncio.gather(repeating, return_exceptions=True)
        broadcaster.close()


def _bound(endpoint: str) -> Broadcaster:
    try:
        return Broadcaster(endpoint)
    except ValueError as error:
        raise ScenarioError(f"--cues: {error}") from None
    except OSError as error:
        raise ScenarioError(f"--cues: {error.strerror}") from None
