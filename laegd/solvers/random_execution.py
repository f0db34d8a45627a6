"""Random execution (RE), the weakest baseline of [1]: chance within the constraints, the best of several draws.

Source: [1] GADSG, Section V-B; equation numbers refer to [1]. "Under constraint satisfaction, each task is randomly
assigned to either local execution or offloading. For offloaded tasks, the target server allocates a random proportion
of computing resources. Eight candidate solutions are randomly generated, and the one with the lowest cost is selected."
What [1] leaves open is settled in docs/baselines.md.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.allocation import chosen, load
from laegd.problem.feasibility import conflict, pack_each
from laegd.problem.instance import LOCAL, Costs, Instance, Plan, Progress, solve_each
from laegd.problem.objective import SHARE_TOLERANCE, infeasible_plan, make_plan, plan_cost
from laegd.scenario.scenario import require

_CAPACITY = 1.0 + SHARE_TOLERANCE


@dataclass(frozen=True)
class RandomExecution:
    """The cheapest of several random plans; feasible wherever a feasible plan exists."""

    num_candidates: int = 8
    """Plans drawn per instance; the first ones are the same whatever their number, so more are never worse."""
    seed: int = 0
    """Together with the instance's own numbers; an instance gets the same plan whatever else is in the list."""
    name: str = "re"

    def __post_init__(self) -> None:
        require(self.num_candidates >= 1, "num_candidates", "at least 1", self.num_candidates, "Use 8.")
        require(self.seed >= 0, "seed", "a seed of at least 0", self.seed, "Use 0.")

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Returns one plan per instance, in order."""
        return solve_each(self._solve_one, instances, progress)

    def _solve_one(self, instance: Instance) -> Plan:
        start, costs = time.perf_counter(), instance.costs
        drawn = draw_plans(costs, self.num_candidates, stream(self.seed, instance))
        if drawn is None:
            unserved = tuple(instance.user_ids[user] for user in conflict(costs))
            return infeasible_plan(instance, self.name, unserved, time.perf_counter() - start)
        server, share = drawn
        best = plan_cost(costs, server, share).argmin()
        return make_plan(instance, server[best], self.name, time.perf_counter() - start, share=share[best])


def stream(seed: int, instance: Instance) -> np.random.Generator:
    """Returns the random stream of one instance, which depends on nothing but the seed and the network."""
    return np.random.default_rng([seed, instance.digest])


def draw_plans(
    costs: Costs, count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "cand user"], Float[np.ndarray, "cand user"]] | None:
    """Draws feasible plans; None proves that there is none.

    Args:
        costs: of one instance, without a leading axis.
        count: number of plans.
        rng: draws the same first plans whatever their number.

    Returns:
        Servers and shares.
    """
    num_users, num_servers = costs.usable.shape
    # one array for all, so that the numbers of a plan do not depend on how many plans follow it
    numbers = rng.random((count, num_users, num_servers + 3))  # [cand user number]
    score, turn, part = numbers[:, :, : num_servers + 1], numbers[:, :, -2], numbers[:, :, -1]
    server = draw_servers(costs, score, turn)
    if server is None:
        return None
    return server, random_shares(costs, server, part)


def draw_servers(
    costs: Costs, score: Float[np.ndarray, "cand user place"], turn: Float[np.ndarray, "cand user"]
) -> Int[np.ndarray, "cand user"] | None:
    """Lets one user after another take an allowed place with room for its floor, each such place equally likely.

    Args:
        costs: of one instance, without a leading axis.
        score: uniform random numbers; of the allowed places the one with the largest is taken, and the last is home.
        turn: uniform random numbers; users go in this order, after those that must offload.

    Returns:
        The server of each user, or LOCAL; None where `pack` finds none.
    """
    num_cands, num_users, num_places = score.shape
    must = ~costs.local_allowed
    home = np.where(costs.local_allowed, 0.0, np.inf)[:, None]
    floor = np.concatenate([np.where(costs.usable, costs.min_share, np.inf), home], axis=1)  # [user place]
    order = np.argsort(np.where(must, turn - 1.0, turn), axis=1)  # [cand user]
    room = np.full((num_cands, num_places), _CAPACITY)
    place = np.full((num_cands, num_users), num_places - 1)
    num_must = int(must.sum())
    stranded = _take_turns(floor, score, order[:, :num_must], room, place)
    if stranded.any():
        packed = pack_each(costs, score[stranded, :, :-1])
        if packed is None:
            return None
        place[stranded] = np.where(packed == LOCAL, num_places - 1, packed)
        room[stranded, :-1] = _CAPACITY - load(chosen(costs.min_share, packed), packed, num_places - 1)
    _take_turns(floor, score, order[:, num_must:], room, place)
    return np.where(place == num_places - 1, LOCAL, place)


def _take_turns(
    floor: np.ndarray, score: np.ndarray, order: np.ndarray, room: np.ndarray, place: np.ndarray
) -> Bool[np.ndarray, "cand"]:
    """Fills `place` and reduces `room` for the users in `order`; True: some user of the candidate found no place."""
    rows = np.arange(len(order))
    floor_in_turn, score_in_turn = floor[order], score[rows[:, None], order]  # [cand turn place]
    stranded = np.zeros(len(order), dtype=bool)
    for i in range(order.shape[1]):
        asked = floor_in_turn[:, i]
        fits = asked <= room
        taken = np.where(fits, score_in_turn[:, i], -1.0).argmax(axis=1)
        stranded |= ~fits[rows, taken]
        room[rows, taken] -= asked[rows, taken]
        place[rows, order[:, i]] = taken
    return stranded


def random_shares(
    costs: Costs, server: Int[np.ndarray, "cand user"], part: Float[np.ndarray, "cand user"]
) -> Float[np.ndarray, "cand user"]:
    """Hands out each server completely: the floors, and the rest in random proportions (Dirichlet, all ones).

    Args:
        costs: of one instance, without a leading axis.
        server: assignments whose floors fit.
        part: uniform random numbers in [0, 1).
    """
    num_servers = costs.usable.shape[1]
    floor = chosen(costs.min_share, server)
    weight = np.where(server == LOCAL, 0.0, -np.log1p(-part))  # exponential: normalised they are Dirichlet
    rest = np.maximum(0.0, 1.0 - load(floor, server, num_servers))  # [cand server]
    total = load(weight, server, num_servers)
    rate = rest / np.where(total > 0, total, 1.0)
    return floor + weight * chosen(rate[:, None, :], server)
