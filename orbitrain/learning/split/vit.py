"""Our reference vision transformer, and its cut. Imports torch.

Pre-norm blocks, learned positions, no class token, mean over tokens (A. Dosovitskiy et al., "An Image is
Worth 16x16 Words", arXiv 2010.11929, its variant without a class token); no batch norm, no dropout.

    preset  input      patch  N   D    depth  heads  embedded (float32)  head of 10
    micro   (1, 8, 8)    2    16   32    2      2          2,048 B            330 parameters
    small   (3, 64, 64)  8    64   96    4      3         24,576 B            970
    tiny    (3, 64, 64)  8    64  192   12      3         49,152 B          1,930
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from orbitrain.learning.split.identity import described
from orbitrain.learning.split.pieces import SplitModel
from orbitrain.learning.tasks import first_line
from orbitrain.learning.tensors import MAX_MODEL_BYTES, TensorError, check_like, read_tensors


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a reference transformer; the defaults are the preset `tiny`."""

    image: int = 64
    """Pixels of a side."""

    channels: int = 3
    patch: int = 8
    """Pixels of a patch's side; divides `image`."""

    width: int = 192
    """D; a multiple of `heads`."""

    depth: int = 12
    heads: int = 3
    classes: int = 10

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that make no transformer."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 1 <= value <= 4096:
                raise ValueError(f"{field.name} is {value!r}; it must be a whole number from 1 to 4096")
        if self.image % self.patch:
            raise ValueError(f"image {self.image} is no multiple of patch {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")

    @property
    def tokens(self) -> int:
        """N."""
        return (self.image // self.patch) ** 2


PRESETS: Final[Mapping[str, Settings]] = {
    "micro": Settings(image=8, channels=1, patch=2, width=32, depth=2, heads=2),
    "small": Settings(width=96, depth=4, heads=3),
    "tiny": Settings(),
}


class Patches(torch.nn.Module):
    """The embedding: one affine map for each patch, and a learned position. (n, c, s, s) to (n, N, D)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.project = torch.nn.Conv2d(settings.channels, settings.width, settings.patch, settings.patch)
        self.positions = torch.nn.Parameter(torch.empty(1, settings.tokens, settings.width))
        torch.nn.init.normal_(self.positions, std=0.02)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches: torch.Tensor = self.project(images)
        return patches.flatten(2).transpose(1, 2) + self.positions


class Block(torch.nn.Module):
    """Attention and a two-layer network, each on a normed copy and added. (n, N, D) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = torch.nn.LayerNorm(width)
        self.queries_keys_values = torch.nn.Linear(width, 3 * width)
        self.mixed = torch.nn.Linear(width, width)
        self.before_network = torch.nn.LayerNorm(width)
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, count, width = tokens.shape
        parts = self.queries_keys_values(self.before_attention(tokens))
        queries, keys, values = (
            part.reshape(n, count, self.heads, width // self.heads).transpose(1, 2)
            for part in parts.chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.mixed(attended.transpose(1, 2).reshape(n, count, width))
        change: torch.Tensor = self.down(functional.gelu(self.up(self.before_network(tokens))))
        return tokens + change


class Encoder(torch.nn.Module):
    """The backbone: blocks, a norm, and the mean over tokens. (n, N, D) to (n, D)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.blocks = torch.nn.Sequential(
            *(Block(settings.width, settings.heads) for _ in range(settings.depth))
        )
        self.norm = torch.nn.LayerNorm(settings.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(self.blocks(tokens))
        return normed.mean(dim=1)


class VisionTransformer(torch.nn.Module):
    """The whole: images (n, c, s, s) to scores (n, classes)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.patches = Patches(settings)
        self.encoder = Encoder(settings)
        self.head = torch.nn.Linear(settings.width, settings.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.encoder(self.patches(images)))
        return scores


def reference(options: Mapping[str, Any], seed: int) -> SplitModel:
    """Make the reference transformer; a `pieces.Maker`.

    `options`: `preset` (default "tiny"), any of `Settings` to change in it, and `weights`, a safetensors file
    of `VisionTransformer`'s `state_dict`; without one, weights are drawn from torch's generator, which
    `pieces.load_model` seeds. Raises ValueError for options or a file it cannot use.
    """
    preset = options.get("preset", "tiny")
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    chosen = asdict(PRESETS[preset])
    for name in sorted(options.keys() - {"preset", "weights"}):
        if name not in chosen:
            raise ValueError(f"unknown option {name!r}; allowed are preset, weights, {', '.join(chosen)}")
        chosen[name] = options[name]
    settings = Settings(**chosen)
    whole = VisionTransformer(settings)
    if "weights" in options:
        _load(whole, Path(options["weights"]))
    architecture = described({"name": "orbitrain vision transformer 1", **chosen})
    shape = (settings.channels, settings.image, settings.image)
    return SplitModel(whole.patches, whole.encoder, whole.head, whole, shape, architecture)


def _load(whole: VisionTransformer, path: Path) -> None:
    try:
        tensors = read_tensors(path, MAX_MODEL_BYTES)
        check_like(tensors, {name: value.numpy() for name, value in whole.state_dict().items()})
    except (TensorError, OSError) as error:
        raise ValueError(f"weights {str(path)!r}: {first_line(error)}") from error
    # Copied: the arrays share the file's memory, which is read-only.
    whole.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
