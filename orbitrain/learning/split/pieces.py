"""Bring your own model, cut into three: what a user's function returns, and how it is found. Imports torch.

A model is cut where SFFT cuts it (arXiv 2504.10403, from its abstract and public summaries): the embedding
and the head are small and live on every satellite, the backbone computes nearly everything and lives on the
ground. Embedding and backbone are frozen; the head alone is trained.

    inputs (n, ...)  --embedding-->  (n, N, D)  --backbone-->  (n, F) or (n, N', F)  --head-->  scores

A scenario names a function as `package.module:name`; it is called as `name(options, seed)` and returns a
`SplitModel`. `vit.reference` (ours) and `huggingface.vision_transformer` are such functions:

    def mine(options, seed):
        whole = MyNetwork(**options)
        return SplitModel(
            embedding=whole.patches,
            backbone=torch.nn.Sequential(whole.blocks, whole.norm, MeanOverTokens()),
            head=whole.classifier,
            whole=whole,
            input_shape=(3, 64, 64),
            architecture=described({"name": "MyNetwork 1", **options}),
        )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch

from orbitrain.learning.tasks import TaskError, derive_seed, find_named, first_line

Maker: TypeAlias = Callable[[Mapping[str, Any], int], "SplitModel"]
"""A user's function: (options, the scenario's seed) to a model in three pieces.

Called with torch's generator seeded from the seed, so that weights drawn from it are the same on every node.
Raises ValueError, with one line that says what to change, for options it cannot use.
"""


@dataclass(frozen=True, slots=True)
class SplitModel:
    """A model in three pieces, as its maker hands it over; `cut.cut` checks and freezes it.

    What cannot be cut is refused there, with the reason: batch norm in a frozen piece, a head that is not one
    `torch.nn.Linear`, weights shared between pieces, answers that depend on chance or on the neighbours in a
    batch, pieces that do not add up to the whole.
    """

    embedding: torch.nn.Module
    """(n, *input_shape) to (n, N, D): tokens of one width, position code included."""

    backbone: torch.nn.Module
    """(n, N, D) to (n, F), pooled, or (n, N', F), where the head answers for each token."""

    head: torch.nn.Linear
    """F to classes. Its weights are where training starts from."""

    whole: Callable[[torch.Tensor], torch.Tensor]
    """The model before it was cut: (n, *input_shape) to the scores that the head gives. Usually the module
    that the pieces were taken from. Called only to compare."""

    input_shape: tuple[int, ...]
    """Of one input."""

    architecture: str
    """A name and every setting that the weights do not tell (heads, activation, pooling ...), in one line:
    it goes into the digests. `identity.described` writes settings so."""


def load_model(
    spec: str, options: Mapping[str, Any], seed: int, search_path: Path | None = None
) -> SplitModel:
    """Import the function that `spec` (`package.module:name`) names, and have it make the model.

    `search_path` as for `tasks.load_task`. Raises TaskError for a spec that names no function, options that
    it refuses, or another result; other exceptions of the function pass through.
    """
    found = find_named(spec, search_path, "model")
    if not callable(found):
        raise TaskError(f"model {spec!r}: it is not a function")
    maker = cast(Maker, found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "split", "initial"))
        try:
            made: object = maker(options, seed)
        except ValueError as error:
            raise TaskError(f"model {spec!r}: {first_line(error)}") from error
    if not isinstance(made, SplitModel):
        raise TaskError(f"model {spec!r}: it returned {type(made).__name__}, not a SplitModel")
    return made
