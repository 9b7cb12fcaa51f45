"""What a person sees of a run: a live panel, or lines where there is no terminal, and the final table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table

from orbitrain.runtime.clock import SECOND_NS, wall_s
from orbitrain.setting import Setting
from orbitrain.systems.choice import system_of

LINE_S = 10.0
"""Wall seconds between two lines where the output is no terminal."""


def _clock(t_ns: int) -> str:
    seconds = t_ns // SECOND_NS
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


class Display:
    """Takes news of a run by calling it; a context manager while it is live."""

    def __init__(self, setting: Setting, console: Console, quiet: bool) -> None:
        self._scenario = setting.scenario
        system = system_of(setting)
        self._row = system.row
        self._console = console
        self._quiet = quiet
        self._t_ns = 0
        self._contacts: dict[str, float] = {}
        self._moved: dict[str, float] = {}
        self._rounds = dict.fromkeys(system.rows, 0)
        self._accuracy: dict[str, float] = {}
        self._mixed = 0
        self._restarts = 0
        self._last_line_s = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, get_renderable=self._panel, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        match kind:
            case "rate":
                self._rate(fields)
            case "starting":
                since = f", from {_clock(fields['t_ns'])}" if fields["t_ns"] else ""
                self._say(f"starting {fields['nodes']} daemons{since}")
            case "ending":
                self._say("draining the nodes and gathering their journals")
            case "ungathered":
                self._say(f"journals that could not be read to their end: {fields['nodes']}")
            case "time":
                self._t_ns, self._restarts = fields["t_ns"], fields["restarts"]
                self._line()
            case "sample":
                self._contacts[fields["node"]] = fields["values"].get("contacts", 0.0)
                self._moved[fields["node"]] = fields["values"].get("moved_bytes", 0.0)
            case "progress":
                self._rounds |= fields["rounds"]
                self._accuracy |= fields["accuracy"]
            case "event":
                self._mixed += fields["event"] == "carry_mixed"
                if fields["event"] == "dead_letter":
                    self._say(f"{fields['node']}: an input was put aside: {fields['fields'].get('error')}")

    def _rate(self, fields: Mapping[str, Any]) -> None:
        rate, honest = fields["rate"], fields["honest"]
        self._say(f"rate {rate:g}; the highest honest rate here is about {honest:.0f} ({fields['what']})")
        if rate > honest:
            self._say(
                f"warning: at rate {rate:g} this host cannot keep what {fields['what']} declares: "
                "expect overruns; use a lower --rate"
            )

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _summary(self) -> str:
        rounds = ", ".join(
            f"{row} {number}/{self._scenario.rounds}"
            + (f" ({self._accuracy[row]:.0%})" if row in self._accuracy else "")
            for row, number in self._rounds.items()
        )
        line = f"{_clock(self._t_ns)} of {_clock(self._scenario.duration_ns)}  rounds (accuracy): {rounds}"
        return "  ".join([line, *self._carried(), *self._sampled()])

    def _carried(self) -> list[str]:
        return [f"mixed {self._mixed}"] if self._scenario.protocol.name == "fedmeld" else []

    def _sampled(self) -> list[str]:
        """What daemons tell of themselves every few seconds; nothing where there are none."""
        if not self._contacts:
            return []
        contacts, moved = sum(self._contacts.values()), sum(self._moved.values())
        return [f"contacts {contacts / 2:.0f}", f"moved {_size(moved)}"]

    def _line(self) -> None:
        if self._live is None and wall_s() - self._last_line_s >= LINE_S:
            self._last_line_s = wall_s()
            self._say(self._summary())

    def _panel(self) -> Table:
        table = Table(title=f"{self._scenario.name}  {_clock(self._t_ns)}", title_justify="left")
        for column in (self._row, "round", "accuracy"):
            table.add_column(column)
        for row, number in self._rounds.items():
            score = f"{self._accuracy[row]:.1%}" if row in self._accuracy else ""
            table.add_row(row, f"{number}/{self._scenario.rounds}", score)
        told = [*(f"models {words}" for words in self._carried()), *self._sampled()]
        told.append(f"restarts {self._restarts}")
        table.caption = ", ".join(told)
        return table


def show_result(result: Mapping[str, Any], folder: str, console: Console) -> None:
    """The short table at the end, and what it shows."""
    shows = {"fedmeld": _show_fedmeld, "sfft": _show_sfft, "emsfl": _show_emsfl}
    shows[result["protocol"]](result, console)
    console.print(f"files: {folder}", highlight=False, markup=False, soft_wrap=True)


def _show_sfft(result: Mapping[str, Any], console: Console) -> None:
    title = f"{result['scenario']}: {result['protocol']} on {result['driver']}, links {result['links']}"
    table = Table(title=title, title_justify="left")
    for column in ("", "rounds", "accuracy", "scenario seconds"):
        table.add_column(column, justify="left" if not column else "right")
    board = result["on_board"]
    for name, one in (("backbone on the ground", result), ("on board", board)):
        if one is not None:
            seconds = f"{one['scenario_seconds']:.0f}"
            table.add_row(name, str(one["rounds"]), _percent(one["accuracy"]), seconds)
    console.print(table)
    taking_part = [len(commit["participants"]) for commit in result["commits"]]
    chunks = sum(link["chunks"] for link in result["flow"])
    moved = ", ".join(f"{name} {_size(nbytes)}" for name, nbytes in result["bytes"].items() if nbytes)
    least = f"{min(taking_part)} to {max(taking_part)} satellites took part; " if taking_part else ""
    console.print(
        f"{least}{chunks} chunks went down over {len(result['flow'])} links; {moved}; "
        f"{result['wall_seconds']:.0f} s of this host, restarts {result['restarts']}, "
        f"overruns {result['overruns']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _show_emsfl(result: Mapping[str, Any], console: Console) -> None:
    title = f"{result['scenario']}: {result['protocol']} on {result['driver']}, links {result['links']}"
    table = Table(title=title, title_justify="left")
    for column in ("", "cycles", "accuracy", "up a device", "loaded a device", "training in contact"):
        table.add_column(column, justify="left" if not column else "right")
    for name, one in (("EMS-FL", result), ("synchronous", result["synchronous"])):
        if one is not None:
            table.add_row(
                name,
                str(min(one["rounds"].values())),
                _percent(one["accuracy"]),
                _size(_mean(one["device_bytes"], "up")),
                _size(_mean(one["peak_bytes"], "loaded")),
                f"{_mean(one['compute'], 'in_contact_s'):.0f} s",
            )
    console.print(table)
    gamma, updates = result["gamma"], result["updates"]
    relevant = "" if gamma is None else f"gamma {gamma['mean']:.2f}; "
    console.print(
        f"{relevant}updates merged {updates['merged']}, refused {updates['refused']}, "
        f"in flight {updates['in_flight']}; {result['scenario_seconds']:.0f} scenario seconds in "
        f"{result['wall_seconds']:.0f} s, restarts {result['restarts']}, overruns {result['overruns']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _mean(table: Mapping[str, Mapping[str, Any]], key: str) -> float:
    return fmean(float(row[key]) for row in table.values())


def _show_fedmeld(result: Mapping[str, Any], console: Console) -> None:
    accuracy, isolated = result["accuracy"], result["isolated_accuracy"]
    title = f"{result['scenario']}: {result['protocol']} on {result['driver']}, links {result['links']}"
    table = Table(title=title, title_justify="left")
    for column in ("region", "rounds", "accuracy", "isolated", "gain"):
        table.add_column(column, justify="left" if column == "region" else "right")
    rows = [(region, str(number)) for region, number in result["rounds"].items()]
    for region, rounds in [*rows, ("mean", "")]:
        mine = _score(accuracy, region)
        alone = _score(isolated, region)
        gain = f"{100 * (mine - alone):+.1f}" if mine is not None and alone is not None else ""
        table.add_row(region, rounds, _percent(mine), _percent(alone), gain)
    console.print(table)
    updates, carries = result["updates"], result["carries"]
    console.print(
        f"updates sent {updates['sent']}, aggregated {updates['aggregated']}, lost {updates['lost']}; "
        f"models carried {carries['picked_up']}, mixed {carries['mixed']}; "
        f"service links {_size(result['bytes']['service'])}, feeder {_size(result['bytes']['feeder'])}; "
        f"{result['scenario_seconds']:.0f} scenario seconds in {result['wall_seconds']:.0f} s, "
        f"restarts {result['restarts']}, overruns {result['overruns']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if accuracy is not None and isolated is not None:
        points = 100 * (accuracy["mean"] - isolated["mean"])
        console.print(
            f"FedMeld's regions reach {accuracy['mean']:.1%} on a test set of all classes; regions that "
            f"never hear of each other {isolated['mean']:.1%}: {points:+.1f} points, "
            "carried by satellites alone.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if accuracy is None:
        console.print(
            "no accuracy: not every region has a model that could be evaluated; events.jsonl says why",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _score(accuracy: Mapping[str, Any] | None, region: str) -> float | None:
    if accuracy is None:
        return None
    value = accuracy["mean"] if region == "mean" else accuracy["by_region"].get(region)
    return None if value is None else float(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


PATIENCE_S = 2.0
"""Wall seconds of work that nobody needs to hear about."""


@contextmanager
def working(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Tells how far long work is: a bar on a terminal, else a line now and then.

    Call what it gives with (what, done, total).
    """
    begun_s = told_s = wall_s()
    bars: dict[str, TaskID] = {}
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:

        def tell(what: str, done: int, total: int) -> None:
            nonlocal told_s
            now_s = wall_s()
            if now_s - begun_s < PATIENCE_S:
                return
            if console.is_terminal:
                if what not in bars:
                    bars[what] = bar.add_task(what)
                bar.update(bars[what], completed=done, total=total)
            elif now_s - told_s >= LINE_S:
                told_s = now_s
                console.print(f"{what}: {done} of {total}", highlight=False)

        yield tell
