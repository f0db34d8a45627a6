"""Columns of the set-packing program: a server together with the set of users that it takes.

Source: [1] GADSG, Eqs. 18-24; equation numbers refer to [1]. For a fixed set the best shares have a closed form
(`laegd.problem.allocation`), so a column's cost is exact. Three facts keep the lists short. Sets whose floors exceed 1 are
infeasible, with every larger set. The cost of a set is supermodular (it is a maximum over the price of computing power of
sums of terms that rise with that price), so a set that gets no worse by sending a member home is dominated, with every
larger set. And for any price the sums bound the cost of a set and all its extensions from below, which prunes the search
for columns of small reduced cost.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.instance import Costs
from laegd.problem.objective import SHARE_TOLERANCE

CAPACITY = 1.0 + SHARE_TOLERANCE
_COARSE_PRICES = 1.2 ** np.arange(60)  # times the smallest J_exe: over four decades
_REFINEMENTS = (1.2 ** np.linspace(-1, 1, 21), 1.02 ** np.linspace(-1, 1, 21))  # the bound has kinks: look closely
_FINE_PRICES = np.exp(2.5 * np.linspace(-1, 1, 33) ** 3)  # less than 0.1 % apart in the middle
_CHUNK = 1 << 16  # candidates bounded at once: 25 MB


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

    def of_servers(self, chosen: Bool[np.ndarray, "server"]) -> "Edges":
        """Returns the edges of these servers."""
        kept = Edges(*(values[chosen[self.server]] for values in self))
        return kept._replace(last=np.searchsorted(kept.server, kept.server, side="right"))


class Columns(NamedTuple):
    """Columns in compressed form: rows 0..U-1 are the users, row U + s is server s; a column's first row is its server."""

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
        Cost per set, shares per member, and the price of computing power, -d cost / d capacity; inf where a set fits only
        at its floors.
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


def list_columns(edges: Edges, num_users: int, max_columns: int) -> tuple[Columns, Bool[np.ndarray, "server"]]:
    """Lists every undominated feasible set of every server.

    Returns:
        The columns, and a mask over servers 0..max(edges.server): True where the list of the server would have exceeded
        the limit; none of its sets of two or more users are listed then.
    """
    num_servers = int(edges.server.max(initial=-1)) + 1
    skipped = np.zeros(num_servers, dtype=bool)
    member = np.arange(len(edges.user))[:, None]
    total_floor, levels, num_listed = edges.floor, [(member, edges.execute_cost)], len(member)
    while len(member):
        grown = np.bincount(edges.server[member[:, 0]], edges.last[member[:, -1]] - member[:, -1] - 1, num_servers)
        while num_listed + grown.sum() > max_columns:
            skipped[grown.argmax()] = True
            grown[grown.argmax()] = 0
        if skipped.any():
            kept = ~skipped[edges.server[member[:, 0]]]
            member, total_floor = member[kept], total_floor[kept]
        parent, candidate = _extensions(edges.last, member)
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
    return Columns.join([_columns(edges, m, c, num_users) for m, c in levels]), skipped


