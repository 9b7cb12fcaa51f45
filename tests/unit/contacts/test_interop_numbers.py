"""The numbers that ION and HDTN know nodes by, and their file."""

from __future__ import annotations

import pytest

from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.interop import Numbered, Numbering
from orbitrain.contacts.interop_hdtn import to_hdtn
from orbitrain.contacts.interop_ion import to_ion
from tests.unit.contacts.interop_plans import GOLDEN
from tests.unit.contacts.small_plans import NODES


def test_numbers_and_names_survive_their_file() -> None:
    numbering = Numbering((Numbered(7, "sat-0", "satellite"), Numbered(2, "hub", "ground")))
    assert Numbering.from_json(numbering.to_json()) == numbering
    assert Numbering.of(NODES).nodes[2] == Numbered(3, "quito-0", "device")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "nodes: must be JSON in UTF-8"),
        ("[]", 'nodes: must be {"nodes"'),
        ('{"nodes": [{"number": 1}]}', "nodes[0]: must have number, name and kind"),
        (
            '{"nodes": [{"number": "1", "name": "a", "kind": "ground"}]}',
            "nodes[0]: number must be an integer",
        ),
        (
            '{"nodes": [{"number": 0, "name": "a", "kind": "ground"}]}',
            "nodes[0].number: must be 1 or more, not 0",
        ),
        (
            '{"nodes": [{"number": 1, "name": "a", "kind": "ground"},'
            ' {"number": 1, "name": "b", "kind": "ground"}]}',
            "nodes[1].number: must be unique, 1 is there already",
        ),
    ],
)
def test_a_bad_numbering_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        Numbering.from_json(text.encode())
    assert str(refusal.value).startswith(message)


def test_a_node_without_a_number_is_named() -> None:
    for write in (to_ion, to_hdtn):
        with pytest.raises(PlanError, match=r"^nodes: sat-1 must have a number$"):
            write(GOLDEN, Numbering((Numbered(1, "sat-0", "satellite"),)))
