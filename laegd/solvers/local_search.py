"""Steepest descent over assignments: the best move or swap of users, again and again, at exact shares.

A change touches two servers at most, so only these are priced: per server the cost with one user less, one more, or one
exchanged for another.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import LOCAL, Costs
from laegd.problem.objective import is_feasible, plan_cost

# Rounding must not make two plans of equal cost alternate: a change must gain this share of the cost.
_LEAST_GAIN = 1e-12


def improve(costs: Costs, server: Int[np.ndarray, "user"]) -> Int[np.ndarray, "user"]:
    """Applies the best move or swap of users until none lowers the cost.

    Args:
        costs: of one instance, without a leading axis.
        server: index of each user's server, or LOCAL; a feasible assignment.
    """
    server, home = server.copy(), costs.usable.shape[1]
    while True:
        move, swap, total = _changes(costs, server)
        change = np.concatenate([move, swap], axis=1)
        if not change.min(initial=np.inf) < -_LEAST_GAIN * total:
            return server
        user, to = np.unravel_index(change.argmin(), change.shape)
        if to <= home:
            server[user] = LOCAL if to == home else to
        else:
            server[[user, to - home - 1]] = server[[to - home - 1, user]]


def _changes(
    costs: Costs, server: Int[np.ndarray, "user"]
) -> tuple[Float[np.ndarray, "user place"], Float[np.ndarray, "user user"], float]:
    """Returns what the cost changes by where a user moves, and where two exchange their places; inf where they cannot.

    The last place is home. The third value is the cost itself.
    """
    num_users, home = costs.usable.shape
    allowed = np.concatenate([costs.usable, costs.local_allowed[:, None]], axis=1)  # index LOCAL is its last column
    at, own = server == np.arange(home)[:, None], np.eye(num_users, dtype=bool)  # [server user], [user user]
    away = np.flatnonzero(server != LOCAL)
    new, to = np.nonzero(costs.usable & ~at.T)
    fits = (server[:, None] != server) & allowed[:, server]  # the first may take the second one's place
    fits &= fits.T
    first, second = np.nonzero(fits & (server != LOCAL))
    groups = (
        (np.arange(home), at),
        (server[away], at[server[away]] & ~own[away]),
        (to, at[to] | own[new]),
        (server[second], (at[server[second]] & ~own[second]) | own[first]),
    )
    rows, members = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    ends = np.cumsum([len(group[0]) for group in groups])[:-1]
    now, less, more, other = np.split(server_costs(costs, rows, members), ends)

    leave = -costs.local_cost  # where a user vanishes from its place
    leave[away] = less - now[server[away]]
    move = np.full(allowed.shape, np.inf)
    move[new, to] = more - now[to]
    move[:, home] = np.where(costs.local_allowed & (server != LOCAL), costs.local_cost, np.inf)
    take = np.where(fits, costs.local_cost[:, None] - costs.local_cost, np.inf)  # the second one's place, if at home
    take[first, second] = other - now[server[second]]
    swap = np.where(np.triu(fits), take + take.T, np.inf)
    return move + leave[:, None], swap, float(now.sum() + costs.local_cost[server == LOCAL].sum())


def server_costs(
    costs: Costs, server: Int[np.ndarray, "row"], member: Bool[np.ndarray, "row user"]
) -> Float[np.ndarray, "row"]:
    """Computes what sets of users cost on a server at their best shares; inf where the set breaks a constraint.

    Args:
        costs: of one instance, without a leading axis.
        server: of each row.
        member: the users there.
    """

    def column(values: np.ndarray) -> np.ndarray:
        return values.T[server][..., None]  # [row user 1]

    num_users = member.shape[1]
    rows = costs._replace(
        local_cost=np.zeros(num_users),
        local_allowed=np.ones(num_users, dtype=bool),
        covered=column(costs.covered),
        transmit_cost=column(costs.transmit_cost),
        execute_cost=column(costs.execute_cost),
        min_share=column(costs.min_share),
    )
    place = np.where(member, 0, LOCAL)
    share = optimal_shares(rows, place)
    return np.where(is_feasible(rows, place, share), plan_cost(rows, place, share), np.inf)
