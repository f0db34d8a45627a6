"""The search for columns of small reduced cost, for servers with too many sets to list.

Source: [1] GADSG, Eqs. 18-24; equation numbers refer to [1]. Sets grow user by user. For any price of computing power,
the sum over the members of the least of J_exe / y + price * y, less the price, bounds the cost of a set from below;
with what later users can still take off at that price it bounds all its extensions. A table over a grid of prices
turns this into one addition and one maximum per set. Whatever is cut off enters the certificate with its bound.
"""

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.solvers.columns import CAPACITY, Columns, Edges, columns_of_sets, extensions, price_sets, rank_within

_COARSE_STEPS = np.arange(60)  # of the price, upwards from the smallest J_exe
_LEAST_STEP = 1.2  # over four decades
_REFINEMENTS = (np.linspace(-1, 1, 21), 0.1 * np.linspace(-1, 1, 21))  # steps; the bound has kinks: look closely
_FINE_PRICES = np.exp(2.5 * np.linspace(-1, 1, 33) ** 3)  # less than 0.1 % apart in the middle
_CHUNK = 1 << 16  # candidates bounded at once: 20 MB
_EDGES_AT_ONCE = 1 << 15  # of servers that are searched together: some hundred megabytes


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
    deadline: float = np.inf,
) -> PricedColumns:
    """Searches the sets whose reduced cost, without the server's dual, is below a limit; breadth first, with bounds.

    Args:
        edges: of the servers to search.
        dual: of the users' rows.
        limit: on the reduced cost, per server.
        eagerness: in [0, 1); 0 finds all columns below the limit. Above 0 the limit moves this far towards the best
            column found, and sets that get no worse by dropping a member are left out: enough to find the best column.
        max_nodes: sets kept per server and size; of more, those with the best bounds.
        deadline: by time.perf_counter; past it no set grows any more, and what is left enters `least` by its bound.
    """
    group = edges.last // _EDGES_AT_ONCE  # whole servers, since the edges of one have the same end
    numbers = np.unique(group)
    if len(numbers) > 1:
        some = [edges.where(group == number) for number in numbers]
        return _joined([search_columns(part, dual, limit, eagerness, max_nodes, deadline) for part in some])
    given, limit = limit, limit.copy()
    best, least = np.full(len(limit), np.inf), np.full(len(limit), np.inf)
    tree = _Tree.of(edges, dual)
    member, base = np.zeros((len(edges.user), 0), dtype=np.int64), -tree.price
    parent = position = np.arange(len(edges.user))
    found, complete = [], np.ones(len(limit), dtype=bool)
    while len(parent):
        bound = tree.bounds(base, parent, position, deadline)
        server = tree.server[position]
        kept = bound < limit[server]
        in_time = time.perf_counter() < deadline
        crowded = np.bincount(server[kept], minlength=len(limit)) > (max_nodes if in_time else 0)
        if crowded.any():
            complete &= ~crowded
            first = rank_within(server, np.where(kept, bound, np.inf)) < max_nodes[server] if in_time else False
            kept &= ~crowded[server] | first
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
        found.append((columns_of_sets(edges, in_order[good], cost[good], len(dual)), reduced[good]))
        parent, position = extensions(tree.last, member)
        grows = tree.floor[member].sum(axis=1)[parent] + tree.floor[position] <= CAPACITY
        if eagerness:
            grows &= tree.least_effect(position, price[parent]) < 0
        parent, position = parent[grows], position[grows]
    columns = Columns.join([part for part, _ in found])
    reduced = np.concatenate([np.zeros(0), *(values for _, values in found)])
    return PricedColumns(columns, reduced, np.minimum(best, least), complete)


def _joined(parts: list[PricedColumns]) -> PricedColumns:
    """Joins what was found on different servers."""
    return PricedColumns(
        Columns.join([part.columns for part in parts]),
        np.concatenate([part.reduced_cost for part in parts]),
        np.min([part.least for part in parts], axis=0),
        np.all([part.complete for part in parts], axis=0),
    )


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
        # up to where all users together leave the price, with room for floors that bind
        highest = np.bincount(edges.server, edges.root).max(initial=0.0) ** 2
        step = max(_LEAST_STEP, (highest / middle[0]) ** (1.0 / _COARSE_STEPS[-1])) if len(middle) else _LEAST_STEP
        for steps in (_COARSE_STEPS, *_REFINEMENTS):
            price = middle[:, None] * step**steps
            gain = np.minimum(_effect(edges.execute_cost, edges.floor, price) - profit[:, None], 0.0)
            total = _sums_before(gain)
            best = (total[edges.last] - total[first] - price).argmax(axis=1)
            middle = price[np.arange(len(middle)), best]
        price = middle[:, None] * _FINE_PRICES
        term = _effect(edges.execute_cost, edges.floor, price) - profit[:, None]
        edge = np.lexsort((term[:, len(_FINE_PRICES) // 2], edges.server))
        price, term = price[edge], term[edge]
        total = _sums_before(np.minimum(term, 0.0))
        return _Tree(
            edge=edge,
            server=edges.server,
            last=edges.last,
            floor=edges.floor[edge],
            execute_cost=edges.execute_cost[edge],
            profit=profit[edge],
            price=price,
            term=term,
            rest=total[edges.last] - total[1:],
        )

    def bounds(self, base: np.ndarray, parent: np.ndarray, position: np.ndarray, deadline: float) -> np.ndarray:
        """Bounds the reduced cost of sets (parent plus position) and of everything they can grow into.

        Past the deadline by one price of the grid alone, which is quick.
        """
        bound = np.empty(len(parent))
        middle, most = slice(len(_FINE_PRICES) // 2, len(_FINE_PRICES) // 2 + 1), self.term + self.rest
        for begin in range(0, len(parent), _CHUNK):
            at = slice(begin, begin + _CHUNK)
            prices = slice(None) if time.perf_counter() < deadline else middle
            bound[at] = (base[:, prices][parent[at]] + most[:, prices][position[at]]).max(axis=1)
        return bound

    def least_effect(self, position: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Bounds from below what a position does to a set with this price, and to all larger sets."""
        finite = np.where(np.isfinite(price), price, 1.0)
        effect = (
            _effect(self.execute_cost[position], self.floor[position], finite[:, None])[:, 0] - self.profit[position]
        )
        return np.where(np.isfinite(price), effect, np.inf)


def _sums_before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


def _effect(execute_cost: np.ndarray, floor: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Computes the least of J / y + price * y over shares y of at least the floor; [edge price]."""
    share = np.maximum(np.sqrt(execute_cost[:, None] / price), floor[:, None])
    return execute_cost[:, None] / share + share * price
