"""Columns of the set-packing program: a server together with the set of users that it takes.

Source: [1] GADSG, Eqs. 18-24; equation numbers refer to [1]. For a fixed set the best shares have a closed form
(`laegd.problem.allocation`), so a column's cost is exact. Two facts keep the lists short. A set whose floors exceed 1
is infeasible, with every larger set. And the cost of a set is supermodular (it is a maximum, over the price of
computing power, of sums of terms that rise with that price), so where a set gets no worse by sending a member home, it
is dominated, with every larger set.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.instance import Costs
from laegd.problem.objective import SHARE_TOLERANCE
from laegd.solvers.limits import NO_LIMITS, Limits

CAPACITY = 1.0 + SHARE_TOLERANCE
_BYTES_A_COLUMN = 1 << 12  # while it is listed, at most


class Edges(NamedTuple):
    """Pairs on which offloading can pay, sorted by server, then by the price at which their floor ceases to bind."""

    user: Int[np.ndarray, "edge"]
    server: Int[np.ndarray, "edge"]
    floor: Float[np.ndarray, "edge"]  # mu, Eq. 22
    root: Float[np.ndarray, "edge"]  # sqrt(J_exe), Eq. 21
    execute_cost: Float[np.ndarray, "edge"]  # J_exe at full load
    fixed_cost: Float[np.ndarray, "edge"]  # J_tr, less the local cost that is saved where the user may stay
    worth: Float[np.ndarray, "edge"]  # execution cost above which the user is better off at home; inf if it must leave
    last: Int[np.ndarray, "edge"]  # one past the last edge of the same server

    def where(self, chosen: Bool[np.ndarray, "edge"]) -> "Edges":
        """Returns some of the edges."""
        kept = Edges(*(values[chosen] for values in self))
        return kept._replace(last=np.searchsorted(kept.server, kept.server, side="right"))


class Columns(NamedTuple):
    """Columns in compressed form: row u is user u, row U + s is server s; a column's first row is its server."""

    cost: Float[np.ndarray, "column"]  # relative to running every user locally that may do so
    start: Int[np.ndarray, "column_plus_1"]
    row: Int[np.ndarray, "entry"]

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, chosen: Int[np.ndarray, "some"]) -> "Columns":
        """Returns these columns, in this order."""
        size = np.diff(self.start)[chosen]
        start = np.concatenate([[0], np.cumsum(size)])
        entry = np.repeat(self.start[chosen] - start[:-1], size) + np.arange(start[-1])
        return Columns(self.cost[chosen], start, self.row[entry])

    def reduced_cost(self, dual: Float[np.ndarray, "row"]) -> Float[np.ndarray, "column"]:
        """Returns cost less the duals of the column's rows."""
        return self.cost - np.add.reduceat(dual[self.row], self.start[:-1]) if len(self) else self.cost

    def users(self, column: int) -> Int[np.ndarray, "member"]:
        """Returns the users of one column."""
        return self.row[self.start[column] + 1 : self.start[column + 1]]

    def servers(self, num_users: int) -> Int[np.ndarray, "column"]:
        """Returns the server of each column."""
        return self.row[self.start[:-1]] - num_users

    @staticmethod
    def join(parts: "list[Columns]") -> "Columns":
        """Returns all columns of the parts, in order."""
        offset = np.cumsum([0, *(len(part.row) for part in parts)])
        starts = [part.start[:-1] + shift for part, shift in zip(parts, offset[:-1], strict=True)]
        return Columns(
            np.concatenate([np.zeros(0), *(part.cost for part in parts)]),
            np.concatenate([*starts, offset[-1:]]).astype(np.int64),
            np.concatenate([np.zeros(0, np.int64), *(part.row for part in parts)]),
        )


def offload_edges(costs: Costs) -> Edges:
    """Returns the edges of one instance on which offloading can pay; the others are in no undominated set."""
    must = ~costs.local_allowed
    local = np.where(must, np.inf, costs.local_cost)
    pays = costs.usable & (costs.transmit_cost + costs.execute_cost < local[:, None])
    user, server = np.nonzero(pays)
    ratio = costs.min_share[user, server] / np.sqrt(costs.execute_cost[user, server])
    order = np.lexsort((ratio, server))
    user, server = user[order], server[order]
    execute, transmit = costs.execute_cost[user, server], costs.transmit_cost[user, server]
    return Edges(
        user=user,
        server=server,
        floor=costs.min_share[user, server],
        root=np.sqrt(execute),
        execute_cost=execute,
        fixed_cost=transmit - np.where(must, 0.0, costs.local_cost)[user],
        worth=local[user] - transmit,
        last=np.searchsorted(server, server, side="right"),
    )


