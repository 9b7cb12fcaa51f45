from __future__ import annotations

from pathlib import Path

import pytest

from orbitrain.transport.store import Archive, PageRejected
from orbitrain.transport.store.journal import PAGE_ROWS_MAX
from orbitrain.v1 import operator_pb2


def page(node: str, incarnation: str, *rows: tuple[int, int]) -> operator_pb2.JournalPage:
    made = operator_pb2.JournalPage(node=node, incarnation=incarnation)
    for sequence, t_ns in rows:
        made.events.add(
            sequence=sequence, t_ns=t_ns, severity="fatal", kind="k", fields_json='{"b":1, "a":2}'
        )
        made.metrics.add(sequence=sequence, t_ns=t_ns, name="m", value=sequence / 2)
    return made


def test_a_page_added_twice_is_there_once_and_moves_the_cursor(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        assert archive.cursor("a", "1") == (0, 0)
        for _ in range(2):
            archive.add_page(page("a", "1", (1, 5), (2, 6)))
        assert archive.cursor("a", "1") == (2, 2)
        assert archive.cursor("a", "2") == archive.cursor("b", "1") == (0, 0)
        assert len(list(archive.events())) == 2
    with Archive(tmp_path / "archive") as archive:
        assert archive.cursor("a", "1") == (2, 2)


def test_events_of_all_nodes_come_by_time_then_node_then_sequence(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        archive.add_page(page("b", "1", (1, 5), (2, 5), (3, 9)))
        archive.add_page(page("a", "1", (1, 5), (2, 7)))
        archive.add_page(page("a", "2", (1, 8)))
        order = [(event.t_ns, node, incarnation) for node, incarnation, event in archive.events()]
        assert order == [
            (5, "a", "1"),
            (5, "b", "1"),
            (5, "b", "1"),
            (7, "a", "1"),
            (8, "a", "2"),
            (9, "b", "1"),
        ]
        assert [value for _, node, _, value in archive.metrics() if node == "b"] == [0.5, 1.0, 1.5]


def hostile() -> list[operator_pb2.JournalPage]:
    pages = [page("a", "1", (1, 5)) for _ in range(7)]
    pages[0].events[0].fields_json = "[" * 100_000
    pages[1].events[0].fields_json = "[1]"
    pages[2].events[0].severity = "loud"
    pages[3].events[0].sequence = 0
    pages[4].metrics[0].name = "m" * 10_000
    pages[5].node = "n" * 10_000
    for _ in range(PAGE_ROWS_MAX):
        pages[6].metrics.add(sequence=1)
    return pages


@pytest.mark.parametrize("bad", hostile(), ids=range(7))
def test_a_page_that_cannot_be_is_rejected_whole(tmp_path: Path, bad: operator_pb2.JournalPage) -> None:
    with Archive(tmp_path / "archive") as archive:
        with pytest.raises(PageRejected):
            archive.add_page(bad)
        assert list(archive.events()) == []
        assert list(archive.metrics()) == []


def test_an_evaluation_is_kept_by_digest(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        assert archive.evaluation("d") is None
        archive.put_evaluation("d", 0.5, {})
        archive.put_evaluation("d", 0.75, {"loss": 1.5})
        assert archive.evaluation("d") == 0.75
        assert archive.evaluations() == [("d", 0.75, {"loss": 1.5})]
