"""Steepest descent over assignments: the best move or swap of users, again and again, at exact shares.

A change touches two places at most, a place being a server or home, so only what concerns these is priced anew: what a
place costs with one user less, one more, or one exchanged for another.
"""

import time
from contextlib import suppress
from itertools import count

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import LOCAL, Costs
from laegd.problem.objective import is_feasible, plan_cost

# Rounding must not make two plans of equal cost alternate: a change must gain this share of the cost.
_LEAST_GAIN = 1e-12
MAX_USERS = 5_000
_NOBODY = -1
_MEMBERS_AT_ONCE = 2**18  # over the sets that are priced together: some tens of megabytes


def improve(
    costs: Costs, server: Int[np.ndarray, "user"], deadline: float = np.inf, max_changes: int | None = None
) -> Int[np.ndarray, "user"]:
    """Applies the best move or swap of users until none lowers the cost, or time is over.

    Networks of more than MAX_USERS stay as they are: the tables of all swaps would take gigabytes.

    Args:
        costs: of one instance, without a leading axis.
        server: index of each user's server, or LOCAL; a feasible assignment.
        deadline: on the clock of `time.perf_counter`.
        max_changes: that are made; None: all that help.
    """
    if not 0 < len(server) <= MAX_USERS:
        return server
    server = server.copy()
    least = _LEAST_GAIN * float(plan_cost(costs, server, optimal_shares(costs, server)))
    with suppress(_TimeOver):
        prices = _Prices(costs, server, deadline)
        for _ in count() if max_changes is None else range(max_changes):
            if not prices.make_best_change(least):
                break
    return server


class _TimeOver(Exception):
    """Ends the search; the assignment is whole whenever it comes."""


class _Prices:
    """An assignment, which it changes, and what each change adds to the cost; inf where a constraint forbids it."""

    def __init__(self, costs: Costs, server: Int[np.ndarray, "user"], deadline: float) -> None:
        num_users, num_servers = costs.usable.shape
        self.costs, self.server, self.deadline = costs, server, deadline
        self.leave = np.zeros(num_users)  # the user is gone from its place
        self.join = np.full((num_users, num_servers + 1), np.inf)  # the user comes to a place; the last one is home
        self.replace = np.full((num_users, num_users), np.inf)  # the first user comes, the second is gone from there
        for place in (*range(num_servers), LOCAL):
            self.price(place)

    def make_best_change(self, least_gain: float) -> bool:
        """Applies the change that lowers the cost most; False where none gains enough."""
        change = np.concatenate([self.join + self.leave[:, None], self.replace + self.replace.T], axis=1)
        if not change.min(initial=np.inf) < -least_gain:
            return False
        user, to = np.unravel_index(change.argmin(), change.shape)
        home = self.join.shape[1] - 1
        before = int(self.server[user])
        if to <= home:
            after = LOCAL if to == home else int(to)
        else:
            other = to - home - 1
            after, self.server[other] = int(self.server[other]), before
        self.server[user] = after
        self.price(before)
        self.price(after)
        return True

    def price(self, place: int) -> None:
        """Prices all changes of a place."""
        costs, there = self.costs, np.flatnonzero(self.server == place)
        allowed = costs.local_allowed if place == LOCAL else costs.usable[:, place]
        new = np.flatnonzero(allowed & (self.server != place))
        if place == LOCAL:
            own = np.append(0.0, costs.local_cost)
            change = own[np.append(_NOBODY, new) + 1][:, None] - own[np.append(_NOBODY, there) + 1]
        else:
            # [newcomer leaver]: nobody or one of the new comes, nobody or one of those there is gone
            left = np.where(np.eye(1 + len(there), len(there), -1, dtype=bool), _NOBODY, there)
            newcomers, at_once = np.append(_NOBODY, new), max(_MEMBERS_AT_ONCE // (len(there) + 1) ** 2, 1)
            blocks = [newcomers[first : first + at_once] for first in range(0, len(newcomers), at_once)]
            change = np.concatenate([self.with_newcomers(place, left, block) for block in blocks])
            change -= change[0, 0]
        self.leave[there] = change[0, 1:]
        self.join[:, place] = np.inf
        self.join[new, place] = change[1:, 0]
        self.replace[:, there] = np.inf
        self.replace[np.ix_(new, there)] = change[1:, 1:]

    def with_newcomers(
        self, server: int, left: Int[np.ndarray, "leaver member"], new: Int[np.ndarray, "newcomer"]
    ) -> Float[np.ndarray, "newcomer leaver"]:
        """Computes what a server costs with one of the new beside each of the sets that are left of its users."""
        if time.perf_counter() > self.deadline:
            raise _TimeOver
        sets = np.broadcast_to(left, (len(new), *left.shape))
        comes = np.broadcast_to(new[:, None, None], (*sets.shape[:2], 1))
        return server_costs(self.costs, server, np.concatenate([sets, comes], axis=2))


def server_costs(costs: Costs, server: int, member: Int[np.ndarray, "*set size"]) -> Float[np.ndarray, "*set"]:
    """Computes what sets of users cost on a server at their best shares; inf where the set breaks a constraint.

    Args:
        costs: of one instance, without a leading axis.
        server: the server.
        member: the users there, in any order; -1: nobody.
    """

    def column(values: np.ndarray) -> np.ndarray:
        return values[:, server][member][..., None]  # [set size 1]

    sets = costs._replace(
        local_cost=np.zeros(member.shape),
        local_allowed=np.ones(member.shape, dtype=bool),
        covered=column(costs.covered),
        transmit_cost=column(costs.transmit_cost),
        execute_cost=column(costs.execute_cost),
        min_share=column(costs.min_share),
    )
    place = np.where(member == _NOBODY, LOCAL, 0)
    share = optimal_shares(sets, place)
    return np.where(is_feasible(sets, place, share), plan_cost(sets, place, share), np.inf)
