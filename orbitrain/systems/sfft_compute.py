"""How long SFFT's jobs take: as declared, or by their operations and the speed of those who do them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from orbitrain.learning.split.identity import Flops, Shapes
from orbitrain.scenario.protocols import Compute, SfftProtocol


@dataclass(frozen=True, slots=True)
class Durations:
    """In scenario seconds: of a satellite's batch through the embedding, through both frozen pieces, and in
    all steps of its head; of one chunk through the backbone on the server."""

    embed_s: float
    on_board_s: float
    head_s: float
    backbone_s: float


def head_step_flops(shapes: Shapes) -> int:
    """Of one sample in one step: a pass forward, and twice that back."""
    return 3 * 2 * math.prod(shapes.features) * shapes.classes


def durations(compute: Compute, protocol: SfftProtocol, shapes: Shapes, flops: Flops) -> Durations:
    """Raises ValueError, which names the field, for a speed at which nothing can be reckoned."""
    found = {name: getattr(compute, name) for name in Durations.__dataclass_fields__}
    samples, chunk = protocol.samples, min(protocol.samples, protocol.chunk_samples)
    if (speed := compute.on_board_flops) is not None:
        _check("on_board_flops", {"embedding": flops.embedding, "backbone": flops.backbone})
        found["embed_s"] = samples * flops.embedding / speed
        found["on_board_s"] = samples * (flops.embedding + flops.backbone) / speed
        found["head_s"] = samples * protocol.steps * head_step_flops(shapes) / speed
    if (speed := compute.ground_flops) is not None:
        _check("ground_flops", {"backbone": flops.backbone})
        found["backbone_s"] = chunk * flops.backbone / speed
    return Durations(**found)


def _check(field: str, counts: dict[str, int]) -> None:
    for piece, count in counts.items():
        if not count:
            raise ValueError(
                f"compute.{field}: must not be given for this model, whose {piece} has no operations that "
                "can be counted; declare durations"
            )


def told(compute: Compute, shapes: Shapes, flops: Flops, taken: Durations) -> dict[str, Any]:
    """For result.json."""
    return {
        "on_board_flops": compute.on_board_flops,
        "ground_flops": compute.ground_flops,
        "flops_per_sample": {**asdict(flops), "head_step": head_step_flops(shapes)},
        **{name: round(seconds, 6) for name, seconds in asdict(taken).items()},
    }
