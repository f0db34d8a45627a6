"""A trained actor as a solver: what holds of every plan, whatever the actor has learnt."""

from dataclasses import replace

import numpy as np
import pytest

from laegd.evaluation.gadsg import load
from laegd.graphs.dataset import draw_feasible
from laegd.problem.instance import InstanceBatch, Solver
from laegd.problem.objective import violations
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.solvers.exact import ExactSolver

COUNT = 12


@pytest.fixture(scope="module")
def actor(grlo_run):
    """The small trained actor."""
    return load(grlo_run)


def drawn(scale, seed):
    batch, _ = draw_feasible(ScenarioConfig(), Scale.parse(scale), COUNT, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(batch)


@pytest.fixture(scope="module")
def instances():
    """Unseen feasible instances of the small scale."""
    return drawn("gs2_gu4_au2", 77)


def costs_of(solver, instances):
    return np.array([plan.cost for plan in solver.solve(instances)])


def test_every_plan_is_named_feasible_and_costs_at_least_the_optimum(actor, instances):
    """Feasible by the independent checker, never below the certified optimum, with a certified gap."""
    assert isinstance(actor, Solver) and actor.name == "grlo"
    optima = costs_of(ExactSolver(), instances)
    for one, plan, optimum in zip(instances, actor.solve(instances), optima, strict=True):
        assert plan.method == "grlo" and plan.feasible and violations(one, plan) == []
        assert plan.cost >= optimum * (1 - 1e-9) >= plan.lower_bound * (1 - 2e-9)


def test_instances_of_several_scales_come_back_in_order(actor, instances):
    """Scales may be mixed in a call, scales never seen included."""
    other = drawn("gs3_gu6_au4", 5)
    mixed = [(instances if i % 2 else other)[i] for i in range(4)]
    for one, plan in zip(mixed, actor.solve(mixed), strict=True):
        assert len(plan.server) == one.num_users and violations(one, plan) == []


def test_same_seed_same_plans_and_one_start_needs_no_seed(actor, instances):
    """Plans are a function of instances and settings; with one start, the likeliest action, not even of the seed."""
    plain = actor.with_settings(certify=False)
    np.testing.assert_array_equal(costs_of(plain, instances), costs_of(plain, instances))
    one = plain.with_settings(num_samples=1)
    np.testing.assert_array_equal(costs_of(one, instances), costs_of(one.with_settings(seed=1), instances))


def test_more_starts_and_polish_never_cost_more(actor, instances):
    """The first start of 8 is the one start, so the best of 8 costs at most that; polish only takes moves that pay."""
    plain = actor.with_settings(certify=False)
    one, eight = (costs_of(plain.with_settings(num_samples=n), instances) for n in (1, 8))
    assert (eight <= one * (1 + 1e-6)).all() and (eight < one).any()
    polished = plain.with_settings(decode=replace(plain.settings.decode, polish_rounds=5))
    assert (costs_of(polished, instances) <= eight * (1 + 1e-6)).all()


def test_shares_of_the_model_are_refused(actor):
    """An actor chooses places only."""
    with pytest.raises(ValueError, match=r"decode\.allocation: Expected 'optimal' for grlo, got 'model'"):
        actor.with_settings(decode=replace(actor.settings.decode, allocation="model"))
