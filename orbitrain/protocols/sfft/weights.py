"""What a sum of heads says of itself: of which planes it is, of which satellites, and their total weight.

A sum carries its label wherever it goes, so that nothing is counted twice, whichever way and however often it
comes. Weights are integers (numbers of samples): a mean is divided once, at the end. Our derivation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from orbitrain.machine import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Label:
    """Of `origins` (planes) the heads of `names` (satellites), each times its weight, and the total weight.

    A plane in which nobody took part has an origin, no names and weight 0. RemoteProtocolError for a weight
    that cannot be.
    """

    origins: frozenset[int]
    names: frozenset[str]
    weight: int

    def __post_init__(self) -> None:
        if self.weight < len(self.names) or (self.weight > 0 and not self.names):
            raise RemoteProtocolError(
                f"weight: must be 1 or more for each of {len(self.names)} names, not {self.weight}"
            )

    def __add__(self, other: Label) -> Label:
        """The label of the sum of both. RemoteProtocolError where they have an origin or a name in common."""
        if twice := self.origins & other.origins:
            raise RemoteProtocolError(f"origins: {sorted(twice)} would be counted twice")
        if names := self.names & other.names:
            raise RemoteProtocolError(f"names: {', '.join(sorted(names))} would be counted twice")
        return Label(self.origins | other.origins, self.names | other.names, self.weight + other.weight)


NOTHING = Label(frozenset(), frozenset(), 0)
"""The label of an empty sum."""


def of_plane(plane: int, weights: Mapping[str, int]) -> Label:
    """The label of a plane's sum. RemoteProtocolError for a weight below 1."""
    for name, weight in sorted(weights.items()):
        if weight < 1:
            raise RemoteProtocolError(f"weight of {name}: must be 1 or more, not {weight}")
    return Label(frozenset((plane,)), frozenset(weights), sum(weights.values()))


def total(labels: Iterable[Label]) -> Label:
    """The label of the sum of all. RemoteProtocolError where any two have something in common."""
    return reduce(Label.__add__, labels, NOTHING)


def commits(label: Label, planes: Collection[int], weights: Mapping[str, int]) -> tuple[bool, str]:
    """Whether the sum may become the head of all, and why (not).

    It must be of all `planes`, and its weight that of its names: `weights` has the number of samples of every
    satellite that may take part.
    """
    if label.origins != set(planes):
        missing, strange = sorted(set(planes) - label.origins), sorted(label.origins - set(planes))
        return False, f"planes {missing} are missing" if missing else f"there are no planes {strange}"
    if unknown := sorted(label.names - weights.keys()):
        return False, f"nobody knows the weight of {', '.join(unknown)}"
    listed = sum(weights[name] for name in label.names)
    if listed != label.weight:
        return False, f"the weight is {label.weight}, that of its {len(label.names)} names {listed}"
    if not label.names:
        return False, "nobody took part"
    return True, f"weight {label.weight} of {len(label.names)} names"
