"""What a back end cannot do truly is named before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netem.kernel.limits import LIMITS as KERNEL
from netem.limits import Limits
from netem.schedule import Demand, Schedule
from netem.tun.limits import LIMITS as TUN
from tests.unit.netem.plans import MS, S, contact, plan_of

SOME = Limits(
    backend="some",
    largest_link_bps=100_000_000,
    largest_total_bps=150_000_000,
    least_delay_ns=500_000,
    largest_changes_per_s=1000.0,
)
MODEST = Demand(
    links=2,
    links_at_once=2,
    peak_rate_bps=100_000_000,
    peak_total_bps=150_000_000,
    least_delay_ns=500_000,
    changes_per_s=1000.0,
    changes_at_once=2,
)


def test_what_is_at_the_bounds_is_within_them() -> None:
    assert SOME.beyond(MODEST) == SOME.doubtful(MODEST) == ()
    assert not SOME.refuses(MODEST)


@pytest.mark.parametrize(
    ("more", "line", "refused"),
    [
        ({"peak_rate_bps": 101_000_000}, "a link of 101 Mbit/s: at most 100", True),
        ({"changes_per_s": 1001.0}, "up to 1001 changes a second: at most 1000", True),
        ({"least_delay_ns": 499_000}, "a delay of 0.499 ms: at least 0.5", False),
    ],
)
def test_what_is_beyond_a_bound_is_named_and_a_short_delay_is_only_marked(
    more: dict[str, float], line: str, refused: bool
) -> None:
    demand = replace(MODEST, **more)  # type: ignore[arg-type]
    assert SOME.beyond(demand) == (line,)
    assert SOME.refuses(demand) is refused


def test_links_that_cannot_all_be_full_are_doubtful_and_not_refused() -> None:
    demand = replace(MODEST, peak_total_bps=151_000_000)
    assert SOME.doubtful(demand) == ("links of 151 Mbit/s together: about 150 can be full at once",)
    assert not SOME.beyond(demand) and not SOME.refuses(demand)


def test_a_plan_without_links_asks_for_nothing() -> None:
    demand = Schedule(plan_of()).demand()
    assert SOME.beyond(demand) == SOME.doubtful(demand) == ()


@pytest.mark.parametrize("limits", [TUN, KERNEL], ids=lambda limits: limits.backend)
def test_a_faster_clock_takes_a_plan_beyond_what_a_back_end_can_do(limits: Limits) -> None:
    one = plan_of(contact("a", "b", 0, S, (0, 20 * MS, 50_000_000)))
    assert limits.beyond(Schedule(one).demand()) == ()
    hasty = Schedule(one, 100.0).demand()
    lines = limits.beyond(hasty)
    assert lines[0].startswith("a link of 5000 Mbit/s: ") and lines[1].startswith("a delay of 0.200 ms: ")
    assert limits.refuses(hasty)


def test_the_kernel_moves_what_the_relay_moves_and_faster_links() -> None:
    assert KERNEL.largest_link_bps > TUN.largest_link_bps
    assert KERNEL.largest_total_bps >= TUN.largest_total_bps
    assert KERNEL.largest_changes_per_s > TUN.largest_changes_per_s