def price_sets(
    edges: Edges, member: Int[np.ndarray, "set size"]
) -> tuple[Float[np.ndarray, "set"], Float[np.ndarray, "set size"], Float[np.ndarray, "set"]]:
    """Computes the least execution cost of sets of edges of one server each, members in ascending order.

    Returns:
        Cost per set, shares per member, and the price of computing power, -d cost / d capacity; inf where a set only
        fits at its floors.
    """
    floor, root = edges.floor[member], edges.root[member]  # sorted by floor / root, as the edges are
    floors_after = np.cumsum(floor[:, ::-1], axis=1)[:, ::-1] - floor
    free = floor / root * np.cumsum(root, axis=1) + floors_after <= 1.0
    free_root = np.where(free, root, 0.0).sum(axis=1)
    left = 1.0 - np.where(free, 0.0, floor).sum(axis=1)
    theta = np.where(free_root > 0, left, 0.0) / np.where(free_root > 0, free_root, 1.0)
    share = np.maximum(floor, root * theta[:, None])
    price = np.where(theta > 0, 1.0 / np.where(theta > 0, theta, 1.0) ** 2, np.inf)
    return (edges.execute_cost[member] / share).sum(axis=1), share, price


def list_columns(
    edges: Edges, num_users: int, max_columns: int, limits: Limits = NO_LIMITS
) -> tuple[Columns, Bool[np.ndarray, "server"]]:
    """Lists every undominated feasible set of every server.

    Returns:
        The columns, and a mask over servers 0..max(edges.server): True where the list of the server would have exceeded
        a limit; none of its sets of two or more users are listed then.
    """
    num_servers = int(edges.server.max(initial=-1)) + 1
    skipped = np.zeros(num_servers, dtype=bool)
    member = np.arange(len(edges.user))[:, None]
    total_floor, levels, num_listed = edges.floor, [(member, edges.execute_cost)], len(member)
    max_columns = int(min(max_columns, limits.memory_bytes // _BYTES_A_COLUMN))
    while len(member):
        grown = np.bincount(edges.server[member[:, 0]], edges.last[member[:, -1]] - member[:, -1] - 1, num_servers)
        while grown.any() and (num_listed + grown.sum() > max_columns or limits.time_over):
            skipped[grown.argmax()] = True
            grown[grown.argmax()] = 0
        if skipped.any():
            kept = ~skipped[edges.server[member[:, 0]]]
            member, total_floor = member[kept], total_floor[kept]
        parent, candidate = extensions(edges.last, member)
        total_floor = total_floor[parent] + edges.floor[candidate]
        fits = total_floor <= CAPACITY
        member = np.concatenate([member[parent[fits]], candidate[fits, None]], axis=1)
        cost, share, price = price_sets(edges, member)
        kept = ~_dominated(edges, member, cost, share, price)
        member, total_floor = member[kept], total_floor[fits][kept]
        levels.append((member, cost[kept]))
        num_listed += len(member)
    if skipped.any():
        levels = [(m, c) if m.shape[1] == 1 else _only(~skipped[edges.server[m[:, 0]]], m, c) for m, c in levels]
    return Columns.join([columns_of_sets(edges, m, c, num_users) for m, c in levels]), skipped


def _only(kept: np.ndarray, member: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return member[kept], cost[kept]


def extensions(
    last: Int[np.ndarray, "edge"], member: Int[np.ndarray, "set size"]
) -> tuple[Int[np.ndarray, "extension"], Int[np.ndarray, "extension"]]:
    """Returns each set once with every later edge of its server, up to `last`: positions of the sets, and edges."""
    count = last[member[:, -1]] - member[:, -1] - 1
    parent = np.repeat(np.arange(len(member)), count)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
    return parent, member[parent, -1] + 1 + rank


def _dominated(edges: Edges, member: np.ndarray, cost: np.ndarray, share: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Tells which sets get no worse by sending one member home."""
    worth = edges.worth[member]
    # at the set's own price a member accounts for at least what its leaving saves
    saving_limit = edges.execute_cost[member] / share + share * price[:, None]
    row, position = np.nonzero(saving_limit >= worth)
    dominated = np.zeros(len(member), dtype=bool)
    if len(row):
        others = np.arange(member.shape[1] - 1)[None, :]
        others = others + (others >= position[:, None])
        without, _, _ = price_sets(edges, np.take_along_axis(member[row], others, axis=1))
        dominated[row[cost[row] - without >= worth[row, position]]] = True
    return dominated


def columns_of_sets(
    edges: Edges, member: Int[np.ndarray, "set size"], execute_cost: Float[np.ndarray, "set"], num_users: int
) -> Columns:
    """Returns sets of edges of one server each, with known execution cost, as columns."""
    count, size = member.shape
    row = np.concatenate([num_users + edges.server[member[:, :1]], edges.user[member]], axis=1)
    cost = execute_cost + edges.fixed_cost[member].sum(axis=1)
    return Columns(cost, np.arange(count + 1) * (size + 1), row.ravel())


def rank_within(group: Int[np.ndarray, "item"], value: Float[np.ndarray, "item"]) -> Int[np.ndarray, "item"]:
    """Returns each item's rank by value among the items of its group, from 0."""
    order = np.lexsort((value, group))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order], side="left")
    return rank
