"""Composition root of the ground daemon: no learning role, the duty of gathering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ground_node.gatherer import Gatherer
from orbitrain.machine import Machine
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    return {}


def _warm(node: Node) -> Mapping[str, Any]:
    return {"task": node.config.task_params(node.folder)}


COMPOSITION = Composition("ground", _machines, _warm, Gatherer)
