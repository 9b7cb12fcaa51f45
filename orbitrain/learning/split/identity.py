"""Which model it is: digests and shapes of its three pieces. Standard library only, so that roles can use it.

A round is of one model. Both sides say which one; where their digests differ, nothing they would exchange
means the same, and the round is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

PIECES: Final = ("embedding", "backbone", "head")

LINEAR: Final = "linear"
"""The architecture of every head: its weights (classes, width) and bias (classes,) say the rest."""

MAX_VALUES: Final = 1 << 28
"""Most values of one sample, or of a head: 1 GiB as float32. Shapes come from a peer."""


class IdentityError(ValueError):
    """This is not the model it should be; the text is one line."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What passes between the pieces, for one sample."""

    inputs: tuple[int, ...]
    """Of one input, such as (3, 64, 64)."""

    tokens: int
    """N: an embedded sample is (N, D)."""

    width: int
    """D."""

    features: tuple[int, ...]
    """What the backbone makes of it: (F,) where it pools, (N', F) where the head answers for each token."""

    classes: int

    def __post_init__(self) -> None:
        """Raises IdentityError for sizes that are not positive, too large, or of the wrong rank."""
        sizes = (*self.inputs, self.tokens, self.width, *self.features, self.classes)
        if not self.inputs or len(self.features) not in (1, 2):
            raise IdentityError(f"inputs {self.inputs} or features {self.features} have no such rank")
        if not all(type(size) is int and size > 0 for size in sizes):
            raise IdentityError(f"sizes {sizes} are not all whole numbers of at least 1")
        largest = max(
            math.prod(self.inputs), self.tokens * self.width, math.prod(self.features), self.head_parameters
        )
        if largest > MAX_VALUES:
            raise IdentityError(f"{largest} values in one array are more than the allowed {MAX_VALUES}")

    @property
    def embedded(self) -> tuple[int, int]:
        """Shape of one embedded sample: (tokens, width)."""
        return (self.tokens, self.width)

    @property
    def head_parameters(self) -> int:
        """Weights and biases of the linear head."""
        return (self.features[-1] + 1) * self.classes

    def embedded_bytes(self, value_bytes: int) -> int:
        """Of one embedded sample, of `value_bytes` each value (4: float32, 2: float16)."""
        return self.tokens * self.width * value_bytes

    def feature_bytes(self, value_bytes: int) -> int:
        """Of one sample's features."""
        return math.prod(self.features) * value_bytes

    def head_bytes(self, value_bytes: int) -> int:
        """Of the head's values."""
        return self.head_parameters * value_bytes


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of the frozen pieces for one sample, multiply and add counted apart; 0 where not counted."""

    embedding: int
    backbone: int


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of each piece, in 64 hexadecimal digits: see `piece_digest`."""

    embedding: str
    backbone: str
    head: str

    def __post_init__(self) -> None:
        """Raises IdentityError for what is no digest."""
        for piece in PIECES:
            digest = getattr(self, piece)
            if not (isinstance(digest, str) and len(digest) == 64 and not set(digest) - _HEXADECIMAL):
                raise IdentityError(f"the digest of the {piece} is not 64 hexadecimal digits")


_HEXADECIMAL: Final = set("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Identity:
    """A cut model as it is named between nodes."""

    digests: Digests
    shapes: Shapes
    architecture: str
    """What its maker calls it; part of the digests of embedding and backbone."""

    def to_json(self) -> str:
        """On one line, the same for the same identity."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises IdentityError for what `to_json` did not write."""
        try:
            given = json.loads(text)
            shapes = {**given["shapes"]}
            for name in ("inputs", "features"):
                shapes[name] = tuple(shapes[name])
            architecture: object = given["architecture"]
            if not isinstance(architecture, str):
                raise IdentityError("not an identity of a model: its architecture is no text")
            found = cls(Digests(**given["digests"]), Shapes(**shapes), architecture)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise IdentityError(f"not an identity of a model: {type(error).__name__}") from error
        if found.to_json() != text:
            raise IdentityError("not an identity of a model as this version writes it")
        return found


def piece_digest(piece: str, architecture: str, weights: bytes) -> str:
    """SHA-256 of a piece: of what it is called, how it computes, and its weights.

    `weights`: the bytes of `tensors.encode_tensors`, of every parameter and buffer. Hashed are the JSON list
    `["orbitrain piece 1", piece, architecture]` without spaces in ASCII, a line feed, and the weights.
    Raises IdentityError for a name that is none of `PIECES`.
    """
    if piece not in PIECES:
        raise IdentityError(f"there is no piece {piece[:80]!r}; the pieces are {', '.join(PIECES)}")
    named = json.dumps(["orbitrain piece 1", piece, architecture], separators=(",", ":"), ensure_ascii=True)
    found = hashlib.sha256(named.encode("ascii") + b"\n")
    found.update(weights)
    return found.hexdigest()


def check_digests(ours: Digests, theirs: Digests) -> None:
    """Raise IdentityError, with the reason to give for refusing the round, unless all three are equal."""
    differ = [piece for piece in PIECES if getattr(ours, piece) != getattr(theirs, piece)]
    if differ:
        shown = ", ".join(
            f"{piece} (ours {getattr(ours, piece)[:12]}, theirs {getattr(theirs, piece)[:12]})"
            for piece in differ
        )
        raise IdentityError(f"another model: {shown}")


def check_identity(ours: Identity, theirs: Identity) -> None:
    """As `check_digests`, and shapes and architecture as well."""
    check_digests(ours.digests, theirs.digests)
    for name in ("architecture", "shapes"):
        found, like = getattr(theirs, name), getattr(ours, name)
        if found != like:
            raise IdentityError(f"another model: its {name} is {str(found)[:200]!r}, not {str(like)[:200]!r}")


def described(settings: Mapping[str, Any]) -> str:
    """An architecture's settings as one line, the same for the same settings in any order."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
