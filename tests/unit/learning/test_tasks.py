"""Tasks: finding the user's class, and dealing out its samples."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.tasks import TaskError, derive_seed, dirichlet_split, load_task

REGIONS = {"south": ["s1", "s2"], "north": ["n1"]}

GOOD = """
class Mine:
    def __init__(self, options, regions, seed):
        if "bad" in options:
            raise ValueError("take out 'bad'\\nsecond line")
        if "worse" in options:
            raise RuntimeError("broken")
        self.given = (options, regions, seed)
    def initial(self): ...
    def train(self, device, weights, round_number, seed): ...
    def evaluate(self, weights): ...
class Half:
    def initial(self): ...
function = len
"""


@pytest.fixture(autouse=True)
def restored_imports():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("users_"):
            del sys.modules[name]


def test_a_task_beside_the_scenario_is_found_and_constructed(tmp_path: Path) -> None:
    (tmp_path / "users_good.py").write_text(GOOD)
    task = load_task("users_good:Mine", {"x": 1}, REGIONS, 7, tmp_path)
    assert task.given == ({"x": 1}, REGIONS, 7)  # type: ignore[attr-defined]
    assert sys.path[0] == str(tmp_path)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("users_task", "not of the form"),
        ("users_task:", "not of the form"),
        (":Mine", "not of the form"),
        ("../users_task:Mine", "not of the form"),
        ("users_absent:Mine", "cannot import 'users_absent': ModuleNotFoundError: No module named"),
        ("users_syntax:Mine", "cannot import 'users_syntax': SyntaxError"),
        ("users_needs:Mine", "cannot import 'users_needs': ModuleNotFoundError: No module named 'users_not"),
        ("users_task:Absent", "module 'users_task' has no 'Absent'"),
        ("users_task:function", "not a class"),
        ("users_task:Half", "class 'Half' has no method train, evaluate"),
    ],
)
def test_a_spec_that_names_no_task_is_refused_with_one_line(spec: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "users_task.py").write_text(GOOD)
    (tmp_path / "users_syntax.py").write_text("def (")
    (tmp_path / "users_needs.py").write_text("import users_not_installed")
    with pytest.raises(TaskError, match=reason) as caught:
        load_task(spec, {}, REGIONS, 1, tmp_path)
    assert "\n" not in str(caught.value)


def test_options_that_the_task_refuses_are_reported_with_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "users_options.py").write_text(GOOD)
    with pytest.raises(TaskError) as caught:
        load_task("users_options:Mine", {"bad": 1}, REGIONS, 1, tmp_path)
    assert str(caught.value) == "task 'users_options:Mine': take out 'bad'"
    with pytest.raises(RuntimeError, match="broken"):
        load_task("users_options:Mine", {"worse": 1}, REGIONS, 1, tmp_path)


def test_a_module_already_loaded_from_elsewhere_is_not_taken_for_this_one(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "users_twice.py").write_text(GOOD)
    load_task("users_twice:Mine", {}, REGIONS, 1, tmp_path / "one")
    with pytest.raises(TaskError, match="already loaded 'users_twice'"):
        load_task("users_twice:Mine", {}, REGIONS, 1, tmp_path / "two")


def test_seeds_are_stable_and_keep_names_apart() -> None:
    assert derive_seed(7, "north-1", 3, "order") == 1228750680876889542
    seeds = {derive_seed(1), derive_seed(2), derive_seed(1, "ab", "c"), derive_seed(1, "a", "bc")}
    seeds |= {derive_seed(1, "1"), derive_seed(1, 1)}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


federations = st.dictionaries(
    st.text("rst", min_size=1, max_size=3), st.integers(1, 4), min_size=1, max_size=5
)


@settings(max_examples=50, deadline=None)
@given(
    counts=federations,
    region_beta=st.sampled_from([0.001, 0.1, 1.0, 1000.0]),
    device_beta=st.sampled_from([0.001, 0.1, 1.0, 1000.0]),
    seed=st.integers(0, 2**62),
    n_samples=st.integers(160, 400),
)
def test_each_sample_goes_to_exactly_one_device_and_each_device_gets_some(
    counts: dict[str, int], region_beta: float, device_beta: float, seed: int, n_samples: int
) -> None:
    regions = {region: [f"{region}-{k}" for k in range(count)] for region, count in counts.items()}
    labels = np.random.default_rng(seed).integers(0, 10, n_samples)
    split = dirichlet_split(labels, regions, region_beta, device_beta, seed)
    assert sorted(split) == sorted(device for devices in regions.values() for device in devices)
    assert min(len(part) for part in split.values()) >= 8
    assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(n_samples))
    turned = dict(reversed(regions.items()))
    again = dirichlet_split(labels, turned, region_beta, device_beta, seed)
    assert all(np.array_equal(split[device], again[device]) for device in split)


def test_a_small_beta_skews_the_labels_of_regions_and_a_large_one_does_not() -> None:
    labels = np.repeat(np.arange(10), 150)
    regions = {f"r{k}": [f"r{k}-a", f"r{k}-b"] for k in range(3)}

    def largest_share(region_beta: float) -> float:
        split = dirichlet_split(labels, regions, region_beta, 1000.0, 1)
        parts = [np.concatenate([split[device] for device in regions[region]]) for region in regions]
        counts = np.array([np.bincount(labels[part], minlength=10) for part in parts])
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    assert largest_share(0.1) > 0.75
    assert largest_share(1000.0) < 0.4


def test_another_seed_gives_another_split() -> None:
    labels = np.repeat(np.arange(10), 30)
    one, two = (dirichlet_split(labels, REGIONS, 0.5, 0.5, seed) for seed in (1, 2))
    assert any(not np.array_equal(one[device], two[device]) for device in one)


@pytest.mark.parametrize(
    ("regions", "beta", "n_samples", "reason"),
    [
        ({}, 0.1, 100, "at least one device"),
        ({"a": ["x"], "b": []}, 0.1, 100, "at least one device"),
        ({"a": ["x"], "b": ["x"]}, 0.1, 100, "named twice"),
        ({"a": ["x", "y"]}, 0.1, 15, "15 samples cannot give 2 devices 8 each"),
        ({"a": ["x"]}, 0.0, 100, "region_beta"),
        ({"a": ["x"]}, float("nan"), 100, "region_beta"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(regions, beta: float, n_samples: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dirichlet_split(np.zeros(n_samples, dtype=np.int64), regions, beta, 1.0, 1)
