"""Decoding: every plan obeys the constraints, shares are optimal, and a perfect belief gives the optimum."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from laegd.decoding.candidates import Problem, optimal_shares, plan_cost, problem_of, project_shares
from laegd.decoding.decode import MOST_COMPARED, DecodeConfig, decode, greedy_assignment, rank_users
from laegd.problem.instance import LOCAL, Costs, Instance, InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, TruncatedNormal, draw
from laegd.scenario.scenario import Scenario

REFERENCES = sorted((Path(__file__).parent.parent / "data" / "reference").glob("*.json"))
OPTIMAL, MODEL, POLISH = DecodeConfig(), DecodeConfig(allocation="model"), DecodeConfig(polish_rounds=4, polish_top=3)
NUM_INSTANCES, NUM_SAMPLES = 24, 4  # in most tests, so that they share compiled programs
every_setting = pytest.mark.parametrize("settings", [OPTIMAL, MODEL, POLISH], ids=["optimal", "model", "polish"])


def drawn_costs(scale: str, count: int, seed: int = 0, **settings) -> Costs:
    rng = np.random.default_rng(seed)
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(**settings), Scale.parse(scale), count, rng)).costs


def random_belief(problem: Problem, samples: int, seed: int = 0):
    batch, user, server = problem.usable.shape
    return jax.random.uniform(jax.random.key(seed), (batch, samples, user, server))


def broken_constraints(costs: Costs, b: int, server: np.ndarray, share: np.ndarray) -> list[str]:
    """Checks one plan against the program itself, in float64 and in plain loops."""
    broken, load = [], np.zeros(costs.covered.shape[2])
    for u, s in enumerate(server):
        if s == LOCAL:
            broken += [] if costs.local_allowed[b, u] else [f"user {u} may not run locally"]
            continue
        load[s] += share[u]
        broken += [] if costs.covered[b, u, s] and costs.min_share[b, u, s] > 0 else [f"user {u} on a bad edge"]
        broken += [] if share[u] >= costs.min_share[b, u, s] - 1e-6 else [f"user {u} below its floor"]
    return broken + [f"server {s} overfull" for s in np.flatnonzero(load > 1 + 3e-6)]


def true_cost(costs: Costs, b: int, server: np.ndarray, share: np.ndarray) -> float:
    """The objective in float64: local cost, or transmission plus execution over the share."""
    total = 0.0
    for u, s in enumerate(server):
        remote = s != LOCAL
        offloaded = costs.transmit_cost[b, u, s] + costs.execute_cost[b, u, s] / share[u] if remote else 0.0
        total += offloaded if remote else costs.local_cost[b, u]
    return total


def indicator(server: np.ndarray, num_servers: int) -> jax.Array:
    """The belief that is sure of a plan."""
    sure = server[:, None, :, None] == np.arange(num_servers)
    return jnp.asarray(np.repeat(sure, NUM_SAMPLES, axis=1), jnp.float32)


@pytest.mark.parametrize(
    ("scale", "settings"),
    [("gs3_gu7_au5", OPTIMAL), ("gs3_gu7_au5", MODEL), ("gs3_gu7_au5", POLISH), ("gs9_gu20_au13", POLISH)],
    ids=["gs3-optimal", "gs3-model", "gs3-polish", "gs9-polish"],
)
def test_decoded_plans_obey_every_constraint_and_cost_what_they_say(scale, settings):
    """Each decoded plan passes the float64 check, and its cost is the objective's."""
    costs = drawn_costs(scale, NUM_INSTANCES)
    problem = problem_of(costs)
    belief = random_belief(problem, NUM_SAMPLES)
    decoded = jax.device_get(decode(belief, random_belief(problem, NUM_SAMPLES, 1), problem, settings))
    assert decoded.feasible.sum() >= 20
    for b in np.flatnonzero(decoded.feasible):
        assert broken_constraints(costs, b, decoded.server[b], decoded.share[b]) == []
        assert decoded.cost[b] == pytest.approx(true_cost(costs, b, decoded.server[b], decoded.share[b]), rel=1e-5)
    assert np.all(decoded.server[~decoded.feasible] == LOCAL) and np.all(np.isinf(decoded.cost[~decoded.feasible]))


