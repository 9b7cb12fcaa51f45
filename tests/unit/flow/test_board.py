"""The board against a list of what has become of each chunk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.flow.board import Board
from orbitrain.flow.schedule import Handout, Share, assign
from orbitrain.transport.objects import Range

CHUNKS = {"a": 12, "b": 7}
LINKS = [(satellite, station) for satellite in ("a1", "a2", "b1") for station in ("g", "h")]

ranges = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(lambda ends: (min(ends), max(ends)))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("hand out"), st.sampled_from(LINKS), st.integers(1, 5)),
        st.tuples(st.just("acknowledged"), st.sampled_from(("a", "b")), st.lists(ranges, max_size=2)),
        st.tuples(st.just("ended"), st.sampled_from(LINKS), st.none()),
    ),
    max_size=20,
)


def numbers(pieces: tuple[Range, ...]) -> list[int]:
    return [chunk for start, end in pieces for chunk in range(start, end)]


@settings(max_examples=150, deadline=None)
@given(steps)
def test_every_chunk_is_free_handed_to_one_link_or_acknowledged(
    history: list[tuple[str, object, object]],
) -> None:
    board = Board(CHUNKS)
    where = {(plane, chunk): "free" for plane, count in CHUNKS.items() for chunk in range(count)}
    for what, who, how in history:
        if what == "hand out":
            satellite, station = who  # type: ignore[misc]
            plane = satellite[0]
            free = [chunk for of, chunk in where if of == plane and where[of, chunk] == "free"]
            share = Share(0, plane, satellite, station, how)  # type: ignore[arg-type]
            if len(free) < share.chunks:
                with pytest.raises(
                    ValueError, match=rf"^plane '{plane}': has {len(free)} chunks free, not the "
                ):
                    board.hand_out([share])
                continue
            (handout,) = board.hand_out([share])
            assert numbers(handout.ranges) == free[: share.chunks]
            where.update({(plane, chunk): f"{satellite} {station}" for chunk in free[: share.chunks]})
        elif what == "acknowledged":
            named = {chunk for start, end in how for chunk in range(start, end)}  # type: ignore[attr-defined]
            news = board.acknowledged(who, how)  # type: ignore[arg-type]
            assert sorted(numbers(news)) == sorted(c for c in named if where[who, c] != "acknowledged")  # type: ignore[index]
            where.update({(who, chunk): "acknowledged" for chunk in named})  # type: ignore[misc]
        else:
            satellite, station = who  # type: ignore[misc]
            back = [key for key, at in where.items() if at == f"{satellite} {station}"]
            assert numbers(board.contact_ended(satellite, station)) == [chunk for _, chunk in back]
            where.update(dict.fromkeys(back, "free"))
        check(board, where)
        again = Board(CHUNKS, {plane: board.kept(plane) for plane in CHUNKS}, board.outstanding())
        check(again, where)


def check(board: Board, where: dict[tuple[str, int], str]) -> None:
    def there(plane: str, state: str) -> list[int]:
        return [chunk for (of, chunk), at in where.items() if of == plane and at == state]

    for plane, count in CHUNKS.items():
        assert numbers(board.free(plane)) == there(plane, "free")
        assert numbers(board.kept(plane)) == there(plane, "acknowledged")
        assert board.unacknowledged(plane) == count - len(there(plane, "acknowledged"))
    assert board.left() == {plane: len(there(plane, "free")) for plane in CHUNKS}
    held = {(one.plane, *one.link): numbers(one.ranges) for one in board.outstanding()}
    expected = {(link[0][0], *link): there(link[0][0], " ".join(link)) for link in LINKS}
    assert held == {key: chunks for key, chunks in expected.items() if chunks}


def test_what_comes_late_over_a_contact_that_is_gone_is_taken_off_the_link_that_has_it_now() -> None:
    board = Board({"a": 4})
    board.hand_out([Share(0, "a", "a1", "g", 3)])
    assert board.contact_ended("a1", "g") == ((0, 3),)
    board.hand_out([Share(1, "a", "a2", "g", 3)])
    assert board.acknowledged("a", [(0, 2)]) == ((0, 2),)
    assert board.outstanding() == (Handout("a", "a2", "g", ((2, 3),)),)
    assert board.acknowledged("a", [(0, 3)]) == ((2, 3),)
    assert board.outstanding() == () and board.left() == {"a": 1}


def test_shares_of_one_slot_get_chunks_of_their_own_the_lowest_first() -> None:
    shares = [Share(0, "a", "a1", "g", 3), Share(0, "a", "a2", "g", 2), Share(0, "b", "b1", "g", 1)]
    assert assign(shares, {"a": [(0, 2), (5, 9)], "b": [(4, 5)]}) == (
        Handout("a", "a1", "g", ((0, 2), (5, 6))),
        Handout("a", "a2", "g", ((6, 8),)),
        Handout("b", "b1", "g", ((4, 5),)),
    )


def test_a_board_refuses_chunks_that_are_not_there_or_not_free() -> None:
    board = Board({"a": 4})
    with pytest.raises(ValueError, match=r"^plane 'a': has chunks 0 to 4, not \[2, 5\)$"):
        board.acknowledged("a", [(0, 1), (2, 5)])
    assert board.left() == {"a": 4}
    with pytest.raises(ValueError, match=r"^plane 'z': is not on the board$"):
        board.acknowledged("z", [])
    with pytest.raises(ValueError, match=r"^plane 'a': has chunks on a1 to g that are not free$"):
        Board({"a": 4}, {"a": [(1, 2)]}, [Handout("a", "a1", "g", ((0, 2),))])
    with pytest.raises(ValueError, match=r"^plane 'a': has 4 chunks free, not the 5 of slot 7$"):
        board.hand_out([Share(7, "a", "a1", "g", 5)])
