"""Every solver on networks at the edges: extreme numbers, ties, full servers, nobody in reach, nothing in time."""

import math
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import independent
import numpy as np
import pytest
import wild
from checks import check, check_against_optimum, check_refusal
from hypothesis import given, seed, settings
from scipy.optimize import LinearConstraint, milp

from laegd.problem import feasibility
from laegd.problem.instance import LOCAL, Instance
from laegd.solvers.alternating import AlternatingOptimization
from laegd.solvers.exact import ExactSolver, lower_bound
from laegd.solvers.mcmf import MCMF_SEARCH, MCMFSolver
from laegd.solvers.random_execution import RandomExecution

# Run-time type checks draw random numbers while networks are drawn, which Hypothesis takes for the strategy's doing.
pytestmark = pytest.mark.filterwarnings(
    "error",
    "ignore::hypothesis.errors.HypothesisDeprecationWarning",
    "ignore:exact.*more sets of users than max_columns",  # of the solver that may list none
)

HURRIED = ExactSolver(name="exact@1e-6", time_limit_s=1e-6)
SEARCHED = ExactSolver(name="searched", max_columns=1)  # every server is searched, none is listed
SOLVERS = (
    *(ExactSolver(), HURRIED, SEARCHED, RandomExecution(), AlternatingOptimization(), MCMFSolver()),
    replace(MCMF_SEARCH, num_weights=8),
)
EXACT_AND_QUICK = (HURRIED, RandomExecution(), AlternatingOptimization(), MCMFSolver(num_weights=2))


def solve(solver, scenario):
    (plan,) = solver.solve([Instance.from_scenario(scenario)])
    return plan


def check_all(scenario) -> float:
    """Checks every solver's plan; returns the certified optimum."""
    exact = None
    for solver in SOLVERS:
        plan = solve(solver, scenario)
        optimum = check_against_optimum(scenario, plan)
        exact = exact or plan  # the first one
        assert plan.feasible == exact.feasible, solver.name
        if plan.feasible:
            assert plan.cost >= exact.cost * (1 - 1e-9), solver.name
    assert exact is not None
    if exact.feasible:
        assert exact.gap <= 1e-9 and exact.cost <= optimum * (1 + 1e-8)
    return exact.cost


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_users_of_whom_nobody_knows_whether_they_fit_are_answered_within_moments(solver, monkeypatch, clock):
    """Sixty users who must offload to twenty servers, which three of a mean size would just fill: no plan, no proof."""
    monkeypatch.setattr(feasibility, "_PATIENCE_S", 0.1)
    floor = np.random.default_rng(1).uniform(0.24, 0.46, 60)
    work = 19.9 * 1.2e10 * floor / floor.sum()  # of servers that have a second
    users = [
        wild.user(i, workload_flop=flop, task_bits=1e-3, capacity_flops=1e3, deadline_s=1.0)
        for i, flop in enumerate(work.tolist())
    ]
    scenario = wild.network([wild.server(s, "GS") for s in range(20)], users)
    begin = clock.perf_counter()
    plan = solve(solver, scenario)
    assert (plan.feasible, plan.unserved, plan.cost) == (False, (), np.inf)
    assert clock.perf_counter() - begin < 30.0  # HiGHS alone searches for ten minutes and more
    assert 0 < lower_bound(Instance.from_scenario(scenario)) < np.inf


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(wild.scenarios())
def test_every_solver_plans_wild_networks_within_every_constraint(scenario):
    """Any numbers, ties and deadlines: sound plans, never below the optimum; exact finds it, and proves it."""
    check_all(scenario)


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_every_solver_plans_many_wild_networks_within_every_constraint(tenth):
    """The same, longer and with more users."""

    @seed(tenth)
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(wild.scenarios(num_users=(1, 7), num_servers=(0, 3)))
    def checked(scenario):
        check_all(scenario)

    checked()


@pytest.mark.parametrize("decade", [-12, -9, -3, 0, 3, 9])
def test_the_optimum_is_found_at_any_size_of_costs(decade):
    """Ten powers of ten less to do in as much less time: the same plan at a cost as much smaller."""
    costs = []
    for size in (1.0, 10.0**decade):
        sizes = [(0.8, 0.0), (1.3, 100.0), (1.0, 400.0), (0.5, 600.0), (2.0, 200.0)]
        users = [
            wild.user(u, "GU", x_m, deadline_s=3.0 * size, workload_flop=4e9 * part * size, task_bits=4e6 * part * size)
            for u, (part, x_m) in enumerate(sizes)
        ]
        costs.append(check_all(wild.network([wild.server(0, "GS"), wild.server(1, "GS", 500.0)], users)))
    assert costs[1] == pytest.approx(costs[0] * 10.0**decade, rel=1e-9)


