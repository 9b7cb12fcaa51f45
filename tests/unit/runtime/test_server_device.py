"""A ground server says at its start that it cannot run the backbone on what its configuration names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

from orbitrain.runtime.config import NodeConfig, dump_toml
from tests.trace.sfft_world import NumpyEngine, backhaul, params_of, plan_of, rings

ROOT = Path(__file__).resolve().parents[3]
CPU_ONLY = ROOT / "tests" / "unit" / "cpu_only"
PARAMS = params_of([2], NumpyEngine())


def values(name: str, device: str) -> dict[str, Any]:
    times = ("embed_s", "backbone_s", "head_s", "add_s", "step_s", "commit_s", "patience_s")
    return {
        "name": name,
        "kind": "ground",
        "seed": 1,
        "link": {"listen": "127.0.0.1:0"},
        "operator": {"listen": "127.0.0.1:0"},
        "task": {"spec": "orbitrain.learning.split.digits:Digits"},
        "sfft": {
            "planes": [list(members) for members in PARAMS.planes],
            "stations": list(PARAMS.stations),
            "server": PARAMS.server,
            **{piece: getattr(PARAMS.pieces, piece) for piece in ("embedding", "backbone", "head")},
            "head_bytes": 1,
            "chunk_bytes": 1,
            "feature_bytes": 1,
            "ring_bps": 1,
            "ring_delay_s": 0.0,
            "work": {
                "rounds": 1,
                "samples": 2,
                "chunk_samples": 2,
                "learning_rate": 0.5,
                "backbone_device": device,
            },
            "times": dict.fromkeys(times, 1.0),
        },
    }


def test_the_server_alone_minds_the_device() -> None:
    asked = {
        name: NodeConfig.model_validate(values(name, "cuda")).backbone_device for name in ("server", "gs")
    }
    assert asked == {"server": "cuda", "gs": "cpu"}


def test_a_server_that_lacks_it_ends_with_2_and_one_line(tmp_path: Path) -> None:
    spells = rings(PARAMS, 100) + backhaul(PARAMS, 100)
    (tmp_path / "plan.json").write_bytes(plan_of(PARAMS, spells, 100).to_json())
    file = tmp_path / "node.toml"
    file.write_text(dump_toml(values("server", "cuda")), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "ground_node", "--config", str(file)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CPU_ONLY), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = f"ground-node: {file}: sfft.work.backbone_device: must be 'auto' or 'cpu' here, not 'cuda': onnx"
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert run.stderr.startswith(line)
    assert "onnxruntime offers CPUExecutionProvider (" in run.stderr
