"""Composition root of the device daemon."""

from __future__ import annotations

from collections.abc import Mapping

from orbitrain.machine import Machine
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    params = node.config.fedmeld_params(node.folder)
    return fedmeld_machines("device", node.config.name, params, RegionServices(node.plan, params.regions))


COMPOSITION = Composition("device", _machines)
