"""Assignment: which of the links that could be are made, where nodes have few terminals (or antennas).

Candidates are windows in which two nodes could link: passes over a ground station, inter-satellite windows. A
terminal serves one link at a time, and a link takes one of each of its nodes. The policy, of our own, is the
same for dishes on the ground and terminals in orbit:

1. a link once made is held until its window ends; nothing takes a terminal away;
2. whenever both nodes of a waiting candidate have a terminal free, the link is made at once; of several, the
   one whose window ends last is made first, ties go to the smaller names;
3. a terminal that has served one peer needs `retarget_ns` before it serves another (not before the same one
   again, nor before its first);
4. what would be shorter than `shortest_ns` when it could be made is not made.

So no node waits beside a free terminal, changes are few, and every node computes the same links.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_END: Final = 0
_READY: Final = 1


@dataclass(frozen=True, slots=True)
class LinkWindow:
    """Nodes `a` and `b`, in either order, may link (or do) from `start_ns` until just before `end_ns`."""

    a: str
    b: str
    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise ValueError(f"window of {self.a!r}: must be of two different nodes")
        if self.start_ns >= self.end_ns:
            raise ValueError(
                f"window of {self.a!r} and {self.b!r}: end_ns must be above start_ns, "
                f"not {self.start_ns} to {self.end_ns}"
            )


# The order of choice: latest end, smaller names; the last number is the candidate's own.
_Key = tuple[int, str, str, int]


class _Terminals:
    """A node's terminals: how many are ready for anyone, and which are turning away from whom, until when.

    `ready` is None where there is no end of them. `waiting` are candidates that found none here.
    """

    __slots__ = ("ready", "turning", "waiting")

    def __init__(self, count: int | None) -> None:
        self.ready = count
        self.turning: dict[str, int] = {}
        self.waiting: list[_Key] = []

    def has_one_for(self, peer: str) -> bool:
        return self.ready is None or self.ready > 0 or peer in self.turning

    def take(self, peer: str) -> None:
        if self.ready is not None and self.turning.pop(peer, None) is None:
            self.ready -= 1

    def release(self, peer: str, ready_ns: int, now_ns: int) -> None:
        if self.ready is None:
            return
        if ready_ns > now_ns:
            self.turning[peer] = ready_ns
        else:
            self.ready += 1

    def turned(self, peer: str, now_ns: int) -> bool:
        """Whether the terminal that was turning away from the peer has just become ready."""
        if self.ready is None or self.turning.get(peer) != now_ns:
            return False
        del self.turning[peer]
        self.ready += 1
        return True


def assign(
    candidates: Iterable[LinkWindow],
    terminals: Mapping[str, int | None],
    *,
    retarget_ns: int = 0,
    shortest_ns: int = 1,
) -> tuple[LinkWindow, ...]:
    """The links that are made, each the rest of a candidate from when it could be made, by (start, a, b).

    `terminals` has each node's number of terminals, None for no limit. ValueError for a node that is missing
    there, a number that cannot be, or two candidates of one pair that overlap.
    """
    if retarget_ns < 0:
        raise ValueError(f"retarget_ns: must be 0 or more, not {retarget_ns}")
    if shortest_ns < 1:
        raise ValueError(f"shortest_ns: must be 1 or more, not {shortest_ns}")
    windows = sorted(candidates, key=lambda window: (window.start_ns, window.a, window.b))
    nodes = _nodes(windows, terminals)
    _refuse_overlaps(windows)
    links: list[LinkWindow] = []
    events: list[tuple[int, int, str, str]] = []  # instant, kind, a node and the peer it is about
    following = 0
    while following < len(windows) or events:
        now_ns = min(
            windows[following].start_ns if following < len(windows) else events[0][0],
            events[0][0] if events else windows[following].start_ns,
        )
        freed: set[str] = set()
        while events and events[0][0] == now_ns:
            _, kind, name, peer = heapq.heappop(events)
            node = nodes[name]
            if kind == _END:
                node.release(peer, now_ns + retarget_ns, now_ns)
                if retarget_ns:
                    heapq.heappush(events, (now_ns + retarget_ns, _READY, name, peer))
                else:
                    freed.add(name)
            elif node.turned(peer, now_ns):
                freed.add(name)
        # New candidates, and the first that waits at each node with a terminal to give, best first.
        agenda: list[tuple[_Key, str]] = []
        while following < len(windows) and windows[following].start_ns == now_ns:
            agenda.append((_key(windows[following], following), ""))
            following += 1
        agenda += [(nodes[name].waiting[0], name) for name in freed if nodes[name].waiting]
        heapq.heapify(agenda)
        while agenda:
            key, source = heapq.heappop(agenda)
            if source:
                node = nodes[source]
                if not node.ready:
                    continue  # the others go on waiting
                heapq.heappop(node.waiting)
            window = windows[key[-1]]
            if window.end_ns - now_ns >= shortest_ns:
                a, b = nodes[window.a], nodes[window.b]
                if not a.has_one_for(window.b):
                    heapq.heappush(a.waiting, key)
                elif not b.has_one_for(window.a):
                    heapq.heappush(b.waiting, key)
                else:
                    a.take(window.b)
                    b.take(window.a)
                    links.append(LinkWindow(window.a, window.b, now_ns, window.end_ns))
                    for name, peer in ((window.a, window.b), (window.b, window.a)):
                        if nodes[name].ready is not None:
                            heapq.heappush(events, (window.end_ns, _END, name, peer))
            if source and node.ready and node.waiting:
                heapq.heappush(agenda, (node.waiting[0], source))
    return tuple(sorted(links, key=lambda link: (link.start_ns, link.a, link.b)))


def _key(window: LinkWindow, number: int) -> _Key:
    return (-window.end_ns, min(window.a, window.b), max(window.a, window.b), number)


def _nodes(windows: list[LinkWindow], terminals: Mapping[str, int | None]) -> dict[str, _Terminals]:
    nodes = {}
    for name in sorted({name for window in windows for name in (window.a, window.b)}):
        if name not in terminals:
            raise ValueError(f"terminals: must have the number of node {name!r}")
        count = terminals[name]
        if count is not None and count < 0:
            raise ValueError(f"terminals: must be 0 or more (or None) for node {name!r}, not {count}")
        nodes[name] = _Terminals(count)
    return nodes


def _refuse_overlaps(windows: list[LinkWindow]) -> None:
    until_ns: dict[tuple[str, str], int] = {}
    for window in windows:  # by start
        pair = (min(window.a, window.b), max(window.a, window.b))
        if window.start_ns < until_ns.get(pair, window.start_ns):
            raise ValueError(
                f"candidates: must not overlap, as those of {pair[0]!r} and {pair[1]!r} "
                f"do at {window.start_ns} ns"
            )
        until_ns[pair] = window.end_ns
