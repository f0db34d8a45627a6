"""The min-cost-flow heuristic: feasible, never better than possible, and blind to the order of users."""

import json
from itertools import product
from pathlib import Path

import msgspec
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost, violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.mcmf import MCMF_SEARCH, FlowNetwork, MCMFSolver, _guess, improve, most_users, repair, to_networkx

REFERENCE = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))


def reference(path):
    data = json.loads(path.read_text())
    return Instance.from_scenario(Scenario.from_json(json.dumps(data["scenario"]))), data["optimum"]


def drawn_scenarios(scale, count, seed, **config):
    batch = draw(ScenarioConfig(**config), Scale.parse(scale), count, np.random.default_rng(seed))
    return [batch.scenario(i) for i in range(count)]


def drawn(scale, count, seed, **config):
    return [Instance.from_scenario(scenario) for scenario in drawn_scenarios(scale, count, seed, **config)]


def best_of_all(instance):
    """Returns the cheapest cost over every assignment there is; inf where none is feasible."""
    options = [
        [s for s in range(instance.num_servers) if instance.costs.usable[u, s]] + [LOCAL] * bool(allowed)
        for u, allowed in enumerate(instance.costs.local_allowed)
    ]
    server = np.array(list(product(*options)), dtype=np.int64).reshape(-1, instance.num_users)
    if not len(server):
        return np.inf
    share = optimal_shares(instance.costs, server)
    return np.where(is_feasible(instance.costs, server, share), plan_cost(instance.costs, server, share), np.inf).min()


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
@pytest.mark.parametrize("local_search", [False, True])
def test_plans_are_feasible_and_never_below_the_certified_optimum(path, local_search):
    """No heuristic beats the optimum of an independent program (its tolerance is about 1e-7)."""
    instance, optimum = reference(path)
    plan = MCMFSolver(local_search=local_search).solve([instance])[0]
    assert plan.feasible and violations(instance, plan) == []
    assert plan.cost >= optimum * (1 - 1e-9)
    assert plan.method == "mcmf" and plan.lower_bound is None


def test_plans_are_near_the_certified_optimum_on_average():
    """A label heuristic must be far better than random execution, which is 2 times the optimum and more."""
    ratios = {
        search: np.mean(
            [MCMFSolver(local_search=search).solve([i])[0].cost / best for i, best in map(reference, REFERENCE)]
        )
        for search in (False, True)
    }
    assert ratios[False] < 1.25 and ratios[True] < 1.05


def test_more_weight_vectors_are_never_worse():
    """The first vectors are the same whatever their number, so the best can only get better."""
    for instance in drawn("gs3_gu7_au5", 6, 1):
        costs = [MCMFSolver(num_weights=n).solve([instance])[0].cost for n in (1, 2, 4, 8, 16)]
        assert costs == sorted(costs, reverse=True)


def test_local_search_is_never_worse():
    """It only takes steps that lower the cost."""
    for instance in drawn("gs3_gu7_au5", 6, 2):
        plain, searched = (MCMFSolver(local_search=search).solve([instance])[0].cost for search in (False, True))
        assert searched <= plain or plain == searched == np.inf


def test_the_searched_reference_is_between_the_label_and_the_optimum():
    """On small reference cases; its name keeps it apart from the label."""
    assert MCMF_SEARCH.name == "mcmf-search" and MCMF_SEARCH.local_search
    for instance, optimum in map(reference, REFERENCE[:4]):
        label, searched = MCMFSolver().solve([instance])[0], MCMF_SEARCH.solve([instance])[0]
        assert violations(instance, searched) == [] and searched.method == "mcmf-search"
        assert optimum * (1 - 1e-9) <= searched.cost <= label.cost


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(6)), st.booleans())
def test_renumbering_users_leaves_the_cost(seed, order, local_search):
    """No user gains by its index."""
    scenario = drawn_scenarios("gs2_gu4_au2", 1, seed)[0]
    renumbered = msgspec.structs.replace(scenario, users=tuple(scenario.users[i] for i in order))
    solver = MCMFSolver(num_weights=4, local_search=local_search)
    first, second = solver.solve([Instance.from_scenario(scenario), Instance.from_scenario(renumbered)])
    assert second.cost == pytest.approx(first.cost, rel=1e-9)


def test_an_instance_gets_the_same_plan_whatever_is_beside_it():
    """No random state is carried from one instance to the next."""
    instances = drawn("gs3_gu7_au5", 4, 3)
    solver = MCMFSolver()
    together, backwards = solver.solve(instances), solver.solve(instances[::-1])[::-1]
    for instance, one, other in zip(instances, together, backwards, strict=True):
        alone = solver.solve([instance])[0]
        for plan in (one, other):
            assert plan.cost == alone.cost and plan.server.tobytes() == alone.server.tobytes()
            assert plan.share.tobytes() == alone.share.tobytes()


