"""The options of a command line that say how a plan becomes a schedule."""

from __future__ import annotations

import argparse

from netem.link_state import OUTAGES
from netem.schedule import Adaptive, Schedule, Stepped
from orbitrain.contacts.plan import ContactPlan


def add_schedule_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--step-ms", type=float, default=1000.0, metavar="MS", help="links are set anew each (1000)"
    )
    how.add_argument(
        "--adaptive",
        type=float,
        nargs=2,
        metavar=("MS", "PERCENT"),
        help="links are set anew when delay or rate are this far from the plan",
    )
    parser.add_argument(
        "--turns", type=int, default=1, metavar="N", help="sources take turns within a step, in N groups (1)"
    )
    parser.add_argument(
        "--outage", choices=OUTAGES, default="hold", help="at a contact's end, what flies arrives, or not"
    )


def schedule_of(options: argparse.Namespace, plan: ContactPlan, rate: float) -> Schedule:
    """ValueError."""
    how: Stepped | Adaptive = Stepped(round(options.step_ms * 1e6), options.turns)
    if options.adaptive is not None:
        delay_ms, rate_percent = options.adaptive
        how = Adaptive(round(delay_ms * 1e6), rate_percent / 100)
    return Schedule(plan, rate, how, options.outage)