def test_instances_with_a_feasible_plan_are_nearly_all_decoded():
    """By enumeration of all places of the users that must offload, random beliefs miss at most 1 percent of instances.

    Slow devices and slow servers make the packing of those users hard.
    """
    slow = TruncatedNormal(2e9, 1e9, 1e9, 3e9)
    costs = drawn_costs("gs2_gu4_au2", 200, user_capacity_flops=slow, gs_capacity_flops=6e9)
    problem = problem_of(costs)
    belief = random_belief(problem, 8)
    feasible = np.asarray(decode(belief, belief, problem, OPTIMAL).feasible)

    def packs(b: int) -> bool:
        must = np.flatnonzero(~costs.local_allowed[b])
        options = [np.flatnonzero(costs.usable[b, u]) for u in must]
        for places in itertools.product(*options):
            load = np.bincount(places, costs.min_share[b, must, list(places)], 3) if len(must) else np.zeros(3)
            if np.all(load <= 1):
                return True
        return False

    possible = np.array([packs(b) for b in range(200)])
    assert not np.any(feasible & ~possible)
    assert 20 < possible.sum() < 180  # the case is hard, not hopeless
    assert (possible & ~feasible).sum() <= 0.01 * possible.sum()


def test_a_stuck_user_gets_room_by_moving_another():
    """Two users of 0.5 that prefer different servers leave no room for one of 0.9, so one of them has to move."""
    edge = jnp.ones((1, 3, 2))
    floor = jnp.array([[[0.5, 0.5], [0.5, 0.5], [0.9, 0.9]]])
    problem = Problem(edge[..., 0], jnp.zeros((1, 3), bool), edge > 0, edge, edge, floor)
    # The surest users are placed first: user 0 on server 0, user 1 on server 1.
    belief = jnp.array([[[[0.9, 0.1], [0.1, 0.8], [0.7, 0.6]]]])
    server, feasible = greedy_assignment(belief, problem, (0.5,))
    assert bool(feasible[0, 0])
    first, second, big = (int(s) for s in server[0, 0])
    assert first == second != big and big != LOCAL


def test_users_that_no_server_can_take_are_reported():
    """Two users that must offload and need 0.6 of the only server each have no plan."""
    ones = jnp.ones((1, 2, 1))
    problem = Problem(ones[..., 0], jnp.zeros((1, 2), bool), ones > 0, ones, ones, 0.6 * ones)
    decoded = decode(ones[:, None], ones[:, None], problem, OPTIMAL)
    assert not bool(decoded.feasible[0]) and np.isinf(decoded.cost[0]) and np.all(decoded.server == LOCAL)


