"""Alternating optimisation: its shares are the best ones, each round lowers the cost, and it ends where none does."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.problem.allocation import optimal_shares
from laegd.problem.feasibility import packable
from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost, violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.alternating import (
    AlternatingOptimization,
    allocate,
    decide,
    first_shares,
    next_shares,
    server_shares,
)
from laegd.solvers.random_execution import draw_plans

REFERENCE = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))


def reference(path):
    data = json.loads(path.read_text())
    return Instance.from_scenario(Scenario.from_json(json.dumps(data["scenario"]))), data["optimum"]


def drawn(scale, count, seed, **config):
    scenarios = draw(ScenarioConfig(**config), Scale.parse(scale), count, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(scenarios)


def with_costs(floor, execute, local, local_allowed):
    """An instance with given numbers and free links; a floor of 0 marks a server that cannot be used."""
    floor = np.array(floor, dtype=np.float64)
    instance = drawn(f"gs{floor.shape[1]}_gu{floor.shape[0]}_au0", 1, 0, num_haps=0, gs_coverage_radius_m=1e6)[0]
    costs = instance.costs._replace(
        min_share=floor,
        execute_cost=np.array(execute, dtype=np.float64),
        transmit_cost=np.zeros(floor.shape),
        local_cost=np.array(local, dtype=np.float64),
        local_allowed=np.array(local_allowed, dtype=bool),
    )
    return replace(instance, costs=costs)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_plans_are_feasible_and_never_below_the_certified_optimum(path):
    """No heuristic beats the optimum of an independent program (its tolerance is about 1e-7)."""
    instance, optimum = reference(path)
    plan = AlternatingOptimization().solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    assert plan.cost >= optimum * (1 - 1e-9)
    assert plan.method == "ao" and plan.lower_bound is None


def test_plans_are_not_worse_than_those_of_the_paper_on_average():
    """Table IV of the paper has ratios of 1.23 to 1.31, to a reference that is weaker than the optimum."""
    ratios = [AlternatingOptimization().solve([i])[0].cost / best for i, best in map(reference, REFERENCE)]
    assert np.mean(ratios) < 1.23


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.9, 2.5))
def test_a_plan_is_found_exactly_where_there_is_one(seed, deadline_s):
    """Short deadlines make users offload who then do not fit; an infeasible answer names users and costs inf."""
    batch = drawn("gs3_gu5_au3", 2, seed, deadline_s=deadline_s)
    for instance, plan, exists in zip(
        batch, AlternatingOptimization().solve(batch), packable(batch.costs), strict=True
    ):
        assert plan.feasible == exists
        if exists:
            assert violations(instance, plan) == []
        else:
            assert plan.cost == np.inf and plan.unserved and set(plan.unserved) <= set(instance.user_ids)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.floats(0.0, 1.0))
def test_programmed_shares_equal_the_closed_form(seed, num_users, filled):
    """Costs over three decades, floors that together take any part of the server, also all of it."""
    rng = np.random.default_rng(seed)
    floor = rng.dirichlet(np.ones(num_users)) * np.clip(filled, 1e-3, 1.0)
    execute = 10.0 ** rng.uniform(-1, 2, num_users)
    costs = with_costs(floor[:, None], execute[:, None], np.ones(num_users), [False] * num_users).costs
    server = np.zeros(num_users, dtype=np.int64)
    share, closed = server_shares(execute, floor), optimal_shares(costs, server)
    assert (share >= floor).all() and share.sum() <= 1 + 1e-12
    assert plan_cost(costs, server, share) == pytest.approx(float(plan_cost(costs, server, closed)), rel=1e-6)
    np.testing.assert_allclose(share, closed, atol=1e-4)
    start = floor + (1 - floor.sum()) / num_users
    assert (execute / share).sum() <= (execute / start).sum() * (1 + 1e-12)


def test_allocation_of_whole_plans_equals_the_closed_form():
    """On every server of random feasible plans, local users included."""
    for instance in drawn("gs6_gu14_au10", 5, 1, deadline_s=5.0):
        plans = draw_plans(instance.costs, 3, np.random.default_rng(0))
        assert plans is not None
        for server in plans[0]:
            share = allocate(instance.costs, server)
            closed = plan_cost(instance.costs, server, optimal_shares(instance.costs, server))
            assert is_feasible(instance.costs, server, share) and (share[server == LOCAL] == 0).all()
            assert plan_cost(instance.costs, server, share) == pytest.approx(float(closed), rel=1e-6)


def test_two_users_without_binding_floors_share_by_the_roots_of_their_costs():
    """Costs 9 and 1: shares 3/4 and 1/4."""
    share = server_shares(np.array([9.0, 1.0]), np.array([0.1, 0.1]))
    np.testing.assert_allclose(share, [0.75, 0.25], atol=1e-6)


def test_a_server_that_costs_nothing_is_shared_all_the_same():
    """No division by the cost; what the floors leave is halved."""
    np.testing.assert_allclose(server_shares(np.zeros(2), np.array([0.2, 0.4])), [0.4, 0.6], rtol=1e-12)


def test_first_shares_are_equal_parts_of_those_in_reach():
    """Server 0 reaches three users, server 1 one; user 1 needs more than a third."""
    floor = [[0.2, 0.3], [0.5, 0.0], [0.1, 0.0]]
    costs = with_costs(floor, np.ones((3, 2)), np.ones(3), [True] * 3).costs
    np.testing.assert_allclose(first_shares(costs), [[1 / 3, 1.0], [0.5, 0.0], [1 / 3, 0.0]])


def test_newcomers_get_a_share_by_the_roots_of_the_costs():
    """User 0, cost 4, is on server 0 and keeps its share. User 1, cost 1, would get 1 / (2 + 1) there; alone 1."""
    costs = with_costs([[0.1, 0.1], [0.1, 0.1]], [[4.0, 9.0], [1.0, 1.0]], np.ones(2), [True] * 2).costs
    share = next_shares(costs, np.array([0, LOCAL]), np.array([0.9, 0.0]))
    np.testing.assert_allclose(share, [[0.9, 1.0], [1 / 3, 1.0]])


def test_the_user_that_would_lose_most_goes_first():
    """One place, two users: at home they cost 3 and 50, offloaded 2 and 4. User 0 saves 1, user 1 saves 46."""
    costs = with_costs([[0.6], [0.6]], [[2.0], [4.0]], [3.0, 50.0], [True, True]).costs
    server = decide(costs, np.ones((2, 1)))
    assert server is not None and server.tolist() == [LOCAL, 0]


def test_users_stay_at_home_where_that_is_cheaper():
    """At half a server the task costs 2 / 0.5 = 4: more than 3.9, less than 4.1."""
    for home, where in ((3.9, LOCAL), (4.1, 0)):
        costs = with_costs([[0.1]], [[2.0]], [home], [True]).costs
        server = decide(costs, np.full((1, 1), 0.5))
        assert server is not None and server.tolist() == [where]


def test_users_that_greed_strands_are_packed():
    """Users 0 and 1 love different servers and would leave no room of 0.7 for user 2; they fit together."""
    floor, execute = [[0.5, 0.5], [0.5, 0.5], [0.7, 0.7]], [[1.0, 90.0], [90.0, 1.0], [5.0, 5.0]]
    instance = with_costs([*floor, [0.01, 0.01]], [*execute, [1.0, 1.0]], [1.0, 1.0, 1.0, 80.0], [*[False] * 3, True])
    plan = AlternatingOptimization().solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    assert plan.server[0] == plan.server[1] != plan.server[2] and plan.server[3] == plan.server[2]


def test_floors_that_do_not_fit_are_answered_with_the_users():
    """0.6 + 0.5 > 1, and neither may stay."""
    instance = with_costs([[0.6], [0.5], [0.1]], np.ones((3, 1)), np.ones(3), [False, False, True])
    plan = AlternatingOptimization().solve([instance])[0]
    assert not plan.feasible and plan.cost == np.inf and plan.unserved == instance.user_ids[:2]


def test_more_rounds_are_never_worse_and_they_end():
    """A round counts only if it lowers the cost; after twenty nothing changes any more."""
    rounds = (1, 2, 3, 20, 500)
    costs = np.array(
        [
            [AlternatingOptimization(max_rounds=n).solve([instance])[0].cost for n in rounds]
            for instance in drawn("gs3_gu7_au5", 12, 2, deadline_s=4.0)
        ]
    )
    assert (np.diff(costs, axis=1) <= 0).all() and (costs[:, 1] < costs[:, 0]).any()
    np.testing.assert_array_equal(costs[:, -2], costs[:, -1])


def test_one_user_is_served_optimally():
    """It gets the whole of a server, J_tr + J_exe, or stays: against every place it has."""
    for instance in drawn("gs3_gu0_au1", 20, 3, deadline_s=3.0):
        costs = instance.costs
        offloaded = np.where(costs.usable, costs.transmit_cost + costs.execute_cost, np.inf).min()
        best = min(offloaded, costs.local_cost[0] if costs.local_allowed[0] else np.inf)
        assert AlternatingOptimization().solve([instance])[0].cost == pytest.approx(best, rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_renumbering_users_leaves_the_cost(seed, order):
    """No user gains by its index."""
    scenario = draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 1, np.random.default_rng(seed)).scenario(0)
    renumbered = msgspec.structs.replace(scenario, users=tuple(scenario.users[i] for i in order))
    instances = [Instance.from_scenario(scenario), Instance.from_scenario(renumbered)]
    first, second = AlternatingOptimization().solve(instances)
    assert second.cost == pytest.approx(first.cost, rel=1e-6)


def test_an_instance_gets_the_same_plan_whatever_is_beside_it():
    """Nothing is carried from one instance to the next."""
    instances = list(drawn("gs3_gu7_au5", 4, 4))
    together, backwards = (AlternatingOptimization().solve(order) for order in (instances, instances[::-1]))
    for one, other in zip(together, backwards[::-1], strict=True):
        assert one.server.tobytes() == other.server.tobytes() and one.share.tobytes() == other.share.tobytes()


@pytest.mark.parametrize("scale", ["gs0_gu3_au1", "gs2_gu0_au0", "gs0_gu0_au0"])
@pytest.mark.parametrize("num_haps", [0, 1])
def test_networks_without_servers_or_users_are_answered(scale, num_haps):
    """Everyone runs at home, or there is no one."""
    instance = drawn(scale, 1, 0, num_haps=num_haps, deadline_s=10.0)[0]
    plan = AlternatingOptimization().solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    assert plan.cost <= instance.costs.local_cost.sum() * (1 + 1e-12)


def test_no_instances_give_no_plans():
    """An empty list is a list."""
    assert AlternatingOptimization().solve([]) == []


def test_no_round_is_refused():
    """At least one decision is needed."""
    with pytest.raises(ValueError, match=r"^max_rounds: Expected at least 1"):
        AlternatingOptimization(max_rounds=0)
