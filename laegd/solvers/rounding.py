"""From the relaxation's fractional columns to an assignment.

Source: [1] GADSG, Eqs. 23-25; equation numbers refer to [1].
"""

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.instance import LOCAL, Costs
from laegd.solvers.columns import CAPACITY, Columns, Edges, price_sets


def assignment(columns: Columns, num_users: int) -> Int[np.ndarray, "user"]:
    """Returns the server of each user under columns that share no row."""
    server = np.full(num_users, LOCAL, dtype=np.int64)
    for column, place in enumerate(columns.servers(num_users)):
        server[columns.users(column)] = place
    return server


def columns_of(edges: Edges, server: Int[np.ndarray, "user"]) -> Columns:
    """Returns the columns of an assignment, as far as they use these edges."""
    parts, on = [], server[edges.user] == edges.server
    for s in np.unique(edges.server[on]):
        member = np.flatnonzero(on & (edges.server == s))[None, :]
        cost = price_sets(edges, member)[0] + edges.fixed_cost[member].sum(axis=1)
        row = np.concatenate([[len(server) + s], edges.user[member[0]]])
        parts.append(Columns(cost, np.array([0, len(row)]), row))
    return Columns.join(parts)


def round_columns(
    costs: Costs, edges: Edges, columns: Columns, value: Float[np.ndarray, "column"]
) -> Int[np.ndarray, "user"]:
    """Takes the largest compatible columns, then puts every other user where it is cheapest.

    The result may leave a user without a server although it must have one.
    """
    num_users, num_servers = costs.covered.shape
    server = np.full(num_users, LOCAL, dtype=np.int64)
    used = np.zeros(num_users + num_servers, dtype=bool)
    for column in np.argsort(-value, kind="stable")[: np.count_nonzero(value > 1e-6)]:
        row = columns.row[columns.start[column] : columns.start[column + 1]]
        if not used[row].any():
            used[row] = True
            server[row[1:]] = row[0] - num_users
    left = np.flatnonzero(~used[:num_users])
    for user in left[np.lexsort((-costs.local_cost[left], costs.local_allowed[left]))]:
        server[user] = _cheapest(edges, server, int(user), bool(costs.local_allowed[user]))
    return server


def _cheapest(edges: Edges, server: np.ndarray, user: int, may_stay: bool) -> int:
    """Returns the place where adding the user costs least, as far as the floors allow."""
    best, best_cost = LOCAL, 0.0 if may_stay else np.inf
    for edge in np.flatnonzero(edges.user == user):
        same = edges.server == edges.server[edge]
        present = np.flatnonzero(same & (server[edges.user] == edges.server))
        member = np.sort(np.append(present, edge))[None, :]
        if edges.floor[member].sum() > CAPACITY:
            continue
        before = price_sets(edges, present[None, :])[0][0] if len(present) else 0.0
        cost = price_sets(edges, member)[0][0] - before + edges.fixed_cost[edge]
        if cost < best_cost:
            best, best_cost = int(edges.server[edge]), cost
    return best
