"""Updates of an expert, dense and of low rank: bytes to send, and the time to pack, merge and recompress.

    .venv/bin/python bench/lora.py [--rows N] [--cols N] [--layers N] [--rank N] [--updates N]

An expert is two matrices (rows x cols and cols x rows) and their biases in each layer, float32. Packing and
merging are the jobs, files to files, not synced; one thread, as in a worker; the median of several runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def median_ms(work: Callable[[], Any], runs: int = 15) -> float:
    work()
    found = []
    for _ in range(runs):
        begun_s = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - begun_s))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Low-rank updates of an expert beside dense ones.")
    for name, value in {"rows": 128, "cols": 256, "layers": 2, "rank": 4, "updates": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    options = parser.parse_args()
    import numpy as np

    from orbitrain.learning.moe.lora import Factors, recompress
    from orbitrain.learning.moe.updates import merge, pack
    from orbitrain.learning.tensors import write_tensors

    rows, cols, rank, count = options.rows, options.cols, options.rank, options.updates
    shapes = {"w1": (rows, cols), "b1": (rows,), "w2": (cols, rows), "b2": (cols,)}
    draw, layers = np.random.default_rng(1).normal, range(options.layers)
    base = {f"{n}.{name}": draw(size=s).astype(np.float32) for n in layers for name, s in shapes.items()}
    now = {name: value + 0.01 * draw(size=value.shape).astype(np.float32) for name, value in base.items()}
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as name:
        folder = Path(name)
        files = {"base/expert/0": folder / "base", "now/expert/0": folder / "now"}
        write_tensors(folder / "base", base)
        write_tensors(folder / "now", now)
        print(f"an expert of {options.layers} layers, {rows} x {cols} and back; {count} updates are merged")
        for title, sent in (("dense", None), (f"rank {rank}", rank)):
            params = {"items": ["expert/0"], "rank": sent}
            pack_ms = median_ms(partial(pack, params, files, folder))
            done = pack(params, files, folder)
            inputs = {f"update/expert/0/{n}": done.outputs["update/expert/0"] for n in range(count)}
            inputs["base/expert/0"] = files["base/expert/0"]
            print(
                f"{title}: {done.result['update_bytes']['expert/0']:,} bytes, pack {pack_ms:.1f} ms", end=""
            )
            for clip, what in ((None, "merge"), (1e-3, "merge clipped")):
                items = {"expert/0": {"weights": [1 / count] * count, "clips": [clip] * count}}
                print(
                    f", {what} {median_ms(partial(merge, {'items': items}, inputs, folder)):.1f} ms", end=""
                )
            print()
    pairs = [(1.0, Factors(draw(size=(rows, rank)), draw(size=(rank, cols)))) for _ in range(count)]
    print(f"one matrix's sum recompressed: {median_ms(partial(recompress, pairs, rank)):.2f} ms")


if __name__ == "__main__":
    main()
