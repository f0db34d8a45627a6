"""The exact solver against brute force, SCIP on the raw cone program, and reference cases of an independent program."""

import itertools
import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from laegd.problem.feasibility import pack, packable
from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import make_plan, violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.columns import Columns, list_columns, offload_edges
from laegd.solvers.exact import ExactSolver
from laegd.solvers.limits import NO_LIMITS, Limits
from laegd.solvers.pricing import search_columns
from laegd.solvers.rounding import round_columns
from laegd.solvers.search import Search

REFERENCES = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))


def batch_of(scale: str, count: int, seed: int, **settings) -> InstanceBatch:
    scenarios = draw(ScenarioConfig(**settings), Scale.parse(scale), count, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(scenarios)


def server_cost(floor: np.ndarray, execute_cost: np.ndarray) -> float:
    """Least execution cost of one server: a root search for the price of its computing power."""
    if floor.sum() > 1:
        return np.inf

    def excess(price: float) -> float:
        return float(np.maximum(floor, np.sqrt(execute_cost / price)).sum() - 1.0)

    high = execute_cost.max() / floor.min() ** 2
    price = brentq(excess, 1e-9, high, xtol=1e-13, rtol=1e-14) if excess(high) < 0 else high
    return float((execute_cost / np.maximum(floor, np.sqrt(execute_cost / price))).sum())


def by_brute_force(instance: Instance) -> float:
    """Optimum over every assignment of every user."""
    costs, best = instance.costs, np.inf
    for places in itertools.product(range(-1, instance.num_servers), repeat=instance.num_users):
        server = np.array(places, dtype=np.int64)
        local = server == LOCAL
        users = np.flatnonzero(~local)
        if not costs.local_allowed[local].all() or not costs.usable[users, server[users]].all():
            continue
        total = costs.local_cost[local].sum() + costs.transmit_cost[users, server[users]].sum()
        for s in np.unique(server[users]):
            on = users[server[users] == s]
            total += server_cost(costs.min_share[on, s], costs.execute_cost[on, s])
        best = min(best, total)
    return best


def by_scip(instance: Instance) -> float:
    """Optimum of the program with shares as variables and J_exe / y as a rotated cone."""
    scip = pytest.importorskip("pyscipopt")
    costs, model = instance.costs, scip.Model()
    model.hideOutput()
    model.setParam("limits/gap", 1e-8)
    model.setParam("numerics/feastol", 1e-8)
    pairs = [(int(u), int(s)) for u, s in zip(*np.nonzero(costs.usable), strict=True)]
    x = {k: model.addVar(vtype="B") for k in pairs}
    y = {k: model.addVar(lb=0, ub=1) for k in pairs}
    t = {k: model.addVar(lb=0) for k in pairs}
    for k in pairs:
        model.addCons(t[k] * y[k] >= float(costs.execute_cost[k]) * x[k] * x[k])
        model.addCons(y[k] >= float(costs.min_share[k]) * x[k])
        model.addCons(y[k] <= x[k])
    for s in range(instance.num_servers):
        model.addCons(scip.quicksum(y[k] for k in pairs if k[1] == s) <= 1)
    objective = scip.quicksum(float(costs.transmit_cost[k]) * x[k] + t[k] for k in pairs)
    for u in range(instance.num_users):
        offloaded = scip.quicksum(x[k] for k in pairs if k[0] == u)
        model.addCons(offloaded <= 1 if costs.local_allowed[u] else offloaded == 1)
        objective += (1 - offloaded) * float(costs.local_cost[u])
    model.setObjective(objective)
    model.optimize()
    return model.getObjVal() if model.getStatus() in ("optimal", "gaplimit") else np.inf


@pytest.mark.parametrize("seed", range(8))
def test_optimum_equals_brute_force_on_tiny_instances(seed):
    """Five users and two ground servers, with and without a HAP; scarce servers make floors bind."""
    for settings in ({}, {"num_haps": 0, "gs_capacity_flops": 4e9}):
        for instance in batch_of("gs2_gu3_au2", 2, seed, **settings):
            plan, optimum = ExactSolver().solve_one(instance), by_brute_force(instance)
            assert plan.cost == pytest.approx(optimum, rel=1e-9)
            if plan.feasible:
                assert plan.lower_bound == plan.cost
                assert violations(instance, plan) == []


@pytest.mark.parametrize(("scale", "seed"), [("gs2_gu4_au2", 1), ("gs2_gu4_au2", 2), ("gs3_gu7_au5", 3)])
def test_optimum_equals_scip_on_the_cone_program(scale, seed):
    """SCIP knows nothing of sets of users or closed forms."""
    for instance in batch_of(scale, 2, seed):
        assert ExactSolver().solve_one(instance).cost == pytest.approx(by_scip(instance), rel=1e-6)


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_optimum_equals_the_reference(path):
    """An independent program, written from the paper, found the same optimum."""
    case = json.loads(path.read_text())
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(case["scenario"])))
    plan = ExactSolver().solve_one(instance)
    assert plan.cost == pytest.approx(case["optimum"], rel=1e-9)
    assert (plan.gap, violations(instance, plan)) == (0.0, [])


