"""Updates of an expert, dense and of low rank: bytes to send, and the time to pack, merge and recompress.

    .venv/bin/python bench/lora.py [--rows N] [--cols N] [--layers N] [--rank N] [--updates N] [--merges N]

An expert is two matrices (rows x cols and cols x rows) and their biases in each layer, float32. Packing and
merging are the jobs, files to files, not synced; one thread, as in a worker; the median of several runs.

Then merges in a row, with a rank: how far a device that gets the steps alone is from merges without a rank,
in parts of the way that these went, with what the steps leave out kept for the next and dropped. Each device
wants something else (its data are its own) and the same each time, singular values as 1, 1/2, 1/3, .., and
half as much noise.
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


def drift(folder: Path, shape: tuple[int, int], rank: int, count: int, merges: int) -> None:
    """Print it, of one matrix."""
    import numpy as np

    from orbitrain.learning.moe.lora import factor
    from orbitrain.learning.moe.updates import merge
    from orbitrain.learning.tensors import MAX_MODEL_BYTES, read_tensors, write_tensors

    random = np.random.default_rng(2)
    wants = []
    for _ in range(count):
        left, right = (np.linalg.qr(random.normal(size=(side, min(shape))))[0] for side in shape)
        wants.append(left / np.arange(1, min(shape) + 1) @ right.T)
    noise = 0.5 * np.linalg.norm(wants[0]) / (shape[0] * shape[1]) ** 0.5
    held = {way: folder / f"held-{way}" for way in ("without a rank", "kept", "dropped")}
    residual: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for path in held.values():
        write_tensors(path, {"w": np.zeros(shape, np.float32)})
    for turn in range(merges):
        updates = {}
        for n, want in enumerate(wants):
            found = factor(want + noise * random.normal(size=shape), rank)
            path = updates[f"update/expert/0/{n}"] = folder / f"update-{n}"
            write_tensors(path, {"w.lora_b": found.b, "w.lora_a": found.a})
        for way, base in held.items():
            how = {"weights": [1 / count] * count, "clips": [None] * count}
            how["rank"] = None if way == "without a rank" else rank
            inputs = {**updates, "base/expert/0": base, **(residual if way == "kept" else {})}
            out = folder / f"{way}-{turn}"
            out.mkdir()
            done = merge({"items": {"expert/0": how}}, inputs, out).outputs
            held[way] = done["expert/0"]
            if way == "kept":
                residual = {"residual/expert/0": done["residual/expert/0"]}
                sizes = {name: path.stat().st_size for name, path in done.items()}
    exact, *others = (read_tensors(path, MAX_MODEL_BYTES)["w"].astype(np.float64) for path in held.values())
    off = [float(np.linalg.norm(other - exact) / np.linalg.norm(exact)) for other in others]
    print(f"after {merges} merges of rank {rank}: {off[0]:.3f} off, the rest dropped {off[1]:.3f}; ", end="")
    step, rest, whole = (sizes[f"{kind}expert/0"] for kind in ("step/", "residual/", ""))
    print(f"a step is {step:,} bytes, the rest {rest:,}, the matrix {whole:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Low-rank updates of an expert beside dense ones.")
    defaults = {"rows": 128, "cols": 256, "layers": 2, "rank": 4, "updates": 2, "merges": 20}
    for name, value in defaults.items():
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
            ways = [(None, None, "merge"), (1e-3, None, "merge clipped"), (None, sent, "merge to a step")]
            for clip, step, what in ways[: 2 if sent is None else 3]:
                how = {"weights": [1 / count] * count, "clips": [clip] * count, "rank": step}
                merge_ms = median_ms(partial(merge, {"items": {"expert/0": how}}, inputs, folder))
                print(f", {what} {merge_ms:.1f} ms", end="")
            print()
        drift(folder, (rows, cols), rank, count, options.merges)
    pairs = [(1.0, Factors(draw(size=(rows, rank)), draw(size=(rank, cols)))) for _ in range(count)]
    print(f"one matrix's sum recompressed: {median_ms(partial(recompress, pairs, rank)):.2f} ms")


if __name__ == "__main__":
    main()
