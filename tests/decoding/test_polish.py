"""Polish: never worse, always feasible, and at least as good as the best single change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.decoding.candidates import Problem, problem_of
from laegd.decoding.decode import DecodeConfig, decode, greedy_assignment
from laegd.decoding.polish import Candidates, cheapest, polish, set_costs
from laegd.problem.allocation import optimal_shares as exact_shares
from laegd.problem.instance import LOCAL, InstanceBatch
from laegd.problem.objective import is_feasible
from laegd.problem.objective import plan_cost as exact_cost
from laegd.scenario.generator import Scale, ScenarioConfig, draw


def drawn_costs(scale: str, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse(scale), count, rng)).costs


def random_candidates(problem: Problem, samples: int):
    """Greedy candidates of random beliefs at one threshold."""
    batch, user, server = problem.usable.shape
    belief = jax.random.uniform(jax.random.key(0), (batch, samples, user, server))
    return greedy_assignment(belief, problem, (0.3,))


def cost_in_float64(costs, server: np.ndarray) -> np.ndarray:
    """Cost of assignments [batch user] under the exact closed form; inf where infeasible."""
    share = exact_shares(costs, server)
    return np.where(is_feasible(costs, server, share), exact_cost(costs, server, share), np.inf)


def test_polish_is_monotone_and_never_leaves_feasibility():
    """More rounds never cost more, in float64, and every feasible candidate stays feasible."""
    costs = drawn_costs("gs6_gu14_au10", 16)
    problem = problem_of(costs)
    server, feasible = random_candidates(problem, 2)
    before = None
    for rounds in (0, 1, 2, 5, 30):
        polished = np.asarray(polish(server, problem, rounds))
        after = np.stack([cost_in_float64(costs, polished[:, c]) for c in range(2)], axis=1)
        assert np.all(np.isfinite(after[np.asarray(feasible)]))
        if before is not None:
            assert np.all(after[np.asarray(feasible)] <= before[np.asarray(feasible)] * (1 + 1e-6))
        before = after
    np.testing.assert_array_equal(polish(server, problem, 0), server)


def test_polish_starts_from_plans_of_different_cost():
    """The cheapest of each cost come first, cheapest first; the others follow, so that none is lost."""
    cost = jnp.array([[5.0, 3.0], [3.0, 3.0], [3.0, jnp.inf], [4.0, 2.0]])  # [cand batch]
    number = jnp.broadcast_to(jnp.arange(4)[None, :, None], (1, 4, 2))
    plans = Candidates(number, number.astype(float), cost)
    np.testing.assert_array_equal(cheapest(plans, 3).server[0], [[1, 3], [3, 0], [0, 1]])
    np.testing.assert_array_equal(cheapest(plans, 3).cost, [[3, 2], [4, 3], [5, 3]])
    assert sorted(cheapest(plans, 4).server[0, :, 0].tolist()) == [0, 1, 2, 3]


def all_changes(place: tuple[int, ...], num_servers: int):
    """Every move, swap and eviction of a plan, by enumeration."""
    users, places = range(len(place)), range(-1, num_servers)
    for u, to in itertools.product(users, places):
        yield tuple(to if k == u else place[k] for k in users)
    for u, v in itertools.permutations(users, 2):
        for to in places:  # u takes v's place and v goes anywhere: to u's place is a swap, elsewhere an eviction
            yield tuple(place[v] if k == u else to if k == v else place[k] for k in users)


def test_one_round_makes_the_best_single_change():
    """One round ends at the cost of the cheapest neighbour, found by trying all of them in float64."""
    costs = drawn_costs("gs2_gu4_au2", 12, seed=1)
    problem = problem_of(costs)
    server, feasible = random_candidates(problem, 1)
    polished = np.asarray(polish(server, problem, 1))[:, 0]
    reached = cost_in_float64(costs, polished)
    start = cost_in_float64(costs, np.asarray(server)[:, 0])
    for b in np.flatnonzero(np.asarray(feasible)[:, 0]):
        neighbours = np.array(list(all_changes(tuple(int(s) for s in server[b, 0]), 3)))
        one = type(costs)(*(values[b] for values in costs))
        best = min(start[b], cost_in_float64(one, neighbours).min())
        assert reached[b] == pytest.approx(best, rel=1e-5)


def test_a_polished_plan_is_a_local_optimum():
    """After enough rounds no single change is cheaper by more than 1e-5."""
    costs = drawn_costs("gs2_gu4_au2", 12, seed=2)
    problem = problem_of(costs)
    server, feasible = random_candidates(problem, 1)
    polished = np.asarray(polish(server, problem, 100))[:, 0]
    reached = cost_in_float64(costs, polished)
    for b in np.flatnonzero(np.asarray(feasible)[:, 0]):
        neighbours = np.array(list(all_changes(tuple(int(s) for s in polished[b]), 3)))
        one = type(costs)(*(values[b] for values in costs))
        assert reached[b] <= cost_in_float64(one, neighbours).min() * (1 + 1e-5)


def test_set_prices_bound_the_exact_cost_from_below_and_mostly_meet_it():
    """The price of a set with a newcomer is at most the exact closed form's cost, and equal to it in most cases."""
    rng = np.random.default_rng(0)
    num_users, num_sets = 6, 200
    floor = rng.uniform(0.02, 0.3, num_users)
    root = 10.0 ** rng.uniform(-1, 1, num_users)
    member = rng.random((num_users, num_sets)) < 0.5
    columns = [
        jnp.broadcast_to(jnp.asarray(v, jnp.float32)[:, None, None, None], (num_users, num_sets, 1, 1))
        for v in (root, floor)
    ]
    priced = np.asarray(jax.jit(set_costs)(*columns, jnp.asarray(member)[:, :, None, None]))[..., 0, 0]
    num_exact = num_feasible = 0
    for newcomer, k in itertools.product(range(num_users + 1), range(num_sets)):
        users = set(np.flatnonzero(member[:, k]))
        if newcomer in users:
            continue  # a user comes to a set that it is not in
        users = sorted(users | ({newcomer} - {num_users}))
        if floor[users].sum() > 1:
            assert np.isinf(priced[newcomer, k])
            continue
        exact = water_filling(root[users], floor[users])
        num_feasible += 1
        num_exact += priced[newcomer, k] == pytest.approx(exact, rel=1e-5)
        assert priced[newcomer, k] <= exact * (1 + 1e-5)
    assert num_exact > 0.9 * num_feasible


