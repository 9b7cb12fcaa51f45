"""The plans of a run: believed, true, updated; kept in its folder and taken from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbitrain.contacts.difference import diff
from orbitrain.contacts.plan import ContactPlan
from orbitrain.fleet import satellites, true_satellites
from orbitrain.outputs import RunFolder, write_json
from orbitrain.plans import Plans, keep, kept, plans_for
from orbitrain.scenario import Scenario, ScenarioError, load_scenario

S = 1_000_000_000
THREE = Path(__file__).resolve().parents[1] / "three-regions.toml"


def scenario_with(folder: Path, tables: str) -> tuple[Scenario, Path]:
    file = folder / "some.toml"
    file.write_text(THREE.read_text().replace("duration_s = 43200", "duration_s = 14400") + "\n" + tables)
    return load_scenario(file), file


def plans(folder: Path, tables: str, given: ContactPlan | None = None) -> Plans:
    scenario, file = scenario_with(folder, tables)
    return plans_for(scenario, file, scenario.seed, given, lambda what, done, total: None)


def test_without_a_truth_links_follow_what_is_believed(tmp_path: Path) -> None:
    assert plans(tmp_path, "") == Plans(plans(tmp_path, "").believed)


def test_satellites_ahead_on_their_orbits_rise_and_set_that_much_earlier(tmp_path: Path) -> None:
    scenario, _ = scenario_with(tmp_path, "[truth]\nalong_track_km = 100\nseed = 3")
    both = plans(tmp_path, "[truth]\nalong_track_km = 100\nseed = 3")
    assert both.truth is not None
    shifts: dict[str, list[float]] = {}
    for believed in both.believed.contacts:
        later = both.truth.next_contact(believed.source, believed.destination, believed.start_ns - 60 * S)
        if later is not None and believed.start_ns > 0 and 0 < later.start_ns < believed.start_ns + 60 * S:
            satellite = next(n for n in (believed.source, believed.destination) if n.startswith("sat"))
            shifts.setdefault(satellite, []).append((later.start_ns - believed.start_ns) / S)
    assert len(shifts) == 6
    for name, found in shifts.items():
        assert max(found) - min(found) < 0.2, name  # one error a satellite, of up to some 40 s
    assert len({round(found[0], 1) for found in shifts.values()}) == 6
    axis_km = [one.satrec.a * 6378.135 for one in satellites(scenario)]
    assert all(abs(axis - 6928.135) < 1e-3 for axis in axis_km)


def test_errors_are_drawn_from_the_seed_and_the_satellites_own_name(tmp_path: Path) -> None:
    table = "[truth]\nalong_track_km = 10\ndrift_km_per_day = 5\ndrag_bstar = 1e-4"
    scenario, _ = scenario_with(tmp_path, table)
    one, again, other = ([s.satrec.mo for s in true_satellites(scenario, seed)] for seed in (7, 7, 8))
    assert one == again != other
    bstars = [s.satrec.bstar for s in true_satellites(scenario, 7)]
    assert len(set(bstars)) == 6 and 1e-6 < max(abs(b) for b in bstars) < 1e-3
    fixed, _ = scenario_with(tmp_path, table + "\nseed = 1")
    assert [s.satrec.mo for s in true_satellites(fixed, 7)] == [
        s.satrec.mo for s in true_satellites(fixed, 8)
    ]


def test_an_update_is_the_old_plan_until_its_instant_and_the_new_one_after(tmp_path: Path) -> None:
    tables = "[truth]\nalong_track_km = 100\n[[updates]]\nat_s = 7200\nplan = 'truth'"
    found = plans(tmp_path, tables)
    (update,) = found.updates
    assert found.truth is not None and update.at_ns == 7200 * S and update.plan.revision == 1
    for t_s in range(0, 14_400, 300):
        old, new = (found.believed, found.truth) if t_s < 7200 else (found.truth, found.believed)
        for node in ("sat-0", "sat-4"):
            pairs = {(c.source, c.destination) for c in update.plan.active_of(node, t_s * S)}
            assert pairs == {(c.source, c.destination) for c in old.active_of(node, t_s * S)}, (
                t_s,
                new.sha256,
            )


def test_a_plan_file_is_the_truth_if_it_is_of_this_scenario(tmp_path: Path) -> None:
    tables = "[truth]\nplan = 'true.json'"
    scenario, file = scenario_with(tmp_path, tables)
    with pytest.raises(ScenarioError, match=r"true\.json: cannot be read"):
        plans(tmp_path, tables)
    (tmp_path / "true.json").write_bytes(plans(tmp_path, "").believed.to_json())
    with pytest.raises(ScenarioError, match=r"truth.plan: is the plan of another scenario"):
        plans(tmp_path, tables)
    from orbitrain.planning import build_plan

    late = build_plan(scenario).shifted(60 * S)
    (tmp_path / "true.json").write_bytes(late.to_json())
    found = plans(tmp_path, tables)
    assert found.truth == late and list(diff(found.believed, late).lines())
    assert file.exists()


def test_plans_are_kept_and_found_again(tmp_path: Path) -> None:
    tables = "[truth]\nalong_track_km = 50\n[[updates]]\nat_s = 3600\nplan = 'truth'"
    found = plans(tmp_path, tables)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    assert kept(folder) is None
    write_json(folder.identity, {})
    keep(folder, found)
    assert kept(folder) == found
    folder.updates.write_text("{}")
    with pytest.raises(ScenarioError, match=r"updates.json: cannot be read"):
        kept(folder)
