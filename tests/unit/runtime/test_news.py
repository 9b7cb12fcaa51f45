"""Objects that go before their offer is answered: what a peer may lack of them for that to be right."""

from __future__ import annotations

import pytest

from orbitrain.runtime.turns import HEAD_START_BYTES, are_news
from orbitrain.transport.objects import Range

SIZE = 3 * HEAD_START_BYTES
NEWS = {"a": [(0, SIZE)], "b": [(0, 7)]}
LATER = (HEAD_START_BYTES, SIZE)


@pytest.mark.parametrize(
    "gaps", [[(0, SIZE)], [(1, SIZE)], [LATER]], ids=["all", "a start came", "it all came"]
)
def test_a_peer_that_lacks_all_but_a_head_start_is_as_it_was_thought(gaps: list[Range]) -> None:
    assert are_news(NEWS, {**NEWS, "a": gaps})


@pytest.mark.parametrize(
    "gaps",
    [[], [(HEAD_START_BYTES + 1, SIZE)], [(0, SIZE - 1)], [(0, 5), (9, SIZE)]],
    ids=["it has all", "it has more", "it has the end", "it has something between"],
)
def test_a_peer_that_has_anything_else_is_not(gaps: list[Range]) -> None:
    assert not are_news(NEWS, {**NEWS, "a": gaps})
    assert not are_news(NEWS, {"b": NEWS["b"]})
