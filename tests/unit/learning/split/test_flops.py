"""Operations are counted as the closed form has them, whatever the module is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.jobs import run_job  # noqa: E402
from orbitrain.learning.split.cut import cut  # noqa: E402
from orbitrain.learning.split.flops import flops_of  # noqa: E402
from orbitrain.learning.split.pieces import load_model  # noqa: E402
from orbitrain.learning.split.vit import PRESETS  # noqa: E402


def of_block(tokens: int, width: int) -> int:
    return 24 * tokens * width**2 + 4 * tokens**2 * width


@pytest.mark.parametrize("preset", PRESETS)
def test_our_transformer_comes_to_the_closed_form(preset: str) -> None:
    settings = PRESETS[preset]
    pieces = cut(load_model("orbitrain.learning.split.vit:reference", {"preset": preset}, 1))
    inputs = settings.channels * settings.patch**2
    assert pieces.flops.embedding == 2 * settings.tokens * inputs * settings.width
    wanted = settings.depth * of_block(settings.tokens, settings.width)
    assert pieces.flops.backbone == pytest.approx(wanted, rel=0.01)


def test_the_tiny_one_has_the_figures_of_the_note() -> None:
    pieces = cut(load_model("orbitrain.learning.split.vit:reference", {"preset": "tiny"}, 1))
    assert pieces.flops.embedding == pytest.approx(4.7e6, rel=0.01)
    assert pieces.flops.backbone == pytest.approx(0.72e9, rel=0.01)


def test_torchs_own_encoder_is_counted_though_it_has_kernels_of_its_own() -> None:
    layer = torch.nn.TransformerEncoderLayer(32, 4, 128, batch_first=True).eval().requires_grad_(False)
    before = torch.backends.mha.get_fastpath_enabled()
    assert flops_of(layer, (16, 32), torch.float32) == pytest.approx(of_block(16, 32), rel=0.01)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_cutting_tells_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = {"spec": "orbitrain.learning.split.vit:reference", "options": {"preset": "micro"}, "seed": 1}
    done = run_job("sfft.cut", {"model": model}, {}, tmp_path)
    assert done.result["flops"] == {"embedding": 2 * 16 * 4 * 32, "backbone": 2 * of_block(16, 32)}


def test_what_cannot_be_counted_is_nothing() -> None:
    class Stubborn(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not under this mode")

    assert flops_of(Stubborn(), (4,), torch.float32) == 0
    assert flops_of(torch.nn.Identity(), (4,), torch.float32) == 0
