"""Durations follow from operations where a speed is given, and are the declared ones elsewhere."""

from __future__ import annotations

import pytest

from orbitrain.learning.split.identity import Flops, Shapes
from orbitrain.scenario.protocols import Compute, SfftProtocol
from orbitrain.systems.sfft_compute import Durations, durations, told

SHAPES = Shapes((3, 64, 64), 64, 192, (192,), 10)
FLOPS = Flops(4_718_592, 717_225_984)
PROTOCOL = SfftProtocol(name="sfft", samples=20, chunk_samples=8, steps=3)


def test_without_speeds_durations_are_the_declared_ones() -> None:
    declared = Compute(embed_s=1.5, on_board_s=70.0, head_s=3.0, backbone_s=0.25)
    assert durations(declared, PROTOCOL, SHAPES, Flops(0, 0)) == Durations(1.5, 70.0, 3.0, 0.25)


def test_a_satellites_jobs_follow_from_its_speed() -> None:
    found = durations(Compute(on_board_flops=1e8, backbone_s=0.25), PROTOCOL, SHAPES, FLOPS)
    assert found.embed_s == pytest.approx(20 * 4_718_592 / 1e8)
    assert found.on_board_s == pytest.approx(20 * (4_718_592 + 717_225_984) / 1e8)
    assert found.head_s == pytest.approx(20 * 3 * 3 * (2 * 192 * 10) / 1e8)
    assert found.backbone_s == 0.25


def test_an_answer_for_each_token_is_a_step_for_each() -> None:
    dense = Shapes((3, 64, 64), 64, 192, (64, 192), 10)
    pooled = durations(Compute(on_board_flops=1e8), PROTOCOL, SHAPES, FLOPS)
    assert durations(Compute(on_board_flops=1e8), PROTOCOL, dense, FLOPS).head_s == 64 * pooled.head_s


@pytest.mark.parametrize("samples, chunk", [(20, 8), (5, 5)])
def test_a_chunk_on_the_server_follows_from_its_speed(samples: int, chunk: int) -> None:
    protocol = SfftProtocol(name="sfft", samples=samples, chunk_samples=8)
    found = durations(Compute(ground_flops=1e10, embed_s=1.5), protocol, SHAPES, FLOPS)
    assert found.backbone_s == pytest.approx(chunk * 717_225_984 / 1e10)
    assert found.embed_s == 1.5


@pytest.mark.parametrize(
    "speeds, flops, field, piece",
    [
        ({"on_board_flops": 1e8}, Flops(0, 5), "on_board_flops", "embedding"),
        ({"on_board_flops": 1e8}, Flops(5, 0), "on_board_flops", "backbone"),
        ({"ground_flops": 1e8}, Flops(5, 0), "ground_flops", "backbone"),
    ],
)
def test_a_speed_for_what_cannot_be_counted_is_refused(
    speeds: dict[str, float], flops: Flops, field: str, piece: str
) -> None:
    with pytest.raises(ValueError, match=rf"^compute\.{field}: must not be given .* {piece} .*durations$"):
        durations(Compute(**speeds), PROTOCOL, SHAPES, flops)


def test_the_result_tells_operations_and_durations() -> None:
    compute = Compute(on_board_flops=1e8)
    found = told(compute, SHAPES, FLOPS, durations(compute, PROTOCOL, SHAPES, FLOPS))
    assert found == {
        "on_board_flops": 1e8,
        "ground_flops": None,
        "flops_per_sample": {"embedding": 4_718_592, "backbone": 717_225_984, "head_step": 11_520},
        "embed_s": 0.943718,
        "on_board_s": 144.388915,
        "head_s": 0.006912,
        "backbone_s": 0.5,
    }
