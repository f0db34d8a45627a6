"""The search for columns of small reduced cost, for servers with too many sets to list.

Source: [1] GADSG, Eqs. 18-24; equation numbers refer to [1]. Sets grow user by user. For any price of computing power,
the sum over the members of the least of J_exe / y + price * y, less the price, bounds the cost of a set from below;
with what later users can still take off at that price it bounds all its extensions. A table over a grid of prices
turns this into one addition and one maximum per set. Whatever is cut off enters the certificate with its bound.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.solvers.columns import CAPACITY, Columns, Edges, columns_of_sets, extensions, price_sets, rank_within
from laegd.solvers.limits import NO_LIMITS, Limits

_COARSE_STEPS = np.arange(60)  # of the price, upwards from the smallest J_exe
_LEAST_STEP = 1.2  # over four decades
_REFINEMENTS = (np.linspace(-1, 1, 21), 0.1 * np.linspace(-1, 1, 21))  # steps; the bound has kinks: look closely
_FINE_PRICES = np.exp(2.5 * np.linspace(-1, 1, 33) ** 3)  # less than 0.1 % apart in the middle
_CHUNK = 1 << 14  # candidates bounded at once, between looks at the clock: 5 MB and ten milliseconds
_EDGES_AT_ONCE = 1 << 15  # of servers that are searched together: some hundred megabytes
_BYTES_AN_EDGE = 1 << 14  # of such servers, at most, while their tables are made
_BYTES_A_NODE, _BYTES_A_MEMBER = 1 << 11, 1 << 6  # a set of users while its level and the next are at work, at most
_FOUND_PART = 0.25  # of the memory, which columns found may take
_GRACE_S = 0.3  # past the deadline, until when servers still get a bound


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
    limits: Limits = NO_LIMITS,
) -> PricedColumns:
    """Searches the sets whose reduced cost, without the server's dual, is below a limit; breadth first, with bounds.

    Args:
        edges: of the servers to search.
        dual: of the users' rows.
        limit: on the reduced cost, per server.
        eagerness: in [0, 1); 0 finds all columns below the limit. Above 0 the limit moves this far towards the best
            column found, and sets that get no worse by dropping a member are left out: enough to find the best column.
        max_nodes: sets kept per server and size; of more, those with the best bounds.
        limits: on time and memory; at either no set grows any more, and what is left enters `least` by its bound.
    """
    at_once = max(min(_EDGES_AT_ONCE, limits.memory_bytes // _BYTES_AN_EDGE), 1)
    group = edges.last // int(at_once)  # whole servers, since the edges of one have the same end
    numbers = np.unique(group)
    if len(numbers) > 1:
        some = [edges.where(group == number) for number in numbers]
        return _joined([search_columns(part, dual, limit, eagerness, max_nodes, limits) for part in some])
    if time.perf_counter() > limits.deadline + _GRACE_S:
        nothing = Columns.join([])
        return PricedColumns(nothing, nothing.cost, np.full(len(limit), -np.inf), np.zeros(len(limit), dtype=bool))
    search = _SetSearch(edges, dual, limit, eagerness, max_nodes, limits)
    level = search.first_level()
    while len(level.bound):
        level = search.next_level(search.evaluate(level))
    return search.result()


class _Level(NamedTuple):
    """Sets of one size that may grow."""

    member: Int[np.ndarray, "node size"]  # positions in the tree
    base: Float[np.ndarray, "node price"]  # the bound of the set, on the grid of prices, without what may still come
    bound: Float[np.ndarray, "node"]  # on the reduced cost of the set and everything that it can grow into
    price: Float[np.ndarray, "node"]  # of computing power


class _SetSearch:
    """One search of some servers: what it has found, and what it certifies."""

    def __init__(
        self,
        edges: Edges,
        dual: Float[np.ndarray, "user"],
        limit: Float[np.ndarray, "server"],
        eagerness: float,
        max_nodes: Int[np.ndarray, "server"],
        limits: Limits,
    ) -> None:
        self.edges, self.num_users, self.eagerness = edges, len(dual), eagerness
        self.given, self.limit, self.max_nodes, self.limits = limit, limit.copy(), max_nodes, limits
        self.tree = _Tree.of(edges, dual)
        self.best, self.least = np.full(len(limit), np.inf), np.full(len(limit), np.inf)
        self.complete = np.ones(len(limit), dtype=bool)
        self.servers = np.unique(edges.server)
        self.found: list[tuple[Columns, np.ndarray]] = []
        self.found_bytes = 0

    @property
    def over(self) -> bool:
        """Tells whether time is over, or columns fill their part of the memory."""
        return self.limits.time_over or self.found_bytes > _FOUND_PART * self.limits.memory_bytes

    def leave(self, position: Int[np.ndarray, "node"], bound: Float[np.ndarray, "node"]) -> None:
        """Leaves sets, by their last positions, and all that they grow into; only their bound enters."""
        np.minimum.at(self.least, self.tree.server[position], bound)

    def cut_off(self, position: Int[np.ndarray, "node"], bound: Float[np.ndarray, "node"]) -> None:
        """Leaves sets that may hold columns below the limit."""
        self.leave(position, bound)
        self.complete[self.tree.server[position]] = False

    def first_level(self) -> _Level:
        """Returns the sets of one user."""
        every = np.arange(len(self.edges.user))
        no_member, base = np.zeros((len(every), 0), dtype=np.int64), -self.tree.price
        return self.select(no_member, base, [(every, every)])

    def next_level(self, level: _Level) -> _Level:
        """Returns the sets of one user more, as far as they may hold columns below the limit."""
        return self.select(level.member, level.base, self.growing(level))

    def growing(self, level: _Level) -> Iterator[tuple[Int[np.ndarray, "some"], Int[np.ndarray, "some"]]]:
        """Yields sets and positions that they may grow by, some at a time; at a limit leaves the other sets."""
        tree, last = self.tree, level.member[:, -1]
        floor = tree.floor[level.member].sum(axis=1)
        for begin, end in _runs(tree.last[last] - last - 1):
            if self.over:
                self.cut_off(last[begin:], level.bound[begin:])
                return
            parent, position = extensions(tree.last, level.member[begin:end])
            parent += begin
            grows = floor[parent] + tree.floor[position] <= CAPACITY
            if self.eagerness:
                grows &= tree.least_effect(position, level.price[parent]) < 0
            yield parent[grows], position[grows]

    def select(
        self,
        member: Int[np.ndarray, "parent size"],
        base: Float[np.ndarray, "parent price"],
        candidates: Iterable[tuple[Int[np.ndarray, "some"], Int[np.ndarray, "some"]]],
    ) -> _Level:
        """Bounds sets, given by parent and last position, and keeps the most promising ones of each server."""
        node_bytes = _BYTES_A_NODE + _BYTES_A_MEMBER * (member.shape[1] + 1)
        most = self.limits.memory_bytes / (node_bytes * max(len(self.servers), 1))
        max_nodes = np.minimum(self.max_nodes, max(most, 1.0))
        enough = 2 * max_nodes[self.servers].sum()
        kept: list[tuple[np.ndarray, ...]] = []
        for parent, position in candidates:
            bound = self.tree.bounds(base, parent, position)
            good = bound < self.limit[self.tree.server[position]]
            self.leave(position[~good], bound[~good])
            kept.append((parent[good], position[good], bound[good]))
            if sum(len(part[0]) for part in kept) > enough:
                kept = [self.most_promising(kept, max_nodes)]
        parent, position, bound = self.most_promising(kept, max_nodes)
        if self.over:
            self.cut_off(position, bound)
            parent, position, bound = parent[:0], position[:0], bound[:0]
        member = np.concatenate([member[parent], position[:, None]], axis=1)
        return _Level(member, base[parent] + self.tree.term[position], bound, np.zeros(0))

    def most_promising(
        self, parts: list[tuple[np.ndarray, ...]], max_nodes: Float[np.ndarray, "server"]
    ) -> tuple[np.ndarray, ...]:
        """Joins parts of parents, positions and bounds; of too many sets of a server those of the least bounds stay."""
        none = np.zeros(0, dtype=np.int64)
        parts = [(none, none, np.zeros(0)), *parts]
        parent, position, bound = (np.concatenate(values) for values in zip(*parts, strict=True))
        server = self.tree.server[position]
        crowded = np.bincount(server, minlength=len(self.limit)) > max_nodes
        if crowded.any():
            stays = ~crowded[server] | (rank_within(server, bound) < max_nodes[server])
            self.cut_off(position[~stays], bound[~stays])
            parent, position, bound = parent[stays], position[stays], bound[stays]
        return parent, position, bound

    def evaluate(self, level: _Level) -> _Level:
        """Computes the cost of sets, notes the columns below the limit, and returns the level with its prices."""
        price, costs, reduced = np.zeros(len(level.bound)), np.zeros(len(level.bound)), np.zeros(len(level.bound))
        for begin in range(0, len(price), _CHUNK):
            at = slice(begin, begin + _CHUNK)
            if self.limits.time_over:
                self.cut_off(level.member[begin:, -1], level.bound[begin:])
                level = _Level(*(values[:begin] for values in level))
                price, costs, reduced = price[:begin], costs[:begin], reduced[:begin]
                break
            in_order = np.sort(self.tree.edge[level.member[at]], axis=1)
            costs[at], _, price[at] = price_sets(self.edges, in_order)
            reduced[at] = costs[at] - self.tree.profit[level.member[at]].sum(axis=1)
        server = self.tree.server[level.member[:, -1]]
        np.minimum.at(self.best, server, reduced)
        if self.eagerness:
            towards = self.given + self.eagerness * (np.minimum(self.best, self.given) - self.given)
            self.limit = np.minimum(self.limit, towards)
        good = reduced < self.limit[server]
        in_order = np.sort(self.tree.edge[level.member[good]], axis=1)
        columns = columns_of_sets(self.edges, in_order, costs[good], self.num_users)
        self.found.append((columns, reduced[good]))
        self.found_bytes += 8 * (len(columns.row) + 3 * len(columns))
        return level._replace(price=price)

    def result(self) -> PricedColumns:
        """Returns what was found."""
        columns = Columns.join([part for part, _ in self.found])
        reduced = np.concatenate([np.zeros(0), *(values for _, values in self.found)])
        return PricedColumns(columns, reduced, np.minimum(self.best, self.least), self.complete)


def _runs(count: Int[np.ndarray, "node"]) -> Iterator[tuple[int, int]]:
    """Splits nodes with so many extensions into runs of about _CHUNK extensions: begin and end of each."""
    total = np.cumsum(count)
    if len(total) and total[-1]:
        ends = np.searchsorted(total, np.arange(_CHUNK, total[-1] + _CHUNK, _CHUNK)) + 1
        ends = np.unique(np.minimum(ends, len(count)))
        yield from pairwise([0, *ends.tolist()])


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
    most: Float[np.ndarray, "position price"]  # the same with all that later positions can take off

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
            most=term + total[edges.last] - total[1:],
        )

    def bounds(self, base: np.ndarray, parent: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Bounds the reduced cost of sets (parent plus position) and of everything they can grow into."""
        return (base[parent] + self.most[position]).max(axis=1)

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
