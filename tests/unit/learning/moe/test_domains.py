"""The built-in mixture of experts: real domains, a warm-up that specialises, the same bits each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from orbitrain.learning.moe.domains import Domains  # noqa: E402
from orbitrain.learning.moe.parts import Parts, bytes_of  # noqa: E402
from orbitrain.learning.moe.sources import read_source  # noqa: E402
from orbitrain.learning.moe.task import Wanted  # noqa: E402
from orbitrain.learning.tensors import TensorError, encode_tensors  # noqa: E402

CLUSTERS = {"north": ["n1", "n2"], "south": ["s1", "s2"], "west": ["w1", "w2"]}
QUICK = {"foundation_steps": 5, "tuning_steps": 5, "gate_rounds": 5}


@pytest.fixture(scope="module")
def task() -> Domains:
    return Domains({}, CLUSTERS, 1)


def relevance(task: Domains, clusters: dict[str, list[str]]) -> np.ndarray[Any, np.dtype[Any]]:
    """Equation (29)."""
    parts = task.initial()
    rows = []
    for devices in clusters.values():
        found = [task.counts(device, parts) for device in devices]
        total = sum(samples for _, samples in found) * task.layers
        rows.append(sum(counts.sum(axis=0) for counts, _ in found) / total)
    return np.array(rows)


def encoded(parts: Parts) -> dict[str, bytes]:
    return {item: encode_tensors(tensors) for item, tensors in parts.items().items()}


def only(parts: Parts, *experts: int) -> Parts:
    return Parts(parts.backbone, parts.gate, {number: parts.experts[number] for number in experts})


def test_the_warm_up_leads_each_domain_to_its_own_expert_and_leaves_much_to_learn(task: Domains) -> None:
    assert np.diag(relevance(task, CLUSTERS)).min() >= 0.7
    assert 0.6 < task.evaluate(task.initial())["accuracy"] < 0.85


def test_more_experts_than_domains_are_shared_out_among_them() -> None:
    table = relevance(Domains({"experts": 6, "top_k": 2}, CLUSTERS, 2), CLUSTERS)
    assert table.sum(axis=1) == pytest.approx([2, 2, 2])
    for place, row in enumerate(table):
        assert row[place] + row[place + 3] >= 1.4


def test_without_specialisation_no_expert_belongs_to_a_domain() -> None:
    table = relevance(Domains({"specialised": False}, CLUSTERS, 1), CLUSTERS)
    gamma = table / table.mean(axis=0)
    assert gamma.max() < 1.4
    assert table.max() < 0.6


def test_clusters_whose_data_overlap_entirely_need_all_experts_alike() -> None:
    table = relevance(Domains({"overlap": 1.0}, CLUSTERS, 1), CLUSTERS)
    assert (table / table.mean(axis=0)).max() < 1.2
    half = relevance(Domains({"overlap": 0.5}, CLUSTERS, 1), CLUSTERS)
    gamma = np.diag(half / half.mean(axis=0))
    assert (gamma > 1.2).all() and (gamma < 2.2).all()


def test_two_constructions_give_the_same_bits_and_another_seed_others(task: Domains) -> None:
    again = Domains({}, CLUSTERS, 1)
    torch.rand(3)
    assert encoded(again.initial()) == encoded(task.initial())
    wanted = Wanted((0,), steps=3)
    first, second = (each.train("n1", only(each.initial(), 0), wanted, 4, 1) for each in (task, again))
    assert encoded(first.parts) == encoded(second.parts) and first.metrics == second.metrics
    later = task.train("n1", only(task.initial(), 0), wanted, 5, 1)
    assert encoded(later.parts) != encoded(first.parts)
    small = [Domains(QUICK, CLUSTERS, seed).initial() for seed in (1, 2)]
    assert encoded(small[0]) != encoded(small[1])


def test_what_a_caller_does_to_the_model_does_not_change_it(task: Domains) -> None:
    before = encoded(task.initial())
    task.initial().gate["0.weight"][:] = 9
    given = task.initial()
    for tensors in given.items().values():
        for value in tensors.values():
            value.flags.writeable = False
    task.train("s1", given, Wanted((0, 2), gate=True, backbone=True, masked=False, steps=2), 1, 1)
    assert encoded(task.initial()) == before == encoded(given)


def test_a_masked_round_trains_the_same_from_its_own_expert_as_from_the_whole_model(task: Domains) -> None:
    whole = task.initial()
    wanted = Wanted((1,), steps=4)
    from_own = task.train("s2", only(whole, 1), wanted, 2, 1)
    from_all = task.train("s2", whole, wanted, 2, 1)
    assert encoded(from_own.parts) == encoded(from_all.parts)
    assert list(from_own.parts.items()) == ["expert/1"]
    assert from_own.loaded_bytes == from_all.loaded_bytes


def test_loaded_bytes_follow_the_experts_that_are_held(task: Domains) -> None:
    whole = task.initial()
    size = bytes_of(whole.experts[0])
    every = task.train("w1", whole, Wanted((0, 1, 2), masked=False, steps=1), 1, 1)
    own = task.train("w1", only(whole, 2), Wanted((2,), steps=1), 1, 1)
    assert every.loaded_bytes - own.loaded_bytes == (3 - 1) * (size + size)
    assert own.loaded_bytes == bytes_of(whole.backbone) + bytes_of(whole.gate) + 2 * size
    kept = own.peak_bytes - own.loaded_bytes - size
    rows_bytes = 32 * 64 * 4
    assert 5 * rows_bytes < kept < 50 * rows_bytes


def test_training_its_expert_helps_a_cluster(task: Domains) -> None:
    parts = task.initial()
    before = task.evaluate(parts)
    for round_number in range(1, 16):
        trained = task.train("n1", only(parts, 0), Wanted((0,)), round_number, 1)
        parts = Parts(parts.backbone, parts.gate, {**parts.experts, **trained.parts.experts})
    after = task.evaluate(parts)
    assert after["accuracy.north"] > before["accuracy.north"] + 0.05
    assert after["accuracy"] == pytest.approx(np.mean([after[f"accuracy.{name}"] for name in CLUSTERS]))


def test_a_literal_zero_in_the_mask_needs_all_experts() -> None:
    task = Domains({**QUICK, "mask_literal_zero": True}, CLUSTERS, 1)
    whole = task.initial()
    assert task.train("n1", whole, Wanted((0,), steps=1), 1, 1).parts.experts.keys() == {0}
    with pytest.raises(ValueError, match="'expert/1' is needed"):
        task.train("n1", only(whole, 0), Wanted((0,), steps=1), 1, 1)


def test_samples_are_measured_on_or_learned_from_but_never_both(task: Domains) -> None:
    for name, domain in task._domains.items():
        parts = [
            {row.tobytes() for row in rows.numpy()} for rows, _ in (domain.tested, domain.shared, domain.rest)
        ]
        if name != "chess":  # where two games may come to one position
            assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert len(domain.tested[1]) == 100
    sizes = {device: len(labels) for device, (_, labels) in task._samples.items()}
    assert sum(sizes.values()) == sum(len(domain.rest[1]) for domain in task._domains.values())
    assert len(set(sizes.values())) > 3


@pytest.mark.parametrize(
    ("name", "samples", "features", "classes"),
    [
        ("digits", 1797, 64, 10),
        ("chess", 3196, 40, 2),
        ("cells", 569, 30, 2),
        ("wine", 178, 13, 3),
        ("iris", 150, 4, 3),
    ],
)
def test_domains_are_read_whole(name: str, samples: int, features: int, classes: int) -> None:
    source = read_source(name)
    assert source.values.shape == (samples, features)
    assert np.isfinite(source.values).all()
    assert sorted(set(source.labels.tolist())) == list(range(classes))


def test_photographs_are_measured_on_at_another_place_than_learned_from() -> None:
    pytest.importorskip("PIL")
    source = read_source("photographs")
    assert source.values.shape == (2 * 53 * 80, 64)
    assert source.only_tested is not None
    assert source.only_tested.reshape(2, 53, 80)[:, :, 60:].all()
    assert source.only_tested.sum() == 2 * 53 * 20


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"colour": 1}, "unknown option 'colour'; allowed are batch, "),
        ({"domains": "digits"}, "must be a list of digits, chess, cells"),
        ({"domains": ["digits", "stars"]}, "no domain 'stars'; the domains are digits, chess"),
        ({"domains": ["wine"], "held_out": 150}, "'wine' has 178 samples, too few for held_out 150"),
        ({"experts": 2, "top_k": 3}, "'top_k' is 3, but there are 2 experts"),
        ({"overlap": 1.5}, "'overlap' is 1.5; it must be a number from 0 to 1"),
        ({"hidden": 2.5}, "'hidden' is 2.5; it must be a whole number"),
        ({"specialised": 1}, "'specialised' is 1; it must be true or false"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan"),
        ({"samples": 16}, "16 samples cannot give 8 devices 8 each"),
    ],
)
def test_options_it_cannot_use_are_refused_with_one_line(options: dict[str, object], reason: str) -> None:
    clusters = {"north": [f"n{number}" for number in range(8)]}
    with pytest.raises(ValueError, match=reason) as caught:
        Domains(options, clusters, 1)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_trained_is_refused(task: Domains) -> None:
    whole = task.initial()
    for device, parts, wanted, reason in (
        ("x9", whole, Wanted((0,)), "'x9' is in no cluster"),
        ("n1", whole, Wanted(()), "needs at least one expert"),
        ("n1", whole, Wanted((), masked=False), "nothing is to be trained"),
        ("n1", only(whole, 0), Wanted((0,), masked=False), "'expert/1' is needed"),
        ("n1", only(whole, 0), Wanted((1,)), "'expert/1' is needed"),
    ):
        with pytest.raises(ValueError, match=reason):
            task.train(device, parts, wanted, 1, 1)
    with pytest.raises(TensorError, match=r"backbone: tensor 'embed.bias' has shape"):
        task.evaluate(Domains({**QUICK, "width": 8}, CLUSTERS, 1).initial())
