"""The search for the optimum of one instance: column generation, a dive, local search and integer programs.

Source: [1] GADSG, Eqs. 23-25; equation numbers refer to [1]. The duals of the relaxation certify a bound on every plan;
a plan close to the bound rules out almost all columns by their reduced costs, and a small integer program over the rest
ends the proof.
"""

import time
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import LOCAL, Costs
from laegd.problem.objective import is_feasible, plan_cost
from laegd.solvers.calls import Advice
from laegd.solvers.columns import Columns, list_columns, offload_edges, rank_within
from laegd.solvers.limits import Limits
from laegd.solvers.local_search import improve
from laegd.solvers.pricing import search_columns
from laegd.solvers.reduction import cheapest_runs
from laegd.solvers.rounding import assignment, columns_of, round_columns
from laegd.solvers.set_packing import Duals, Relaxation, select

_PROOF_TOLERANCE = 1e-9  # relative gap below which a plan counts as optimal: the rounding of HiGHS's duals
_ROUNDING = 1e-13  # relative, per term of a sum; far above float64's
_REDUCED_COST_TOLERANCE = 1e-7  # HiGHS's own dual feasibility tolerance
_COLUMNS_AT_ONCE = 500  # up to here adding all columns beats adding them in rounds
_COLUMNS_A_ROUND = 150
_FIRST_GAP = 5e-4  # relative; nine relaxations in ten are tighter, and the integer program over so few columns is quick
_FIRST_NODES = 60  # per server and set size, in the first searches of servers whose sets are not listed
_COLUMNS_A_SEARCH = 10  # per server
_ROOT_TOLERANCE = 1e-5  # relative; where sets are searched, the last digits of the relaxation cost the most time
_ROOT_TIME, _DIVE_TIME = 0.5, 0.8  # of a time limit, until the relaxation and the dive end; then integer programs
_PATIENCE_S = 0.25  # of a search before it asks for a hint, or half of a time limit; nine searches in ten end sooner
_DIVE_ROUNDS = 3  # searches for new columns after each fixing
_MANY_COLUMNS = 5_000  # above, the integer program is slow enough for a dive to pay
_CLOSE_GAP = 1e-4  # relative; an integer program that can prove nothing does not improve on a dive this close
_HEURISTIC_COLUMNS, _HEURISTIC_NODES = 2_500, 500  # of an integer program that can prove nothing
_FIRST_WAIT, _LAST_WAIT_S = 0.1, 0.5  # for a hint: part of the time that is left, and beyond the limit
_SETS_PART = 0.5  # of the memory, for the list or the levels of a search, whose results and programs need the rest
_BYTES_A_SWAP = 64  # of two users, in local search
_PROGRAM_COLUMNS, _BYTES_A_PROGRAM_COLUMN = 20_000, 1 << 13  # of an integer program, which HiGHS presolves in a second


def least_cost(least: Float[np.ndarray, "user"]) -> float:
    """Adds up what users cost at least, less what rounding may have added."""
    return float(least.sum() * (1.0 - _ROUNDING * len(least)))


class Root(NamedTuple):
    """The relaxation: a certified bound, and what it takes to rule columns out by reduced cost."""

    bound: float
    dual: Float[np.ndarray, "user"]  # at most 0 for users that may stay local
    least: Float[np.ndarray, "server"]  # at most 0, and no column of the server has a smaller reduced cost
    columns: Columns  # those of the relaxation
    value: Float[np.ndarray, "column"]