def test_costs_of_eighteen_powers_of_ten_lie_side_by_side():
    """A user whose run at home costs over 1e8 beside four of less than 1e-9: the small ones are placed as if alone."""
    small = {"workload_flop": 4e-3, "task_bits": 4e-6, "deadline_s": 1e-11}
    users = [wild.user(u, "GU", 100.0 * u, **small | {"workload_flop": (2 + u) * 1e-3}) for u in range(4)]
    dear = wild.user(9, "GU", 3e4, deadline_s=1e9, workload_flop=1e15, capacity_flops=1e10)
    servers = [wild.server(0, "GS"), wild.server(1, "GS", 500.0)]
    alone, home = (solve(ExactSolver(), wild.network(servers, some)) for some in (users, [dear]))
    assert alone.cost < 1e-9 and home.cost > 1e8
    check_all(wild.network(servers, users))
    check_all(wild.network(servers, [*users, dear]))
    # in reach, it takes a part of a server off the small ones, and stays away from a plan's cost
    tempted = wild.changed(dear, x_m=100.0, workload_flop=1e6, capacity_flops=1e15, task_bits=1e-6)
    assert (
        solve(ExactSolver(), wild.network(servers, [tempted])).cost
        < 1.0
        < independent.local_cost(wild.network(servers, [tempted]), tempted)
    )
    check_all(wild.network(servers, [*users, tempted]))


@pytest.mark.parametrize("ulps", [-3, 0, 1])
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_floors_that_sum_to_one_fill_a_server(count, ulps):
    """Equal users that need 1 / k of a server each are served, whichever way their floors are rounded."""
    scenario = wild.full_server(count, ulps)
    total = sum(row[0] for row in independent.floors(scenario))
    assert abs(total - 1) < 1e-12
    for solver in SOLVERS:
        plan = solve(solver, scenario)
        check(scenario, plan)
        assert plan.feasible, solver.name
        np.testing.assert_allclose(plan.share, 1 / count, rtol=1e-9)


@pytest.mark.parametrize(("count", "servers"), [(7, 1), (20, 1), (3, 3)])
def test_full_servers_leave_no_room_for_one_more(count, servers):
    """Servers filled by equal users are planned; with one user more the answer names one more than fit on a server."""
    scenario = wild.full_server(count, servers=servers)
    one_more = wild.network(scenario.servers, [*scenario.users, wild.changed(scenario.users[0], id="more")])
    for solver in (ExactSolver(), *EXACT_AND_QUICK):
        plan, refusal = solve(solver, scenario), solve(solver, one_more)
        check(scenario, plan)
        assert plan.feasible and np.bincount(plan.server).tolist() == [count] * servers
        assert not refusal.feasible and len(refusal.unserved) == count * servers + 1


