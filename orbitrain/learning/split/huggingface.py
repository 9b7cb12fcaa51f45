"""Hugging Face vision transformers, cut: ViT, DeiT and DINOv2 for image classification. Extra `transformers`.

From a folder of local weights or from a configuration; nothing is ever downloaded, no code of a model is run,
and weights are safetensors only.

The head is the model's classifier, so features are what it takes: of ViT and DeiT the class token (D), of
DINOv2 the class token and the mean of the patches (2 D).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from orbitrain.learning.split.identity import described
from orbitrain.learning.split.pieces import SplitModel
from orbitrain.learning.tasks import first_line, one_line

OPTIONS: Final = ("weights", "config", "classes")


def _class_token(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, 0]


def _class_token_and_mean(tokens: torch.Tensor) -> torch.Tensor:
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)


@dataclass(frozen=True, slots=True)
class _Family:
    """How models of one `model_type` are built."""

    name: str
    """Of the class in transformers."""

    base: str
    """Its attribute that holds the transformer."""

    layers: str
    """Of the transformer: its blocks."""

    pool: Callable[[torch.Tensor], torch.Tensor]


FAMILIES: Final[Mapping[str, _Family]] = {
    "vit": _Family("ViTForImageClassification", "vit", "layers", _class_token),
    "deit": _Family("DeiTForImageClassification", "deit", "layers", _class_token),
    "dinov2": _Family("Dinov2ForImageClassification", "dinov2", "encoder.layer", _class_token_and_mean),
}
"""By the `model_type` of their configurations."""


class _Embedding(torch.nn.Module):
    """(n, c, h, w) to (n, N, D)."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.inner(images)
        return tokens


class _Backbone(torch.nn.Module):
    """(n, N, D) to (n, F)."""

    def __init__(self, base: torch.nn.Module, family: _Family) -> None:
        super().__init__()
        self.layers = base.get_submodule(family.layers)
        self.norm = base.get_submodule("layernorm")
        self._pool = family.pool

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.children():
            # No mask, as the model itself has it: every token sees all.
            answer = layer(tokens, None)
            tokens = answer[0] if isinstance(answer, tuple) else answer
        return self._pool(self.norm(tokens))


def vision_transformer(options: Mapping[str, Any], seed: int) -> SplitModel:
    """Make a Hugging Face model; a `pieces.Maker`.

    `options`: either `weights`, the folder of a saved model, or `config`, a mapping with at least
    `model_type` (weights are then drawn from torch's generator, which `pieces.load_model` seeds); and
    `classes`, which may be absent if the model has a classifier. A classifier that the folder lacks, or has
    for another number of classes, is drawn anew; nothing else is. Raises ValueError for options or files it
    cannot use.
    """
    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; allowed are {', '.join(OPTIONS)}")
    if ("weights" in options) == ("config" in options):
        raise ValueError("give either 'weights', a folder, or 'config', a mapping")
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"transformers cannot be imported ({first_line(error)}): pip install 'orbitrain[transformers]'"
        ) from error
    config = _config(transformers, options)
    family = FAMILIES[config.model_type]
    kind = getattr(transformers, family.name)
    whole = _loaded(kind, Path(options["weights"]), config) if "weights" in options else kind(config)
    base = getattr(whole, family.base)
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return SplitModel(
        _Embedding(base.embeddings),
        _Backbone(base, family),
        whole.classifier,
        lambda images: whole(pixel_values=images).logits,
        (config.num_channels, height, width),
        _architecture(config),
    )


def _config(transformers: Any, options: Mapping[str, Any]) -> Any:
    if "weights" in options:
        folder = Path(options["weights"])
        if not (folder / "config.json").is_file():
            raise ValueError(f"there is no config.json in {str(folder)!r}: models are never downloaded")
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # see below
            raise ValueError(f"config.json in {str(folder)!r}: {one_line(error)}") from error
    else:
        if not isinstance(options["config"], Mapping):
            raise ValueError("config is no mapping of settings by name")
        given = copy.deepcopy(dict(options["config"]))
        name = given.pop("model_type", None)
        if name not in FAMILIES:
            raise ValueError(_unknown(name))
        try:
            config = transformers.AutoConfig.for_model(name, **given)
        except Exception as error:  # its classes of errors for a bad setting differ between releases
            raise ValueError(f"config: {one_line(error)}") from error
    if config.model_type not in FAMILIES:
        raise ValueError(_unknown(config.model_type))
    classes = options.get("classes", config.num_labels)
    if type(classes) is not int or classes < 1:
        raise ValueError(f"classes is {classes!r}; it must be a whole number of at least 1")
    config.num_labels = classes
    return config


def _unknown(name: object) -> str:
    return f"model_type is {name!r}; those that can be cut here are {', '.join(FAMILIES)}"


def _loaded(kind: Any, folder: Path, config: Any) -> Any:
    try:
        whole, found = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # files of a user, read by a library that raises what its parts raise
        raise ValueError(f"weights in {str(folder)!r}: {one_line(error)}") from error
    drawn = {*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])}
    backbone = sorted(key for key in drawn if not key.startswith("classifier."))
    if backbone:
        raise ValueError(f"weights in {str(folder)!r} lack {backbone[0]!r} ({len(backbone)} in all)")
    return whole


def _architecture(config: Any) -> str:
    """The configuration without what names files, versions or labels; another release of transformers may
    know more settings, and so give other digests."""
    settings = config.to_dict()
    for name in list(settings):
        if name in _BESIDE or name.startswith("_"):
            del settings[name]
    return described({"name": "transformers", **settings})


_BESIDE: Final = {
    "architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "num_labels",
    "output_attentions", "output_hidden_states", "return_dict", "problem_type", "chunk_size_feed_forward",
}  # fmt: skip
