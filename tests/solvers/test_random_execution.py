"""Random execution: chance within the constraints, and the same chance for an instance wherever it is solved."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.problem.feasibility import packable
from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost, violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.random_execution import RandomExecution, draw_plans, stream

REFERENCE = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))


def drawn(scale, count, seed, **config):
    scenarios = draw(ScenarioConfig(**config), Scale.parse(scale), count, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(scenarios)


def with_floors(floor, local_allowed):
    """An instance whose floors are given, 0 where a server cannot be used; other numbers are drawn."""
    floor = np.array(floor, dtype=np.float64)
    instance = drawn(f"gs{floor.shape[1]}_gu{floor.shape[0]}_au0", 1, 0, num_haps=0, gs_coverage_radius_m=1e6)[0]
    costs = instance.costs._replace(min_share=floor, local_allowed=np.array(local_allowed, dtype=bool))
    return replace(instance, costs=costs)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_plans_are_feasible_and_never_below_the_certified_optimum(path):
    """No chance beats the optimum of an independent program (its tolerance is about 1e-7)."""
    data = json.loads(path.read_text())
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(data["scenario"])))
    plan = RandomExecution().solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    assert plan.cost >= data["optimum"] * (1 - 1e-9)
    assert plan.method == "re" and plan.lower_bound is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.9, 2.5))
def test_a_plan_is_found_exactly_where_there_is_one(seed, deadline_s):
    """Short deadlines make users offload who then do not fit; an infeasible answer names users and costs inf."""
    batch = drawn("gs3_gu5_au3", 2, seed, deadline_s=deadline_s)
    for instance, plan, exists in zip(batch, RandomExecution().solve(batch), packable(batch.costs), strict=True):
        assert plan.feasible == exists
        if exists:
            assert violations(instance, plan) == []
        else:
            assert plan.cost == np.inf and plan.unserved and set(plan.unserved) <= set(instance.user_ids)


def test_every_candidate_obeys_every_constraint_and_uses_its_servers_fully():
    """At these deadlines both kinds of users are there: those that may stay and those that must offload."""
    batch = drawn("gs6_gu14_au10", 20, 1, deadline_s=1.6)
    must_offload = ~batch.costs.local_allowed
    assert must_offload.any() and not must_offload.all()
    for instance in batch:
        plans = draw_plans(instance.costs, 16, np.random.default_rng(2))
        if plans is None:
            continue
        server, share = plans
        assert is_feasible(instance.costs, server, share).all()
        for s in range(instance.num_servers):
            total = np.where(server == s, share, 0.0).sum(axis=1)
            np.testing.assert_allclose(total[(server == s).any(axis=1)], 1.0, rtol=1e-9)


def test_users_that_chance_strands_are_packed():
    """Users 0 and 1 must be together, user 2 alone; where a draw parts 0 and 1, user 2 finds no room."""
    instance = with_floors([[0.5, 0.5], [0.4, 0.4], [0.7, 0.7]], [False] * 3)
    plans = draw_plans(instance.costs, 200, np.random.default_rng(3))
    assert plans is not None and is_feasible(instance.costs, *plans).all()
    server = plans[0]
    assert (server[:, 0] == server[:, 1]).all() and (server[:, 2] == 1 - server[:, 0]).all()


def test_users_that_must_offload_come_first():
    """The server has room for one of three; it is always the one that cannot stay at home."""
    instance = with_floors([[0.9], [0.9], [0.9]], [True, False, True])
    plans = draw_plans(instance.costs, 100, np.random.default_rng(4))
    assert plans is not None and (plans[0] == [LOCAL, 0, LOCAL]).all()


def test_binding_floors_are_the_shares():
    """Floors 0.6 and 0.4 fill the server: nothing is left to chance."""
    instance = with_floors([[0.6], [0.4]], [False, False])
    plan = RandomExecution().solve([instance])[0]
    assert plan.server.tolist() == [0, 0]
    np.testing.assert_allclose(plan.share, [0.6, 0.4], rtol=1e-12)


def test_floors_that_do_not_fit_are_answered_with_the_users():
    """0.6 + 0.5 > 1, and neither may stay."""
    instance = with_floors([[0.6], [0.5], [0.1]], [False, False, True])
    plan = RandomExecution().solve([instance])[0]
    assert not plan.feasible and plan.cost == np.inf
    assert plan.unserved == instance.user_ids[:2]


def test_allowed_places_are_equally_likely():
    """Two servers and home, a third server out of use: each 1/3, within five standard deviations of 6,000 draws."""
    instance = with_floors([[0.1, 0.2, 0.0]], [True])
    plans = draw_plans(instance.costs, 6000, np.random.default_rng(5))
    assert plans is not None
    counts = np.array([(plans[0] == place).sum() for place in (LOCAL, 0, 1)])
    assert counts.sum() == 6000 and np.abs(counts - 2000).max() < 5 * np.sqrt(6000 * 2 / 9)


def test_what_the_floors_leave_is_split_uniformly():
    """Floors 0.1 and 0.3 of one server: the first share is uniform on [0.1, 0.7], mean 0.4, sd 0.6 / sqrt(12)."""
    instance = with_floors([[0.1], [0.3]], [False, False])
    plans = draw_plans(instance.costs, 4000, np.random.default_rng(6))
    assert plans is not None
    first, spread = plans[1][:, 0], 0.6 / np.sqrt(12)
    assert 0.1 <= first.min() < 0.11 and 0.69 < first.max() <= 0.7
    assert abs(first.mean() - 0.4) < 5 * spread / np.sqrt(4000) and abs(first.std() / spread - 1) < 0.05


def test_the_plan_is_the_cheapest_of_its_candidates():
    """Best of eight by true cost."""
    for instance in drawn("gs3_gu7_au5", 5, 7, deadline_s=5.0):
        plans = draw_plans(instance.costs, 8, stream(0, instance))
        assert plans is not None
        best = plan_cost(instance.costs, *plans).min()
        assert RandomExecution().solve([instance])[0].cost == pytest.approx(best, rel=1e-12)


def test_more_candidates_are_never_worse():
    """The first candidates are the same whatever their number."""
    for instance in drawn("gs3_gu7_au5", 6, 8, deadline_s=5.0):
        costs = [RandomExecution(num_candidates=n).solve([instance])[0].cost for n in (1, 2, 8, 32, 128)]
        assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]


def test_an_instance_gets_the_same_plan_whatever_is_beside_it():
    """Alone, in a list, backwards and read back from a file: to the last bit."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 5, np.random.default_rng(9))
    batch = InstanceBatch.from_scenarios(scenarios)
    together, backwards = (RandomExecution().solve(order) for order in (batch, list(batch)[::-1]))
    for i, (one, other) in enumerate(zip(together, backwards[::-1], strict=True)):
        stored = Instance.from_scenario(Scenario.from_json(scenarios.scenario(i).to_json()))
        for plan in (other, *RandomExecution().solve([batch[i]]), *RandomExecution().solve([stored])):
            assert plan.server.tobytes() == one.server.tobytes()
            np.testing.assert_allclose(plan.share, one.share, rtol=1e-12)