def water_filling(root: np.ndarray, floor: np.ndarray) -> float:
    """Bisection on the price of a share, in float64."""
    low, high = 0.0, 1e6
    if len(root) == 0:
        return 0.0
    for _ in range(200):
        nu = (low + high) / 2
        low, high = (nu, high) if np.maximum(floor, root / nu).sum() > 1 else (low, nu)
    return float((root**2 / np.maximum(floor, root / high)).sum())


def test_infeasible_candidates_are_left_alone():
    """Polish does not touch a candidate that breaks a constraint."""
    ones = jnp.ones((1, 2, 1))
    problem = Problem(ones[..., 0], jnp.zeros((1, 2), bool), ones > 0, ones, ones, 0.6 * ones)
    server = jnp.array([[[0, LOCAL], [0, 0]]], jnp.int32)
    np.testing.assert_array_equal(polish(server, problem, 5), server)


def test_decode_with_polish_is_never_worse_than_without():
    """Polishing the best candidates lowers the cost or keeps it; more candidates never hurt."""
    problem = problem_of(drawn_costs("gs3_gu7_au5", 24, seed=3))
    batch, user, server = problem.usable.shape
    belief = jax.random.uniform(jax.random.key(1), (batch, 4, user, server))
    settings = [DecodeConfig(), DecodeConfig(polish_rounds=10), DecodeConfig(polish_rounds=10, polish_top=3)]
    plain, one, three = (np.asarray(decode(belief, belief, problem, each).cost) for each in settings)
    feasible = np.isfinite(plain)
    assert np.all(one[feasible] <= plain[feasible]) and np.all(three[feasible] <= one[feasible] * (1 + 1e-6))
    assert np.mean(one[feasible] / plain[feasible]) < 0.95
