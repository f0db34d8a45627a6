"""From the relaxation's fractional columns to an assignment.

Source: [1] GADSG, Eqs. 23-25; equation numbers refer to [1].
"""

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.instance import LOCAL, Costs
from laegd.solvers.columns import CAPACITY, Columns, Edges, price_sets
from laegd.solvers.limits import NO_LIMITS, Limits


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
    costs: Costs,
    edges: Edges,
    columns: Columns,
    value: Float[np.ndarray, "column"],
    limits: Limits = NO_LIMITS,
) -> Int[np.ndarray, "user"]:
    """Takes the largest compatible columns, then puts every other user where it is cheapest.

    The result may leave a user without a server although it must have one; so it does with all that are left when time
    is over.
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
    places = _Places(edges, server, num_servers)
    for user in left[np.lexsort((-costs.local_cost[left], costs.local_allowed[left]))]:
        if limits.time_over:
            break
        places.put_where_cheapest(int(user), bool(costs.local_allowed[user]))
    return server


class _Places:
    """An assignment, to which it adds users, and what each edge would add to the cost."""

    def __init__(self, edges: Edges, server: Int[np.ndarray, "user"], num_servers: int) -> None:
        self.edges, self.server = edges, server
        by_user = np.argsort(edges.user, kind="stable")
        self.of_user = np.split(by_user, np.searchsorted(edges.user[by_user], np.arange(1, len(server))))
        self.of_server = np.split(np.arange(len(edges.user)), np.searchsorted(edges.server, np.arange(1, num_servers)))
        self.added = np.full(len(edges.user), np.inf)
        for place in range(num_servers):
            self.price(place)

    def put_where_cheapest(self, user: int, may_stay: bool) -> None:
        """Places the user where it adds least, as far as the floors allow."""
        added = self.added[self.of_user[user]]
        if added.min(initial=np.inf) < (0.0 if may_stay else np.inf):
            place = int(self.edges.server[self.of_user[user][added.argmin()]])
            self.server[user] = place
            self.price(place)

    def price(self, place: int) -> None:
        """Prices every user that may come to the place, beside those that are there."""
        edges, own = self.edges, self.of_server[place]
        present = own[self.server[edges.user[own]] == place]
        fits = own[edges.floor[present].sum() + edges.floor[own] <= CAPACITY]
        member = np.sort(np.column_stack([np.tile(present, (len(fits), 1)), fits]), axis=1)
        before = price_sets(edges, present[None, :])[0][0] if len(present) else 0.0
        self.added[own] = np.inf
        self.added[fits] = price_sets(edges, member)[0] - before + edges.fixed_cost[fits]
