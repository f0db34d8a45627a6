"""Exploration: a fitting action stays as it is, any other is repaired, and one pass is the pass of plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.decoding.candidates import problem_of
from laegd.decoding.decode import DecodeConfig, greedy_assignment
from laegd.decoding.explore import Actions, action_belief, decode_actions, explore, repaired
from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import LOCAL, InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost
from laegd.scenario.generator import Scale, ScenarioConfig, draw

NUM_INSTANCES, NUM_STARTS = 16, 3


@pytest.fixture(scope="module")
def costs():
    scenarios = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), NUM_INSTANCES, np.random.default_rng(0))
    return InstanceBatch.from_scenarios(scenarios).costs


@pytest.fixture(scope="module")
def problem(costs):
    return problem_of(costs)


@pytest.fixture(scope="module")
def starts(problem):
    """Greedy assignments of random beliefs [batch cand user], some of them infeasible."""
    belief = jax.random.uniform(jax.random.key(0), (NUM_INSTANCES, NUM_STARTS, *problem.usable.shape[1:]))
    return np.asarray(greedy_assignment(belief, problem, (0.3,))[0])


@pytest.fixture(scope="module")
def certainty(problem):
    return np.random.default_rng(1).uniform(0.2, 1.0, problem.local_cost.shape).astype(np.float32)


def random_policy(problem):
    """Returns random probabilities over the places, 0 where a place is not allowed."""
    allowed = np.concatenate([problem.usable, problem.local_allowed[..., None]], axis=-1)
    weight = allowed * np.random.default_rng(2).uniform(0.1, 1.0, allowed.shape)
    return jnp.asarray(weight / np.maximum(weight.sum(-1, keepdims=True), 1e-9), jnp.float32)


def cost_in_float64(costs, server):
    """Cost of assignments [batch cand user] at their best shares; inf where infeasible."""
    found = []
    for candidate in np.moveaxis(np.asarray(server, dtype=np.int64), 1, 0):
        share = optimal_shares(costs, candidate)
        feasible = is_feasible(costs, candidate, share)
        found.append(np.where(feasible, plan_cost(costs, candidate, np.where(share > 0, share, 1.0)), np.inf))
    return np.stack(found, axis=1)


def explored_by_loops(costs, server, certainty):
    """One pass in float64: each user in its turn tries every place, all others held."""
    server = np.asarray(server, dtype=np.int64).copy()
    num_servers = costs.covered.shape[-1]
    rows = np.arange(len(server))[:, None]
    for user in np.argsort(certainty, axis=1, kind="stable").T:  # [batch]
        trials = np.repeat(server[:, :, None], num_servers + 1, axis=2)  # [batch cand place user]
        for place in range(num_servers + 1):
            trials[rows[:, 0], :, place, user] = LOCAL if place == num_servers else place
        prices = cost_in_float64(costs, trials.reshape(len(server), -1, server.shape[-1]))
        prices = prices.reshape(*trials.shape[:3])
        better = prices.min(2) < cost_in_float64(costs, server) * (1 - 1e-6)
        best = np.take_along_axis(trials, prices.argmin(2)[:, :, None, None], axis=2)[:, :, 0]
        server = np.where(better[..., None], best, server)
    return server


def test_one_pass_is_the_pass_of_plain_loops(costs, problem, starts, certainty):
    """The same assignments as trying every place of every user in float64, the least certain user first."""
    found = np.asarray(explore(starts, certainty, problem))
    wanted = explored_by_loops(costs, starts, certainty)
    assert (found != starts).any()
    # Where two places cost the same to seven digits float32 may take the other one.
    np.testing.assert_allclose(cost_in_float64(costs, found), cost_in_float64(costs, wanted), rtol=2e-6)
    assert (found == wanted).all(-1).mean() > 0.95


def test_exploration_never_worsens_its_start(costs, problem, starts, certainty):
    """Feasible starts stay feasible and cost no more; most gain."""
    before = cost_in_float64(costs, starts)
    after = cost_in_float64(costs, explore(starts, certainty, problem))
    feasible = np.isfinite(before)
    assert feasible.mean() > 0.8
    assert (after[feasible] <= before[feasible] * (1 + 1e-6)).all()
    assert (after[feasible] < before[feasible] * 0.999).mean() > 0.5


def test_one_user_in_a_forbidden_place_is_moved(costs, problem, starts, certainty):
    """A user that must offload, taken home from a plan that held it, finds a server again."""
    must = np.asarray(~problem.local_allowed)
    chosen = [b for b in range(NUM_INSTANCES) if must[b].any() and np.isfinite(cost_in_float64(costs, starts)[b, 0])]
    assert chosen
    broken = starts.copy()
    for b in chosen:
        broken[b, :, must[b].argmax()] = LOCAL
    assert np.isinf(cost_in_float64(costs, broken)[chosen, 0]).all()
    assert np.isfinite(cost_in_float64(costs, explore(broken, certainty, problem))[chosen, 0]).all()


def test_an_action_that_fits_is_executed_as_it_is(costs, problem, starts):
    """Repair leaves a feasible assignment alone, whatever the policy prefers."""
    place = np.where(starts == LOCAL, problem.usable.shape[-1], starts)
    belief = action_belief(jnp.asarray(place), random_policy(problem))
    assert float(belief.min()) >= 0 and float(belief.max()) <= 1
    executed = np.moveaxis(np.asarray(repaired(belief, problem)), (0, 1, 2), (2, 1, 0))
    feasible = np.isfinite(cost_in_float64(costs, starts))
    np.testing.assert_array_equal(executed[feasible], starts[feasible])


def test_what_does_not_fit_goes_to_the_next_place_of_the_policy():
    """Server 0 holds one of two users: the surer one stays, the other goes where its policy says next."""
    one = jnp.ones((1, 2))
    problem = problem_of(InstanceBatch.from_scenarios(
        draw(ScenarioConfig(), Scale.parse("gs1_gu2_au0"), 1, np.random.default_rng(0))
    ).costs)._replace(
        local_cost=one, local_allowed=one > 0, usable=jnp.ones((1, 2, 2), bool), min_share=jnp.full((1, 2, 2), 0.6),
        transmit_cost=jnp.ones((1, 2, 2)), execute_cost=jnp.ones((1, 2, 2)),
    )  # fmt: skip
    place = jnp.zeros((1, 1, 2), jnp.int32)
    for policy_of_second, wanted in (((0.5, 0.4, 0.1), 1), ((0.5, 0.1, 0.4), LOCAL)):
        policy = jnp.asarray([[(0.9, 0.05, 0.05), policy_of_second]])
        executed = repaired(action_belief(place, policy), problem)
        assert executed[:, 0, 0].tolist() == [0, wanted]


def test_plans_of_actions_are_feasible_cost_what_they_say_and_polish_only_helps(costs, problem, starts, certainty):
    """The cheapest explored start in float64, and not dearer with polish."""
    place = np.where(starts == LOCAL, problem.usable.shape[-1], starts)
    actions = Actions(action_belief(jnp.asarray(place), random_policy(problem)), jnp.asarray(certainty))
    plain = jax.device_get(decode_actions(actions, problem, DecodeConfig()))
    assert plain.feasible.mean() > 0.8
    true = cost_in_float64(costs, plain.server[:, None])[:, 0]
    np.testing.assert_allclose(plain.cost[plain.feasible], true[plain.feasible], rtol=1e-5)
    best = cost_in_float64(costs, explored_by_loops(costs, starts, certainty)).min(1)
    feasible = np.isfinite(cost_in_float64(costs, starts)).all(1)
    np.testing.assert_allclose(plain.cost[feasible], best[feasible], rtol=1e-5)
    polished = decode_actions(actions, problem, DecodeConfig(polish_rounds=3, polish_top=2))
    assert (np.asarray(polished.cost) <= plain.cost * (1 + 1e-6)).all()
