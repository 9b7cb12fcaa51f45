"""A run of real daemons across netem: in place where this host's kernel has it, else in User-Mode Linux."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from netem.namespaces import HostError
from netem.uml import guest
from orbitrain.testbed.host import obstacles
from tests.e2e.lab import COMMAND, Lab, told
from tests.e2e.test_tun import ONE, ZERO, across, check_learned, simulated

pytestmark = [pytest.mark.netem, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def where() -> tuple[str, ...]:
    """Options of a run that put it on a kernel with netem."""
    why = obstacles(["kernel"])["kernel"]
    if not why:
        return ()
    try:
        guest.check()
    except HostError as error:
        required = os.environ.get("ORBITRAIN_NETEM") == "required"
        (pytest.fail if required else pytest.skip)(f"{why}; {error}")
    return ("--in", "uml")


def test_a_run_across_netem_learns_what_the_plan_alone_would(lab: Lab, where: tuple[str, ...]) -> None:
    windows = {"sat-0": [(0, 80)], "sat-1": [(100, 1400)]}
    run = across(lab, windows, None, *where, links="kernel")
    run.start()
    result = run.finish()
    check_learned(run, result)
    assert result["model_sha256"] == simulated(lab, run)["model_sha256"]
    truth = result["links_truth"]
    assert (result["links"], truth["backend"]) == ("kernel", "kernel")
    # A guest has one processor for everything in it: how exact its links are is not for this test to say.
    assert truth["verdict"] in ("as_scaled", "untrue") and truth["checked"]["delay"] >= 20, truth
    assert truth["loss_ok"] is not False and truth["reordered"] == 0
    met = told(run.events(), "contact_started", announced=True)
    assert {(entry.node, entry.event.fields["peer"]) for entry in met} >= {("sat-0", ZERO), ("sat-1", ONE)}
    record = json.loads((run.out / "links.json").read_bytes())
    assert record["account"]["links"][f"sat-0 {ZERO}"]["delivered"] > 0


def test_a_run_that_ended_is_shown_and_wrong_input_is_refused_inside_as_outside(
    lab: Lab, where: tuple[str, ...]
) -> None:
    run = across(lab, {"sat-0": [(0, 1400)]}, None, *where, links="kernel")
    text = run.file.read_text(encoding="utf-8")
    run.file.write_text(text.replace("own.tides:Tides", "own.gone:Tides"), encoding="utf-8")
    done = subprocess.run(
        [COMMAND, "run", run.file, "--out", run.out, *where, "--quiet"],
        cwd=Path(run.file).parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "own.gone" in done.stderr and not run.out.exists()
