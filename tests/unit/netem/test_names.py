from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.namespaces import namespace_name, tag_of

ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


def test_plain_names_are_readable() -> None:
    assert namespace_name("20260101T000000Z", "sat-1.2_x") == "ob-20260101T000000Z-sat-1.2_x"


@pytest.mark.parametrize("node", ["../../etc/passwd", "a/b", "..", "-x", ".hidden", "_a", "é"])
def test_a_node_that_is_no_file_name_gets_a_digest(node: str) -> None:
    name = namespace_name("r", node)
    assert name.startswith("ob-r-_") and "/" not in name and len(name) == len("ob-r-_") + 16


@given(ids, ids, ids, ids)
def test_names_of_two_runs_or_nodes_never_meet(run: str, node: str, other_run: str, other_node: str) -> None:
    if (run, node) != (other_run, other_node):
        assert namespace_name(run, node) != namespace_name(other_run, other_node)
    if run != other_run:
        assert not namespace_name(other_run, node).startswith(f"ob-{tag_of(run)}-")


@given(ids, ids)
def test_a_name_is_one_short_file_name(run: str, node: str) -> None:
    name = namespace_name(run, node)
    assert "/" not in name and len(name) <= 100


@pytest.mark.parametrize("run", ["", "a b", "x" * 129, "a\n", "é"])
def test_bad_run_ids_are_refused(run: str) -> None:
    with pytest.raises(ValueError, match="run id: must be 1 to 128"):
        tag_of(run)
