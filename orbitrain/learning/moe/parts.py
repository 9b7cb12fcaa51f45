"""The parts of a mixture of experts, which travel as objects of their own. Numpy only, never torch.

An *item* is `backbone`, `gate` or `expert/0` .. `expert/N-1`. Expert i is the i-th expert network of all
layers together (EMS-FL, arXiv 2602.19485, section II). A whole model is one file, in which a tensor's name is
its item, a colon, and its name in the item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from orbitrain.learning.tensors import TensorError, Tensors, check_like, shown

BACKBONE: Final = "backbone"
GATE: Final = "gate"
EXPERT: Final = "expert/"

EXPERTS_MAX: Final = 4096
"""Most experts: their counts travel in one message, and larger numbers are a mistake or an attack."""


def expert_item(number: int) -> str:
    """The item of an expert."""
    return f"{EXPERT}{number}"


def file_name(item: str) -> str:
    """Of an item's file."""
    return f"{item.replace('/', '-')}.safetensors"


def expert_number(item: str) -> int | None:
    """The number of the expert that `item` names; None for another item, or a name that is not canonical."""
    digits = item.removeprefix(EXPERT)
    if digits == item or not digits.isascii() or not digits.isdecimal() or len(digits) > 4:
        return None
    number = int(digits)
    return number if number < EXPERTS_MAX and expert_item(number) == item else None


@dataclass(frozen=True, slots=True)
class Parts:
    """A model in its parts. Of the experts some may not be there: a device loads those it needs.

    In what a round of training returns, an item that was not trained is empty or absent.
    """

    backbone: Tensors
    """What all samples pass, the classifier and the first layer included."""

    gate: Tensors
    """The gates of all layers."""

    experts: dict[int, Tensors]
    """By number."""

    def items(self) -> dict[str, Tensors]:
        """The parts that are there, by item: backbone, gate, then the experts in order."""
        named = {BACKBONE: self.backbone, GATE: self.gate}
        named |= {expert_item(number): self.experts[number] for number in sorted(self.experts)}
        return {item: tensors for item, tensors in named.items() if tensors}


def from_items(items: Mapping[str, Tensors]) -> Parts:
    """The parts of these items. Raises TensorError for a name that is no item."""
    experts: dict[int, Tensors] = {}
    for item in sorted(items.keys() - {BACKBONE, GATE}):
        number = expert_number(item)
        if number is None:
            raise TensorError(f"{shown(item)} is no part of a mixture of experts")
        experts[number] = items[item]
    return Parts(items.get(BACKBONE, {}), items.get(GATE, {}), dict(sorted(experts.items())))


def joined(items: Mapping[str, Tensors]) -> Tensors:
    """The tensors of a whole model's file. Raises TensorError unless all parts are there."""
    check_complete(items)
    return {f"{item}:{name}": items[item][name] for item in sorted(items) for name in sorted(items[item])}


def taken_apart(model: Tensors) -> Parts:
    """The parts of a whole model. Raises TensorError for names that are not those of `joined`."""
    items: dict[str, Tensors] = {}
    for name in sorted(model):
        item, colon, inner = name.partition(":")
        if not colon or not inner:
            raise TensorError(f"tensor {shown(name)} names no part that it belongs to")
        items.setdefault(item, {})[inner] = model[name]
    check_complete(items)
    return from_items(items)


def check_complete(items: Iterable[str]) -> None:
    """Raise TensorError unless these are backbone, gate and the experts from 0 on, none missing."""
    named = set(items)
    experts = [item for item in named if item.startswith(EXPERT)]
    wanted = {BACKBONE, GATE, *(expert_item(number) for number in range(max(len(experts), 1)))}
    missing, unknown = sorted(wanted - named), sorted(named - wanted)
    if missing:
        raise TensorError(f"{shown(missing[0])} is missing ({len(missing)} missing in all)")
    if unknown:
        raise TensorError(f"{shown(unknown[0])} is no part of a mixture of experts")


def check_parts(items: Mapping[str, Tensors], reference: Mapping[str, Tensors]) -> None:
    """Raise TensorError unless each of these items is like that of `reference`, and finite."""
    for item in items:
        if item not in reference:
            raise TensorError(f"{shown(item)} is no part of this mixture of experts")
        try:
            check_like(items[item], reference[item])
        except TensorError as error:
            raise TensorError(f"{item}: {error}") from error


def bytes_of(tensors: Tensors) -> int:
    """Bytes that the tensors' values take."""
    return sum(int(value.nbytes) for value in tensors.values())
