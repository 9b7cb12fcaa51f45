"""The built-in task: deterministic in any process, and it learns only what is there to learn."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from orbitrain.learning.digits import Digits  # noqa: E402
from orbitrain.learning.tensors import TensorError, encode_tensors  # noqa: E402

REGIONS = {"south": ["s1", "s2"], "north": ["n1", "n2"]}
EVEN = {"region_beta": 1e6, "device_beta": 1e6}

TRAIN_TWICE = """
import hashlib, sys
from orbitrain.learning.digits import Digits
from orbitrain.learning.tensors import encode_tensors
for seed in map(int, sys.argv[1:]):
    task = Digits({}, {"south": ["s1", "s2"], "north": ["n1", "n2"]}, seed)
    weights = task.train("s1", task.initial(), 1, seed).weights
    weights = task.train("n2", weights, 2, seed).weights
    print(hashlib.sha256(encode_tensors(weights)).hexdigest())
"""


def digests_of_fresh_processes(*seeds: tuple[int, ...]) -> list[list[str]]:
    """Of each process those of its seeds. They run side by side: most of it is loading torch."""
    commands = [[sys.executable, "-c", TRAIN_TWICE, *map(str, some)] for some in seeds]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    digests = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return digests


def test_fresh_processes_train_the_same_model_and_another_seed_another() -> None:
    (first,), (again, other) = digests_of_fresh_processes((1,), (1, 2))
    assert len(first) == 64
    assert again == first
    assert other != first


def test_a_train_step_depends_on_nothing_but_its_arguments() -> None:
    task = Digits({}, REGIONS, 3)
    first = task.train("s1", task.initial(), 4, 3)
    task.train("n1", first.weights, 5, 3)
    torch.rand(5)
    again = task.train("s1", task.initial(), 4, 3)
    assert encode_tensors(again.weights) == encode_tensors(first.weights)
    assert again.metrics == first.metrics
    other = task.train("s1", task.initial(), 5, 3)
    assert encode_tensors(other.weights) != encode_tensors(first.weights)


def test_training_does_not_write_into_the_weights_it_is_given() -> None:
    task = Digits({}, REGIONS, 3)
    weights = task.initial()
    for value in weights.values():
        value.flags.writeable = False
    before = encode_tensors(weights)
    task.train("s1", weights, 1, 3)
    task.initial()["0.bias"][:] = 9
    assert encode_tensors(weights) == before == encode_tensors(task.initial())


def test_a_plain_torch_network_loads_the_weights() -> None:
    weights = Digits({"hidden": 20}, REGIONS, 1).initial()
    network = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    assert list(weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_it_learns_digits_and_shuffled_labels_give_chance() -> None:
    task = Digits({**EVEN, "epochs": 10}, {"all": ["one"]}, 1)
    assert task.evaluate(task.train("one", task.initial(), 1, 1).weights)["accuracy"] > 0.9
    labels = task._labels["one"]
    order = np.random.default_rng(1).permutation(len(labels))
    task._labels["one"] = labels[torch.from_numpy(order)]
    assert task.evaluate(task.train("one", task.initial(), 1, 1).weights)["accuracy"] < 0.2


def test_the_held_out_set_is_balanced_and_shared_with_no_device() -> None:
    task = Digits({}, REGIONS, 1)
    assert np.bincount(task._held_out_labels.numpy()).tolist() == [30] * 10
    assert sum(len(labels) for labels in task._labels.values()) == 1797 - 300
    everything = [task._held_out_images, *task._images.values()]
    distinct = {hashlib.sha256(image.numpy().tobytes()).digest() for part in everything for image in part}
    assert len(distinct) == 1797


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"colour": 1},
            "unknown option 'colour'; allowed are batch, device_beta, epochs, held_out_per_class",
        ),
        ({"hidden": 0}, "'hidden' is 0; it must be a whole number from 1 to 4096"),
        ({"hidden": 6.5}, "whole number"),
        ({"epochs": True}, "'epochs' is True"),
        ({"learning_rate": "fast"}, "'learning_rate' is 'fast'; it must be a number"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan"),
        ({"region_beta": 0}, "'region_beta' is 0"),
        ({"held_out_per_class": 151}, "from 1 to 150"),
    ],
)
def test_options_it_cannot_use_are_refused_with_one_line(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        Digits(options, REGIONS, 1)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_and_unknown_devices_are_refused() -> None:
    task = Digits({}, REGIONS, 1)
    with pytest.raises(TensorError, match="shape"):
        task.evaluate(Digits({"hidden": 8}, REGIONS, 1).initial())
    with pytest.raises(ValueError, match="'x9' is in no region"):
        task.train("x9", task.initial(), 1, 1)
