"""The folder in which files that have come for this node are found: INBOX/ORIGIN/NAME."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.protocols.bundles import INBOX_JOB
from orbitrain.runtime.compute import Jobs
from orbitrain.transport.store.folders import sync_folder


class Inbox:
    """Puts files there itself, and leaves every other job to `others`."""

    def __init__(self, folder: Path, others: Jobs) -> None:
        self._folder = folder
        self._others = others
        self._putting = asyncio.Lock()
        """One after the other: the disk is no faster for two, and both may be of the same bytes."""

    async def run(
        self, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], out_dir: Path
    ) -> JobResult:
        """See `Jobs`."""
        if kind != INBOX_JOB:
            return await self._others.run(kind, params, inputs, out_dir)
        try:
            async with self._putting:
                path = await asyncio.to_thread(
                    put, self._folder, params["origin"], params["name"], inputs["file"]
                )
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise JobError("the disk is full" if full else f"{error.strerror}: {error.filename}") from None
        return JobResult({"path": str(path.relative_to(self._folder))}, {})


def put(folder: Path, origin: str, name: str, source: Path) -> Path:
    """Copy a file to where it is found; durable on return. Names have been checked. One call at a time.

    One that is there with the same bytes is left as it is: the job may run twice. Another of that name keeps
    it, and the new one has a number. Raises OSError.
    """
    place = folder / origin
    place.mkdir(parents=True, exist_ok=True)
    fresh = place / f".{source.parent.name}{source.name}"  # its digest: what a crash left is found again
    try:
        fresh.unlink(missing_ok=True)  # not written over: it may have its name already, and be read
        shutil.copyfile(source, fresh)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        for number in count(1):
            target = place / (name if number == 1 else _numbered(name, number))
            try:
                os.link(fresh, target)
            except FileExistsError:
                if not _same(target, fresh):
                    continue
            break
    finally:
        fresh.unlink(missing_ok=True)
    for each in (place, folder, folder.parent):  # the first file of all also made these
        sync_folder(each)
    return target


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem} ({number}).{suffix}" if dot and stem else f"{name} ({number})"


def _same(a: Path, b: Path) -> bool:
    if not a.is_file() or a.stat().st_size != b.stat().st_size:
        return False
    digests = []
    for path in (a, b):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return digests[0] == digests[1]
