"""Alternating optimisation (AO), the numerical baseline of [1]: greedy decisions under fixed shares and shares by SQP.

Source: [1] GADSG, Section V-B; equation numbers refer to [1]. "It first heuristically generates and fixes the resource
allocation, then solves the offloading decision using a greedy strategy. Subsequently, with the offloading decision
fixed, a convex optimization problem for resource allocation is formulated and solved using sequential quadratic
programming." What [1] leaves open is settled in docs/baselines.md. The shares have a closed form
(`laegd.problem.allocation`); sequential quadratic programming is kept here because it is part of the baseline's cost.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

from laegd.problem.allocation import chosen, load
from laegd.problem.feasibility import conflict, pack
from laegd.problem.instance import LOCAL, Costs, Instance, Plan, Progress, solve_each
from laegd.problem.objective import SHARE_TOLERANCE, infeasible_plan, make_plan, plan_cost
from laegd.scenario.scenario import require

_CAPACITY = 1.0 + SHARE_TOLERANCE
_PRECISION = 1e-12  # at which SLSQP stops; of the objective over its value at the start
_MAX_STEPS = 200  # of SLSQP; it takes 10 to 20
_NO_ROOM = 1e-9  # what the floors leave free below this is not worth a program


@dataclass(frozen=True)
class AlternatingOptimization:
    """Decides and allocates in turn until nothing changes; deterministic, and feasible wherever a plan exists."""

    name: str = "ao"
    max_rounds: int = 20
    """Of a decision and an allocation each."""

    def __post_init__(self) -> None:
        require(self.max_rounds >= 1, "max_rounds", "at least 1", self.max_rounds, "Use 20.")

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Returns one plan per instance, in order."""
        return solve_each(self._solve_one, instances, progress)

    def _solve_one(self, instance: Instance) -> Plan:
        start, costs = time.perf_counter(), instance.costs
        guess, best, best_cost = first_shares(costs), None, np.inf
        for _ in range(self.max_rounds):
            server = decide(costs, guess)
            if server is None:
                unserved = tuple(instance.user_ids[user] for user in conflict(costs))
                return infeasible_plan(instance, self.name, unserved, time.perf_counter() - start)
            if best is not None and (server == best[0]).all():
                break
            share = allocate(costs, server)
            cost = float(plan_cost(costs, server, share))
            if not cost < best_cost:
                break
            best, best_cost = (server, share), cost
            guess = next_shares(costs, server, share)
        assert best is not None
        return make_plan(instance, best[0], self.name, time.perf_counter() - start, share=best[1])


def first_shares(costs: Costs) -> Float[np.ndarray, "user server"]:
    """Guesses shares before anything is decided: a server in equal parts for all in its reach, at least the floors."""
    equal = 1.0 / np.maximum(costs.usable.sum(axis=0), 1)
    return np.where(costs.usable, np.maximum(costs.min_share, equal), 0.0)


def next_shares(
    costs: Costs, server: Int[np.ndarray, "user"], share: Float[np.ndarray, "user"]
) -> Float[np.ndarray, "user server"]:
    """Returns what every user has or would get: its share where it is; elsewhere what a newcomer would take.

    A newcomer's share is in proportion to sqrt(J_exe), as the best shares are where no floor binds (Eq. 23).
    """
    here = server[:, None] == np.arange(costs.usable.shape[1])  # [user server]
    root = np.sqrt(costs.execute_cost)
    total = np.where(here, root, 0.0).sum(axis=0) + root
    newcomer = np.maximum(costs.min_share, root / np.where(total > 0, total, 1.0))
    return np.where(costs.usable, np.where(here, share[:, None], newcomer), 0.0)


