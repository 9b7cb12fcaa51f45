"""SFFT with the workers' own jobs on real digits, against tuning the head on all samples in one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from orbitrain.learning.split.digits import Digits
from orbitrain.learning.split.linear_head import LinearHead
from orbitrain.learning.split.onnx_piece import OnnxPiece
from orbitrain.learning.tensors import encode_tensors, read_tensors
from orbitrain.protocols.sfft.ring import Reduce
from orbitrain.protocols.sfft.terms import Pieces
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.transport.store.blobs import BlobStore
from tests.trace.sfft_world import NumpyEngine, backhaul, params_of, plan_of, rings, world

FOLDER = Path(__file__).parents[1] / "unit" / "learning" / "split"
END_S, ROUNDS, SAMPLES, RATE = 2_000.0, 3, 8, 0.5


def test_rounds_equal_tuning_the_head_on_all_samples_in_one_place(tmp_path: Path) -> None:
    work = {"rounds": ROUNDS, "samples": SAMPLES, "chunk_samples": 3, "reduce": Reduce.RING}
    params = params_of([3, 2], NumpyEngine(), **work)
    names = params.satellites
    task = {"spec": "orbitrain.learning.split.digits:Digits", "satellites": list(names), "seed": 5}
    head = LinearHead.initial(8, 10, 5, "float64")
    blobs = BlobStore(tmp_path / "blobs")
    pieces = Pieces(
        blobs.put((FOLDER / "embedding.onnx").read_bytes()),
        blobs.put((FOLDER / "backbone.onnx").read_bytes()),
        blobs.put(encode_tensors(head.tensors())),
    )
    params = replace(params, pieces=pieces, settings={"task": task, "steps": 1, "learning_rate": RATE})
    passes = [("feeder", (names[n % 5], "gs", 10.0 + 50 * n, 50.0 + 50 * n)) for n in range(39)]
    crossing = [("inter_isl", ("a-1", "b-0", 0.0, END_S))]
    plan = plan_of(params, [*rings(params, END_S), *backhaul(params, END_S), *passes, *crossing], END_S)
    with BlockingCompute() as compute:
        ran = world(plan, params, WorkerEngine(compute, blobs)).run()
    assert ran.participants() == [list(names)] * ROUNDS
    embedding, backbone = (OnnxPiece(FOLDER / f"{name}.onnx") for name in ("embedding", "backbone"))
    data = Digits({}, names, 5)
    for number, digest in enumerate(ran.heads(), 1):
        batches = [data.batch(name, number, SAMPLES) for name in names]
        inputs = np.concatenate([data.inputs(name, some) for name, some in zip(names, batches, strict=True)])
        labels = np.concatenate([data.labels(name, some) for name, some in zip(names, batches, strict=True)])
        gradient = head.gradient(backbone.run(embedding.run(inputs)).astype(np.float64), labels)
        head = LinearHead(head.weight - RATE * gradient.weight, head.bias - RATE * gradient.bias)
        found = read_tensors(blobs.path(digest), 1 << 20)
        np.testing.assert_allclose(found["weight"], head.weight, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found["bias"], head.bias, rtol=0, atol=1e-12)
    blobs.close()
