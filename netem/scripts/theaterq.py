"""A directed link as a trace file for TheaterQ, the qdisc that replays traces in the kernel. Pure.

Lines of its simple format, KEEP,LATENCY,RATE,LOSS,LIMIT (README of TheaterQ, and arXiv 2510.27057): how long
the entry holds in us, more than 0; ns; bit/s; the chance of a loss in 2**32 - 1 parts; packets. Lines that do
not begin with a digit are comments. An outage is a loss of everything. It has no losses in runs: they become
single ones of the same mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netem.kernel.backend import DOWN
from netem.kernel.encoder import ALWAYS, of_probability
from netem.link_state import Link, LinkState
from netem.schedule import Schedule

_NS_PER_US: Final = 1000


def trace_lines(schedule: Schedule, link: Link, from_ns: int) -> Iterator[str]:
    """From scenario time `from_ns` to the plan's end; times are the host's, scaled by the clock's rate.

    What holds for less than a microsecond is left out, and nothing is shifted by that. ValueError: the plan
    has no such link.
    """
    if link not in schedule.links():
        raise ValueError(f"--link: the plan has no link {link[0]} {link[1]}")
    yield f"# {link[0]} to {link[1]}; keep us, latency ns, rate bit/s, loss of {ALWAYS}, limit packets\n"
    state, begun_us = DOWN, 0
    for t_ns, new in _states(schedule, link, from_ns):
        at_us = round((t_ns - from_ns) / schedule.clock_rate) // _NS_PER_US
        if at_us > begun_us:
            yield _line(at_us - begun_us, state)
            begun_us = at_us
        state = new


def _states(schedule: Schedule, link: Link, from_ns: int) -> Iterator[tuple[int, LinkState]]:
    state = DOWN
    for step in schedule.steps(from_ns):
        for change in step.changes:
            if change.link == link:
                state = change.state
                yield step.t_ns, state
    yield schedule.plan.duration_ns, state


def _line(keep_us: int, state: LinkState) -> str:
    loss = of_probability(state.loss.mean) if state.up else ALWAYS
    return f"{keep_us},{state.delay_ns},{state.rate_bps},{loss},{state.limit_packets}\n"
