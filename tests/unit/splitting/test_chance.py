"""Chance from names: the same again, in proportion, and told apart by purpose."""

from __future__ import annotations

import math

from orbitrain.learning.tasks import derive_seed
from orbitrain.splitting.chance import Chance


def test_a_number_follows_from_seed_epoch_and_purpose() -> None:
    drawn = {
        Chance(seed, epoch).uniform(purpose, cluster, 0)
        for seed in (1, 2)
        for epoch in (1, 2)
        for purpose in ("match", "draw")
        for cluster in (0, 1)
    }
    assert len(drawn) == 16
    assert Chance(1, 2).uniform("match", 3, 4) == Chance(1, 2).uniform("match", 3, 4)


def test_numbers_are_cut_from_the_hash_from_which_tasks_derive_seeds() -> None:
    seed = derive_seed(7, 3, "match", 1, 2)  # 63 bits of the same hash
    assert Chance(7, 3).uniform("match", 1, 2) == ((seed >> 11) + 0.5) / 2**52


def test_numbers_and_noise_stay_in_bounds() -> None:
    uniform = [Chance(0, epoch).uniform("x") for epoch in range(2000)]
    assert 0 < min(uniform) < 0.01 and 0.99 < max(uniform) < 1
    noise = [Chance(0, epoch).gumbel("x") for epoch in range(2000)]
    assert min(noise) > -3.6 and max(noise) < 36.8
    assert math.isclose(sum(noise) / len(noise), 0.5772, abs_tol=0.06)  # 2 standard errors