def decide(costs: Costs, share: Float[np.ndarray, "user server"]) -> Int[np.ndarray, "user"] | None:
    """Decides greedily under fixed shares: next goes the user that loses most if its cheapest place is taken.

    A place counts as long as the user's share still fits into it. Where a user that must offload is left without one,
    all such users are packed at their floors, and the others follow.

    Args:
        costs: of one instance, without a leading axis.
        share: that each user gets on each server.

    Returns:
        The server of each user, or LOCAL; None where `pack` finds none.
    """
    (num_users, home), must = costs.usable.shape, ~costs.local_allowed
    usable = np.concatenate([costs.usable, costs.local_allowed[:, None]], axis=1)  # [user place], the last one home
    remote = costs.transmit_cost + costs.execute_cost / np.where(share > 0, share, 1.0)
    price = np.where(usable, np.concatenate([remote, costs.local_cost[:, None]], axis=1), np.inf)
    need = np.concatenate([share, np.zeros((num_users, 1))], axis=1)
    room = np.full(home + 1, _CAPACITY)
    place = _by_regret(price, need, room, np.full(num_users, -1))
    if place is None:
        packed = pack(costs, np.where(costs.usable, -remote, -np.inf))
        if packed is None:
            return None
        room[:home] -= load(chosen(costs.min_share, packed), packed, home)
        place = _by_regret(price, need, room, np.where(must, packed, -1))
        assert place is not None  # home is open to all who are left
    return np.where(place == home, LOCAL, place)


def _by_regret(
    price: Float[np.ndarray, "user place"],
    need: Float[np.ndarray, "user place"],
    room: Float[np.ndarray, "place"],
    place: Int[np.ndarray, "user"],
) -> Int[np.ndarray, "user"] | None:
    """Places the users whose place is -1, by Vogel's rule; None: one of them was left without a place."""
    room, place = room.copy(), place.copy()
    for _ in range(int((place < 0).sum())):
        left = np.flatnonzero(place < 0)
        open_price = np.where(need[left] <= room, price[left], np.inf)
        cheapest = open_price.argmin(axis=1)
        first = open_price[np.arange(len(left)), cheapest]
        if np.isinf(first).any():
            return None
        open_price[np.arange(len(left)), cheapest] = np.inf
        next_one = (open_price.min(axis=1) - first).argmax()
        user, taken = left[next_one], cheapest[next_one]
        place[user] = taken
        room[taken] -= need[user, taken]
    return place


def allocate(costs: Costs, server: Int[np.ndarray, "user"]) -> Float[np.ndarray, "user"]:
    """Computes the shares of an assignment by sequential quadratic programming, server by server; 0 for local users.

    Args:
        costs: of one instance, without a leading axis.
        server: index of each user's server, or LOCAL; the floors on each server sum to at most 1.
    """
    share = np.zeros(len(server))
    for s in np.unique(server[server != LOCAL]):
        users = np.flatnonzero(server == s)
        share[users] = server_shares(costs.execute_cost[users, s], costs.min_share[users, s])
    return share


def server_shares(
    execute_cost: Float[np.ndarray, "user"], floor: Float[np.ndarray, "user"]
) -> Float[np.ndarray, "user"]:
    """Minimises sum J_exe / y subject to y >= mu, sum y <= 1 by SLSQP (Kraft 1988); y is never worse than the start.

    Args:
        execute_cost: J_exe at full load.
        floor: mu.
    """
    spare = max(0.0, 1.0 - floor.sum())
    start = floor + spare / len(floor)
    if len(floor) == 1 or spare < _NO_ROOM or not execute_cost.any():
        return start
    scaled = execute_cost / (execute_cost / start).sum()
    ones = np.ones(len(floor))
    found = minimize(
        lambda y: (scaled / y).sum(),
        start,
        jac=lambda y: -scaled / y**2,
        bounds=[(low, 1.0) for low in floor],
        constraints={"type": "ineq", "fun": lambda y: 1.0 - y.sum(), "jac": lambda y: -ones},
        method="SLSQP",
        options={"ftol": _PRECISION, "maxiter": _MAX_STEPS},
    ).x
    # the solver obeys bounds and constraint up to rounding only
    extra = np.maximum(found - floor, 0.0)
    share = floor + extra * (spare / extra.sum()) if extra.sum() > 0 else start
    return share if (scaled / share).sum() < 1.0 else start
