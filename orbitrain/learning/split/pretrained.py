"""A small stand-in for a foundation model: our reference transformer, trained on digits nobody else has.

For trials: it takes seconds, and comes out the same on the same machine. Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch.nn import functional

from orbitrain.learning.split.digits import RESERVED, shuffled
from orbitrain.learning.split.pieces import SplitModel
from orbitrain.learning.split.vit import VisionTransformer, reference

EPOCHS: Final = 40
BATCH: Final = 50
RATE: Final = 2e-3


def digits(options: Mapping[str, Any], seed: int) -> SplitModel:
    """A `pieces.Maker`: preset micro (with changes in `options`), its head fresh after training.

    `reserved`: how many of the digits it is trained on, as many as the samples' option of that name at most.
    """
    chosen = {key: value for key, value in options.items() if key != "reserved"}
    reserved = options.get("reserved", RESERVED)
    if type(reserved) is not int or not BATCH <= reserved <= 1_500:
        raise ValueError(f"reserved is {reserved!r}; it must be a whole number from {BATCH} to 1500")
    model = reference({"preset": "micro", **chosen}, seed)
    whole = model.whole
    assert isinstance(whole, VisionTransformer)
    images, labels = shuffled()
    _train(whole, torch.from_numpy(images[:reserved]), torch.from_numpy(labels[:reserved]))
    whole.head.reset_parameters()
    return replace(model, architecture=f"{model.architecture} digits {reserved}")


def _train(whole: VisionTransformer, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimiser = torch.optim.Adam(whole.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(labels)).split(BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(whole(images[some]), labels[some]).backward()
            optimiser.step()
