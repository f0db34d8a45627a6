"""Maps of plans: they open, and show what the plan says."""

import dataclasses
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection
from matplotlib.patches import Wedge

from laegd.evaluation.label_places import LabelPlaces
from laegd.evaluation.picture import draw_plan, draw_plans, figure_of, scale_bar_m
from laegd.problem.instance import LOCAL, Instance, Plan
from laegd.problem.objective import infeasible_plan, make_plan
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.mcmf import MCMFSolver

REFERENCE = Path(__file__).parents[1] / "data" / "reference"


@pytest.fixture(scope="module")
def small():
    data = json.loads((REFERENCE / "gs3_gu7_au5_0.json").read_text())
    return Instance.from_scenario(Scenario.from_json(json.dumps(data["scenario"])))


@pytest.fixture(scope="module")
def plan(small):
    return MCMFSolver(num_weights=2).solve([small])[0]


def lines(axes):
    """Returns the links of a map as [link, end, xy]."""
    found = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_gid() == "links"]
    return np.array([segment for collection in found for segment in collection.get_segments()]).reshape(-1, 2, 2)


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_the_file_is_a_png_with_colours(small, plan, tmp_path):
    """It opens, is large enough to read, and is not all white."""
    path = tmp_path / "deep" / "map.png"
    draw_plan(small, plan, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 800 and pixels.min() < 0.3 and 0.8 < pixels[..., :3].mean() < 1
    assert [file.name for file in path.parent.iterdir()] == ["map.png"]


@pytest.mark.parametrize(("name", "begins"), [("map.svg", b"<?xml"), ("map.pdf", b"%PDF-"), ("MAP.PNG", b"\x89PNG")])
def test_the_ending_of_the_name_decides_the_format(small, plan, tmp_path, name, begins):
    """The same plan gives the same bytes."""
    written = []
    for folder in ("one", "two"):
        draw_plan(small, plan, tmp_path / folder / name)
        written.append((tmp_path / folder / name).read_bytes())
    assert written[0].startswith(begins) and written[0] == written[1]


@pytest.mark.parametrize("name", ["map.jpg", "map", "map.html"])
def test_another_ending_is_refused(small, plan, tmp_path, name):
    """Before anything is drawn."""
    with pytest.raises(ValueError, match=rf"{name}: Expected a picture's name, ending in \.png, \.svg, \.pdf"):
        draw_plan(small, plan, tmp_path / name)


def test_the_legend_explains_coverage_shares_and_cost(small, plan):
    """Every sign on the map."""
    (legend,) = figure_of(small, [plan]).legends
    entries = " ".join(text.get_text() for text in legend.get_texts())
    for part in ("coverage of a ground server", "ring: shares", "cost: weighted sum of s and J"):
        assert part in entries


def test_names_are_no_formulas(small, plan, tmp_path):
    """Dollar signs in the names of users and servers are drawn as they are; as formulas these would be errors."""
    users = tuple(f"$\\frac{{{name}$" for name in small.user_ids)
    renamed = dataclasses.replace(small, user_ids=users, server_ids=tuple(f"$_{name}$^" for name in small.server_ids))
    draw_plan(renamed, plan, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_there_is_a_line_from_every_offloaded_user_to_its_server(small, plan):
    """As many lines as offloaded users, each between the two places."""
    away = np.flatnonzero(plan.server != LOCAL)
    drawn = lines(figure_of(small, [plan]).axes[0])
    assert len(drawn) == len(away) > 0
    np.testing.assert_allclose(drawn[:, 0], small.nodes.user_xyz_m[away, :2])
    np.testing.assert_allclose(drawn[:, 1], small.nodes.server_xyz_m[plan.server[away], :2])


def test_the_rings_show_the_shares(small, plan):
    """One sector per offloaded user, 360 degrees for the whole server."""
    sectors = [patch for patch in figure_of(small, [plan]).axes[0].patches if isinstance(patch, Wedge)]
    turns_deg = sorted(sector.theta2 - sector.theta1 for sector in sectors)
    np.testing.assert_allclose(turns_deg, sorted(360 * plan.share[plan.server != LOCAL]), atol=1e-6)


def test_the_words_name_everyone_and_the_cost(small, plan):
    """Users with their share, servers with their load, the method, the cost and the gap."""
    half = dataclasses.replace(plan, lower_bound=plan.cost / 2)
    text = words(figure_of(small, [half]).axes[0])
    assert any(f"mcmf · cost {plan.cost:,.1f} · certified gap 50 %" in line for line in text)
    for u, name in enumerate(small.user_ids):
        assert (name if plan.server[u] == LOCAL else f"{name} {plan.share[u]:.0%}") in text
    for s, name in enumerate(small.server_ids):
        assert any(line.startswith(f"{name} · ") for line in text), s
    assert any(line.endswith((" m", " km")) for line in text)


def test_a_certified_optimum_is_called_optimal(small, plan):
    """A gap of 0 is worth a word."""
    best = dataclasses.replace(plan, lower_bound=plan.cost)
    assert any(line.endswith("· optimal") for line in words(figure_of(small, [best]).axes[0]))


def test_everyone_at_home_gives_a_map_without_lines(small):
    """No server in use, so no sectors either."""
    easy = dataclasses.replace(small, costs=small.costs._replace(local_allowed=np.ones(small.num_users, dtype=bool)))
    home = make_plan(easy, np.full(small.num_users, LOCAL), "home")
    axes = figure_of(easy, [home]).axes[0]
    assert len(lines(axes)) == 0 and sum("idle" in line for line in words(axes)) == small.num_servers


def test_an_infeasible_answer_names_the_users(small):
    """The title says so, and who."""
    axes = figure_of(small, [infeasible_plan(small, "exact", ("u3", "u5"))]).axes[0]
    assert "exact · no feasible plan" in words(axes) and any("u3, u5" in line for line in words(axes))


def test_plans_stand_side_by_side(small, plan, tmp_path):
    """One map a plan, three in a row."""
    four = figure_of(small, [plan] * 4)
    assert len(four.axes) == 4 and len({round(axes.get_position().y0, 3) for axes in four.axes}) == 2
    draw_plans(small, [plan] * 2, tmp_path / "two.png")
    height, width = image.imread(tmp_path / "two.png").shape[:2]
    assert width > 1.5 * height


@pytest.mark.parametrize(("servers", "users"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_networks_without_servers_or_users_can_be_drawn(servers, users, tmp_path):
    """An empty map is a map."""
    scenario = draw(ScenarioConfig(deadline_s=50.0), Scale(2, 3, 0), 1, np.random.default_rng(0)).scenario(0)
    scenario = msgspec.structs.replace(scenario, servers=scenario.servers[:servers], users=scenario.users[:users])
    instance = Instance.from_scenario(scenario)
    draw_plan(instance, MCMFSolver(num_weights=1).solve([instance])[0], tmp_path / "map.png")
    assert image.imread(tmp_path / "map.png").size > 0


def test_a_crowded_map_names_platforms_only():
    """A hundred names would hide the lines."""
    batch = draw(ScenarioConfig(deadline_s=50.0), Scale(4, 60, 40), 1, np.random.default_rng(0))
    instance = Instance.from_scenario(batch.scenario(0))
    plan = Plan("all", np.zeros(100, dtype=np.int64), np.full(100, 0.01), cost=1.0, feasible=True)
    axes = figure_of(instance, [plan]).axes[0]
    assert len(lines(axes)) == 100 and sum(line.startswith(("u", "gs")) for line in words(axes)) == 0
    assert any(line.startswith("hap · 100 users") for line in words(axes))


def test_without_matplotlib_the_extra_is_named(small, plan, monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'laegd\[plots\]'"):
        figure_of(small, [plan])


def test_no_plan_is_refused(small):
    """There is nothing to draw."""
    with pytest.raises(ValueError, match=r"^plans: Expected at least one plan"):
        figure_of(small, [])


def test_a_folder_that_cannot_be_written_leaves_nothing(small, plan, tmp_path):
    """A file in place of a folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file"):
        draw_plan(small, plan, tmp_path / "file" / "map.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("side_m", "bar_m"), [(1000, 200), (800, 200), (799, 100), (2000, 500), (4000, 1000), (80_000, 20_000), (1, 0.2)]
)
def test_the_scale_bar_is_round_and_at_most_a_quarter(side_m, bar_m):
    """1, 2 or 5 times a power of ten."""
    assert scale_bar_m(float(side_m)) == pytest.approx(bar_m)


def test_names_avoid_what_is_taken_and_stay_on_the_map():
    """Right of the marker is free: right. Taken: left. At the right edge: left as well."""
    box = (0.0, 0.0, 100.0, 100.0)
    assert LabelPlaces(box).place(50.0, 50.0, 2.0, 10.0, 4.0) == pytest.approx((57, 50))
    taken = LabelPlaces(box)
    taken.take(57.0, 50.0, 3.0)
    assert taken.place(50.0, 50.0, 2.0, 10.0, 4.0) == pytest.approx((43, 50))
    assert LabelPlaces(box).place(95.0, 50.0, 2.0, 10.0, 4.0) == pytest.approx((88, 50))


def test_two_names_at_one_place_do_not_cover_each_other():
    """The second one sees the first."""
    places = LabelPlaces((0.0, 0.0, 100.0, 100.0))
    first, second = (places.place(50.0, 50.0, 2.0, 10.0, 4.0) for _ in range(2))
    assert abs(first[0] - second[0]) >= 10 or abs(first[1] - second[1]) >= 4
