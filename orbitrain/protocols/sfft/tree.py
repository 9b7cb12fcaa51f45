"""A rooted tree of planes: sums are added on the way to its root, and the total is spread from there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

OUTSIDE: Final = -1
"""Stands for the parent of a plane that is not in the tree."""


@dataclass(frozen=True, slots=True)
class Tree:
    """`parents`: of each plane the one that it sends its sum to; the root's is itself.

    ValueError where that is no tree.
    """

    parents: Mapping[int, int]

    def __post_init__(self) -> None:
        roots = [plane for plane, parent in self.parents.items() if plane == parent]
        if len(roots) != 1 or len(self._under(roots[0])) < len(self.parents):
            raise ValueError(f"parents: must lead all planes to one root, not {dict(self.parents)}")

    @staticmethod
    def read(parents: Sequence[int], planes: Collection[int]) -> Tree:
        """From one number a plane, `OUTSIDE` for all but these planes. ValueError as for the class."""
        inside = {plane: parent for plane, parent in enumerate(parents) if parent != OUTSIDE}
        if inside.keys() != set(planes):
            raise ValueError(f"parents: must be of planes {sorted(planes)}, not {sorted(inside)}")
        return Tree(inside)

    def written(self, planes: int) -> list[int]:
        """What `read` takes, for so many planes."""
        return [self.parents.get(plane, OUTSIDE) for plane in range(planes)]

    @property
    def root(self) -> int:
        return next(plane for plane, parent in self.parents.items() if plane == parent)

    def children(self, plane: int) -> tuple[int, ...]:
        """Ascending."""
        return tuple(
            sorted(child for child, parent in self.parents.items() if parent == plane and child != plane)
        )

    def under(self, plane: int) -> frozenset[int]:
        """The planes whose sums are in what this one sends up: its own and those of all below."""
        return frozenset(self._under(plane))

    def _under(self, plane: int) -> list[int]:
        found = [plane]
        for each in found:
            found += self.children(each)
        return found
