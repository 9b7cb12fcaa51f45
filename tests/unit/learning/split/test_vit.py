"""The reference transformer: its sizes, its weights from a file, and a head that learns on its features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.split.cut import cut  # noqa: E402
from orbitrain.learning.split.linear_head import LinearHead, Steps  # noqa: E402
from orbitrain.learning.split.pieces import load_model  # noqa: E402
from orbitrain.learning.split.vit import PRESETS  # noqa: E402
from orbitrain.learning.tasks import TaskError  # noqa: E402
from orbitrain.learning.tensors import write_tensors  # noqa: E402

REFERENCE = "orbitrain.learning.split.vit:reference"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("preset", "tokens", "embedded_bytes", "head_parameters"),
    [("micro", 16, 2_048, 330), ("small", 64, 24_576, 970), ("tiny", 64, 49_152, 1_930)],
)
def test_presets_have_the_sizes_that_are_documented(
    preset: str, tokens: int, embedded_bytes: int, head_parameters: int
) -> None:
    pieces = cut(load_model(REFERENCE, {"preset": preset}, 1))
    shapes = pieces.identity.shapes
    assert pieces.difference == 0.0
    assert (shapes.tokens, PRESETS[preset].tokens) == (tokens, tokens)
    assert (shapes.embedded_bytes(4), shapes.head_parameters) == (embedded_bytes, head_parameters)
    assert shapes.feature_bytes(4) == 4 * shapes.width


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"preset": "large"}, "there is no preset 'large'"),
        ({"dept": 3}, "unknown option 'dept'"),
        ({"patch": 7}, "image 64 is no multiple of patch 7"),
        ({"heads": 5}, "width 192 is no multiple of heads 5"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": 1.5}, "depth is 1.5"),
        ({"classes": True}, "classes is True"),
        ({"weights": "absent.safetensors"}, "weights 'absent.safetensors': "),
    ],
)
def test_options_it_cannot_use_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        load_model(REFERENCE, options, 1)


def test_weights_from_a_file_are_the_model_whatever_the_seed(tmp_path: Path) -> None:
    model = load_model(REFERENCE, {"preset": "micro"}, 1)
    weights = {name: value.numpy() for name, value in model.whole.state_dict().items()}
    path = tmp_path / "weights.safetensors"
    write_tensors(path, weights)
    options = {"preset": "micro", "weights": str(path)}
    assert cut(load_model(REFERENCE, options, 2)).identity == cut(model).identity
    with pytest.raises(TaskError, match=r"tensor 'head.bias' has shape \[10\], not \[11\]"):
        load_model(REFERENCE, {**options, "classes": 11}, 1)


def test_a_head_learns_digits_on_features_of_a_backbone_that_was_trained_on_others() -> None:
    """The whole is trained on 900 images; a new head on 450 others beats 60 % on the 447 that are left."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    images, labels = (bunch.images / 16).astype(np.float32)[:, None], bunch.target.astype(np.int64)
    model = load_model(REFERENCE, {"preset": "micro"}, 1)
    optimizer = torch.optim.AdamW(model.whole.parameters(), 3e-3)
    random = np.random.default_rng(0)
    for _ in range(8):
        order = random.permutation(900)
        for batch in (order[start : start + 32] for start in range(0, 900, 32)):
            optimizer.zero_grad()
            scores = model.whole(torch.from_numpy(images[batch]))
            torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels[batch])).backward()
            optimizer.step()
    pieces = cut(model, micro_batch=64)
    features = pieces.backbone.run(pieces.embedding.run(images))
    head = LinearHead.initial(32, 10, 1)
    before = head.accuracy(features[1350:], labels[1350:])
    head = head.trained(features[900:1350], labels[900:1350], Steps(100, 0.3), 1)
    assert before < 0.3
    assert head.accuracy(features[1350:], labels[1350:]) > 0.6
