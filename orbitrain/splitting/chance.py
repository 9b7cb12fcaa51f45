"""Chance that a restart repeats: every number follows from the run's seed, the epoch and what it is for.

No generator is carried along. A number is cut out of a SHA-256, so that none depends on how many were drawn
before it, nor on the version of a library.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

_BITS = 52  # so that the middle of every interval is a float, and neither 0 nor 1 among them


@dataclass(frozen=True, slots=True)
class Chance:
    """The draws of one split epoch."""

    run_seed: int
    epoch: int

    def uniform(self, purpose: str, *names: int) -> float:
        """A number strictly between 0 and 1, for one purpose and, say, one cluster and expert."""
        text = json.dumps([self.run_seed, self.epoch, purpose, *names], separators=(",", ":"))
        drawn = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") >> (64 - _BITS)
        return (drawn + 0.5) / (1 << _BITS)

    def gumbel(self, purpose: str, *names: int) -> float:
        """Standard Gumbel noise, from -3.6 to 36.8.

        Of several candidates the one with the largest log of its weight plus noise is drawn in proportion to
        the weights, whichever candidates there are: to leave one out is to normalise over the others.
        """
        return -math.log(-math.log(self.uniform(purpose, *names)))