def test_a_user_exactly_at_its_deadline_is_in_time():
    """Local run and offloaded run that end with the deadline, to the last bit, are in time; a little less is not."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        numbers = {field: float(value * rng.uniform(0.5, 2.0)) for field, value in wild.USUAL.items()}
        one, gs = wild.user(0, **numbers), wild.server(0, "GS")
        edge = independent.link(wild.network([gs], [one]), gs, one)
        assert edge is not None
        home_s, away_s = independent.local_delay_s(one), edge.transmit_s + edge.execute_s
        for servers, delay_s in (([], home_s), ([gs], away_s)):
            now = wild.changed(one, deadline_s=delay_s, capacity_flops=1.0 if servers else one.capacity_flops)
            late = wild.changed(now, deadline_s=delay_s * (1 - 4e-9))
            for solver in EXACT_AND_QUICK:
                assert solve(solver, wild.network(servers, [now])).feasible, solver.name
                assert not solve(solver, wild.network(servers, [late])).feasible


def crowd(seed: int, count: int, haps: int, roomy: bool) -> "wild.Scenario":
    """Many users, some in reach of no server on the ground, at any size of costs; roomy: most may stay at home."""
    rng = np.random.default_rng(seed)
    servers = [wild.server(s, "HAP" if s < haps else "GS", float(x)) for s, x in enumerate(rng.uniform(0, 4e3, 12))]
    users = []
    for u in range(count):
        size = 10.0 ** rng.uniform(-9, 0)
        part, x_m, weight = rng.uniform(0.3, 1.7), float(rng.uniform(0, 5e3)), float(rng.choice([0.0, 0.5, 1.0]))
        capacity = float(rng.uniform(2e9, 6e9) if rng.random() < (1.0 if roomy else 0.995) else 1e3)
        numbers = {"workload_flop": 4e9 * part * size, "task_bits": 4e6 * part * size, "capacity_flops": capacity}
        users.append(wild.user(u, str(rng.choice(["GU", "AU"])), x_m, weight, 40.0 * size, **numbers))
    return wild.network(servers, users)


def fits_by_integer_program(scenario) -> bool:
    """Tells by HiGHS over user-server pairs whether the users that must offload fit; for more than can be tried."""
    users = [u for u, user in enumerate(scenario.users) if independent.local_delay_s(user) > user.deadline_s]
    floor = np.array(independent.floors(scenario))[users]
    pairs = np.argwhere(floor <= 1)
    rows = [(pairs[:, 0] == u).astype(float) for u in range(len(users))]
    full = [np.where(pairs[:, 1] == s, floor[tuple(pairs.T)], 0.0) for s in range(len(scenario.servers))]
    if not len(users) or not len(pairs):
        return not len(users)
    lower = np.concatenate([np.ones(len(rows)), np.full(len(full), -np.inf)])
    limits = LinearConstraint(np.array(rows + full), lower, np.ones(len(lower)))
    return milp(np.zeros(len(pairs)), integrality=np.ones(len(pairs)), bounds=(0, 1), constraints=limits).status == 0


def check_crowd(scenario, solvers) -> None:
    plans = [solve(solver, scenario) for solver in solvers]
    fits = fits_by_integer_program(scenario)
    for plan in plans:
        check(scenario, plan)
        assert plan.feasible == fits
    bounds = [plan.lower_bound for plan in plans if plan.lower_bound is not None]
    if fits:
        assert plans[0].gap < 0.05 and plans[0].seconds < 4 * solvers[0].time_limit_s + 2
        assert max(bounds) <= min(plan.cost for plan in plans) * (1 + 1e-9)


@pytest.mark.parametrize("haps", [0, 3])
def test_sixty_users_are_planned_within_a_time_limit(haps, clock):
    """With three HAPs or none; sets of users are too many to list."""
    scenario = crowd(haps, 60, haps, roomy=True)
    check_crowd(scenario, (ExactSolver(time_limit_s=2.0), *EXACT_AND_QUICK))


@pytest.mark.slow
@pytest.mark.parametrize(("haps", "roomy"), [(0, True), (3, True), (3, False), (0, False)])
def test_five_hundred_users_are_planned_within_a_time_limit(haps, roomy, clock):
    """Most may stay at home; what exact reaches is certified to a few per cent."""
    scenario = crowd(haps + 7, 500, haps, roomy)
    check_crowd(scenario, (ExactSolver(time_limit_s=10.0), *EXACT_AND_QUICK))


def test_servers_without_users_in_reach_and_no_servers_change_nothing():
    """Users stay at home, also beside servers that nobody reaches; where they cannot, each is named by itself."""
    users = [wild.user(u, x_m=5e4) for u in range(3)]
    for servers in ([], [wild.server(0, "GS"), wild.server(1, "GS", 300.0)]):
        home, late = wild.network(servers, users), [wild.changed(user, deadline_s=1e-3) for user in users]
        assert check_all(home) == pytest.approx(sum(independent.local_cost(home, user) for user in users), rel=1e-12)
        assert check_all(wild.network(servers, late)) == math.inf


def test_deadlines_that_nobody_meets_name_everybody():
    """With servers in reach, or three HAPs: no solver plans, and all are named."""
    for kind in ("GS", "HAP"):
        servers = [wild.server(s, kind) for s in range(3)]
        scenario = wild.network(servers, [wild.user(u, deadline_s=1e-9) for u in range(5)])
        for solver in SOLVERS:
            plan = solve(solver, scenario)
            assert not plan.feasible and len(plan.unserved) == 5
            check_refusal(scenario, plan)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_link_that_carries_nothing_is_no_link(weight):
    """Behind 300 dB of loss 1 + SNR is 1 in float64: the user stays at home, or cannot be served."""
    user = wild.user(0, "GU", 1e5, weight)
    for one in (user, wild.changed(user, deadline_s=1e-3)):
        scenario = wild.network([wild.server(0, "HAP")], [one], excess_loss_nlos_db=300.0)
        costs = Instance.from_scenario(scenario).costs
        assert all(np.isfinite(values).all() for values in costs) and not costs.covered.any()
        check_all(scenario)


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("servers", [1, 3])
def test_equal_users_are_planned_alike_whatever_is_weighed(weight, servers):
    """Exact ties everywhere, energy or delay alone: equal servers end with numbers of users that differ by one."""
    scenario = wild.network(
        [wild.server(s, "GS") for s in range(servers)], [wild.user(u, weight=weight, deadline_s=1e3) for u in range(5)]
    )
    check_all(scenario)
    plan = solve(ExactSolver(), scenario)
    numbers = np.bincount(plan.server[plan.server != LOCAL], minlength=servers)
    assert all(abs(a - b) <= 1 for a, b in pairwise(np.sort(numbers)))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9]), min_size=7, max_size=7), st.booleans())
def test_numbers_of_any_size_give_finite_costs(numbers, delay_only):
    """Each number of user and server alone between 1e-9 and 1e9, in any mixture: no warning, no NaN, a sound plan."""
    workload, capacity, bits, power, server_capacity, server_power, deadline_s = numbers
    one = wild.user(
        *(0, "GU", 100.0, float(delay_only), deadline_s),
        **{"workload_flop": workload, "capacity_flops": capacity, "task_bits": bits, "transmit_power_w": power},
    )
    gs = wild.server(0, "GS", 0.0, server_capacity, server_power)
    scenario = wild.network([gs], [one, wild.changed(one, id="twin")])
    costs = Instance.from_scenario(scenario).costs
    assert all(np.isfinite(values).all() for values in costs)
    for solver in (ExactSolver(), AlternatingOptimization()):
        check_against_optimum(scenario, solve(solver, scenario))
