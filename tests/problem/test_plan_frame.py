"""Plans as columns, against the plans and against their JSON."""

import json
import math

import numpy as np
import pytest

from laegd.problem.instance import LOCAL, InstanceBatch
from laegd.problem.networks import draw
from laegd.problem.objective import infeasible_plan, make_plan
from laegd.problem.plan_frame import plans_to_frame
from laegd.problem.plan_json import plan_to_json
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.solvers.exact import ExactSolver


@pytest.fixture(scope="module")
def instances():
    """Three networks that have plans."""
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 3, np.random.default_rng(2)))


def test_columns_say_what_the_json_of_each_plan_says(instances):
    """A row per user, in the order of instances and users; the rows of a plan add up to its cost."""
    plans = ExactSolver().solve(instances)
    frame = plans_to_frame(instances, plans)
    assert {len(column) for column in frame.values()} == {18}
    rows = [row for one, plan in zip(instances, plans, strict=True) for row in _users(one, plan)]
    for name, key in (("user", "id"), ("share", "share"), ("delay_s", "delay_s"), ("energy_j", "energy_j")):
        assert frame[name].tolist() == [row[key] for row in rows]
    assert frame["server"].tolist() == [row["server"] or "" for row in rows]
    assert ((frame["server_index"] == LOCAL) == (frame["server"] == "")).all()
    totals = np.bincount(frame["instance"], frame["cost"])
    assert totals == pytest.approx([plan.cost for plan in plans], rel=1e-12)
    assert set(frame["method"]) == {"exact"} and frame["feasible"].all()


def _users(instance, plan):
    return json.loads(plan_to_json(instance, plan))["users"]


def test_networks_of_other_sizes_and_without_a_plan_have_their_rows(instances):
    """An infeasible plan has no numbers; of a network without users there is no row."""
    small = InstanceBatch.from_scenarios(
        draw(ScenarioConfig(), Scale.parse("gs1_gu1_au0"), 1, np.random.default_rng(0))
    )
    empty = InstanceBatch.from_scenarios(
        draw(ScenarioConfig(), Scale.parse("gs1_gu0_au0"), 1, np.random.default_rng(0))
    )
    plans = [infeasible_plan(instances[0], "a"), make_plan(empty[0], [], "b"), ExactSolver().solve(small)[0]]
    frame = plans_to_frame([instances[0], empty[0], small[0]], plans)
    assert frame["instance"].tolist() == [0] * 6 + [2]
    assert frame["method"].tolist() == ["a"] * 6 + ["exact"]
    assert np.isnan(frame["cost"][:6]).all() and math.isclose(frame["cost"][6], plans[2].cost)
    assert frame["feasible"].tolist() == [False] * 6 + [True]


def test_no_plans_are_no_rows():
    """The columns have their types all the same."""
    frame = plans_to_frame([], [])
    assert {name: column.dtype.kind for name, column in frame.items() if len(column) == 0} == {
        **dict.fromkeys(("instance", "server_index"), "i"), **dict.fromkeys(("method", "user", "server"), "U"),
        **dict.fromkeys(("share", "delay_s", "energy_j", "cost"), "f"), "feasible": "b",
    }  # fmt: skip


def test_a_plan_for_each_instance_is_asked_for(instances):
    """One too few is no table."""
    with pytest.raises(ValueError, match=r"plans: Expected 3, one for each instance, got 2\. Give what `solve`"):
        plans_to_frame(instances, ExactSolver().solve(instances[:2]))


def test_a_notebook_shows_the_plan(instances):
    """Cost, gap, and where each user runs; reasons where there is no plan; names cannot be markup."""
    page = ExactSolver().solve(instances[:1])[0]._repr_html_()
    assert page.count("<tr>") == 7 and "certified gap 0.00 %" in page
    broken = make_plan(instances[0], np.zeros(6, dtype=int), "<b>", share=np.ones(6))
    assert "no feasible plan" in broken._repr_html_() and "its shares sum to 6, above 1" in broken._repr_html_()
    assert "<b>&lt;b&gt;</b>" in broken._repr_html_()
    named = infeasible_plan(instances[0], "x", ("<u0>",))
    assert "user &lt;u0&gt; cannot be served" in named._repr_html_()
