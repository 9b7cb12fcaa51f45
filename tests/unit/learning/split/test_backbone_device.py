"""The backbone alone may run on an accelerator, and only where onnxruntime offers one. Needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from orbitrain.learning.jobs import run_job  # noqa: E402
from orbitrain.learning.outcome import JobError  # noqa: E402
from orbitrain.learning.split import jobs  # noqa: E402
from orbitrain.learning.split.batching import embed  # noqa: E402
from orbitrain.learning.split.blocks import encode_block  # noqa: E402
from orbitrain.learning.split.onnx_piece import OnnxError, OnnxPiece  # noqa: E402

HERE = Path(__file__).resolve().parent
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OFFER = [CUDA, CPU]

Host = Callable[..., list[Any]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Make onnxruntime one that offers these providers; what sessions are asked to run on is returned.

    `starts`: whether a session on CUDA starts (True), falls back to the CPU (False), or raises (None).
    """
    real = onnxruntime.InferenceSession

    def make(offered: list[str], starts: bool | None = True) -> list[Any]:
        asked: list[Any] = []

        class Session:
            def __init__(self, data: bytes, options: object, providers: list[Any]) -> None:
                asked.append(providers)
                if len(providers) > 1 and starts is None:
                    raise RuntimeError("no CUDA-capable device is detected")
                self._providers = OFFER if len(providers) > 1 and starts else [CPU]
                self._real = real(data, options, providers=[CPU])

            def get_providers(self) -> list[str]:
                return self._providers

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
        monkeypatch.setattr(jobs, "_loaded", {})
        return asked

    return make


def backbone(device: str) -> OnnxPiece:
    return OnnxPiece(HERE / "backbone.onnx", device=device)


def test_by_default_the_cpu_is_taken_though_there_is_more(host: Host) -> None:
    asked = host(OFFER)
    assert OnnxPiece(HERE / "backbone.onnx").device == "cpu"
    assert asked == [[CPU]]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_an_accelerator_is_asked_for_float32_in_full(host: Host, device: str) -> None:
    asked = host(OFFER)
    assert backbone(device).device == "cuda"
    ((first, second),) = asked
    assert (first[0], first[1]["use_tf32"], second) == (CUDA, "0", CPU)


def test_auto_is_the_cpu_where_nothing_else_is_offered(host: Host) -> None:
    asked = host([CPU])
    assert backbone("auto").device == "cpu"
    assert asked == [[CPU]]


@pytest.mark.parametrize("starts", [False, None])
def test_auto_is_the_cpu_where_the_accelerator_does_not_start(host: Host, starts: bool | None) -> None:
    host(OFFER, starts)
    assert backbone("auto").device == "cpu"


def test_cuda_that_is_not_offered_is_refused_with_what_is(host: Host) -> None:
    asked = host(["AzureExecutionProvider", CPU])
    with pytest.raises(OnnxError) as refusal:
        backbone("cuda")
    assert str(refusal.value) == (
        "must be 'auto' or 'cpu' here, not 'cuda': onnxruntime offers AzureExecutionProvider, "
        "CPUExecutionProvider (CUDAExecutionProvider comes with onnxruntime-gpu)"
    )
    assert asked == []


@pytest.mark.parametrize("starts, why", [(False, "cannot start it on this host"), (None, "no CUDA-capable")])
def test_cuda_that_does_not_start_is_refused(host: Host, starts: bool | None, why: str) -> None:
    host(OFFER, starts)
    with pytest.raises(OnnxError, match=why):
        backbone("cuda")


def test_the_job_tells_what_the_backbone_came_to(host: Host, tmp_path: Path) -> None:
    host(OFFER)
    files = {"backbone": HERE / "backbone.onnx"}
    for device, found in (("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")):
        assert run_job("sfft.device", {"backbone_device": device}, files, tmp_path).result["device"] == found
    assert run_job("sfft.device", {"backbone_device": "cuda"}, {}, tmp_path).result["device"] is None
    host([CPU])
    with pytest.raises(JobError, match="must be 'auto' or 'cpu' here, not 'cuda'"):
        run_job("sfft.device", {"backbone_device": "cuda"}, {}, tmp_path)


def test_no_job_but_the_backbones_runs_on_an_accelerator(host: Host, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    asked = host(OFFER)
    task = {"spec": "orbitrain.learning.split.digits:Digits", "options": {}, "satellites": ["a"], "seed": 1}
    sizes = {"satellite": "a", "round": 1, "samples": 2, "chunk_samples": 2}
    params = {"task": task, **sizes, "backbone_device": "cuda"}
    pieces = {name: HERE / f"{name}.onnx" for name in ("embedding", "backbone")}
    run_job("sfft.embed", params, {"embedding": pieces["embedding"]}, tmp_path / "embed")
    run_job("sfft.features", params, pieces, tmp_path / "features")
    assert asked and all(providers == [CPU] for providers in asked)
    embedding = OnnxPiece(HERE / "embedding.onnx")
    images = np.zeros((2, 1, 8, 8), np.float32)
    chunk = tmp_path / "chunk"
    chunk.write_bytes(encode_block(embed(embedding, "a", np.arange(2), images), "float32"))
    files = {"backbone": pieces["backbone"], "chunk/a/0": chunk}
    done = run_job("sfft.backbone", {"backbone_device": "cuda"}, files, tmp_path / "backbone")
    assert asked[-1][0][0] == CUDA and asked[-1][1] == CPU
    assert done.outputs.keys() == {"features/a/0"}
