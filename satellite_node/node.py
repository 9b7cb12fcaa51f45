"""Composition root of the satellite daemon."""

from __future__ import annotations

from collections.abc import Mapping

from orbitrain.machine import Machine
from orbitrain.roles import fedmeld_machines
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    params = node.config.fedmeld_params(node.folder)
    return fedmeld_machines("satellite", node.config.name, params, node.services())


COMPOSITION = Composition("satellite", _machines)