def _only(kept: np.ndarray, member: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return member[kept], cost[kept]


def _extensions(last: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each set once with every later edge of its server: positions of the sets, and the edges."""
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


def _columns(edges: Edges, member: np.ndarray, execute_cost: np.ndarray, num_users: int) -> Columns:
    count, size = member.shape
    row = np.concatenate([num_users + edges.server[member[:, :1]], edges.user[member]], axis=1)
    cost = execute_cost + edges.fixed_cost[member].sum(axis=1)
    return Columns(cost, np.arange(count + 1) * (size + 1), row.ravel())


class PricedColumns(NamedTuple):
    """What a search for columns of small reduced cost found."""

    columns: Columns
    reduced_cost: Float[np.ndarray, "column"]
    least: Float[np.ndarray, "server"]  # no column of the server has a smaller reduced cost; certified
    complete: Bool[np.ndarray, "server"]  # every column of the server below the limit was found


def search_columns(
    edges: Edges,
    dual: Float[np.ndarray, "user"],
    limit: Float[np.ndarray, "server"],
    eagerness: float,
    max_nodes: Int[np.ndarray, "server"],
) -> PricedColumns:
    """Searches the sets whose reduced cost, without the server's dual, is below a limit; breadth first, with bounds.

    Args:
        edges: of the servers to search.
        dual: of the users' rows.
        limit: on the reduced cost, per server.
        eagerness: in [0, 1); 0 finds all columns below the limit. Above 0 the limit moves this far towards the best
            column found, and sets that get no worse by dropping a member are left out: enough to find the best column.
        max_nodes: sets kept per server and size; of more, those with the best bounds.
    """
    given, limit = limit, limit.copy()
    best, least = np.full(len(limit), np.inf), np.full(len(limit), np.inf)
    tree = _Tree.of(edges, dual)
    member, base = np.zeros((len(edges.user), 0), dtype=np.int64), -tree.price
    parent = position = np.arange(len(edges.user))
    found, complete = [], np.ones(len(limit), dtype=bool)
    while len(parent):
        bound = tree.bounds(base, parent, position)
        server = tree.server[position]
        kept = bound < limit[server]
        crowded = np.bincount(server[kept], minlength=len(limit)) > max_nodes
        if crowded.any():
            complete &= ~crowded
            kept &= ~crowded[server] | (rank_within(server, np.where(kept, bound, np.inf)) < max_nodes[server])
        np.minimum.at(least, server[~kept], bound[~kept])
        parent, position, server = parent[kept], position[kept], server[kept]
        base = base[parent] + tree.term[position]
        member = np.concatenate([member[parent], position[:, None]], axis=1)
        in_order = np.sort(tree.edge[member], axis=1)
        cost, _, price = price_sets(edges, in_order)
        reduced = cost - tree.profit[member].sum(axis=1)
        np.minimum.at(best, server, reduced)
        limit = np.minimum(limit, given + eagerness * (np.minimum(best, given) - given)) if eagerness else limit
        good = reduced < limit[server]
        found.append((_columns(edges, in_order[good], cost[good], len(dual)), reduced[good]))
        parent, position = _extensions(tree.last, member)
        grows = tree.floor[member].sum(axis=1)[parent] + tree.floor[position] <= CAPACITY
        if eagerness:
            grows &= tree.least_effect(position, price[parent]) < 0
        parent, position = parent[grows], position[grows]
    columns = Columns.join([part for part, _ in found])
    reduced = np.concatenate([np.zeros(0), *(values for _, values in found)])
    return PricedColumns(columns, reduced, np.minimum(best, least), complete)


class _Tree(NamedTuple):
    """The edges of each server in the order in which sets grow: those first that the relaxed problem wants most."""

    edge: Int[np.ndarray, "position"]
    server: Int[np.ndarray, "position"]
    last: Int[np.ndarray, "position"]
    floor: Float[np.ndarray, "position"]
    execute_cost: Float[np.ndarray, "position"]
    profit: Float[np.ndarray, "position"]
    price: Float[np.ndarray, "position price"]  # a grid of prices of computing power, its middle the server's best
    term: Float[np.ndarray, "position price"]  # what a position adds to the bound of a set
    rest: Float[np.ndarray, "position price"]  # what later positions of the server can still take off, at most 0

    @staticmethod
    def of(edges: Edges, dual: np.ndarray) -> "_Tree":
        profit = dual[edges.user] - edges.fixed_cost
        first = np.searchsorted(edges.server, edges.server)
        middle = np.full(len(profit), edges.execute_cost.min(initial=np.inf))
        for grid in (_COARSE_PRICES, *_REFINEMENTS):
            price = middle[:, None] * grid
            gain = np.minimum(_effect(edges.execute_cost, edges.floor, price) - profit[:, None], 0.0)
            total = _sums_before(gain)
            best = (total[edges.last] - total[first] - price).argmax(axis=1)
            middle = price[np.arange(len(middle)), best]
        price = middle[:, None] * _FINE_PRICES
        term = _effect(edges.execute_cost, edges.floor, price) - profit[:, None]
        edge = np.lexsort((term[:, len(_FINE_PRICES) // 2], edges.server))
        price, term = price[edge], term[edge]
        total = _sums_before(np.minimum(term, 0.0))
        columns = (values[edge] for values in (edges.server, edges.last, edges.floor, edges.execute_cost, profit))
        return _Tree(edge, *columns, price, term, total[edges.last] - total[1:])

    def bounds(self, base: np.ndarray, parent: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Bounds the reduced cost of sets (parent plus position) and of everything they can grow into."""
        bound = np.empty(len(parent))
        for begin in range(0, len(parent), _CHUNK):
            at = slice(begin, begin + _CHUNK)
            own = position[at]
            bound[at] = (base[parent[at]] + self.term[own] + self.rest[own]).max(axis=1)
        return bound

    def least_effect(self, position: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Bounds from below what a position does to a set with this price, and to all larger sets."""
        finite = np.where(np.isfinite(price), price, 1.0)
        effect = _effect(self.execute_cost[position], self.floor[position], finite[:, None])[:, 0] - self.profit[position]
        return np.where(np.isfinite(price), effect, np.inf)


def _sums_before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


def _effect(execute_cost: np.ndarray, floor: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Computes the least of J / y + price * y over shares y of at least the floor; [edge price]."""
    share = np.maximum(np.sqrt(execute_cost[:, None] / price), floor[:, None])
    return execute_cost[:, None] / share + share * price


def rank_within(group: Int[np.ndarray, "item"], value: Float[np.ndarray, "item"]) -> Int[np.ndarray, "item"]:
    """Returns each item's rank by value among the items of its group, from 0."""
    order = np.lexsort((value, group))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order], side="left")
    return rank
