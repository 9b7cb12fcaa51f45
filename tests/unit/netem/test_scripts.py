"""What is written for others to replay: the words of tc, scripts, traces; and what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from netem.__main__ import main
from netem.kernel.encoder import Netem
from netem.link_state import LinkState, Loss, up_state
from netem.scripts.words import netem_words
from orbitrain.contacts.plan import ContactPlan
from tests.unit.netem.plans import MS, S, contact, plan_of

AB = ("a", "b")


def words(state: LinkState, **more: object) -> str:
    return netem_words(Netem.of(state, AB, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "state, expected",
    [
        (
            up_state(20 * MS, 10_000_000),
            "limit 108 delay 20000us loss random 0% rate 10000000bit",
        ),
        (
            LinkState(200 * S, 800_000_000_000, Loss(), 9, 4_000_000_000, 5_400),
            "limit 4000000000 delay 200000000us 5us loss random 0% rate 800000000000bit",
        ),
        (  # of 2**32 - 1 parts the nearest to a hundredth
            LinkState(5_500, 1_000_000, Loss("uniform", 0.01), 1, 1),
            "limit 1 delay 6us loss random 1.00000000116% rate 1000000bit",
        ),
        (
            LinkState(5_500, 1_000_000, Loss("uniform", 0.01), 1, 7).down("hold"),
            "limit 7 delay 6us loss random 100% rate 1000000bit",
        ),
    ],
    ids=["plain", "long, fast", "single losses", "down"],
)
def test_a_state_in_the_words_of_tc(state: LinkState, expected: str) -> None:
    assert words(state) == expected


def test_a_chain_of_losses_begins_in_either_state() -> None:
    state = up_state(5, 1_000_000, Loss("gilbert_elliott", 0.1, 4.0))
    good, bad = (words(state, lost_first=first) for first in (False, True))
    p, r = (float(value) for value in re.findall(r"gemodel ([\d.]+)% ([\d.]+)%", good)[0])
    assert (p, r) == (pytest.approx(100 / 36, rel=1e-7), pytest.approx(25, rel=1e-7))
    assert good.split("gemodel")[1].split()[2:4] == ["100%", "0%"]
    assert bad.split("gemodel")[1].split()[:4] == [*good.split("gemodel")[1].split()[1::-1], "0%", "100%"]


def test_a_delay_that_tc_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^delay_ns: must be less than 274877906944 for tc, not 1200"):
        words(up_state(1200 * S, 1_000_000))


def test_an_overhead_is_told_beside_the_rate() -> None:
    assert words(up_state(5, 1_000_000), packet_overhead=8).endswith("rate 1000000bit 8")


# --- scripts ------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return written(
        tmp_path,
        plan_of(
            contact("a", "b", 2 * S, 5 * S, (2 * S, 20 * MS, 10_000_000), (4 * S, 30 * MS, 10_000_000)),
            contact("c", "a", 0, 9 * S, (0, 5 * MS, 1_000_000)),
            contact("c", "b", 0, 9 * S, (0, 5 * MS, 2_000_000)),
        ),
    )


def written(folder: Path, plan: ContactPlan) -> Path:
    path = folder / "plan.json"
    path.write_bytes(plan.to_json())
    return path


def script(plan: Path, *more: str) -> int:
    return main(["script", str(plan), "--dev", "eth0", "--out", str(plan.parent / "out"), *more])


def lines_of(folder: Path) -> list[str]:
    text = (folder / "replay.sh").read_text(encoding="ascii")
    return text.partition("tc -batch - &\n")[2].partition("END\n")[0].splitlines()


def checked(folder: Path) -> None:
    for name in ("replay.sh", "undo.sh"):
        assert subprocess.run(["sh", "-n", folder / name], check=False).returncode == 0
        assert (folder / name).stat().st_mode & 0o777 == 0o755


def test_one_peer_is_one_netem_changed_in_place(plan: Path) -> None:
    assert script(plan, "--node", "a", "--rate", "2", "--step-ms", "500") == 0
    checked(plan.parent / "out")
    first, *changes = lines_of(plan.parent / "out")
    assert first.startswith("0 qdisc add dev eth0 root handle b17: netem limit ")
    assert "loss random 100% rate 1000000000bit" in first
    assert all(" qdisc change dev eth0 root handle b17: netem limit " in line for line in changes)
    # At twice the rate, from 1 s on: half the delay, twice the bits; then the end.
    assert (
        changes[0].startswith("100 ") and "delay 10625us" in changes[0] and "rate 20000000bit" in changes[0]
    )
    assert changes[-1].startswith("250 ") and "loss random 100%" in changes[-1]
    assert [int(line.split()[0]) for line in changes] == sorted(int(line.split()[0]) for line in changes)


def test_an_end_by_cut_makes_a_new_qdisc_and_goes_on_with_it(tmp_path: Path) -> None:
    windows = [contact("a", "b", n * S, n * S + S // 2, (n * S, 5 * MS, 10**7)) for n in range(3)]
    assert script(written(tmp_path, plan_of(*windows)), "--node", "a", "--outage", "cut") == 0
    verbs = [(line.split()[2], line.split()[7]) for line in lines_of(tmp_path / "out")]
    assert verbs == [
        ("add", "b17:"), ("change", "b17:"), ("replace", "b18:"), ("change", "b18:"), ("replace", "b17:"),
        ("change", "b17:"), ("replace", "b18:"),
    ]  # fmt: skip


def test_several_peers_are_classes_with_a_filter_by_address(plan: Path) -> None:
    assert script(plan, "--node", "c", "--peer", "a=10.0.0.1", "--peer", "b=10.0.0.2") == 0
    checked(plan.parent / "out")
    said = lines_of(plan.parent / "out")
    assert said[0] == "0 qdisc add dev eth0 root handle b17: htb default 0"
    assert "0 class add dev eth0 parent b17: classid b17:2 htb rate 100gbit" in said[4]
    assert said[5].startswith("0 qdisc add dev eth0 parent b17:2 handle 1002: netem ")
    assert said[6].endswith("u32 match ip dst 10.0.0.2/32 flowid b17:2")
    assert said[7].startswith("0 qdisc change dev eth0 parent b17:1 handle 1000: netem ")
    assert "rate 1000000bit" in said[7] and "rate 2000000bit" in said[8]


@pytest.mark.parametrize(
    "more, line",
    [
        (("--node", "z"), "--node: must be a node of the plan, not 'z'"),
        (("--node", "b"), "--node: b never sends to anybody in this plan"),
        (("--node", "c"), "--peer: NAME=ADDRESS is missing of a, b, which c sends to"),
        (("--node", "c", "--peer", "a=10.0.0.1"), "--peer: NAME=ADDRESS is missing of b, which c sends to"),
        (("--node", "c", "--peer", "a"), "--peer: must be NAME=ADDRESS, each name once, not 'a'"),
        (("--node", "c", "--peer", "a=::1"), "--peer: a: must have an IPv4 address, not '::1'"),
        (("--node", "a", "--peer", "c=10.0.0.1"), "--peer: c: a never sends to it in this plan"),
        (
            ("--node", "c", "--peer", "a=10.0.0.1", "--peer", "b=10.0.0.1"),
            "--peer: must have an address each, no two the same",
        ),
        (("--node", "a", "--from-s", "1e9"), "--from-s: must be within the plan, 0 to "),
        (("--node", "a", "--rate", "0"), "clock_rate: must be more than 0 and at most 1e6, not 0.0"),
        (("--node", "a", "--step-ms", "0"), "step_ns: must be 1000000 or more, not 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    plan: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], line: str
) -> None:
    assert script(plan, *more) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"netem: {line}") and said.count("\n") == 1
    assert not (plan.parent / "out").exists()


def test_a_device_that_no_kernel_has_and_a_folder_in_use_are_refused(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = plan.parent / "out"
    assert main(["script", str(plan), "--node", "a", "--dev", "eth0; ls", "--out", str(out)]) == 2
    assert "--dev: must be 1 to 15 letters" in capsys.readouterr().err
    out.mkdir()
    (out / "mine").touch()
    assert script(plan, "--node", "a") == 2
    assert "--out: " in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_state_that_netem_cannot_hold_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = plan_of(contact("a", "b", S, 2 * S, (S, 5 * MS, 100)))
    assert script(written(tmp_path, slow), "--node", "a") == 2
    assert "link a b: rate_bps: must be at least 800 for netem" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- TheaterQ -----------------------------------------------------------------------------------------------


def test_a_link_is_a_trace_of_keep_latency_rate_loss_limit(tmp_path: Path) -> None:
    window = contact("a", "b", 2 * S, 4 * S, (2 * S, 20 * MS, 10_000_000, 0.25, 2.0))
    plan, out = written(tmp_path, plan_of(window)), tmp_path / "ab.csv"
    assert main(["theaterq", str(plan), "--link", "a", "b", "--rate", "2", "--out", str(out)]) == 0
    comment, *rows = out.read_text(encoding="ascii").splitlines()
    assert comment.startswith("# a to b;")
    values = [[int(value) for value in row.split(",")] for row in rows]
    assert [value[0] for value in values][:2] == [1_000_000, 1_000_000]
    assert values[0][3] == 2**32 - 1  # down
    assert values[1][1:4] == [10 * MS, 20_000_000, round(0.25 * (2**32 - 1))]
    assert values[2][3] == 2**32 - 1
    # To the plan's end, at the clock's rate.
    assert sum(value[0] for value in values) == 1000 * S // 2 // 1000


def test_a_link_that_the_plan_lacks_has_no_trace(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = plan.parent / "x.csv"
    assert main(["theaterq", str(plan), "--link", "b", "a", "--out", str(out)]) == 2
    assert capsys.readouterr().err == "netem: --link: the plan has no link b a\n"
    assert not out.exists() and not list(plan.parent.glob(".x.csv*"))
