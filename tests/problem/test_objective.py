"""Costs of plans by hand, and constraint violations by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from laegd.problem.instance import LOCAL, Costs, Instance, InstanceBatch, Plan
from laegd.problem.objective import infeasible_plan, is_feasible, make_plan, plan_cost, violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario

REFERENCES = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))


def small_instance(min_share, local_allowed=(True, True, True)) -> Instance:
    """Two servers, three users; J_loc 10, 20, 30, J_tr 1, J_exe 4 everywhere; user 2 does not reach server 1."""
    floor = np.array(min_share, dtype=float)
    covered = np.array([[True, True], [True, True], [True, False]])
    user, pair = np.ones(3), np.where(covered, 1.0, 0.0)
    local_cost, execute_cost = np.array([10.0, 20.0, 30.0]), np.where(covered, 4.0, 0.0)
    allowed = np.array(local_allowed)
    costs = Costs(user, user, local_cost, allowed, covered, pair, pair, pair, pair, pair, execute_cost, floor)
    one = draw(ScenarioConfig(), Scale.parse("gs1_gu2_au1"), 1, np.random.default_rng(0))
    return Instance(InstanceBatch.from_scenarios(one)[0].nodes, costs, ("hap", "gs1"), ("u0", "u1", "u2"))


FLOORS = [[0.1, 0.1], [0.1, 0.1], [0.1, 0.0]]


def test_cost_adds_local_transmission_and_execution_cost():
    """Local 10, then 1 + 4 / 0.5 for each of the two others, counted once per user: 28."""
    costs = small_instance(FLOORS).costs
    assert plan_cost(costs, np.array([LOCAL, 0, 0]), np.array([0.0, 0.5, 0.5])) == pytest.approx(28.0, rel=1e-15)


def test_cost_of_a_batch_is_the_cost_of_each():
    """Leading axes are free; a user that is offloaded without a share or a link costs infinitely much."""
    costs = small_instance(FLOORS).costs
    server = np.array([[LOCAL, LOCAL, LOCAL], [0, 0, LOCAL], [0, LOCAL, LOCAL], [LOCAL, LOCAL, 1]])
    share = np.array([[0.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # 60; 1 + 16 + 1 + 16/3 + 30; no share; no link
    assert plan_cost(costs, server, share) == pytest.approx([60.0, 53 + 1 / 3, np.inf, np.inf], rel=1e-15)


def test_a_tiny_floor_counts_like_any_other():
    """A tenth of a floor of 1e-10 is ten times the deadline, though both are small beside a server."""
    instance = small_instance([[1e-10, 0.1], [0.1, 0.1], [0.1, 0.0]])
    server, share = np.array([0, LOCAL, LOCAL]), np.array([1e-11, 0.0, 0.0])
    assert not is_feasible(instance.costs, server, share)
    assert not make_plan(instance, server, "test", share=share).feasible
    (fault,) = violations(instance, Plan("test", server, share, 50.0, True))
    assert fault == "user u0: share 1e-11 of server hap is below its floor 1e-10"
    assert is_feasible(instance.costs, server, share * 10)


def test_make_plan_uses_the_optimal_shares():
    """Two equal users halve a server."""
    plan = make_plan(small_instance(FLOORS), np.array([0, 0, LOCAL]), "test", 1.5, 12.0)
    assert plan.feasible
    assert plan.share == pytest.approx([0.5, 0.5, 0.0])
    assert plan.cost == pytest.approx(1 + 8 + 1 + 8 + 30)
    assert (plan.method, plan.seconds, plan.lower_bound) == ("test", 1.5, 12.0)
    assert violations(small_instance(FLOORS), plan) == []


def test_make_plan_takes_lists_and_says_what_is_broken():
    """The answer to a broken assignment is local and infinite, and names what `violations` names."""
    instance = small_instance(FLOORS)
    assert make_plan(instance, [0, 0, -1], share=[0.5, 0.5, 0]).cost == pytest.approx(1 + 8 + 1 + 8 + 30)
    plan = make_plan(instance, [0, 0, 1], share=[0.7, 0.4, 1])
    assert not plan.feasible and plan.cost == np.inf and (plan.server == LOCAL).all()
    assert plan.violations == (
        "user u2: out of coverage of server gs1",
        "server hap: its shares sum to 1.1, above 1",
    )
    assert make_plan(instance, [0, 0, -1]).violations == ()


@pytest.mark.parametrize(
    ("server", "share", "message"),
    [
        ([0, 0], None, r"server: Expected 3 numbers, one for each user, got 'shape \(2,\)'"),
        ([[0, 0, 0]], None, r"server: Expected 3 numbers, .* got 'shape \(1, 3\)'"),
        ([0.0, 1.0, 0.5], None, r"server: Expected whole numbers, got dtype\('float64'\)"),
        (["hap", "hap", "hap"], None, r"server: Expected whole numbers"),
        ([0, 0, -1], [0.5, 0.5], r"share: Expected 3 numbers, .* got 'shape \(2,\)'"),
        ([0, 0, -1], ["a", "b", "c"], r"share: Expected numbers, got dtype"),
    ],
)
def test_make_plan_refuses_what_is_no_assignment(server, share, message):
    """An index and a share for each user."""
    with pytest.raises(ValueError, match=message):
        make_plan(small_instance(FLOORS), server, share=share)


@pytest.mark.parametrize("missing", [2, -2])
def test_make_plan_refuses_a_server_that_does_not_exist(missing):
    """There are two, 0 and 1."""
    with pytest.raises(ValueError, match=r"server: Expected -1 or 0 to 1, got .*Use LOCAL to stay"):
        make_plan(small_instance(FLOORS), np.array([0, missing, LOCAL]), "test")


@pytest.mark.parametrize(
    ("server", "share", "local_allowed", "expected"),
    [
        ([0, 0, LOCAL], [0.7, 0.4, 0.0], (True, True, True), ["server hap: its shares sum to 1.1, above 1"]),
        (
            [0, LOCAL, LOCAL],
            [0.05, 0, 0],
            (True, True, True),
            ["user u0: share 0.05 of server hap is below its floor 0.1"],
        ),
        ([LOCAL, LOCAL, 1], [0, 0, 1.0], (True, True, True), ["user u2: out of coverage of server gs1"]),
        (
            [LOCAL, 1, LOCAL],
            [0, 1.0, 0],
            (True, True, True),
            ["user u1: server gs1 cannot meet its deadline even alone"],
        ),
        ([LOCAL, 7, LOCAL], [0, 1.0, 0], (True, True, True), ["user u1: server 7 does not exist"]),
        ([LOCAL] * 3, [0, 0, 0], (True, False, True), ["user u1: the local run takes 1 s, its deadline is 2 s"]),
        (
            [0, LOCAL, LOCAL],
            [np.nan, 0, 0],
            (True, True, True),
            ["user u0: share nan", "server hap: its shares sum to nan"],
        ),
    ],
)
def test_violations_are_named(server, share, local_allowed, expected):
    """Each broken constraint is named with its user or server."""
    floors = [[0.1, 0.1], [0.1, 0.0], [0.1, 0.0]]
    instance = small_instance(floors, local_allowed)
    plan = Plan("test", np.array(server), np.array(share, dtype=float), 0.0, True)
    found = violations(instance, plan)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
    if max(server) < 2:
        assert not is_feasible(instance.costs, plan.server, plan.share)
        assert not make_plan(instance, plan.server, "test", share=plan.share).feasible


def test_shares_may_miss_a_constraint_by_rounding_only():
    """1e-10 too much is accepted, 1e-8 is not."""
    costs, server = small_instance(FLOORS).costs, np.array([0, 0, LOCAL])
    assert is_feasible(costs, server, np.array([0.5, 0.5 + 1e-10, 0.0]))
    assert not is_feasible(costs, server, np.array([0.5, 0.5 + 1e-8, 0.0]))
    assert is_feasible(costs, server, np.array([0.1 - 1e-10, 0.5, 0.0]))
    assert not is_feasible(costs, server, np.array([0.1 - 1e-8, 0.5, 0.0]))


def test_an_infeasible_answer_is_local_and_infinite():
    """It names the users that cannot be served and has no gap."""
    plan = infeasible_plan(small_instance(FLOORS), "test", ("u1",), 0.5)
    assert (plan.server == LOCAL).all() and (plan.share == 0).all()
    assert (plan.cost, plan.feasible, plan.gap, plan.unserved, plan.seconds) == (np.inf, False, None, ("u1",), 0.5)


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_reference_assignments_cost_what_an_independent_program_says(path):
    """An optimal assignment, with closed-form shares, costs the reference's optimum."""
    case = json.loads(path.read_text())
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(case["scenario"])))
    names = [case["assignment"][user] for user in instance.user_ids]
    server = np.array([LOCAL if name is None else instance.server_ids.index(name) for name in names])
    assert make_plan(instance, server, "test").cost == pytest.approx(case["optimum"], rel=1e-9)
