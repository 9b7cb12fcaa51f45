"""What holds for every test: a printed seed, no network, no deadline that a slow machine breaks."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings

# Tests use data that comes with packages; a model hub must never be asked.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A loaded two-core machine must not turn a slow example into a failure: the per-test timeout guards.
settings.register_profile("orbitrain", deadline=None, print_blob=True)
settings.load_profile("orbitrain")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Chosen here rather than by hypothesis, so that every run can name it and be repeated.
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "write tests/trace/*.txt anew instead of comparing: review the difference"
    parser.addoption("--rewrite-traces", action="store_true", help=help_text)


def pytest_report_header(config: pytest.Config) -> str:
    return f"random examples: repeat with --hypothesis-seed={config.getoption('--hypothesis-seed')}"
