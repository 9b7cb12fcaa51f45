"""What is still coming in from a sender, which does not wait for an answer where it need not.

It sends the first bytes of an object while its offer is on the way, and hands a letter over while the last
are. All of that is of one connection, so it comes in this order, but tasks of their own work on it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from orbitrain.machine import Digest

BEGINS_S: Final = 0.5
"""Wall seconds for what came before on the same connection to be seen: only this process's own tasks can
change their order."""


class Arrivals:
    """Of one server."""

    def __init__(self) -> None:
        self._bringing: Counter[tuple[str, Digest]] = Counter()
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something has begun, been taken in, or ended: those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    @contextmanager
    def bringing(self, source: str, digest: Digest) -> Iterator[None]:
        """While a call of `source` brings an object."""
        self._bringing[source, digest] += 1
        self.changed()
        try:
            yield
        finally:
            self._bringing[source, digest] -= 1
            if not self._bringing[source, digest]:
                del self._bringing[source, digest]
            self.changed()

    async def over(self, source: str, digests: Collection[Digest], has: Callable[[Digest], bool]) -> None:
        """Return once all of these are there, or calls of `source` that brought one have ended without it.

        A call is seen with its first chunk, for which a slow link takes its time: how long that is waited for
        is the caller's matter, whose own call ends with its patience.
        """
        places = [(source, digest) for digest in digests]
        while any(place not in self._bringing and not has(place[1]) for place in places):
            await self._changed.wait()
        while any(place in self._bringing for place in places):
            await self._changed.wait()

    async def soon(self, true: Callable[[], bool]) -> bool:
        """Whether something is so within BEGINS_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGINS_S):
                while not true():
                    await self._changed.wait()
        return true()
