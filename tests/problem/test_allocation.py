"""Closed-form shares against SLSQP, and the properties that any optimum has."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize

from laegd.problem.allocation import chosen, load, optimal_shares
from laegd.problem.instance import LOCAL, Costs


def costs_with(floor: np.ndarray, execute_cost: np.ndarray) -> Costs:
    """Costs of one instance of which only floors and execution costs matter."""
    pair, user = np.zeros_like(floor), np.zeros(floor.shape[:-1])
    covered = np.ones(floor.shape, dtype=bool)
    allowed = np.ones(user.shape, dtype=bool)
    return Costs(user, user, user + 1e3, allowed, covered, pair, pair, pair, pair, pair, execute_cost, floor)


def by_slsqp(floor: np.ndarray, execute_cost: np.ndarray) -> np.ndarray:
    start = floor + (1.0 - floor.sum()) / len(floor)
    answer = minimize(
        lambda y: (execute_cost / y).sum(),
        start,
        jac=lambda y: -execute_cost / y**2,
        bounds=[(low, 1.0) for low in floor],
        constraints={"type": "ineq", "fun": lambda y: 1.0 - y.sum(), "jac": lambda y: -np.ones_like(y)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return answer.x


def on_one_server(floor: list[float], execute_cost: list[float]) -> np.ndarray:
    costs = costs_with(np.array(floor)[:, None], np.array(execute_cost)[:, None])
    return optimal_shares(costs, np.zeros(len(floor), dtype=np.int64))


@pytest.mark.parametrize(
    ("floor", "execute_cost"),
    [
        ([0.01, 0.02, 0.03], [1.0, 4.0, 9.0]),  # none binds: shares 1/6, 2/6, 3/6
        ([0.4, 0.02, 0.03], [1.0, 4.0, 9.0]),  # the first binds
        ([0.4, 0.35, 0.03, 0.01], [1.0, 2.0, 9.0, 30.0]),  # two bind
        ([0.3, 0.3, 0.35], [1.0, 100.0, 1.0]),  # all but one bind
    ],
)
def test_shares_equal_a_numerical_solver(floor, execute_cost):
    """The closed form is the optimum that SLSQP finds, whichever floors bind."""
    expected = by_slsqp(np.array(floor), np.array(execute_cost))
    assert on_one_server(floor, execute_cost) == pytest.approx(expected, abs=2e-5)


def test_shares_without_binding_floors_are_proportional_to_roots():
    """Roots 1, 2, 3 sum to 6."""
    assert on_one_server([0.01, 0.01, 0.01], [1.0, 4.0, 9.0]) == pytest.approx([1 / 6, 2 / 6, 3 / 6], rel=1e-14)


def test_a_single_user_gets_the_whole_server():
    """Nobody else wants it."""
    assert on_one_server([0.2], [7.3]) == pytest.approx([1.0], rel=1e-15)


def test_floors_that_fill_the_server_are_the_shares():
    """Floors of 1/4, 1/4 and 1/2 leave nothing to distribute."""
    assert on_one_server([0.25, 0.25, 0.5], [50.0, 1.0, 2.0]) == pytest.approx([0.25, 0.25, 0.5], rel=1e-14)


def test_floors_above_the_server_are_returned_as_they_are():
    """No feasible shares exist; the sum of the floors then tells by how much."""
    assert on_one_server([0.7, 0.6], [50.0, 1.0]).tolist() == [0.7, 0.6]


def test_local_users_get_nothing_and_a_network_without_servers_works():
    """LOCAL means share 0."""
    costs = costs_with(np.full((3, 2), 0.1), np.ones((3, 2)))
    assert optimal_shares(costs, np.array([LOCAL, 1, LOCAL])).tolist() == [0.0, 1.0, 0.0]
    none = costs_with(np.zeros((3, 0)), np.zeros((3, 0)))
    assert optimal_shares(none, np.full(3, LOCAL)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 0), (0, 4, 3)])
def test_without_users_or_instances_there_are_no_shares(shape):
    """The answer has the shape of the assignment."""
    costs = costs_with(np.ones(shape), np.ones(shape))
    assert optimal_shares(costs, np.zeros(shape[:-1], dtype=np.int64)).shape == shape[:-1]


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3), (1, 4, 3), (5, 1, 3), (1, 1, 3)])
def test_chosen_picks_by_index_whatever_broadcasts(shape):
    """As a loop does, also from arrays that are not in C order."""
    rng = np.random.default_rng(0)
    server, values = rng.integers(-1, 3, (5, 4)), np.asfortranarray(rng.random(shape))
    everywhere = np.broadcast_to(values, (5, 4, 3))
    expected = [[0.0 if s == LOCAL else everywhere[i, u, s] for u, s in enumerate(row)] for i, row in enumerate(server)]
    assert chosen(values, server).tolist() == expected


@st.composite
def assignments(draw):
    """Random assignments, some of which overfill a server."""
    num_users, num_servers = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    floor = rng.uniform(0.01, draw(st.sampled_from([0.1, 0.3, 0.6])), (num_users, num_servers))
    execute_cost = 10.0 ** rng.uniform(-2, 3, (num_users, num_servers))
    return costs_with(floor, execute_cost), rng.integers(-1, num_servers, num_users)


@settings(max_examples=200, deadline=None)
@given(assignments())
def test_shares_respect_floors_fill_servers_and_equalise_marginal_costs(case):
    """Shares reach their floors exactly, use each server up, and J/y^2 is equal where no floor binds (KKT)."""
    costs, server = case
    share = optimal_shares(costs, server)
    floor, execute_cost = chosen(costs.min_share, server), chosen(costs.execute_cost, server)
    total, floors = load(share, server, costs.covered.shape[1]), load(floor, server, costs.covered.shape[1])
    assert (share >= floor).all()
    assert (share[server == LOCAL] == 0).all()
    for s in np.unique(server[server != LOCAL]):
        on = server == s
        if floors[s] > 1:
            assert (share[on] == floor[on]).all()
            continue
        assert abs(total[s] - 1) <= 1e-12
        free = on & (share > floor)
        if free.any():
            marginal = execute_cost[free] / share[free] ** 2
            assert np.ptp(marginal) <= 1e-9 * marginal.max()
            assert (execute_cost[on] / share[on] ** 2 <= marginal.max() * (1 + 1e-9)).all()


@settings(max_examples=20, deadline=None)
@given(assignments(), st.integers(0, 2**32 - 1))
def test_a_batch_gives_the_same_shares_as_one_by_one(case, seed):
    """Leading axes are independent, and the costs broadcast to those of the assignment."""
    costs, server = case
    batch = np.random.default_rng(seed).integers(-1, costs.covered.shape[1], (2, 3, len(server)))
    together = optimal_shares(costs, batch)
    for index in np.ndindex(2, 3):
        assert (together[index] == optimal_shares(costs, batch[index])).all()