class Search:
    """The search on one instance: incumbent and bound only ever improve."""

    def __init__(
        self, costs: Costs, start: np.ndarray, limits: Limits, max_columns: int, advice: Advice | None = None
    ) -> None:
        self.costs, self.max_columns, self.advice = costs, max_columns, advice
        now = time.perf_counter()
        left = limits.deadline - now
        self.limits = limits
        self.max_program = int(min(_PROGRAM_COLUMNS, limits.memory_bytes // _BYTES_A_PROGRAM_COLUMN))
        # the list of columns, the levels of a search and an integer program are at work one after another
        self.sets = limits._replace(memory_bytes=_SETS_PART * limits.memory_bytes)
        self.ask_from = now + min(_PATIENCE_S, 0.5 * left)
        self.root_limits, self.dive_limits = (
            self.sets._replace(deadline=now + part * left) for part in (_ROOT_TIME, _DIVE_TIME)
        )
        self.num_users, self.num_servers = costs.covered.shape
        self.base = float(costs.local_cost[costs.local_allowed].sum())
        self.best, self.best_cost = start, np.inf
        self.offer(start)
        edges = offload_edges(costs)
        self.edges = edges
        self.pool, skipped = list_columns(edges, self.num_users, max_columns, self.root_limits)
        self.searched = np.zeros(self.num_servers, dtype=bool)
        self.searched[: len(skipped)] = skipped  # too many sets to list
        if skipped.any():  # the relaxation takes a while to come by good columns
            self.offer(round_columns(costs, edges, Columns.join([]), np.zeros(0), self.root_limits))
        self.relaxation = Relaxation(costs.local_allowed, self.num_servers)
        self.known: set[bytes] = set()  # columns that searches found

    def offer(self, server: Int[np.ndarray, "user"]) -> None:
        """Takes an assignment as the incumbent if it is feasible and cheaper."""
        share = optimal_shares(self.costs, server)
        cost = float(plan_cost(self.costs, server, share))
        if cost < self.best_cost and bool(is_feasible(self.costs, server, share)):
            self.best, self.best_cost = server, cost

    def run(self) -> tuple[Int[np.ndarray, "user"], float]:
        """Returns the best assignment and a lower bound."""
        root = self.relax()
        whole = np.flatnonzero(root.value > 0.5)  # mostly all of the relaxation, and then the optimum
        self.offer(assignment(root.columns.take(whole), self.num_users))
        if not self.proved(root.bound):
            self.offer(round_columns(self.costs, self.edges, root.columns, root.value, self.dive_limits))
        if not self.proved(root.bound):
            self.ask()
            self.descend(self.dive_limits.deadline)
        if (self.searched.any() or len(self.pool) > _MANY_COLUMNS) and not self.proved(root.bound):
            self.dive(root.columns)
            self.ask()
            self.descend(self.limits.deadline)
        bound = root.bound if self.proved(root.bound) else self.close(root)
        if not self.proved(bound):
            self.ask(at_last=True)
        return self.best, self.best_cost if self.proved(bound) else min(bound, self.best_cost)

    def ask(self, at_last: bool = False) -> None:
        """Takes the hint where the search has lasted long or ends without a proof, unless it takes long itself."""
        begin = time.perf_counter()
        if self.advice is None or (begin < self.ask_from and not at_last):
            return
        left = max(self.limits.deadline - begin, 0.0)
        server = self.advice.get(left + _LAST_WAIT_S if at_last else _FIRST_WAIT * left, again=at_last)
        if server is not None:
            self.offer(server)

    def descend(self, deadline: float) -> None:
        """Improves the incumbent by local search where sets are many: integer programs are slow there."""
        if self.searched.any() and _BYTES_A_SWAP * self.num_users**2 < self.limits.memory_bytes:
            self.offer(improve(self.costs, self.best, deadline))

    def proved(self, bound: float) -> bool:
        """Tells whether the incumbent is optimal."""
        return self.best_cost - bound <= _PROOF_TOLERANCE * abs(self.best_cost)

    def relax(self) -> Root:
        """Solves the linear relaxation by column generation, to the end or the deadline."""
        best = self._trivial_root()
        if not len(self.edges.user):
            return best
        relaxation = self.relaxation
        inside = np.zeros(len(self.pool), dtype=bool)
        inside[:_COLUMNS_AT_ONCE] = True  # the smallest sets first, so never none: HiGHS refuses an empty program
        # The first ones are those of a plan, so the relaxation is feasible.
        columns = Columns.join([best.columns, self.pool.take(np.flatnonzero(inside))])
        relaxation.add(columns)
        # Also where no time is left to solve it: the dive goes on from there, with the columns of the relaxation.
        value = np.zeros(len(columns))
        value[: len(best.columns)] = 1.0
        best = best._replace(columns=columns, value=value)
        max_nodes = np.full(self.num_servers, _FIRST_NODES)
        while (duals := relaxation.solve(self.root_limits.deadline)) is not None:
            root, new = self._price(duals, columns, inside, max_nodes)
            best = root if root.bound > best.bound else best._replace(columns=columns, value=duals.value)
            rest = self.base + duals.objective - best.bound
            close = self.searched.any() and rest <= _ROOT_TOLERANCE * abs(best.bound)
            if not len(new) or close or self.root_limits.time_over:
                break
            relaxation.add(new)
            columns = Columns.join([columns, new])
            best = best._replace(columns=columns, value=np.append(duals.value, np.zeros(len(new))))
        return best

    def _trivial_root(self) -> Root:
        """Bounds each user by its cheapest run, with a server of its own."""
        least = cheapest_runs(self.costs)
        dual = least - np.where(self.costs.local_allowed, self.costs.local_cost, 0.0)
        start = Columns.join([columns_of(self.edges, self.best)])
        return Root(least_cost(least), dual, np.zeros(self.num_servers), start, np.ones(len(start)))

    def _certify(self, dual: np.ndarray, least: np.ndarray) -> float:
        """Computes the Lagrangian bound of these duals, less what rounding may have added."""
        terms = np.concatenate([[self.base], dual, least])
        return float(terms.sum() - _ROUNDING * len(terms) * np.abs(terms).max())

    def _price(self, duals: Duals, columns: Columns, inside: np.ndarray, max_nodes: np.ndarray) -> tuple[Root, Columns]:
        """Prices all columns; returns the bound that the duals certify, and columns to add, marked in `inside`."""
        dual = np.where(self.costs.local_allowed, np.minimum(duals.user, 0.0), duals.user)
        least = np.zeros(self.num_servers)
        reduced = self.pool.reduced_cost(np.concatenate([dual, np.zeros(self.num_servers)]))
        server = self.pool.servers(self.num_users)
        np.minimum.at(least, server, reduced)
        wanted = np.flatnonzero(~inside & (reduced < duals.server[server] - _REDUCED_COST_TOLERANCE))
        if len(wanted) > _COLUMNS_A_ROUND:
            slack = reduced[wanted] - duals.server[server[wanted]]
            wanted = wanted[np.argpartition(slack, _COLUMNS_A_ROUND)[:_COLUMNS_A_ROUND]]
        inside[wanted] = True
        new = self.pool.take(wanted)
        if self.searched.any():
            limit = np.minimum(duals.server, 0.0) - _REDUCED_COST_TOLERANCE
            found, searched_least = self._search(dual, limit, max_nodes)
            least = np.minimum(least, searched_least)
            new = Columns.join([new, found])
        return Root(self._certify(dual, least), dual, least, columns, duals.value), new

    def _search(self, dual: np.ndarray, limit: np.ndarray, max_nodes: np.ndarray) -> tuple[Columns, np.ndarray]:
        """Searches the servers without a list, ever more thoroughly until there is a column to add or none is left."""
        least, todo = np.zeros(self.num_servers), self.searched
        while True:
            edges = self.edges.where(todo[self.edges.server])
            priced = search_columns(edges, dual, limit, 0.5, max_nodes, self.root_limits)
            least[todo] = np.minimum(priced.least, 0.0)[todo]
            rank = rank_within(priced.columns.servers(self.num_users), priced.reduced_cost)
            new = self._unknown(priced.columns.take(np.flatnonzero(rank < _COLUMNS_A_SEARCH)))
            todo = todo & ~priced.complete & (max_nodes < self.max_columns)
            if len(new) or not todo.any() or self.root_limits.time_over:
                return new, least
            max_nodes[todo] *= 4

    def _unknown(self, columns: Columns) -> Columns:
        """Leaves out what a search found before: where rounding decides, it would come back for ever."""
        keys = [columns.row[begin:end].tobytes() for begin, end in pairwise(columns.start)]
        fresh = [i for i, key in enumerate(keys) if key not in self.known]
        self.known.update(keys)
        return columns.take(np.array(fresh, dtype=np.int64))

    def dive(self, columns: Columns) -> None:
        """Fixes the relaxation's columns one after another, the largest first, and searches for others that fit."""
        taken = np.zeros(self.num_users + self.num_servers, dtype=bool)  # rows
        edges, max_nodes, rounds = self.edges, np.full(self.num_servers, _FIRST_NODES), 0
        while (duals := self.relaxation.solve(self.dive_limits.deadline)) is not None:
            free = ~np.logical_or.reduceat(taken[columns.row], columns.start[:-1])
            largest = duals.value[free].max(initial=0.0)
            if largest < 1e-6:
                self.offer(assignment(columns.take(np.flatnonzero(duals.value > 0.5)), self.num_users))
                return
            left = ~(taken[edges.user] | taken[self.num_users + edges.server])
            limit = np.minimum(duals.server, 0.0) - _REDUCED_COST_TOLERANCE
            priced = search_columns(edges.where(left), duals.user, limit, 0.5, max_nodes, self.dive_limits)
            if len(priced.columns) and rounds < _DIVE_ROUNDS:
                rank = rank_within(priced.columns.servers(self.num_users), priced.reduced_cost)
                new = priced.columns.take(np.flatnonzero(rank < _COLUMNS_A_SEARCH))
                self.relaxation.add(new)
                columns, rounds = Columns.join([columns, new]), rounds + 1
                continue
            fixed = np.flatnonzero(free & (duals.value >= min(largest, 0.99)))
            fixed = fixed if largest >= 0.99 else fixed[:1]
            self.relaxation.fix(fixed)
            taken[columns.take(fixed).row], rounds = True, 0

    def close(self, root: Root) -> float:
        """Improves the incumbent by integer programs over ever more columns; returns the best bound proved."""
        bound, gap = root.bound, min(self.best_cost - root.bound, _FIRST_GAP * abs(root.bound))
        while not self.limits.time_over:
            self.ask()
            wanted = gap = min(gap, self.best_cost - root.bound)
            columns, complete = self._within(root, gap)
            if complete and len(columns) > self.max_program:
                columns, gap = self._nearest(root, columns)
            if not complete and gap <= _CLOSE_GAP * abs(root.bound):
                break
            nodes = None if complete else _HEURISTIC_NODES
            selection = select(columns, self.costs.local_allowed, self.num_servers, self.limits.deadline, nodes)
            if selection.chosen is not None:
                self.offer(assignment(columns.take(selection.chosen), self.num_users))
            if not complete:
                break
            # a plan that uses any other column costs at least root.bound + gap
            if not selection.proved:
                achieved = self.base + selection.bound
                return max(bound, min(achieved - _REDUCED_COST_TOLERANCE * abs(achieved), root.bound + gap))
            if self.best_cost <= root.bound + gap:
                return self.best_cost
            bound = root.bound + gap
            if gap < wanted:
                break
            gap = min(self.best_cost - root.bound, 16 * gap)
        return bound

    def _within(self, root: Root, gap: float) -> tuple[Columns, bool]:
        """Returns the columns that a plan cheaper than root.bound + gap may use, and whether these are all of them."""
        limit = root.least + gap + _PROOF_TOLERANCE * abs(root.bound)
        full_dual = np.concatenate([root.dual, np.zeros(self.num_servers)])
        near = self.pool.reduced_cost(full_dual) <= limit[self.pool.servers(self.num_users)]
        found = [self.pool.take(np.flatnonzero(near))]
        if not self.searched.any():
            return found[0], True
        max_nodes = np.full(self.num_servers, self.max_columns // self.searched.sum() + 1)
        edges = self.edges.where(self.searched[self.edges.server])
        half_time = 0.5 * (time.perf_counter() + self.limits.deadline)
        limits = self.sets._replace(deadline=half_time)
        priced = search_columns(edges, root.dual, limit, 0.0, max_nodes, limits)
        if priced.complete.all():
            return Columns.join([*found, priced.columns]), True
        columns = Columns.join([columns_of(self.edges, self.best), *found, root.columns, priced.columns])
        slack = self._slack(root, columns)
        slack[: np.count_nonzero(np.unique(self.best) != LOCAL)] = -np.inf  # the incumbent stays, so a choice exists
        return columns.take(np.argsort(slack, kind="stable")[:_HEURISTIC_COLUMNS]), False

    def _nearest(self, root: Root, columns: Columns) -> tuple[Columns, float]:
        """Returns as many columns as an integer program may have, and the gap within which these are all."""
        slack = self._slack(root, columns)
        gap = float(np.partition(slack, self.max_program)[self.max_program])
        return columns.take(np.flatnonzero(slack < gap)), gap - _PROOF_TOLERANCE * abs(root.bound)

    def _slack(self, root: Root, columns: Columns) -> Float[np.ndarray, "column"]:
        """Returns by how much a plan that uses a column is above the relaxation at least."""
        full_dual = np.concatenate([root.dual, np.zeros(self.num_servers)])
        return columns.reduced_cost(full_dual) - root.least[columns.servers(self.num_users)]
