"""Pieces written as ONNX: the same bytes each time, any size of batch, and equal to torch when run.

Needs the extra `export`. The files beside this test are written anew by

    for name in ("embedding", "backbone"):
        export(getattr(pieces_of_torch(), name), HERE / f"{name}.onnx")
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.split.cut import cut  # noqa: E402
from orbitrain.learning.split.export import ExportError, export  # noqa: E402
from orbitrain.learning.split.pieces import load_model  # noqa: E402

REFERENCE = "orbitrain.learning.split.vit:reference"


def test_libraries_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    pieces = cut(load_model(REFERENCE, {"preset": "micro", "depth": 1}, 1))
    with pytest.raises(ExportError, match=r"export needs .*onnxscript: pip install 'orbitrain\[export\]'"):
        export(pieces.embedding, tmp_path / "piece.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_exported_pieces_equal_torch_within_the_tolerance(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from orbitrain.learning.split.onnx_piece import TOLERANCE, OnnxPiece, check_piece

    pieces = cut(load_model(REFERENCE, {"preset": "small", "depth": 2}, 1))
    values = np.random.default_rng(1).normal(size=(5, 3, 64, 64)).astype(np.float32)
    for name in ("embedding", "backbone"):
        frozen = getattr(pieces, name)
        written = export(frozen, tmp_path / f"{name}.onnx")
        assert written.piece_digest == frozen.digest
        assert written.size_bytes == written.path.stat().st_size
        expected = frozen.run(values)
        bound = TOLERANCE["float32"] * np.abs(expected).max()
        for micro_batch in (1, 4):
            piece = OnnxPiece(written.path, written.file_digest, micro_batch)
            check_piece(piece, name, pieces.identity)
            np.testing.assert_allclose(piece.run(values), expected, rtol=0, atol=bound)
        values = expected


@pytest.mark.full
def test_the_same_piece_gives_the_same_bytes_without_a_path_in_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    made = []
    for name in ("one", "two"):
        pieces = cut(load_model(REFERENCE, {"preset": "micro", "depth": 1}, 1))
        made.append(export(pieces.backbone, tmp_path / name))
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
    assert made[0].file_digest == made[1].file_digest
    assert b".py" not in one
    assert str(Path(torch.__file__).parents[1]).encode() not in one


def test_a_module_that_torch_cannot_export_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")

    class Branches(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            pooled = tokens.mean(dim=1)
            return pooled if float(pooled.sum()) > 1e9 else pooled * 1.0

    from dataclasses import replace

    model = load_model(REFERENCE, {"preset": "micro", "depth": 1}, 1)
    branches = Branches()
    model = replace(model, backbone=branches, whole=lambda x: model.head(branches(model.embedding(x))))
    with pytest.raises(ExportError) as caught:
        export(cut(model).backbone, tmp_path / "piece.onnx")
    assert str(caught.value).startswith("torch cannot export Branches: ")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