def test_shares_equal_slsqp_with_floors_that_bind():
    """The closed form equals a numerical solver on servers where floors bind."""
    rng, num_bound = np.random.default_rng(3), 0
    for _ in range(20):
        num = 4
        execute = 10.0 ** rng.uniform(-1, 2, num)
        floor = rng.dirichlet(np.ones(num)) * rng.uniform(0.5, 0.99)
        solved = minimize(
            lambda y, execute=execute: float(np.sum(execute / y)),
            floor + (1 - floor.sum()) / num,
            jac=lambda y, execute=execute: -execute / y**2,
            bounds=[(low, 1.0) for low in floor],
            constraints={"type": "ineq", "fun": lambda y: 1 - y.sum(), "jac": lambda y: -np.ones_like(y)},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        problem = single_server(execute, floor)
        server = jnp.zeros((1, 1, num), jnp.int32)
        share = optimal_shares(server, problem)
        num_bound += int(np.sum(np.asarray(share[0, 0]) <= floor * (1 + 1e-6)))
        assert float(plan_cost(server, share, problem)[0, 0]) == pytest.approx(solved.fun, rel=1e-5)
        np.testing.assert_allclose(share[0, 0], solved.x, atol=2e-3)
    assert num_bound > 10


def single_server(execute: np.ndarray, floor: np.ndarray) -> Problem:
    num = len(execute)
    column = (1, num, 1)
    return Problem(
        local_cost=jnp.zeros((1, num)),
        local_allowed=jnp.ones((1, num), bool),
        usable=jnp.ones(column, bool),
        transmit_cost=jnp.zeros(column),
        execute_cost=jnp.asarray(execute, jnp.float32).reshape(column),
        min_share=jnp.asarray(floor, jnp.float32).reshape(column),
    )


def test_projection_equals_slsqp():
    """Projected shares are the nearest ones in squares with floors and a sum of at most 1."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        num = 4
        guess = rng.random(num)
        floor = rng.dirichlet(np.ones(num)) * rng.uniform(0.3, 0.9)
        solved = minimize(
            lambda y, guess=guess: float(np.sum((y - guess) ** 2)),
            floor,
            bounds=[(low, 1.0) for low in floor],
            constraints={"type": "ineq", "fun": lambda y: 1 - y.sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        share = project_shares(
            jnp.asarray(guess, jnp.float32).reshape(1, 1, num, 1),
            jnp.zeros((1, 1, num), jnp.int32),
            single_server(np.ones(num), floor),
        )
        np.testing.assert_allclose(share[0, 0], solved.x, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_extreme_costs_give_finite_shares(scale):
    """Costs of any size and executions that cost nothing give shares without NaN and within the constraints."""
    execute = scale * np.array([0.0, 1.0, 4.0])
    server = jnp.zeros((1, 1, 3), jnp.int32)
    problem = single_server(execute, np.array([0.1, 0.2, 0.1]))
    share = np.asarray(optimal_shares(server, problem)[0, 0])
    # User 0 needs its floor only; the rest 0.9 is shared as 1 : 2.
    np.testing.assert_allclose(share, [0.1, 0.3, 0.6], rtol=1e-5)
    idle = single_server(np.zeros(3), np.array([0.1, 0.2, 0.1]))
    assert float(plan_cost(server, optimal_shares(server, idle), idle)[0, 0]) == 0.0


def test_a_plan_that_breaks_a_constraint_costs_inf():
    """Two users at one server: shares above 1 together, one below its floor, one that may not stay at home."""
    ones = np.ones((1, 2, 1), dtype=np.float32)
    floors = Problem(ones[..., 0], np.array([[True, False]]), ones > 0, ones, ones, 0.3 * ones)

    def cost(server, share):
        return float(plan_cost(np.array([[server]]), np.array([[share]], dtype=np.float32), floors)[0, 0])

    assert cost([0, 0], [0.4, 0.6]) == pytest.approx(2 + 1 / 0.4 + 1 / 0.6, rel=1e-6)
    assert cost([-1, 0], [0.0, 1.0]) == pytest.approx(1 + 1 + 1, rel=1e-6)
    for server, share in (([0, 0], [0.7, 0.6]), ([0, 0], [0.2, 0.6]), ([0, -1], [1.0, 0.0])):
        assert cost(server, share) == np.inf


@pytest.mark.parametrize("settings", [OPTIMAL, MODEL], ids=["optimal", "model"])
def test_decoding_is_idempotent(settings):
    """The belief that is sure of a decoded plan is decoded to that plan."""
    problem = problem_of(drawn_costs("gs3_gu7_au5", NUM_INSTANCES, seed=2))
    belief = random_belief(problem, NUM_SAMPLES)
    once = jax.device_get(decode(belief, belief, problem, settings))
    sure = indicator(once.server, belief.shape[3])
    twice = jax.device_get(decode(sure, sure, problem, settings))
    np.testing.assert_array_equal(twice.server[once.feasible], once.server[once.feasible])


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_a_perfect_belief_gives_the_reference_optimum(path):
    """The indicator of the optimal assignment is decoded to it, at its cost; polish (tried at gs3) leaves it there."""
    case = json.loads(path.read_text())
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(case["scenario"])))
    place = {**{name: s for s, name in enumerate(instance.server_ids)}, None: LOCAL, "local": LOCAL}
    server = np.array([[place[case["assignment"][name]] for name in instance.user_ids]])
    problem = problem_of(InstanceBatch.stack([instance]).costs)
    belief = indicator(server, instance.num_servers)
    for settings in (OPTIMAL, POLISH) if "gs3" in path.stem else (OPTIMAL,):
        decoded = decode(belief, belief, problem, settings)
        np.testing.assert_array_equal(decoded.server, server)
        assert float(decoded.cost[0]) == pytest.approx(case["optimum"], rel=1e-5)


@pytest.mark.parametrize(
    "settings", [OPTIMAL, MODEL, DecodeConfig(polish_rounds=5)], ids=["optimal", "model", "polish"]
)
def test_renumbering_users_renumbers_the_answer(settings):
    """With distinct beliefs the order of the users does not matter."""
    problem = problem_of(drawn_costs("gs3_gu7_au5", NUM_INSTANCES, seed=5))
    belief, shares = random_belief(problem, NUM_SAMPLES), random_belief(problem, NUM_SAMPLES, 1)
    order = np.random.default_rng(0).permutation(belief.shape[2])
    plain = decode(belief, shares, problem, settings)
    turned = decode(belief[:, :, order], shares[:, :, order], Problem(*(v[:, order] for v in problem)), settings)
    np.testing.assert_array_equal(turned.server, plain.server[:, order])
    np.testing.assert_allclose(turned.cost, plain.cost, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [OPTIMAL, MODEL, DecodeConfig(polish_rounds=5)], ids=["optimal", "model", "polish"]
)
def test_padding_changes_nothing(settings):
    """Users without an edge and a cost, and servers without an edge, leave the plan as it was."""
    problem = problem_of(drawn_costs("gs3_gu7_au5", NUM_INSTANCES, seed=6))
    belief, shares = random_belief(problem, NUM_SAMPLES), random_belief(problem, NUM_SAMPLES, 1)
    edge = ((0, 0), (0, 3), (0, 2))
    padded = Problem(
        jnp.pad(problem.local_cost, edge[:2]),
        jnp.pad(problem.local_allowed, edge[:2], constant_values=True),
        *(jnp.pad(values, edge) for values in problem[2:]),
    )
    wide = (edge[0], (0, 0), *edge[1:])
    plain = decode(belief, shares, problem, settings)
    # What the model says of padding is arbitrary.
    more = decode(
        jnp.pad(belief, wide, constant_values=0.99), jnp.pad(shares, wide, constant_values=0.9), padded, settings
    )
    np.testing.assert_array_equal(more.server[:, :12], plain.server)
    assert np.all(more.server[:, 12:] == LOCAL)
    np.testing.assert_allclose(more.cost, plain.cost, rtol=1e-6)


def test_copies_of_beliefs_share_their_shares():
    """Fewer shares than beliefs count anew: as if they were repeated."""
    problem = problem_of(drawn_costs("gs3_gu7_au5", NUM_INSTANCES, seed=7))
    belief, shares = random_belief(problem, 2 * NUM_SAMPLES), random_belief(problem, NUM_SAMPLES, 1)
    settings = DecodeConfig(thresholds=(0.5, 0.1), allocation="model")
    short = decode(belief, shares, problem, settings)
    repeated = decode(belief, jnp.concatenate([shares, shares], axis=1), problem, settings)
    for values, expected in zip(short, repeated, strict=True):
        np.testing.assert_array_equal(values, expected)
    other = decode(belief, jnp.concatenate([shares, shares[:, ::-1]], axis=1), problem, settings)
    assert not np.array_equal(short.cost, other.cost)


def test_no_users_and_no_servers_are_decoded():
    """An instance without users costs 0; one without servers runs everything locally."""
    for num_users, num_servers in ((0, 2), (3, 0)):
        edge = (1, num_users, num_servers)
        problem = Problem(
            jnp.ones(edge[:2]), jnp.ones(edge[:2], bool), jnp.ones(edge, bool), *(jnp.ones(edge) for _ in range(3))
        )
        belief = jnp.ones((1, 2, num_users, num_servers))
        for settings in (MODEL, POLISH):
            decoded = decode(belief, belief, problem, settings)
            assert bool(decoded.feasible[0]) and float(decoded.cost[0]) == num_users


def test_decode_is_traced_once():
    """New beliefs and problems of one shape do not trace the program again."""
    problem = problem_of(drawn_costs("gs2_gu4_au2", 4))
    settings = DecodeConfig(thresholds=(0.3,))
    before = decode._cache_size()
    for seed in range(3):
        belief = random_belief(problem, 2, seed)
        decode(belief, belief, problem, settings)
    assert decode._cache_size() == before + 1


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"thresholds": ()}, "thresholds"),
        ({"thresholds": (1.0,)}, "thresholds"),
        ({"thresholds": (float("nan"),)}, "thresholds"),
        ({"polish_rounds": -1}, "polish_rounds"),
        ({"polish_top": 0}, "polish_top"),
        ({"allocation": "model", "polish_rounds": 2}, "polish_rounds"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, field):
    """Each wrong setting raises an error that names it."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        DecodeConfig(**settings)


@pytest.mark.parametrize("num_users", [1, 30, MOST_COMPARED + 1])
def test_users_are_ranked_by_both_keys_and_equals_keep_their_order(num_users):
    """Few users are compared pair by pair, many are sorted: both as NumPy does it."""
    rng = np.random.default_rng(num_users)
    first, then = rng.integers(0, 3, (num_users, 5)), rng.integers(0, 4, (num_users, 5)) / 4
    order, rank = rank_users(jnp.asarray(first), jnp.asarray(then))
    expected = np.lexsort((then, first), axis=0)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(rank, np.argsort(expected, axis=0))