def random_plan(instance: Instance, rng: np.random.Generator):
    options = [np.flatnonzero(row) for row in instance.costs.usable]
    places = [rng.choice([LOCAL, *row]) if free else rng.choice(row) for row, free in
              zip(options, instance.costs.local_allowed, strict=True)]  # fmt: skip
    return make_plan(instance, np.array(places), "random")


def test_no_plan_costs_less_than_the_lower_bound():
    """The bound holds for random plans and for the optimum, and is within 1 % of the optimum."""
    rng, compared = np.random.default_rng(0), 0
    for instance in batch_of("gs2_gu3_au2", 12, 4):
        solver = ExactSolver()
        bound, plan = solver.lower_bound(instance), solver.solve_one(instance)
        if not plan.feasible:
            assert bound == np.inf
            continue
        assert 0.99 * plan.cost <= bound <= plan.cost
        for _ in range(50):
            other = random_plan(instance, rng)
            compared += other.feasible
            assert not other.feasible or other.cost >= plan.cost * (1 - 1e-12) >= bound * (1 - 1e-12)
    assert compared > 50


def test_an_infeasible_instance_names_users_that_conflict():
    """Without those users a feasible plan exists; the answer itself is local, infinite and unbounded."""
    batch = batch_of("gs3_gu7_au5", 300, 0)
    infeasible = batch.take(np.flatnonzero(~packable(batch.costs)))
    assert 1 <= len(infeasible) <= 12
    for instance, plan in zip(infeasible, ExactSolver().solve(infeasible), strict=True):
        assert not plan.feasible
        assert plan.unserved and set(plan.unserved) <= set(instance.user_ids)
        assert (plan.cost, plan.lower_bound, plan.gap) == (np.inf, None, None)
        unserved = np.isin(instance.user_ids, plan.unserved)
        assert not instance.costs.local_allowed[unserved].any()
        relieved = replace(
            instance, costs=instance.costs._replace(local_allowed=instance.costs.local_allowed | unserved)
        )
        assert ExactSolver().solve_one(relieved).unserved != plan.unserved


def test_a_hint_does_not_change_the_optimum(monkeypatch):
    """Neither the optimum itself as a hint, nor a poor plan, nor none; it is asked for only without a proof."""
    monkeypatch.setattr("laegd.solvers.search._PATIENCE_S", 0.0)
    solver, rng, asked = ExactSolver(max_columns=500), np.random.default_rng(1), []

    def hint(server):
        asked.append(server)
        return server

    for instance in batch_of("gs6_gu14_au10", 6, 2):
        plan = solver.solve_one(instance)
        for server in (plan.server, random_plan(instance, rng).server, None):
            hinted = solver.solve_one(instance, partial(hint, server))
            assert hinted.cost == pytest.approx(plan.cost, rel=1e-12)
            assert hinted.lower_bound == hinted.cost
    assert 0 < len(asked) < 3 * 6


def test_within_a_limit_a_hint_is_the_least_that_comes_out(monkeypatch):
    """An optimum as the hint of a search without time is what it answers."""
    monkeypatch.setattr("laegd.solvers.search._LAST_WAIT_S", 600.0)
    for instance in batch_of("gs6_gu14_au10", 12, 2):
        plan = ExactSolver().solve_one(instance)
        hurried = ExactSolver(time_limit_s=1e-6).solve_one(instance, partial(np.copy, plan.server))
        assert hurried.cost == pytest.approx(plan.cost)


def test_a_hint_that_does_not_come_is_not_waited_for(monkeypatch):
    """A network that compiles for minutes: limits hold, the search has its time, and the plan is its own."""
    never = threading.Event()
    monkeypatch.setattr("laegd.solvers.search._PATIENCE_S", 0.0)
    monkeypatch.setattr("laegd.solvers.search._FIRST_WAIT", 0.0)
    for instance in batch_of("gs6_gu14_au10", 3, 2):
        hurried = ExactSolver(time_limit_s=1e-6).solve_one(instance, never.wait)
        assert violations(instance, hurried) == [] and hurried.lower_bound <= hurried.cost
        patient = ExactSolver(time_limit_s=600.0, max_columns=500).solve_one(instance, never.wait)
        assert patient.cost == pytest.approx(ExactSolver().solve_one(instance).cost)
        assert patient.gap == pytest.approx(0.0, abs=1e-9)
    never.set()


