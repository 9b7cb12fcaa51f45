"""The weighted mean of many large updates: ours from files to a file, Flower's FedAvg over arrays.

    .venv/bin/python bench/aggregate.py [--updates N] [--megabytes M] [--json FILE]

Both take the same updates, float32, of equal names and shapes. Ours is the job `aggregate`: files in,
a file out, synced. Flower's is what its server does with the replies of a round: `aggregate_arrayrecords` of
`flwr.serverapp.strategy`, on array records made of the same files, which it has to have in memory; making
them is not in its time. Each runs in a process of its own, on files just written; its anonymous memory
(RssAnon of /proc/self/status) is sampled every 5 ms, and what the process had before the work is taken off.

Flower lives in an environment of its own, made with venv and pip in ~/.cache/orbitrain-bench; without one
ours alone is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.survival.environment import environment

TENSORS = 8
MIB = 1024 * 1024
SAMPLE_S = 0.005
FLOWER = "flwr==1.41.0"


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise OSError("no RssAnon in /proc/self/status")


def watched(work: Callable[[], Any]) -> tuple[Any, float, int]:
    """What the work answers, its seconds, and the most anonymous memory beyond what was there before."""
    before, most, over = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            most[0] = max(most[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun_s = time.perf_counter()
    answer = work()
    took_s = time.perf_counter() - begun_s
    over.set()
    watcher.join()
    return answer, took_s, max(0, most[0] - before)


def ours(folder: Path, weights: list[int]) -> dict[str, Any]:
    import os

    from orbitrain.learning.jobs import run_job

    inputs = {f"update/{n}": folder / f"{n}.safetensors" for n in range(len(weights))}

    def work() -> Path:
        done = run_job("aggregate", {"n_samples": weights}, inputs, folder / "ours")
        path = done.outputs["model"]
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return path

    path, took_s, memory = watched(work)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"seconds": took_s, "anonymous_bytes": memory, "model_sha256": digest}


def flower(folder: Path, weights: list[int]) -> dict[str, Any]:
    """In Flower's environment, which has numpy and none of ours: the files are read by hand."""
    import numpy as np
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    def record(n: int) -> RecordDict:
        data = (folder / f"{n}.safetensors").read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        arrays = {
            name: np.frombuffer(data[end + entry["data_offsets"][0] : end + entry["data_offsets"][1]], "<f4")
            for name, entry in json.loads(data[8:end]).items()
        }
        return RecordDict(
            {
                "arrays": ArrayRecord.from_numpy_ndarrays([arrays[name] for name in sorted(arrays)]),
                "metrics": MetricRecord({"num-examples": weights[n]}),
            }
        )

    records: list[RecordDict] = []

    def work() -> tuple[Any, float]:
        records.extend(record(n) for n in range(len(weights)))
        begun_s = time.perf_counter()
        mean = aggregate_arrayrecords(records, "num-examples")
        return mean, time.perf_counter() - begun_s

    (_, took_s), _, memory = watched(work)
    return {"seconds": took_s, "anonymous_bytes": memory}


def make(folder: Path, updates: int, megabytes: int) -> list[int]:
    import numpy as np

    from orbitrain.learning.tensors import write_tensors

    count = megabytes * 1_000_000 // 4 // TENSORS
    base = np.random.default_rng(1).normal(size=count).astype(np.float32)
    for n in range(updates):
        tensors = {f"layer{k}": np.roll(base, n * TENSORS + k) for k in range(TENSORS)}
        write_tensors(folder / f"{n}.safetensors", tensors)
    return [100 + n % 7 for n in range(updates)]


def apart(python: Path | str, what: str, folder: Path, weights: list[int]) -> dict[str, Any]:
    command = [
        str(python),
        __file__,
        "--part",
        what,
        "--folder",
        str(folder),
        "--weights",
        json.dumps(weights),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The mean of many updates: ours beside Flower's FedAvg.")
    parser.add_argument("--updates", type=int, default=20, help="(20)")
    parser.add_argument("--megabytes", type=int, default=100, help="of each (100)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--part", choices=["ours", "flower"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = {"ours": ours, "flower": flower}[options.part]
        print(json.dumps(part(options.folder, options.weights)))
        return
    figures: dict[str, Any] = {"updates": options.updates, "megabytes": options.megabytes}
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as name:
        folder = Path(name)
        weights = make(folder, options.updates, options.megabytes)
        figures["ours"] = apart(sys.executable, "ours", folder, weights)
        try:
            python = environment("flower", FLOWER) / "bin" / "python"
            figures["flower"] = apart(python, "flower", folder, weights)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"Flower: not measured here: {error}")
    model_mib = options.megabytes * 1e6 / MIB
    print(f"{options.updates} updates of {options.megabytes} MB ({model_mib:.0f} MiB), float32")
    for name, title in (("ours", "ours, files to a file, synced"), ("flower", f"{FLOWER}, arrays in memory")):
        if name in figures:
            one = figures[name]
            print(f"{title}: {one['seconds']:.1f} s, {one['anonymous_bytes'] / MIB:,.0f} MiB anonymous")
    if "flower" in figures:
        a, b = figures["ours"], figures["flower"]
        print(
            f"ours to Flower's: {a['seconds'] / b['seconds']:.2f} of its time, "
            f"{a['anonymous_bytes'] / b['anonymous_bytes']:.4f} of its memory"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
