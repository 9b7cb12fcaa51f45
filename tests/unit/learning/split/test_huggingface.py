"""Hugging Face models: cut exactly, from a folder or a configuration, and never from the network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.split.cut import cut  # noqa: E402
from orbitrain.learning.split.pieces import load_model  # noqa: E402
from orbitrain.learning.tasks import TaskError  # noqa: E402

MAKER = "orbitrain.learning.split.huggingface:vision_transformer"
SMALL: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SHAPES = {"vit": (17, (32,)), "deit": (18, (32,)), "dinov2": (17, (64,))}


def config(name: str, **changes: object) -> dict[str, Any]:
    return {"config": {"model_type": name, **SMALL, **changes}, "classes": 7}


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TaskError) as caught:
        load_model(MAKER, config("vit"), 1)
    assert "transformers cannot be imported" in str(caught.value)
    assert "pip install 'orbitrain[transformers]'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "give either 'weights', a folder, or 'config'"),
        ({"weights": "x", "config": {}}, "give either 'weights', a folder, or 'config'"),
        ({"weight": "x"}, "unknown option 'weight'; allowed are weights, config, classes"),
    ],
)
def test_options_that_say_no_model_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        load_model(MAKER, options, 1)


@pytest.mark.full
@pytest.mark.parametrize("name", ["vit", "deit", "dinov2"])
def test_a_model_from_a_configuration_is_cut_exactly(name: str) -> None:
    pytest.importorskip("transformers")
    model = load_model(MAKER, config(name), 1)
    pieces = cut(model)
    shapes = pieces.identity.shapes
    assert pieces.difference == 0.0
    assert (shapes.tokens, shapes.features, shapes.classes) == (*SHAPES[name], 7)
    assert cut(load_model(MAKER, config(name), 1)).identity == pieces.identity
    assert cut(load_model(MAKER, config(name), 2)).identity != pieces.identity
    images = np.random.default_rng(1).normal(size=(4, 3, 16, 16)).astype(np.float32)
    features = pieces.backbone.run(pieces.embedding.run(images))
    with torch.inference_mode():
        scores = torch.cat([model.whole(torch.from_numpy(images[k : k + 1])) for k in range(4)])
        ours = torch.cat([model.head(torch.from_numpy(features[k : k + 1])) for k in range(4)])
    assert torch.equal(ours, scores)


@pytest.mark.full
@pytest.mark.parametrize("name", ["vit", "deit", "dinov2"])
def test_a_model_from_a_folder_is_the_one_that_was_saved(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind = {"vit": "ViT", "deit": "DeiT", "dinov2": "Dinov2"}[name]
    settings = transformers.AutoConfig.for_model(name, **SMALL, num_labels=7)
    saved = getattr(transformers, f"{kind}ForImageClassification")(settings)
    saved.save_pretrained(tmp_path)
    pieces = cut(load_model(MAKER, {"weights": str(tmp_path)}, 1))
    assert np.array_equal(pieces.head.weight, saved.classifier.weight.detach().numpy())
    assert cut(load_model(MAKER, {"weights": str(tmp_path)}, 2)).identity == pieces.identity
    other = cut(load_model(MAKER, {"weights": str(tmp_path), "classes": 5}, 1))
    assert other.identity.digests.backbone == pieces.identity.digests.backbone
    assert other.identity.shapes.classes == 5


@pytest.mark.full
def test_a_folder_without_a_classifier_gets_a_new_head_from_the_seed(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    base = transformers.ViTModel(transformers.ViTConfig(**SMALL))
    base.save_pretrained(tmp_path)
    one, same, other = (
        cut(load_model(MAKER, {"weights": str(tmp_path), "classes": 4}, seed)).identity for seed in (1, 1, 2)
    )
    assert one == same
    assert one.digests.backbone == other.digests.backbone
    assert one.digests.head != other.digests.head


@pytest.mark.full
def test_models_and_folders_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"weights": "google/vit-base-patch16-224"}, "models are never downloaded"),
        ({"weights": str(tmp_path)}, "there is no config.json"),
        (config("swin"), "model_type is 'swin'; those that can be cut here are vit, deit, dinov2"),
        ({**config("vit"), "classes": 0}, "classes is 0"),
        ({"config": 3}, "config is no mapping"),
        (config("vit", hidden_size="wide"), "config: "),
    ]
    bert = tmp_path / "bert"
    transformers.BertConfig().save_pretrained(bert)
    cases.append(({"weights": str(bert)}, "model_type is 'bert'"))
    bare = tmp_path / "bare"
    transformers.ViTConfig(**SMALL).save_pretrained(bare)
    cases.append(({"weights": str(bare)}, "weights in "))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    cases.append(({"weights": str(broken)}, "config.json in "))
    larger = tmp_path / "larger"
    model = transformers.ViTModel(transformers.ViTConfig(**SMALL))
    model.save_pretrained(larger)
    settings = json.loads((larger / "config.json").read_text())
    (larger / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    cases.append(({"weights": str(larger)}, "lack 'vit.layers.2."))
    for options, reason in cases:
        with pytest.raises(TaskError) as caught:
            load_model(MAKER, options, 1)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
