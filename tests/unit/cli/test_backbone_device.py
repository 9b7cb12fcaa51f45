"""A scenario that asks for an accelerator which onnxruntime does not offer is refused before all else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CPU_ONLY = Path(__file__).parents[1] / "cpu_only"
DEMO = Path(__file__).parents[3] / "deploy" / "scenarios" / "sfft-demo.toml"
CHANGES = {
    "duration_s = 14400": "duration_s = 600",
    'name = "sfft"\n': 'name = "sfft"\nbackbone_device = "cuda"\n',
    "orbitrain.learning.split.pretrained:digits": 'orbitrain.learning.split.vit:reference"\npreset = "micro',
}


@pytest.mark.parametrize(
    "command", [("sim",), pytest.param(("run", "--links", "none"), marks=pytest.mark.full)]
)
def test_cuda_that_is_not_offered_is_refused(
    place: Any, refused: Callable[..., str], command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CPU_ONLY), os.environ.get("PYTHONPATH", "")]))
    text = DEMO.read_text(encoding="utf-8")
    for old, new in CHANGES.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    place.write("sfft.toml", text)
    name, *options = command
    line = refused(name, "sfft.toml", "--out", "out", *options)
    assert line.startswith("sfft.toml: protocol.backbone_device: must be 'auto' or 'cpu' here, not 'cuda': ")
    assert "onnxruntime offers CPUExecutionProvider (" in line
