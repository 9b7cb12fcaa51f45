"""Who gets a terminal, against a slow policy that looks at everything at every instant."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.assignment import LinkWindow, assign


def window(text: str) -> LinkWindow:
    """ "a b 10 20" """
    a, b, start, end = text.split()
    return LinkWindow(a, b, int(start), int(end))


def windows(*texts: str) -> tuple[LinkWindow, ...]:
    return tuple(window(text) for text in texts)


# --- the policy, case by case -----------------------------------------------------------------------------


def test_unlimited_nodes_make_every_link() -> None:
    candidates = windows("g a 0 10", "g b 5 15", "a b 5 6")
    assert assign(candidates, {"a": None, "b": None, "g": None}) == windows("g a 0 10", "a b 5 6", "g b 5 15")


def test_a_link_is_held_until_it_sets_and_then_the_one_that_sets_last_is_made() -> None:
    candidates = windows("g a 0 10", "g b 1 30", "g c 2 40", "g d 3 20")
    assert assign(candidates, {"g": 1, "a": 1, "b": 1, "c": 1, "d": 1}) == windows("g a 0 10", "g c 10 40")


def test_a_second_dish_serves_a_second_satellite() -> None:
    candidates = windows("g a 0 10", "g b 1 30", "g c 2 40")
    assert assign(candidates, {"g": 2, "a": 1, "b": 1, "c": 1}) == windows(
        "g a 0 10", "g b 1 30", "g c 10 40"
    )


def test_ties_go_to_the_smaller_names_whichever_way_round_they_are() -> None:
    assert assign(windows("g b 0 10", "a g 0 10"), {"a": 1, "b": 1, "g": 1}) == windows("a g 0 10")
    assert assign(windows("b g 0 10", "g c 0 10"), {"c": 1, "b": 1, "g": 1}) == windows("b g 0 10")


def test_both_ends_need_a_free_terminal() -> None:
    candidates = windows("g a 0 20", "h a 5 30", "h b 6 9")
    assert assign(candidates, {"g": 1, "h": 1, "a": 1, "b": 1}) == windows("g a 0 20", "h b 6 9", "h a 20 30")


def test_a_terminal_takes_time_to_turn_to_another_peer_but_not_to_the_same() -> None:
    candidates = windows("g a 0 10", "g b 5 30", "g a 40 50", "g b 52 60")
    assert assign(candidates, {"g": 1, "a": 1, "b": 1}, retarget_ns=4) == windows(
        "g a 0 10", "g b 14 30", "g a 40 50", "g b 54 60"
    )
    again = windows("g a 0 10", "g a 12 20", "g b 12 40")
    assert assign(again, {"g": 1, "a": 1, "b": 1}, retarget_ns=4) == windows(
        "g a 0 10", "g a 12 20", "g b 24 40"
    )


def test_only_the_terminal_that_turns_has_to_wait() -> None:
    candidates = windows("g a 0 10", "g b 10 30", "g c 11 20")
    assert assign(candidates, {"g": 2, "a": 1, "b": 1, "c": 1}, retarget_ns=5) == windows(
        "g a 0 10", "g b 10 30", "g c 15 20"
    )


def test_what_is_left_too_short_is_not_made_and_takes_no_terminal() -> None:
    candidates = windows("g a 0 10", "g b 5 14", "g c 12 20")
    assert assign(candidates, {"g": 1, "a": 1, "b": 1, "c": 1}, shortest_ns=5) == windows(
        "g a 0 10", "g c 12 20"
    )
    assert assign(candidates, {"g": 1, "a": 1, "b": 1, "c": 1}, shortest_ns=4) == windows(
        "g a 0 10", "g b 10 14", "g c 14 20"
    )


def test_a_node_without_terminals_has_no_links() -> None:
    assert assign(windows("g a 0 10", "g b 0 10"), {"g": None, "a": 0, "b": 1}) == windows("g b 0 10")


def test_windows_of_a_pair_that_touch_are_two_links() -> None:
    assert assign(windows("g a 0 10", "a g 10 20"), {"g": 1, "a": 1}, retarget_ns=7) == windows(
        "g a 0 10", "a g 10 20"
    )


def test_no_candidates_no_links() -> None:
    assert assign((), {}) == ()


# --- against the reference --------------------------------------------------------------------------------


@dataclass
class Terminal:
    until: int = 0
    peer: str | None = None
    linked: bool = False

    def serves(self, peer: str, now: int, retarget: int) -> bool:
        return not self.linked and (self.peer in (None, peer) or now >= self.until + retarget)


def slow(
    candidates: Sequence[LinkWindow], terminals: dict[str, int | None], retarget: int, shortest: int
) -> tuple[LinkWindow, ...]:
    """Every terminal by itself, everything looked at whenever anything may have changed."""
    own = {name: [Terminal() for _ in range(99 if n is None else n)] for name, n in terminals.items()}
    instants = {t for c in candidates for t in (c.start_ns, c.end_ns, c.end_ns + retarget)}
    order = sorted(candidates, key=lambda c: (-c.end_ns, min(c.a, c.b), max(c.a, c.b)))
    done: set[LinkWindow] = set()
    links = []
    for now in sorted(instants):
        for every in own.values():
            for terminal in every:
                if terminal.linked and terminal.until == now:
                    terminal.linked = False
        for c in order:
            if c in done or not c.start_ns <= now or c.end_ns - now < shortest:
                continue
            chosen = []
            for name, peer in ((c.a, c.b), (c.b, c.a)):
                # None waits in an unlimited node.
                wait = 0 if terminals[name] is None else retarget
                able = [t for t in own[name] if t.serves(peer, now, wait)]
                # One that could serve nobody else comes first.
                able.sort(key=lambda t: t.peer is None or now >= t.until + wait)
                chosen += able[:1]
            if len(chosen) == 2:
                done.add(c)
                links.append(LinkWindow(c.a, c.b, now, c.end_ns))
                for terminal, peer in zip(chosen, (c.b, c.a), strict=True):
                    terminal.linked, terminal.peer, terminal.until = True, peer, c.end_ns
    return tuple(sorted(links, key=lambda link: (link.start_ns, link.a, link.b)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[LinkWindow], dict[str, int | None]]:
    names = [f"n{i}" for i in range(draw(st.integers(2, 7)))]
    terminals = {name: draw(st.sampled_from([1, 1, 1, 2, 3, 0, None])) for name in names}
    found = []
    for a, b in itertools.combinations(names, 2):
        now = draw(st.integers(0, 30))
        for _ in range(draw(st.integers(0, 4))):
            start = now + draw(st.integers(0, 12))
            now = start + draw(st.integers(1, 25))
            found.append(
                LinkWindow(a, b, start, now) if draw(st.booleans()) else LinkWindow(b, a, start, now)
            )
    return found, terminals


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    problem=problems(), retarget=st.sampled_from([0, 0, 1, 3, 8, 40]), shortest=st.sampled_from([1, 1, 4, 15])
)
def test_links_are_those_of_the_slow_policy(
    problem: tuple[list[LinkWindow], dict[str, int | None]], retarget: int, shortest: int
) -> None:
    candidates, terminals = problem
    links = assign(candidates, terminals, retarget_ns=retarget, shortest_ns=shortest)
    assert links == slow(candidates, terminals, retarget, shortest)
    assert links == assign(candidates[::-1], terminals, retarget_ns=retarget, shortest_ns=shortest)
    check(links, candidates, terminals, retarget, shortest)


def check(
    links: Sequence[LinkWindow],
    candidates: Sequence[LinkWindow],
    terminals: dict[str, int | None],
    retarget: int,
    shortest: int,
) -> None:
    """Within capacity, ends of candidates, and no candidate waits while both ends could serve it."""
    made = {(link.a, link.b, link.end_ns): link for link in links}
    assert len(made) == len(links)
    whole = {(c.a, c.b, c.end_ns): c for c in candidates}
    for key, link in made.items():
        assert whole[key].start_ns <= link.start_ns and link.end_ns - link.start_ns >= shortest
    by_node: dict[str, list[LinkWindow]] = {name: [] for name in terminals}
    for link in links:
        by_node[link.a].append(link)
        by_node[link.b].append(link)

    def engaged(name: str, now: int, turning: int) -> int:
        return sum(link.start_ns <= now < link.end_ns + turning for link in by_node[name])

    instants = sorted({t for c in candidates for t in (c.start_ns, c.end_ns, c.end_ns + retarget)})
    for now in instants:
        for name, count in terminals.items():
            assert count is None or engaged(name, now, 0) <= count
        for key, c in whole.items():
            begun = made[key].start_ns if key in made else c.end_ns
            if c.start_ns <= now < begun and c.end_ns - now >= shortest:
                counts = [terminals[name] for name in (c.a, c.b)]
                # A terminal that turns is engaged, so this asks for less than there may be.
                free = [
                    n is None or engaged(name, now, retarget) < n
                    for name, n in zip((c.a, c.b), counts, strict=True)
                ]
                assert not all(free), f"{c} waits at {now}"


@pytest.mark.timeout(30)
def test_a_hundred_thousand_candidates_take_seconds() -> None:
    seeded = random.Random(5)
    candidates = []
    stations = [f"g{i}" for i in range(100)]
    for satellite in range(1_000):
        now = dict.fromkeys(stations, 0)
        for _ in range(100):
            station = seeded.choice(stations)
            start = now[station] + seeded.randrange(1, 4_000)
            now[station] = start + seeded.randrange(100, 700)
            candidates.append(LinkWindow(f"s{satellite}", station, start, now[station]))
    terminals: dict[str, int | None] = {f"s{i}": 1 for i in range(1_000)} | dict.fromkeys(stations, 2)
    links = assign(candidates, terminals, retarget_ns=10, shortest_ns=30)
    assert len(candidates) == 100_000 and 1_000 < len(links) < 100_000


# --- bad input --------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^window of 'a': must be of two different nodes$"):
        LinkWindow("a", "a", 0, 1)
    with pytest.raises(
        ValueError, match=r"^window of 'a' and 'b': end_ns must be above start_ns, not 5 to 5$"
    ):
        LinkWindow("a", "b", 5, 5)
    with pytest.raises(ValueError, match=r"^terminals: must have the number of node 'b'$"):
        assign(windows("a b 0 1"), {"a": 1})
    with pytest.raises(ValueError, match=r"^terminals: must be 0 or more \(or None\) for node 'b', not -1$"):
        assign(windows("a b 0 1"), {"a": 1, "b": -1})
    with pytest.raises(
        ValueError, match=r"^candidates: must not overlap, as those of 'a' and 'b' do at 5 ns$"
    ):
        assign(windows("a b 0 10", "b a 5 15"), {"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"^retarget_ns: must be 0 or more, not -1$"):
        assign((), {}, retarget_ns=-1)
    with pytest.raises(ValueError, match=r"^shortest_ns: must be 1 or more, not 0$"):
        assign((), {}, shortest_ns=0)
