"""What a back end can move truly, and whether a schedule asks for more; said before it starts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from netem.schedule import Demand


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one back end, in host units. `largest_total_bps`: of links that are full at the same time."""

    backend: str
    largest_link_bps: int
    largest_total_bps: int
    least_delay_ns: int
    largest_changes_per_s: float

    def refuses(self, demand: Demand) -> bool:
        """Whether what the nodes would see is the host's limit, and not the plan.

        A delay that is too short is not: it comes out some tens of microseconds too long.
        """
        return (
            demand.peak_rate_bps > self.largest_link_bps or demand.changes_per_s > self.largest_changes_per_s
        )

    def beyond(self, demand: Demand) -> tuple[str, ...]:
        """A line for each thing that this back end would not do truly."""
        found = []
        if demand.peak_rate_bps > self.largest_link_bps:
            most = self.largest_link_bps / 1e6
            found.append(f"a link of {demand.peak_rate_bps / 1e6:.0f} Mbit/s: at most {most:.0f}")
        if demand.links and demand.least_delay_ns < self.least_delay_ns:
            found.append(
                f"a delay of {demand.least_delay_ns / 1e6:.3f} ms: at least {self.least_delay_ns / 1e6:g}"
            )
        if demand.changes_per_s > self.largest_changes_per_s:
            found.append(
                f"up to {demand.changes_per_s:.0f} changes a second: at most {self.largest_changes_per_s:.0f}"
            )
        return tuple(found)

    def doubtful(self, demand: Demand) -> tuple[str, ...]:
        """What it would not do truly if every link were full at once."""
        if demand.peak_total_bps > self.largest_total_bps:
            return (
                f"links of {demand.peak_total_bps / 1e6:.0f} Mbit/s together: about "
                f"{self.largest_total_bps / 1e6:.0f} can be full at once",
            )
        return ()
