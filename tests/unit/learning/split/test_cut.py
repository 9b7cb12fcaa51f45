"""A model is cut exactly, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.split.batching import embed, run_blocks  # noqa: E402
from orbitrain.learning.split.blocks import BlockError  # noqa: E402
from orbitrain.learning.split.cut import CutError, cut  # noqa: E402
from orbitrain.learning.split.identity import piece_digest  # noqa: E402
from orbitrain.learning.split.linear_head import LinearHead  # noqa: E402
from orbitrain.learning.split.pieces import SplitModel, load_model  # noqa: E402
from orbitrain.learning.tensors import encode_tensors  # noqa: E402

REFERENCE = "orbitrain.learning.split.vit:reference"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reference(preset: str = "micro", seed: int = 1, **changes: object) -> SplitModel:
    return load_model(REFERENCE, {"preset": preset, **changes}, seed)


def images(model: SplitModel, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *model.input_shape)).astype(np.float32)


@pytest.mark.parametrize("preset", ["micro", "small"])
def test_features_of_the_pieces_are_those_of_the_whole_bit_for_bit(preset: str) -> None:
    model = reference(preset)
    pieces = cut(model)
    assert pieces.difference == 0.0
    given = images(model, 5)
    embedded = pieces.embedding.run(given)
    features = pieces.backbone.run(embedded)
    with torch.inference_mode():
        alone = [torch.from_numpy(given[k : k + 1]) for k in range(5)]
        expected = torch.cat([model.whole.encoder(model.whole.patches(each)) for each in alone])
        scores = torch.cat([model.whole(each) for each in alone])
        given_scores = model.head(torch.from_numpy(features))
    assert features.tobytes() == expected.numpy().tobytes()
    np.testing.assert_allclose(given_scores.numpy(), scores.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(pieces.head.scores(features), scores.numpy(), rtol=0, atol=1e-5)
    assert embedded.shape[1:] == pieces.identity.shapes.embedded
    assert features.shape[1:] == pieces.identity.shapes.features


def test_a_model_in_float64_is_cut_in_float64() -> None:
    model = reference()
    for module in (model.embedding, model.backbone, model.head):
        module.double()
    pieces = cut(model)
    assert pieces.difference == 0.0
    assert pieces.backbone.run(pieces.embedding.run(images(model, 2))).dtype == np.float64
    assert pieces.head.weight.dtype == np.float64


def test_one_seed_gives_one_identity_and_another_seed_another() -> None:
    one, same, other = (cut(reference(seed=seed)).identity for seed in (1, 1, 2))
    torch.rand(3)
    assert one == same
    assert one.shapes == other.shapes
    assert {one.digests.embedding, one.digests.backbone, one.digests.head}.isdisjoint(
        {other.digests.embedding, other.digests.backbone, other.digests.head}
    )


def test_a_changed_weight_or_buffer_changes_the_digest_of_its_piece_alone() -> None:
    before = cut(reference()).identity.digests
    model = reference()
    with torch.no_grad():
        model.backbone.norm.bias[0] += 1e-6
    after = cut(model).identity.digests
    assert (before.embedding, before.head) == (after.embedding, after.head)
    assert before.backbone != after.backbone
    buffered = reference()
    buffered.embedding.register_buffer("unsaved", torch.zeros(2), persistent=False)
    assert cut(buffered).identity.digests.embedding != before.embedding


def test_an_architecture_that_the_weights_do_not_show_changes_the_digests() -> None:
    two, four = (cut(reference(heads=heads)).identity for heads in (2, 4))
    assert two.digests.backbone != four.digests.backbone
    assert two.digests.head == four.digests.head


def test_the_head_of_the_model_is_where_training_starts() -> None:
    model = reference()
    pieces = cut(model)
    assert np.array_equal(pieces.head.weight, model.head.weight.detach().numpy())
    expected = piece_digest("head", "linear", encode_tensors(pieces.head.tensors()))
    assert pieces.identity.digests.head == pieces.head.digest() == expected
    trained = LinearHead(pieces.head.weight + 1, pieces.head.bias)
    assert trained.digest() != expected


def test_a_frozen_piece_takes_arrays_that_cannot_be_written_to_and_keeps_them() -> None:
    model = reference()
    given = images(model, 2)
    before = given.copy()
    given.flags.writeable = False
    cut(model).embedding.run(given)
    assert np.array_equal(given, before)


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_batching_across_owners_changes_no_bit(micro_batch: int) -> None:
    model = reference("small", depth=2)
    pieces = cut(model, micro_batch)
    blocks = [
        embed(pieces.embedding, owner, np.arange(n) + 100 * k, images(model, n, seed=k))
        for k, (owner, n) in enumerate({"a": 5, "b": 1, "c": 4}.items())
    ]
    together = run_blocks(pieces.backbone, blocks, pieces.embedding.digest)
    for block, found in zip(blocks, together, strict=True):
        (alone,) = run_blocks(pieces.backbone, [block], pieces.embedding.digest)
        assert (found.owner, found.made_by) == (block.owner, pieces.backbone.digest)
        assert np.array_equal(found.samples, block.samples)
        assert found.values.tobytes() == alone.values.tobytes()
        for k in range(len(block.samples)):
            single = pieces.backbone.run(block.values[k : k + 1])
            assert single.tobytes() == found.values[k : k + 1].tobytes()
    turned = run_blocks(pieces.backbone, blocks[::-1], pieces.embedding.digest)[::-1]
    assert [f.values.tobytes() for f in turned] == [f.values.tobytes() for f in together]


def test_values_of_another_shape_or_type_are_refused() -> None:
    pieces = cut(reference())
    for wrong in (np.zeros((2, 1, 8, 9), np.float32), np.zeros((0, 1, 8, 8), np.float32), np.zeros(3)):
        with pytest.raises(BlockError, match="takes floats"):
            pieces.embedding.run(wrong)
    with pytest.raises(BlockError, match="takes floats"):
        pieces.embedding.run(np.zeros((2, 1, 8, 8), np.int64))


def sequence(*modules: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(*modules)


class Chance(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.rand_like(values)


class Neighbours(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values - values.mean(dim=0, keepdim=True)


class Of(torch.nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: torch.Tensor) -> object:
        return self.function(values)


def changed(**pieces: object) -> SplitModel:
    return replace(reference(), **pieces)  # type: ignore[arg-type]


def with_backbone(*more: torch.nn.Module) -> SplitModel:
    model = reference()
    return replace(model, backbone=sequence(model.backbone, *more))


def with_shared_weight() -> SplitModel:
    model = reference()
    model.backbone.blocks[0].mixed.weight = model.head.weight = torch.nn.Parameter(torch.zeros(32, 32))
    return replace(model)


def with_batch_norm_in_embedding() -> SplitModel:
    model = reference()
    model.embedding.project = sequence(model.embedding.project, torch.nn.BatchNorm2d(32))
    return model


REFUSED = {
    "batch norm in the backbone": (
        lambda: with_backbone(torch.nn.BatchNorm1d(32)),
        "backbone has batch norm (1): results would depend on which samples share a batch",
    ),
    "batch norm in the embedding": (
        with_batch_norm_in_embedding,
        "embedding has batch norm (project.1): results",
    ),
    "a batch norm that keeps no statistics": (
        lambda: with_backbone(torch.nn.BatchNorm1d(32, track_running_stats=False)),
        "backbone has batch norm",
    ),
    "chance": (lambda: with_backbone(Chance()), "backbone answers the same batch differently each time"),
    "neighbours": (lambda: with_backbone(Neighbours()), "backbone: a sample's result changes with its"),
    "a deep head": (
        lambda: changed(head=sequence(torch.nn.Linear(32, 8), torch.nn.Linear(8, 10))),
        "head is a Sequential, not a torch.nn.Linear: satellites train it without torch",
    ),
    "no bias": (lambda: changed(head=torch.nn.Linear(32, 10, bias=False)), "head has no bias"),
    "another head than the whole's": (
        lambda: changed(head=torch.nn.Linear(32, 10)),
        "the scores of the pieces differ from those of the whole by up to",
    ),
    "another number of classes": (
        lambda: changed(head=torch.nn.Linear(32, 11)),
        "the scores of the pieces differ from those of the whole: [3, 11] and [3, 10]",
    ),
    "a head of another width": (
        lambda: changed(head=torch.nn.Linear(31, 10)),
        "backbone gives [3, 32], not (n, 31)",
    ),
    "an embedding without tokens": (
        lambda: changed(embedding=Of(lambda x: x.flatten(1))),
        "embedding gives [3, 64], not (n, tokens, width)",
    ),
    "pieces that do not fit": (
        lambda: changed(embedding=Of(lambda x: x.flatten(2))),
        "backbone cannot take [3, 1, 64] torch.float32: RuntimeError",
    ),
    "another input": (lambda: changed(input_shape=(3, 8, 8)), "embedding cannot take [3, 3, 8, 8]"),
    "a tuple": (lambda: changed(backbone=Of(lambda x: (x, x))), "backbone gives a tuple, not a tensor"),
    "a reduced batch": (lambda: changed(backbone=Of(lambda x: x.mean())), "backbone gives [] torch.float32"),
    "another type": (
        lambda: changed(backbone=Of(lambda x: x.mean(1).double())),
        "backbone gives [3, 32] torch.float64",
    ),
    "values not finite": (
        lambda: changed(backbone=Of(lambda x: x.mean(1) / 0)),
        "backbone gives values that are not",
    ),
    "a function for a piece": (
        lambda: changed(backbone=lambda x: x.mean(1)),
        "backbone is a function, not a torch.nn.Module",
    ),
    "half precision": (
        lambda: changed(head=torch.nn.Linear(32, 10).half()),
        "weights are torch.float16, torch.float32; they must all be float32",
    ),
    "shared weights": (with_shared_weight, "head shares the weight 'weight' with backbone"),
    "no architecture": (lambda: changed(architecture="two\nlines"), "architecture is not one line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_cut_is_refused_with_the_reason(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(CutError) as caught:
        cut(make())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dropout_is_off_in_what_is_cut() -> None:
    model = with_backbone(torch.nn.Dropout(0.5))
    assert model.backbone.training
    pieces = cut(model)
    assert pieces.difference == 0.0
    assert not any(part.training for part in model.backbone.modules())
    assert not any(weight.requires_grad for weight in model.backbone.parameters())


def test_norms_within_a_sample_are_taken() -> None:
    model = reference()
    pieces = cut(
        replace(
            model,
            backbone=sequence(
                torch.nn.InstanceNorm1d(16), torch.nn.GroupNorm(4, 16), Of(lambda x: x.mean(1))
            ),
            whole=lambda x: model.head(
                torch.nn.functional.group_norm(torch.nn.functional.instance_norm(model.embedding(x)), 4).mean(
                    1
                )
            ),
        )
    )
    assert pieces.identity.shapes.features == (32,)


def test_a_backbone_that_answers_for_each_token_is_cut_too() -> None:
    model = reference()
    blocks = model.backbone.blocks
    dense = replace(model, backbone=blocks, whole=lambda x: model.head(blocks(model.embedding(x))))
    pieces = cut(dense)
    assert pieces.identity.shapes.features == (16, 32)
    features = pieces.backbone.run(pieces.embedding.run(images(model, 2)))
    assert pieces.head.scores(features).shape == (2, 16, 10)
