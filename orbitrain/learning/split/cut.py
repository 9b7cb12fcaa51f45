"""Cutting: a `SplitModel` is checked, frozen and given digests, or refused with the reason. Imports torch.

Checked on a small random batch: pieces fit, their composition is the whole model, no answer depends on
chance or on the other samples of the batch. Results of a frozen piece are the same bits for the same sample
on the same kind of machine with the same libraries and number of threads; another CPU may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from orbitrain.learning.split.batching import MICRO_BATCH, Values, check_values, one_shape
from orbitrain.learning.split.flops import flops_of
from orbitrain.learning.split.identity import Digests, Flops, Identity, IdentityError, Shapes, piece_digest
from orbitrain.learning.split.linear_head import LinearHead
from orbitrain.learning.split.pieces import SplitModel
from orbitrain.learning.tasks import one_line
from orbitrain.learning.tensors import TensorError, Tensors, encode_tensors

TOLERANCE: Final = {torch.float32: 1e-5, torch.float64: 1e-12}
"""How far pieces may be from the whole, or a sample alone from itself in a batch, as a share of the largest
magnitude: rounding in another order, not another function. Our reference model is exact."""

PROBE_SAMPLES: Final = 3


class CutError(ValueError):
    """A model that cannot be cut; the text is one line: what, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class TorchPiece:
    """A frozen piece run by torch: a `batching.FrozenPiece`."""

    module: torch.nn.Module
    """In eval mode, without gradients."""

    digest: str

    takes: tuple[int, ...]
    """Shape of what it takes for one sample."""

    dtype: torch.dtype

    micro_batch: int
    """Samples it is run on at once; see `batching`."""

    def run(self, values: Values) -> Values:
        """(n, *takes) of floats to (n, ...). Raises BlockError for another shape."""
        check_values(values, self.takes)
        return one_shape(self._run, values, self.micro_batch)

    def _run(self, values: Values) -> Values:
        with torch.inference_mode():
            # Copied: what comes off a link is read-only, and torch has no such thing.
            given = torch.tensor(values, dtype=self.dtype)
            result: torch.Tensor = self.module(given)
            return result.numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A model that has been cut."""

    embedding: TorchPiece
    backbone: TorchPiece
    head: LinearHead
    """Where training starts from."""

    identity: Identity
    difference: float
    """Largest difference between the scores of the pieces and of the whole on the probe; 0.0 is exact."""

    flops: Flops


def cut(model: SplitModel, micro_batch: int = MICRO_BATCH) -> Pieces:
    """Check and freeze `model`; its modules are in eval mode and without gradients afterwards.

    Raises CutError for a model that cannot be cut.
    """
    _check_modules(model)
    dtype = _dtype(model)
    for module in (model.embedding, model.backbone, model.head, model.whole):
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.normal(size=(PROBE_SAMPLES, *model.input_shape))).to(dtype)
    embedded = _answer("embedding", model.embedding, inputs)
    if embedded.ndim != 3:
        raise CutError(f"embedding gives {list(embedded.shape)}, not (n, tokens, width)")
    features = _answer("backbone", model.backbone, embedded)
    if features.ndim not in (2, 3) or features.shape[-1] != model.head.in_features:
        wanted = model.head.in_features
        raise CutError(f"backbone gives {list(features.shape)}, not (n, {wanted}) or (n, tokens, {wanted})")
    scores = _answer("head", model.head, features)
    whole = _answer("whole", model.whole, inputs)
    difference = _difference(scores, whole, "the scores of the pieces differ from those of the whole")
    try:
        shapes = Shapes(
            tuple(model.input_shape),
            int(embedded.shape[1]),
            int(embedded.shape[2]),
            tuple(features.shape[1:]),
            model.head.out_features,
        )
    except IdentityError as error:
        raise CutError(str(error)) from error
    head = LinearHead(**weights(model.head))
    digests = Digests(
        _digest("embedding", model.embedding, model.architecture),
        _digest("backbone", model.backbone, model.architecture),
        head.digest(),
    )
    return Pieces(
        TorchPiece(model.embedding, digests.embedding, shapes.inputs, dtype, micro_batch),
        TorchPiece(model.backbone, digests.backbone, shapes.embedded, dtype, micro_batch),
        head,
        Identity(digests, shapes, model.architecture),
        difference,
        Flops(
            flops_of(model.embedding, shapes.inputs, dtype), flops_of(model.backbone, shapes.embedded, dtype)
        ),
    )


def weights(module: torch.nn.Module) -> Tensors:
    """Every parameter and buffer of a piece, buffers that torch would not save included, as numpy copies.

    Raises CutError for a dtype that numpy lacks.
    """
    found: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    found |= dict(module.named_buffers(remove_duplicate=False))
    try:
        return {name: found[name].detach().cpu().numpy().copy() for name in sorted(found)}
    except TypeError as error:
        raise CutError(f"weights that numpy cannot hold: {one_line(error)}") from error


def _digest(piece: str, module: torch.nn.Module, architecture: str) -> str:
    try:
        return piece_digest(piece, architecture, encode_tensors(weights(module)))
    except TensorError as error:
        raise CutError(f"{piece}: {error}") from error


def _check_modules(model: SplitModel) -> None:
    frozen = {"embedding": model.embedding, "backbone": model.backbone}
    for piece, module in frozen.items():
        if not isinstance(module, torch.nn.Module):
            raise CutError(f"{piece} is a {type(module).__name__}, not a torch.nn.Module")
        for name, part in module.named_modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                raise CutError(
                    f"{piece} has batch norm ({name or 'itself'}): results would depend on which samples "
                    "share a batch; use layer or group norm, or fold it into the layer before it"
                )
    if not isinstance(model.head, torch.nn.Linear):
        raise CutError(
            f"head is a {type(model.head).__name__}, not a torch.nn.Linear: satellites train it without "
            "torch; move what comes before its last linear layer into the backbone"
        )
    if model.head.bias is None:
        raise CutError("head has no bias; give it one, of zeros")
    if not model.architecture.isprintable() or not model.architecture:
        raise CutError("architecture is not one line that names the model and its settings")
    owners: dict[int, str] = {}
    for piece, module in {**frozen, "head": model.head}.items():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            other = owners.setdefault(id(parameter), piece)
            if other != piece:
                raise CutError(f"{piece} shares the weight {name!r} with {other}: each piece needs its own")


def _dtype(model: SplitModel) -> torch.dtype:
    found: set[torch.dtype] = set()
    for module in (model.embedding, model.backbone, model.head):
        found |= {
            each.dtype for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()
        }
    if len(found) != 1 or found - TOLERANCE.keys():
        names = ", ".join(sorted(str(dtype) for dtype in found))
        raise CutError(f"weights are {names}; they must all be float32, or all float64")
    return found.pop()


def _answer(piece: str, module: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor) -> torch.Tensor:
    """Of a module to the probe; checked to be a function of each sample alone."""
    with torch.inference_mode():
        try:
            answer: object = module(given)
            again: object = module(given)
            alone: list[object] = [module(given[k : k + 1]) for k in range(len(given))]
        except Exception as error:  # the user's code, which may raise anything
            raise CutError(
                f"{piece} cannot take {list(given.shape)} {given.dtype}: {one_line(error)}"
            ) from error
    tensors = [each for each in (answer, again, *alone) if isinstance(each, torch.Tensor)]
    if len(tensors) != 2 + len(given) or not isinstance(answer, torch.Tensor):
        raise CutError(f"{piece} gives a {type(answer).__name__}, not a tensor")
    if answer.dtype != given.dtype or answer.shape[:1] != given.shape[:1]:
        raise CutError(
            f"{piece} gives {list(answer.shape)} {answer.dtype} for {list(given.shape)} {given.dtype}"
        )
    if not torch.isfinite(answer).all():
        raise CutError(f"{piece} gives values that are not finite")
    if not torch.equal(answer, tensors[1]):
        raise CutError(f"{piece} answers the same batch differently each time: it draws random numbers")
    if {tuple(each.shape) for each in tensors[2:]} != {(1, *answer.shape[1:])}:
        raise CutError(f"{piece} gives another shape to a sample alone than in a batch")
    _difference(torch.cat(tensors[2:]), answer, f"{piece}: a sample's result changes with its neighbours")
    return answer


def _difference(found: torch.Tensor, like: torch.Tensor, what: str) -> float:
    if found.shape != like.shape:
        raise CutError(f"{what}: {list(found.shape)} and {list(like.shape)}")
    difference = float((found - like).abs().max())
    if difference > TOLERANCE[like.dtype] * max(float(like.abs().max()), 1.0):
        raise CutError(f"{what} by up to {difference:.2g}")
    return difference