def test_the_seed_is_used():
    """Other weights, other plans, on at least one of several instances."""
    instances = drawn("gs6_gu14_au10", 3, 4)
    costs = [[plan.cost for plan in MCMFSolver(num_weights=4, seed=seed).solve(instances)] for seed in (0, 1)]
    assert costs[0] != costs[1]


def test_small_networks_are_solved_within_bounds_and_their_infeasibility_is_found():
    """Against every assignment of 5 users to 3 servers; deadlines are short, so many networks have no plan."""
    outcomes = set()
    for instance in drawn("gs2_gu3_au2", 40, 5, deadline_s=1.1):
        best, plan = best_of_all(instance), MCMFSolver(num_weights=4).solve([instance])[0]
        assert plan.feasible == (best < np.inf)
        assert plan.cost >= best * (1 - 1e-9)
        assert plan.feasible or (plan.unserved and set(plan.unserved) <= set(instance.user_ids))
        outcomes.add(plan.feasible)
    assert outcomes == {True, False}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.9, 2.5))
def test_plans_obey_every_constraint_whenever_the_network_allows_it(seed, deadline_s):
    """Whatever the deadline; an infeasible answer names users and costs inf."""
    instance = drawn("gs3_gu5_au3", 1, seed, deadline_s=deadline_s)[0]
    plan = MCMFSolver(num_weights=3).solve([instance])[0]
    if plan.feasible:
        assert violations(instance, plan) == []
    else:
        assert plan.cost == np.inf and plan.unserved


def flow_cost(network: FlowNetwork, server: np.ndarray) -> float:
    """Returns what an assignment costs as a flow: edges, runs at home, and the first slots of each server."""
    users, away = np.arange(len(server)), server != LOCAL
    number = np.bincount(server[away], minlength=len(network.slots))
    assert (number <= network.slots).all()
    slots = sum(network.slot_costs(s)[:k].sum() for s, k in enumerate(number))
    return network.home_cost[~away].sum() + network.edge_cost[users[away], server[away]].sum() + slots


@pytest.mark.parametrize(("scale", "count"), [("gs2_gu4_au2", 4), ("gs3_gu7_au5", 2), ("gs6_gu14_au10", 1)])
@pytest.mark.parametrize("deadline_s", [1.0, 1.5, 10.0])
def test_an_assignment_costs_what_the_flow_of_networkx_costs(scale, count, deadline_s):
    """The network simplex on the exported graph, for every guess, also where users are left without a server."""
    for instance in drawn(scale, count, 12, deadline_s=deadline_s):
        most, rng = most_users(instance.costs), np.random.default_rng(5)
        for index in range(4):
            network = FlowNetwork.of(instance.costs, *_guess(rng, most, index))
            cost, _ = nx.network_simplex(network.to_networkx())
            assert flow_cost(network, network.assign()) == cost


@pytest.mark.parametrize("num_servers", [0, 1, 3])
def test_equal_users_and_free_slots_are_assigned_like_flows(num_servers):
    """Exact ties, surcharges of nothing and servers that cost as much as home: the cost is that of networkx."""
    rng = np.random.default_rng(num_servers)
    for _ in range(10):
        costs = rng.integers(0, 3, (6, num_servers)).astype(float)
        home = rng.choice([1.0, 2.0, 1e12], 6)
        surcharge, slots = rng.integers(0, 2, num_servers).astype(float), rng.integers(0, 4, num_servers)
        network = FlowNetwork(np.where(rng.random(costs.shape) < 0.3, np.inf, costs), home, surcharge, slots)
        cost, _ = nx.network_simplex(network.to_networkx())
        assert flow_cost(network, network.assign()) == cost


def test_the_exported_graph_is_the_plain_network():
    """One node a user, one a server and the sink; an edge per usable pair, per slot and per user to its home."""
    (instance,) = drawn("gs3_gu7_au5", 1, 0)
    graph, most = to_networkx(instance), most_users(instance.costs)
    assert set(graph) == {"sink", *(("user", u) for u in range(12)), *(("server", s) for s in range(4))}
    assert graph.number_of_edges() == instance.costs.usable.sum() + most.sum() + 12
    weights = [weight for _, _, weight in graph.edges(data="weight")]
    assert all(isinstance(weight, int) for weight in weights)


