"""EMS-FL: what a user can get wrong is one line and exit code 2; what only looks wrong is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[..., str]

SCENARIO = """\
name = "small"
epoch = "2026-01-01T00:00:00Z"
seed = 7
rounds = 1
duration_s = 600

[[constellation]]
name = "sat"
altitude_km = 550
inclination_degrees = 5
satellites = 1

[[sites]]
name = "quito"
latitude_degrees = -0.18
longitude_degrees = -78.47
mask_degrees = 0

[[regions]]
name = "north"
site = "quito"
devices = 1

[[regions]]
name = "south"
site = "quito"
devices = 1

[protocol]
name = "emsfl"

[task]
task = "blend:Blend"
"""

TASK = '''\
"""A mixture that costs nothing; option `without` names a cluster that has no data."""

import numpy as np

from orbitrain.learning.moe.parts import Parts
from orbitrain.learning.moe.task import MoeTrained


class Blend:
    def __init__(self, options, clusters, seed):
        self.experts, self.layers = 2, 1
        self.top_k = options.get("top_k", 1)
        self.empty = clusters.get(options.get("without"), ())
        self.first = next(iter(clusters.values()))

    def initial(self):
        weights = {"w": np.zeros(2, np.float32)}
        return Parts(weights, weights, {0: weights, 1: weights})

    def counts(self, device, parts):
        if device in self.empty:
            raise ValueError("no samples")
        return np.array([[8, 2] if device in self.first else [1, 9]]), 10

    def train(self, device, parts, wanted, round_number, seed):
        if device in self.empty:
            raise ValueError("no samples")
        trained = {n: {"w": parts.experts[n]["w"] + 1} for n in wanted.experts}
        return MoeTrained(Parts({}, {}, trained), 10, 16)

    def evaluate(self, parts):
        return {"accuracy": 0.5}
'''


@pytest.fixture
def emsfl(place: Any) -> Any:
    """The folder, with a scenario of EMS-FL; called with passages and what replaces them."""
    place.write("blend.py", TASK)

    def edit(*changes: tuple[str, str]) -> None:
        text = SCENARIO
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        place.write("scenario.toml", text)

    edit()
    return edit


WRONG = [
    # (passage, what replaces it, the line)
    ("satellites = 1", "satellites = 2", "constellation: must have one satellite for emsfl, not 2"),
    (
        'name = "emsfl"',
        'name = "emsfl"\nthreshold = 1.0',
        "protocol.threshold: must be a number at least 0 and below 1, not 1.0",
    ),
    (
        'name = "emsfl"',
        'name = "emsfl"\ngate_cycles = 2',
        "protocol.gate_cycles: must be at most rounds (1), not 2",
    ),
    (
        '"blend:Blend"',
        '"lookout:Lookout"',
        "task.task: task 'lookout:Lookout': no method counts of a mixture of experts",
    ),
    (
        '"blend:Blend"',
        '"blend:Blend"\ntop_k = 3',
        "task.task: task 'blend:Blend': top_k is 3, but there are 2 experts",
    ),
    (
        '"blend:Blend"',
        '"blend:Blend"\ninit = "weights.safetensors"',
        "task.init: must not be given for emsfl, whose experts come with its task",
    ),
]


@pytest.mark.parametrize("old, new, line", WRONG, ids=[line.split(":")[0] for *_, line in WRONG])
def test_a_wrong_field_is_named_with_what_is_allowed(
    emsfl: Any, refused: Refused, old: str, new: str, line: str
) -> None:
    emsfl((old, new))
    assert refused() == f"scenario.toml: {line}"


def test_a_mixture_of_experts_is_no_task_of_fedmeld(emsfl: Any, refused: Refused) -> None:
    emsfl(("satellites = 1", "satellites = 2"), ('"emsfl"', '"fedmeld"\ndelta = 1\nalpha = 0.5'))
    assert refused() == "scenario.toml: task.task: initial returned Parts, not a dict of arrays"


def split_of(place: Any) -> dict[str, Any]:
    """The report of who owns what, of a run that has ended well."""
    ended = place.run("sim", "scenario.toml", "--out", "out", "--no-baseline", "--quiet")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (place.folder / "out" / "events.jsonl").read_text().splitlines()]
    (found,) = [row["fields"] for row in rows if row["kind"] == "split"]
    return dict(found)


def test_a_threshold_above_every_relevance_leaves_no_expert_unclaimed(emsfl: Any, place: Any) -> None:
    emsfl(('name = "emsfl"', 'name = "emsfl"\nthreshold = 0.99'))
    found = split_of(place)
    assert sorted(found["owners"]) == ["north", "south"]
    assert found["relevance"] == [[0.8, 0.2], [0.1, 0.9]]


def test_a_cluster_without_data_gets_nothing_and_the_others_go_on(emsfl: Any, place: Any) -> None:
    emsfl(('"blend:Blend"', '"blend:Blend"\nwithout = "south"'))
    found = split_of(place)
    assert found["owners"] == ["north", "north"]
    assert found["relevance"] == [[0.8, 0.2], [0.0, 0.0]]
