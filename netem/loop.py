"""Timers and descriptors for a back end that has no packets of its own to wait for. It never spins."""

from __future__ import annotations

import gc
import heapq
import select
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from orbitrain.runtime.clock import SECOND_NS, monotonic_ns

Timer = Callable[[int], int | None]
"""Called with the monotonic time at or after its instant; answers the next instant, None for never again."""

_LONGEST_NS: Final = SECOND_NS


class Loop(Protocol):
    """What a session needs of whatever moves its packets."""

    def at(self, due_ns: int, timer: Timer) -> None:
        """Call the timer at a monotonic instant, from inside the loop."""

    def watch(self, fd: int, callback: Callable[[], None]) -> bool:
        """Call back whenever `fd` can be read or its other end is gone; False for a plain file."""

    def run(self) -> None:
        """Until `stop`. What timers and callbacks raise comes out here."""

    def stop(self) -> None:
        """`run` returns after this round."""


class TimerLoop:
    """A `Loop`; `close` it at the end."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._stopping = False

    def at(self, due_ns: int, timer: Timer) -> None:
        self._count += 1
        heapq.heappush(self._timers, (due_ns, self._count, timer))

    def watch(self, fd: int, callback: Callable[[], None]) -> bool:
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except PermissionError:
            return False
        self._watched[fd] = callback
        return True

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        self._epoll.close()

    def run(self) -> None:
        gc.collect()
        gc.freeze()  # the collector would walk the plan in the middle of a step
        gc.disable()
        try:
            self._loop()
        finally:
            gc.enable()
            gc.unfreeze()

    def _loop(self) -> None:
        timers, ready = self._timers, [self._epoll.fileno()]
        while not self._stopping:
            now_ns = monotonic_ns()
            due: list[Timer] = []
            while timers and timers[0][0] <= now_ns:
                due.append(heapq.heappop(timers)[2])
            self._call(due)
            now_ns = monotonic_ns()
            wait_ns = min(timers[0][0] - now_ns if timers else _LONGEST_NS, _LONGEST_NS)
            # epoll's own timeout is in whole milliseconds.
            if select.select(ready, (), (), max(0, wait_ns) / 1e9)[0]:
                for fd, _ in self._epoll.poll(0):
                    self._watched[fd]()

    def _call(self, due: Sequence[Timer]) -> None:
        """What these make due at once has its turn after the descriptors."""
        for timer in due:
            if self._stopping:
                return
            next_ns = timer(monotonic_ns())
            if next_ns is not None:
                self.at(next_ns, timer)