def test_searching_for_columns_instead_of_listing_them_gives_the_same_optimum():
    """With room for a handful of columns every server is searched."""
    for instance in batch_of("gs3_gu7_au5", 6, 7):
        listed, searched = ExactSolver().solve_one(instance), ExactSolver(max_columns=200).solve_one(instance)
        assert searched.feasible == listed.feasible
        if listed.feasible:
            assert searched.lower_bound <= listed.cost * (1 + 1e-12)
            assert listed.cost * (1 - 1e-12) <= searched.cost <= 1.01 * listed.cost
            assert searched.gap < 0.01


@pytest.mark.parametrize("edges_at_once", [1, 30, 10**6])
def test_column_search_finds_what_the_list_holds(monkeypatch, edges_at_once):
    """Every listed set below the limit is found, at the same reduced cost; the certificate is the least of them."""
    monkeypatch.setattr("laegd.solvers.pricing._EDGES_AT_ONCE", edges_at_once)
    rng = np.random.default_rng(0)
    for instance in batch_of("gs3_gu7_au5", 10, 9):
        costs, num_users = instance.costs, instance.num_users
        edges = offload_edges(costs)
        columns, skipped = list_columns(edges, num_users, 10**6)
        assert not skipped.any()
        dual = -rng.uniform(0.2, 1.0, num_users) * costs.local_cost
        full = np.concatenate([dual, np.zeros(instance.num_servers)])
        reduced, server = columns.reduced_cost(full), columns.servers(num_users)
        limit, many = np.full(instance.num_servers, -20.0), np.full(instance.num_servers, 10**6)
        found = search_columns(edges, dual, limit, 0.0, many)
        expected = sorted(
            (round(float(value), 7), tuple(sorted(columns.row[a:b].tolist())))
            for value, a, b in zip(reduced, columns.start[:-1], columns.start[1:], strict=True)
            if value < -20
        )
        sets = found.columns
        actual = {
            (round(float(value), 7), tuple(sorted(sets.row[a:b].tolist())))
            for value, a, b in zip(found.reduced_cost, sets.start[:-1], sets.start[1:], strict=True)
        }
        assert found.complete.all()
        assert set(expected) <= actual
        for s in np.unique(server):
            least = reduced[server == s].min()
            assert found.least[s] <= least + 1e-9
            if least < -20:
                assert found.least[s] == pytest.approx(least, abs=1e-9)


def test_rounding_puts_each_user_where_it_is_cheapest():
    """Users that must offload first, then by what they cost at home; a server's cost is that of a root search."""
    for instance in batch_of("gs3_gu7_au5", 10, 13):
        costs, edges = instance.costs, offload_edges(instance.costs)

        def cost_with(place, users, costs=costs):
            users = np.array(users, dtype=np.int64)
            run = server_cost(costs.min_share[users, place], costs.execute_cost[users, place]) if len(users) else 0.0
            return run + costs.transmit_cost[users, place].sum()

        members = {place: [] for place in range(instance.num_servers)}
        for user in sorted(range(instance.num_users), key=lambda u: (costs.local_allowed[u], -costs.local_cost[u])):
            added = {
                place: cost_with(place, [*there, user]) - cost_with(place, there)
                for place, there in members.items()
                if costs.usable[user, place]
            }
            place = min(added, key=added.__getitem__, default=None)
            home = costs.local_cost[user] if costs.local_allowed[user] else np.inf
            if place is not None and added[place] < home:
                members[place].append(user)
        expected = np.full(instance.num_users, LOCAL)
        for place, users in members.items():
            expected[users] = place
        actual = round_columns(costs, edges, Columns.join([]), np.zeros(0))
        assert (actual == expected).all()


def test_rounding_gives_a_server_to_one_column_alone():
    """Of two sets of one server the larger is taken; all is as without the other, whose user may go elsewhere."""
    elsewhere = 0
    for instance in batch_of("gs3_gu7_au5", 3, 3):
        costs, num_users, edges = instance.costs, instance.num_users, offload_edges(instance.costs)
        for user, s in np.argwhere(costs.usable):
            other = next(u for u in np.flatnonzero(costs.usable[:, s]) if u != user)
            row = np.array([num_users + s, other, num_users + s, user])
            both, first = (
                Columns(np.zeros(2), np.array([0, 2, 4]), row),
                Columns(np.zeros(1), np.array([0, 2]), row[:2]),
            )
            server = round_columns(costs, edges, both, np.array([0.9, 0.8]))
            np.testing.assert_array_equal(server, round_columns(costs, edges, first, np.array([0.9])))
            elsewhere += server[other] == s and server[user] != s
    assert elsewhere > 10


