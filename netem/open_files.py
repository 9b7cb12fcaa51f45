"""How many files this process may have open: each node of a network takes some."""

from __future__ import annotations

import resource
from typing import Final

from netem.namespaces import HostError

SPARE: Final = 64
"""Beside the nodes' own: what a Python process has open anyway."""


def allow_files(count: int) -> None:
    """Raise this process's limit so that `count` more fit. HostError where the host's is lower."""
    wanted = count + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise HostError(
                f"open files: {wanted} are needed and {hard} allowed; raise the limit (ulimit -n)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
