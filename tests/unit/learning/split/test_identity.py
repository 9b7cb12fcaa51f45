"""Which model it is: digests that change with what matters, and a refusal that says which piece differs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from orbitrain.learning.split.identity import (
    Digests,
    Identity,
    IdentityError,
    Shapes,
    check_digests,
    check_identity,
    described,
    piece_digest,
)

SHAPES = Shapes(inputs=(3, 64, 64), tokens=64, width=192, features=(192,), classes=10)
DIGESTS = Digests(embedding="0" * 64, backbone="1" * 64, head="2" * 64)
IDENTITY = Identity(DIGESTS, SHAPES, described({"name": "ours", "heads": 3}))


def test_bytes_of_the_tiny_transformer_are_those_worked_out_by_hand() -> None:
    assert SHAPES.embedded_bytes(4) == 49_152
    assert SHAPES.feature_bytes(4) == 768
    assert SHAPES.head_parameters == 1_930
    assert SHAPES.head_bytes(4) == 7_720


def test_bytes_of_a_large_transformer_are_those_worked_out_by_hand() -> None:
    shapes = Shapes(inputs=(12, 128, 128), tokens=1024, width=768, features=(1024, 768), classes=10)
    assert shapes.embedded == (1024, 768)
    assert shapes.embedded_bytes(4) == shapes.feature_bytes(4) == 3_145_728
    assert shapes.head_bytes(4) == 30_760


def test_a_digest_is_of_name_architecture_and_weights() -> None:
    expected = hashlib.sha256(b'["orbitrain piece 1","head","linear"]\nweights').hexdigest()
    assert piece_digest("head", "linear", b"weights") == expected
    others = {
        piece_digest("backbone", "linear", b"weights"),
        piece_digest("head", "linear ", b"weights"),
        piece_digest("head", "linear", b"weight"),
        expected,
    }
    assert len(others) == 4


def test_a_piece_of_another_name_has_no_digest() -> None:
    with pytest.raises(IdentityError, match="no piece 'tail'"):
        piece_digest("tail", "linear", b"")


def test_equal_digests_pass_and_others_are_refused_by_name() -> None:
    check_digests(DIGESTS, replace(DIGESTS))
    with pytest.raises(IdentityError) as caught:
        check_digests(DIGESTS, replace(DIGESTS, backbone="a" * 64, head="b" * 64))
    reason = (
        "another model: backbone (ours 111111111111, theirs aaaaaaaaaaaa), head (ours 222222222222, theirs"
    )
    assert str(caught.value).startswith(reason)
    assert "embedding" not in str(caught.value)


def test_an_identity_of_other_shapes_or_architecture_is_refused() -> None:
    check_identity(IDENTITY, replace(IDENTITY))
    with pytest.raises(IdentityError, match="its shapes is"):
        check_identity(IDENTITY, replace(IDENTITY, shapes=replace(SHAPES, classes=11)))
    with pytest.raises(IdentityError, match="its architecture is"):
        check_identity(IDENTITY, replace(IDENTITY, architecture="theirs"))
    with pytest.raises(IdentityError, match="embedding"):
        check_identity(IDENTITY, replace(IDENTITY, digests=replace(DIGESTS, embedding="f" * 64)))


def test_an_identity_is_the_same_after_json() -> None:
    assert Identity.from_json(IDENTITY.to_json()) == IDENTITY
    assert "\n" not in IDENTITY.to_json()


def changed(**settings: object) -> str:
    return json.dumps({**json.loads(IDENTITY.to_json()), **settings}, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        "[" * 100_000,
        IDENTITY.to_json() + " ",
        changed(architecture=3),
        changed(more=1),
        changed(digests={"embedding": "0" * 64}),
        changed(digests={"embedding": "0" * 64, "backbone": "1" * 64, "head": "Z" * 64}),
        changed(digests={"embedding": "0" * 64, "backbone": "1" * 64, "head": 3}),
        changed(shapes={**json.loads(IDENTITY.to_json())["shapes"], "tokens": 0}),
        changed(shapes={**json.loads(IDENTITY.to_json())["shapes"], "tokens": True}),
        changed(shapes={**json.loads(IDENTITY.to_json())["shapes"], "tokens": 2**40}),
        changed(shapes={**json.loads(IDENTITY.to_json())["shapes"], "features": []}),
        changed(shapes={**json.loads(IDENTITY.to_json())["shapes"], "features": 5}),
    ],
)
def test_what_is_no_identity_is_refused_with_one_line(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        Identity.from_json(text)
    assert "\n" not in str(caught.value)


def test_settings_are_described_alike_in_any_order() -> None:
    assert described({"b": 1, "a": "ä"}) == described({"a": "ä", "b": 1}) == '{"a":"\\u00e4","b":1}'