@pytest.mark.parametrize("max_nodes", [1, 5])
def test_a_cut_search_still_certifies_its_bound(max_nodes):
    """With few sets kept, no listed column has a smaller reduced cost than the certificate."""
    for instance in batch_of("gs3_gu7_au5", 5, 11):
        num_users, edges = instance.num_users, offload_edges(instance.costs)
        columns, _ = list_columns(edges, num_users, 10**6)
        dual = -0.6 * instance.costs.local_cost
        reduced = columns.reduced_cost(np.concatenate([dual, np.zeros(instance.num_servers)]))
        for eagerness in (0.0, 0.5):
            nodes = np.full(instance.num_servers, max_nodes)
            for deadline in (np.inf, 0.0):
                found = search_columns(edges, dual, np.zeros(instance.num_servers), eagerness, nodes, Limits(deadline))
                least = np.minimum(found.least, 0.0)
                assert (reduced >= least[columns.servers(num_users)] - 1e-9).all()


def test_a_time_limit_gives_a_feasible_plan_with_a_certified_gap():
    """At any limit the plan is feasible and the bound lies below the optimum."""
    for instance in batch_of("gs6_gu14_au10", 3, 3):
        optimum = ExactSolver().solve_one(instance)
        for limit in (1e-6, 3e-3):
            plan = ExactSolver(time_limit_s=limit).solve_one(instance)
            assert violations(instance, plan) == [] and plan.lower_bound is not None
            assert plan.lower_bound <= optimum.cost * (1 + 1e-12) <= plan.cost * (1 + 2e-12)
            assert 0 <= plan.gap < 1


@pytest.mark.parametrize(
    ("scale", "settings"),
    [
        ("gs0_gu2_au1", {"num_haps": 0}),  # no server
        ("gs0_gu3_au1", {}),  # the HAP alone
        ("gs2_gu0_au0", {}),  # no user
        ("gs2_gu2_au2", {"num_haps": 3}),
        ("gs2_gu2_au2", {"num_haps": 0, "gs_coverage_radius_m": 1.0}),  # no edge
    ],
)
def test_unusual_networks_are_solved(scale, settings):
    """Any number of users, servers and edges is allowed, also none."""
    for instance in batch_of(scale, 3, 1, **settings):
        plan = ExactSolver().solve_one(instance)
        assert plan.cost == pytest.approx(by_brute_force(instance), rel=1e-9)
        assert plan.feasible == np.isfinite(plan.cost)
        assert ExactSolver().lower_bound(instance) <= plan.cost


@pytest.mark.parametrize("max_columns", [1, 200_000])
def test_the_search_goes_on_where_there_was_no_time_for_the_relaxation(max_columns):
    """The deadlines of the first two parts are apart: the relaxation's may be over before it is solved once."""
    checked = 0
    for instance in batch_of("gs6_gu16_au11", 4, 21):
        if (packed := pack(instance.costs)) is None:
            continue
        search = Search(instance.costs, packed, NO_LIMITS, max_columns)
        search.root_limits = Limits(deadline=0.0)
        search.dive(search.relax().columns)
        server, bound = search.best, search.relax().bound
        plan, optimum = make_plan(instance, server, "exact", 0.0, bound), ExactSolver().solve_one(instance)
        assert violations(instance, plan) == [] and bound <= optimum.cost * (1 + 1e-9) <= plan.cost * (1 + 2e-9)
        checked += 1
    assert checked


@pytest.mark.parametrize(
    ("field", "value"), [("time_limit_s", 0.0), ("time_limit_s", -1.0), ("time_limit_s", np.inf), ("max_columns", 0)]
)
def test_bad_settings_are_refused(field, value):
    """The error names the field."""
    with pytest.raises(ValueError, match=f"{field}: Expected"):
        ExactSolver(**{field: value})


@pytest.mark.slow
def test_a_dense_network_of_31_servers_and_150_users_is_solved_within_a_limit(clock):
    """Dozens of users in reach of each server: columns are searched; the certified gap stays below 0.1 %."""
    instance = batch_of("gs30_gu90_au60", 1, 3, gs_coverage_radius_m=2000.0)[0]
    plan = ExactSolver(time_limit_s=60.0).solve_one(instance)
    assert plan.feasible and violations(instance, plan) == []
    assert plan.seconds < 80 and plan.gap < 1e-3
