"""Floating-point operations of a piece for one sample, counted as it runs. Imports torch.

Multiply and add count apart. Counted are matrix products, convolutions and attention; norms, activations and
sums are not: they are a few per cent of a transformer, and bound by memory rather than arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops_of(module: torch.nn.Module, takes: tuple[int, ...], dtype: torch.dtype) -> int:
    """For one sample of shape `takes`; 0 for a module that cannot be counted, or does nothing that is."""
    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), _plain(), counter:
            module(torch.zeros((1, *takes), dtype=dtype))
    except Exception:  # noqa: BLE001 - the user's code under a mode that it need not know
        return 0
    return int(counter.get_total_flops())


@contextmanager
def _plain() -> Iterator[None]:
    """Attention as the products that it consists of: fused kernels are not all counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