def test_instances_and_seeds_have_streams_of_their_own():
    """Four instances under three seeds: twelve different beginnings."""
    first = {stream(seed, one).random() for seed, one in product(range(3), drawn("gs2_gu4_au2", 4, 10))}
    assert len(first) == 12


@pytest.mark.parametrize("scale", ["gs0_gu3_au1", "gs2_gu0_au0", "gs0_gu0_au0", "gs2_gu1_au0"])
@pytest.mark.parametrize("num_haps", [0, 1])
def test_networks_without_servers_or_users_are_answered(scale, num_haps):
    """Everyone runs at home, or there is no one, or one user alone has all of a server."""
    instance = drawn(scale, 1, 0, num_haps=num_haps, deadline_s=10.0)[0]
    plan = RandomExecution().solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    if instance.num_servers == 0:
        assert plan.cost == pytest.approx(instance.costs.local_cost.sum(), rel=1e-12)
    if instance.num_users == 1:
        assert plan.share[0] in (0.0, pytest.approx(1.0, rel=1e-12))


def test_no_instances_give_no_plans():
    """An empty list is a list."""
    assert RandomExecution().solve([]) == []


@pytest.mark.parametrize(("field", "value"), [("num_candidates", 0), ("seed", -1)])
def test_bad_settings_are_refused(field, value):
    """The error names the field."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        RandomExecution(**{field: value})
