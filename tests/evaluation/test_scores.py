"""Solvers side by side: ratios by hand, plans that are not trusted, and answers that are none."""

from dataclasses import replace

import numpy as np
import pytest

from laegd.evaluation.scores import compare
from laegd.problem.allocation import chosen
from laegd.problem.instance import LOCAL, InstanceBatch, Plan
from laegd.problem.networks import draw
from laegd.problem.objective import make_plan
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.solvers.exact import ExactSolver


class Own:
    """Answers what it was given; without a name of its own."""

    def __init__(self, plans):
        self.plans = plans

    def solve(self, instances):
        return self.plans


class Named(Own):
    """The same with a name."""

    name = "mine"


@pytest.fixture(scope="module")
def instances():
    """Four networks that have plans."""
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 4, np.random.default_rng(1)))


@pytest.fixture(scope="module")
def best(instances):
    """Their optima."""
    return ExactSolver().solve(instances)


def worsened(instance, plan):
    """The same assignment with less of each server, where deadlines allow."""
    floor = chosen(instance.costs.min_share, plan.server)
    return make_plan(instance, plan.server, share=np.maximum(floor, 0.99 * plan.share))


def test_ratios_and_gaps_are_those_of_the_costs(instances, best):
    """Cost over the optimum; cost minus optimum over cost."""
    worse = list(map(worsened, instances, best))
    assert all(plan.feasible for plan in worse)
    scores = compare([Own(worse), Named(best)], instances, reference="mine")
    cost, optimum = np.array([p.cost for p in worse]), np.array([p.cost for p in best])
    assert (scores.methods, scores.reference) == (("Own", "mine"), "mine")
    np.testing.assert_allclose(scores.ratio, [cost / optimum, np.ones(4)], rtol=1e-12)
    np.testing.assert_allclose(scores.gap[0], 1 - np.array([p.lower_bound for p in best]) / cost, rtol=1e-9)
    frame = scores.to_frame()
    assert frame["mean_ratio"] == pytest.approx([(cost / optimum).mean(), 1.0], rel=1e-12)
    assert frame["ratio_standard_error"][0] == pytest.approx((cost / optimum).std(ddof=1) / 2, rel=1e-9)
    assert frame["infeasible"].tolist() == [0.0, 0.0]


def test_the_cheapest_plan_or_given_costs_are_references(instances, best):
    """Without a name the best of each instance; costs of one's own as they are."""
    worse = list(map(worsened, instances, best))
    mixed = [worse[0], *best[1:]], [best[0], *worse[1:]]
    scores = compare([Own(mixed[0]), Named(mixed[1])], instances)
    assert scores.reference == "cheapest" and (scores.ratio.min(axis=0) == 1.0).all()
    assert (scores.ratio[0] > 1.0).tolist() == [True, False, False, False]
    given = compare([Named(best)], instances, reference=np.array([2 * plan.cost for plan in best]))
    np.testing.assert_allclose(given.ratio, np.full((1, 4), 0.5))


def test_a_plan_is_not_believed(instances, best):
    """Its cost is computed again; one that breaks a constraint has none, and does not count in the mean."""
    cheap = [replace(plan, cost=1e-3, lower_bound=None) for plan in best]
    scores = compare([Own(cheap), ExactSolver()], instances, reference="exact")
    np.testing.assert_allclose(scores.ratio[0], np.ones(4), rtol=1e-9)
    crowded = [Plan("x", np.zeros(6, dtype=np.int64), np.ones(6), 1.0, True), *cheap[1:]]
    scores = compare([Own(crowded), ExactSolver()], instances, reference="exact")
    assert scores.feasible[0].tolist() == [False, True, True, True]
    assert np.isinf(scores.cost[0, 0]) and np.isnan(scores.ratio[0, 0]) and np.isnan(scores.gap[0, 0])
    assert scores.plans[0][0].violations and scores.to_frame()["infeasible"].tolist() == [0.25, 0.0]
    assert scores.to_frame()["mean_ratio"] == pytest.approx([1.0, 1.0], rel=1e-9)


def test_times_are_those_of_the_plans_or_of_the_call(instances, best):
    """A solver that does not measure itself is measured."""
    unmeasured = [replace(plan, seconds=0.0) for plan in best]
    scores = compare([Own(unmeasured), Named([replace(plan, seconds=0.5) for plan in best])], instances)
    assert (scores.seconds[1] == 0.5).all()
    assert (scores.seconds[0] > 0).all() and len(set(scores.seconds[0])) == 1


def test_table_has_a_row_per_method(instances, best):
    """As text and in a notebook; what is not known is a dash, and names cannot be markup."""
    local = [make_plan(one, np.full(6, LOCAL)) for one in instances]
    hopeless = Named([replace(plan, feasible=False) for plan in local])
    hopeless.name = "<i>"
    scores = compare([hopeless, ExactSolver()], instances, reference="exact")
    head, _, first, second = str(scores).splitlines()
    assert head.split() == ["method", "cost", "/", "exact", "p95", "max", "gap", "infeasible", "ms"]
    assert first.split()[:7] == ["<i>", "-", "-", "-", "-", "100.0", "%"]
    assert second.split()[:10] == ["exact", "1.0000", "±", "0.0000", "1.000", "1.000", "0.00", "%", "0.0", "%"]
    assert repr(scores) == str(scores)
    assert scores._repr_html_().count("<tr>") == 3 and "<td>&lt;i&gt;</td>" in scores._repr_html_()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plans: plans[:3], r"^mine: Expected 4 plans, one for each instance, got 3"),
        (lambda plans: None, r"^mine: Expected 4 plans, one for each instance, got None"),
        (lambda plans: [*plans[:3], plans[3].server], r"^mine, instance 3: Expected a laegd.Plan, got array"),
        (
            lambda plans: [replace(plans[0], server=plans[0].server[:2], share=np.ones(2)), *plans[1:]],
            r"^mine, instance 0, server: Expected 6 numbers, one for each user, got 'shape \(2,\)'",
        ),
        (
            lambda plans: [*plans[:2], replace(plans[2], lower_bound=1.01 * plans[2].cost), plans[3]],
            r"^mine, instance 2: Expected a lower bound of at most .* what a plan of mine costs, got",
        ),
    ],
)
def test_answers_that_are_none_are_refused(instances, best, change, message):
    """Solver and instance are named."""
    with pytest.raises(ValueError, match=message):
        compare([Named(change(best))], instances)


@pytest.mark.parametrize(
    ("solvers", "reference", "message"),
    [
        ([], None, r"^solvers: Expected different names, got \[\]"),
        ([ExactSolver(), ExactSolver()], None, r"^solvers: Expected different names, got \['exact', 'exact'\]"),
        ([ExactSolver], None, r"^solvers\[0\]: Expected an object with a method"),
        ([ExactSolver()], "mine", r"^reference: Expected one of exact, got 'mine'"),
        ([ExactSolver()], np.ones(3), r"^reference: Expected 4 costs, one for each instance, got \(3,\)"),
    ],
)
def test_bad_comparisons_are_refused(instances, solvers, reference, message):
    """Before or after solving, in a line."""
    with pytest.raises(ValueError, match=message):
        compare(solvers, instances, reference)


def test_no_instances_are_no_comparison():
    """There is nothing to compare on."""
    with pytest.raises(ValueError, match="instances: Expected at least one instance"):
        compare([ExactSolver()], [])
