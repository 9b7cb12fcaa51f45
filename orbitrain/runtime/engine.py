"""The simulator's jobs, run for real: the daemons' worker program, one process, one folder of objects."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from orbitrain.machine import Digest
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.step import Job
from orbitrain.transport.store.blobs import BlobStore


class WorkerEngine:
    """A `sim.Engine` that trains. The same job gives the same digests as on a daemon."""

    def __init__(self, compute: BlockingCompute, blobs: BlobStore) -> None:
        self._compute = compute
        self._blobs = blobs
        self._folders = count()

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        return self.work(job.kind, job.params, job.objects)

    def work(
        self, kind: str, params: Mapping[str, Any], objects: Mapping[str, Digest]
    ) -> tuple[Mapping[str, Any], dict[str, Digest]]:
        """Run one job on objects of the store; its outputs are put there. Raises JobError."""
        inputs = {name: self._blobs.path(digest) for name, digest in objects.items()}
        done = self._compute.run(kind, params, inputs, self._blobs.scratch / f"job-{next(self._folders)}")
        return done.result, {name: self._blobs.adopt(path) for name, path in sorted(done.outputs.items())}

    def size_of(self, digest: Digest) -> int:
        return self._blobs.size(digest)

    def keep(self, digests: set[Digest]) -> None:
        self._blobs.collect(digests)

    def path(self, digest: Digest) -> Path:
        """The object's file. Raises KeyError for one that was forgotten."""
        return self._blobs.path(digest)

    def put_file(self, path: Path) -> Digest:
        """Take a copy of a file in. Raises OSError."""
        return self._blobs.put(path.read_bytes())
