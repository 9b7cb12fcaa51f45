"""Pieces from ONNX files: equal to torch within the tolerance, the same bits beside any neighbours, no torch.

`embedding.onnx` and `backbone.onnx` beside this file were written by `export` from the model of `OPTIONS`;
test_export.py says how to write them anew.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from orbitrain.learning.split.batching import embed, run_blocks  # noqa: E402
from orbitrain.learning.split.blocks import BlockError  # noqa: E402
from orbitrain.learning.split.onnx_piece import (  # noqa: E402
    TOLERANCE,
    OnnxError,
    OnnxPiece,
    check_piece,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
OPTIONS = {"preset": "micro", "width": 8, "depth": 1, "classes": 3}
SEED = 5


def pieces_of_torch():
    pytest.importorskip("torch")
    from orbitrain.learning.split.cut import cut
    from orbitrain.learning.split.pieces import load_model

    return cut(load_model("orbitrain.learning.split.vit:reference", OPTIONS, SEED))


def images(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 1, 8, 8)).astype(np.float32)


def test_files_hold_the_pieces_of_the_model_and_equal_torch_within_the_tolerance() -> None:
    pieces = pieces_of_torch()
    given = images(9)
    embedded = pieces.embedding.run(given)
    for name, values in (("embedding", given), ("backbone", embedded)):
        piece = OnnxPiece(HERE / f"{name}.onnx")
        check_piece(piece, name, pieces.identity)
        expected = getattr(pieces, name).run(values)
        bound = TOLERANCE["float32"] * np.abs(expected).max()
        np.testing.assert_allclose(piece.run(values), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_batching_across_owners_changes_no_bit(micro_batch: int) -> None:
    embedding = OnnxPiece(HERE / "embedding.onnx", micro_batch=micro_batch)
    backbone = OnnxPiece(HERE / "backbone.onnx", micro_batch=micro_batch)
    counts = {"a": 5, "b": 1, "c": 4}
    blocks = [embed(embedding, owner, np.arange(n), images(n, seed=n)) for owner, n in counts.items()]
    together = run_blocks(backbone, blocks, embedding.digest)
    for block, found in zip(blocks, together, strict=True):
        (alone,) = run_blocks(backbone, [block], embedding.digest)
        assert found.owner == block.owner
        assert found.values.tobytes() == alone.values.tobytes()
        for k in range(len(block.samples)):
            single = backbone.run(block.values[k : k + 1])
            assert single.tobytes() == found.values[k : k + 1].tobytes()


def test_a_file_of_another_model_is_refused() -> None:
    identity = pieces_of_torch().identity
    piece = OnnxPiece(HERE / "embedding.onnx")
    with pytest.raises(OnnxError, match="another model: backbone"):
        check_piece(piece, "backbone", identity)
    other = replace(identity, shapes=replace(identity.shapes, inputs=(3, 8, 8)))
    with pytest.raises(OnnxError, match=r"the embedding takes \[1, 8, 8\], not \[3, 8, 8\]"):
        check_piece(piece, "embedding", other)


def test_a_file_of_another_digest_is_refused() -> None:
    path = HERE / "embedding.onnx"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert OnnxPiece(path, digest).takes == (1, 8, 8)
    with pytest.raises(OnnxError, match="has digest"):
        OnnxPiece(path, "0" * 64)


def test_what_is_no_piece_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "piece.onnx"
    whole = (HERE / "backbone.onnx").read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(OnnxError) as caught:
            OnnxPiece(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole.replace(b"orbitrain.piece", b"somebody.elses!"))
    with pytest.raises(OnnxError, match="does not say which piece it holds"):
        OnnxPiece(path)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(BlockError, match="takes floats"):
        OnnxPiece(HERE / "embedding.onnx").run(np.zeros((2, 1, 8, 9), np.float32))


SATELLITE = """
import sys
sys.modules["torch"] = None  # what imports it fails
from pathlib import Path
import numpy as np
from orbitrain.learning.split.batching import embed
from orbitrain.learning.split.blocks import check_features, decode_block, encode_block, Block
from orbitrain.learning.split.identity import Digests, check_digests
from orbitrain.learning.split.linear_head import LinearHead, Steps
from orbitrain.learning.split.onnx_piece import OnnxPiece

folder = Path(sys.argv[1])
embedding, backbone = OnnxPiece(folder / "embedding.onnx"), OnnxPiece(folder / "backbone.onnx")
images = np.random.default_rng(1).normal(size=(6, 1, 8, 8)).astype(np.float32)
sent = embed(embedding, "sat-1", np.arange(6), images)
sent = decode_block(encode_block(sent, "float16"), (16, 8), 6)
features = Block("sat-1", sent.samples, backbone.run(sent.values), backbone.digest)
check_features(features, sent, backbone.digest, (8,))
head = LinearHead.initial(8, 3, 1)
trained = head.trained(features.values, np.arange(6) % 3, Steps(5, 0.1), 1)
ours = Digests(embedding.digest, backbone.digest, head.digest())
check_digests(ours, ours)
assert trained.digest() != head.digest()
print(*sorted({"torch", "onnx", "transformers", "sklearn", "scipy"} & set(sys.modules) - {"torch"}))
"""


def test_a_satellite_embeds_and_trains_its_head_without_torch() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SATELLITE, str(HERE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_digests_and_shapes_need_the_standard_library_only() -> None:
    program = (
        "import sys; import orbitrain.learning.split.identity; "
        "print(*sorted({'torch', 'numpy', 'safetensors', 'onnxruntime'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
