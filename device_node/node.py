"""Composition root of the device daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbitrain.machine import Machine
from orbitrain.roles import fedmeld_machines
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    params = node.config.fedmeld_params(node.folder)
    return fedmeld_machines("device", node.config.name, params, node.services())


def _warm(node: Node) -> Mapping[str, Any]:
    task = node.config.task_params(node.folder)
    return {"task": task, "device": node.config.name, "seed": node.config.seed}


COMPOSITION = Composition("device", _machines, _warm)