def test_one_flow_finds_the_cheapest_assignment_where_users_do_not_meet():
    """With one slot a server and no surcharge the flow is an assignment problem: against every assignment."""
    for instance in drawn("gs2_gu4_au2", 10, 6, deadline_s=50.0):
        costs, one_each = instance.costs, np.ones(instance.num_servers, dtype=np.int64)
        server = FlowNetwork.of(costs, np.ones(instance.num_servers), one_each, equal_shares=False).assign()

        def total(server, costs=costs):
            users = np.arange(len(server))
            offloaded = (costs.transmit_cost + costs.execute_cost)[users, np.maximum(server, 0)]
            return np.where(np.array(server) == LOCAL, costs.local_cost, offloaded).sum()

        options = [[*np.flatnonzero(costs.usable[u]), LOCAL] for u in range(instance.num_users)]
        alone = [a for a in product(*options) if len({s for s in a if s != LOCAL}) == sum(s != LOCAL for s in a)]
        assert total(server) == pytest.approx(min(total(np.array(a)) for a in alone), rel=1e-6)


def test_equal_shares_respect_the_floors():
    """Where the guess says four users share a server, nobody is sent there whose floor is above a quarter."""
    for instance in drawn("gs3_gu7_au5", 5, 7):
        four = np.full(instance.num_servers, 4, dtype=np.int64)
        server = FlowNetwork.of(instance.costs, np.ones(instance.num_servers), four, equal_shares=True).assign()
        away = np.flatnonzero(server != LOCAL)
        assert (instance.costs.min_share[away, server[away]] <= 0.25 + 1e-9).all()
        assert np.bincount(server[away], minlength=instance.num_servers).max() <= 4


def test_repair_leaves_a_feasible_assignment_of_users_who_must_offload_alone():
    """Nothing is moved that need not be."""
    instance, _ = reference(REFERENCE[0])
    plan = MCMFSolver(local_search=True).solve([instance])[0]
    np.testing.assert_array_equal(repair(instance.costs, plan.server, plan.server), plan.server)


def test_local_search_stops_where_no_move_and_no_swap_helps():
    """A second search finds nothing."""
    for instance in drawn("gs2_gu4_au2", 5, 8):
        plan = MCMFSolver(num_weights=1).solve([instance])[0]
        once = improve(instance.costs, plan.server)
        np.testing.assert_array_equal(improve(instance.costs, once), once)


def test_most_users_counts_the_smallest_floors():
    """Floors 0.5, 0.3, 0.2 and 0.1 beside an unusable pair: 0.1 + 0.2 + 0.3 fit, 0.5 more does not."""
    instance = drawn("gs1_gu5_au0", 1, 9, num_haps=0)[0]
    floor = np.array([[0.5], [0.3], [0.2], [0.1], [0.0]])
    costs = instance.costs._replace(min_share=floor, covered=np.ones((5, 1), dtype=bool))
    assert most_users(costs).tolist() == [3]


@pytest.mark.parametrize("scale", ["gs0_gu3_au1", "gs2_gu0_au0", "gs0_gu0_au0"])
@pytest.mark.parametrize("num_haps", [0, 1])
@pytest.mark.parametrize("local_search", [False, True])
def test_networks_without_servers_or_users_are_answered(scale, num_haps, local_search):
    """Everyone runs at home, or there is no one."""
    instance = drawn(scale, 1, 0, num_haps=num_haps, deadline_s=10.0)[0]
    plan = MCMFSolver(local_search=local_search).solve([instance])[0]
    assert plan.feasible and len(plan.server) == instance.num_users
    assert plan.cost <= instance.costs.local_cost.sum() * (1 + 1e-12)


def test_no_instances_give_no_plans():
    """An empty list is a list, and a batch is a sequence."""
    assert MCMFSolver().solve([]) == []
    batch = InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale(2, 4, 2), 2, np.random.default_rng(0)))
    assert [p.cost for p in MCMFSolver().solve(batch)] == [MCMFSolver().solve([i])[0].cost for i in batch]


def test_no_weight_vector_is_refused():
    """At least one flow is needed."""
    with pytest.raises(ValueError, match=r"^num_weights: Expected at least 1"):
        MCMFSolver(num_weights=0)


def test_flows_of_more_edges_than_memory_holds_are_refused(monkeypatch):
    """Pairs that can be used and the servers' slots count; the limit itself is taken."""
    (instance,) = drawn("gs2_gu4_au2", 1, 3)
    edges = int(instance.costs.usable.sum() + most_users(instance.costs).sum())
    monkeypatch.setattr("laegd.solvers.mcmf._MAX_EDGES", edges)
    assert MCMFSolver().solve([instance])[0].feasible
    monkeypatch.setattr("laegd.solvers.mcmf._MAX_EDGES", edges - 1)
    with pytest.raises(ValueError, match=f"users, servers: Expected at most {edges - 1} edges of a flow, got {edges}"):
        MCMFSolver().solve([instance])
