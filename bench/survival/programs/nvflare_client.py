"""The training script of survival/nvflare.py's job. Runs in NVFlare's environment."""

import json
import os
import time
from pathlib import Path

import numpy as np
import nvflare.client as flare

marks = Path(os.environ["ORBITRAIN_BENCH_MARKS"])
flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    params = {"numpy_key": np.load(marks / "update.npy")}
    ready = marks / "ready"
    if not ready.exists():
        ready.write_text(json.dumps({"s": time.monotonic(), "text": ""}))
    flare.send(flare.FLModel(params=params, params_type="FULL", metrics={"accuracy": 1.0}))
