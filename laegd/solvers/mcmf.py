"""Min-cost flow with guessed prices of congestion: the heuristic behind the labels of [1].

Source: [1] GADSG, Section V-A; [1] names the method and prints no network, so the network is ours. Every user sends one
unit to a server or home. An edge costs what the task costs alone on the server; the k-th unit into a server pays on top
what it takes away from k - 1 others. That surcharge, and how many users share a server, cannot be known before the
assignment is, so they are guessed: one number a server, several vectors an instance. Each flow is made feasible, gets
its closed-form shares, and the best plan of all is returned.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.allocation import load, optimal_shares
from laegd.problem.feasibility import conflict, pack
from laegd.problem.instance import LOCAL, Costs, Instance, Plan, Progress, solve_each
from laegd.problem.objective import SHARE_TOLERANCE, infeasible_plan, is_feasible, make_plan, plan_cost
from laegd.scenario.scenario import require
from laegd.solvers.local_search import improve

if TYPE_CHECKING:
    import networkx as nx

_CAPACITY = 1.0 + SHARE_TOLERANCE
_UNITS = 10**9  # costs are rounded to this part of the largest: sums of integers are exact, and so are flows
_MAX_EDGES = 2**19  # of a flow: more take over a gigabyte, and hours
_WEIGHT_SPREAD = 0.7  # of ln(weight); around 1, where the surcharge is that of tasks of average size


@dataclass(frozen=True)
class MCMFSolver:
    """The best of several min-cost flows; deterministic, and feasible wherever a feasible plan exists."""

    num_weights: int = 8
    """Weight vectors per instance; the first ones are the same whatever their number, so more are never worse."""
    local_search: bool = False
    """Whether each flow's plan is improved by moves and swaps of users; for test labels."""
    seed: int = 0
    """Of the weights; every instance gets the same ones, whatever else is in the list."""
    name: str = "mcmf"

    def __post_init__(self) -> None:
        require(self.num_weights >= 1, "num_weights", "at least 1", self.num_weights, "Use 8.")

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Returns one plan per instance, in order."""
        return solve_each(self._solve_one, instances, progress)

    def _solve_one(self, instance: Instance) -> Plan:
        start, costs = time.perf_counter(), instance.costs
        most = most_users(costs)
        edges = int(costs.usable.sum() + most.sum())
        remedy = "Use the method exact with a time limit."
        require(edges <= _MAX_EDGES, "users, servers", f"at most {_MAX_EDGES:,} edges of a flow", edges, remedy)
        packed = pack(costs)
        if packed is None:
            unserved = tuple(instance.user_ids[user] for user in conflict(costs))
            return infeasible_plan(instance, self.name, unserved, time.perf_counter() - start)
        rng = np.random.default_rng([self.seed, 0])
        candidates: dict[bytes, np.ndarray] = {}
        for i in range(self.num_weights):
            server = repair(costs, FlowNetwork.of(costs, *_guess(rng, most, i)).assign(), packed)
            candidates[server.tobytes()] = server
        if self.local_search:
            candidates = {key: improve(costs, server) for key, server in candidates.items()}
        best = min(candidates.values(), key=lambda server: _cost(costs, server).item())
        return make_plan(instance, best, self.name, seconds=time.perf_counter() - start)


MCMF_SEARCH = MCMFSolver(num_weights=32, local_search=True, name="mcmf-search")
"""The reference in the style of the test labels of [1]: many weights, each flow's plan searched; docs/baselines.md."""


def _guess(
    rng: np.random.Generator, most: Int[np.ndarray, "server"], index: int
) -> tuple[Float[np.ndarray, "server"], Int[np.ndarray, "server"], bool]:
    """Draws the arguments of `FlowNetwork.of`: first the plain ones, then in turn numbers of users and weights."""
    spread, number = rng.normal(0.0, _WEIGHT_SPREAD, len(most)), 1 + (rng.random(len(most)) * most).astype(np.int64)
    if index == 0:
        return np.ones(len(most)), most, False
    return (np.ones(len(most)), number, True) if index % 2 else (np.exp(spread), most, False)


def most_users(costs: Costs) -> Int[np.ndarray, "server"]:
    """Returns how many users each server could take at most: how many of the smallest floors fit together."""
    floors = np.sort(np.where(costs.usable, costs.min_share, np.inf), axis=0)
    return (np.cumsum(floors, axis=0) <= _CAPACITY).sum(axis=0)


def _cost(costs: Costs, server: Int[np.ndarray, "*batch user"]) -> Float[np.ndarray, "*batch"]:
    """Returns the cost under the best shares, inf where a constraint is broken."""
    share = optimal_shares(costs, server)
    return np.where(is_feasible(costs, server, share), plan_cost(costs, server, share), np.inf)


class FlowNetwork(NamedTuple):
    """Every user sends one unit to a server's slot or home; costs are integers, the largest about 1e9.

    Floors need not fit together, and whoever has no other way goes home even where it must not.
    """

    edge_cost: Float[np.ndarray, "user server"]  # inf where there is no edge
    home_cost: Float[np.ndarray, "user"]
    surcharge: Float[np.ndarray, "server"]  # the k-th unit into a server pays k - 1 times as much
    slots: Int[np.ndarray, "server"]

    @staticmethod
    def of(
        costs: Costs, weight: Float[np.ndarray, "server"], slots: Int[np.ndarray, "server"], equal_shares: bool
    ) -> "FlowNetwork":
        """Builds the network of one guess.

        Args:
            costs: of one instance.
            weight: of the surcharge 2 (k - 1) J_exe for a server's k-th user. With J_exe the average there and weight 1
                it is the price of equal tasks: k^2 J_exe - (k - 1)^2 J_exe, less the J_exe that is on the edge.
            slots: how many users each server takes at most.
            equal_shares: whether only edges count whose floor 1 / slots obeys; then floors of a server fit together.
        """
        num_users = len(costs.local_cost)
        edge_cost = costs.transmit_cost + costs.execute_cost
        total = np.where(costs.usable, costs.execute_cost, 0.0).sum(axis=0)
        average = total / np.maximum(costs.usable.sum(axis=0), 1)
        usable = costs.usable & (costs.min_share * slots <= _CAPACITY) if equal_shares else costs.usable
        largest = max(float(v.max(initial=0.0)) for v in (edge_cost, costs.local_cost, average * weight))
        unit = _UNITS / largest if largest > 0 else 1.0
        stranded = (2 * num_users + 2) * _UNITS * (num_users + 1)  # above the cost of any flow that serves everyone
        return FlowNetwork(
            edge_cost=np.where(usable, np.rint(edge_cost * unit), np.inf),
            home_cost=np.where(costs.local_allowed, np.rint(costs.local_cost * unit), float(stranded)),
            surcharge=2.0 * average * weight * unit,
            slots=slots,
        )

    def slot_costs(self, server: int) -> Float[np.ndarray, "slot"]:
        """Returns what a server's slots cost on top of an edge."""
        return np.rint(np.arange(self.slots[server]) * self.surcharge[server])

    def assign(self) -> Int[np.ndarray, "user"]:
        """Returns the server of each user in a cheapest flow, which is an assignment of users to slots."""
        from scipy.optimize import linear_sum_assignment  # loaded where it is needed, which most methods never do

        saving = self.home_cost[:, None] - self.edge_cost  # [user server], -inf where there is no edge
        place, slot_cost = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for s, most in enumerate(self.slots):
            # a flow that fills k slots has k users there for each of whom even the k-th slot pays
            best_first = np.sort(-saving[:, s])[:most]
            cost = self.slot_costs(s)[: len(best_first)]
            cost = cost[: np.count_nonzero(best_first + cost < 0)]
            place.append(np.full(len(cost), s))
            slot_cost.append(cost)
        place, slot_cost = np.concatenate(place), np.concatenate(slot_cost)
        change = np.minimum(slot_cost - saving[:, place], 0.0)  # [user slot]; a user that saves nothing stays at home
        user, slot = linear_sum_assignment(change)
        pays = change[user, slot] < 0
        server = np.full(len(saving), LOCAL, dtype=np.int64)
        server[user[pays]] = place[slot[pays]]
        return server

    def to_networkx(self) -> "nx.MultiDiGraph":
        """Returns the network as a graph of nodes ("user", u), ("server", s) and "sink"."""
        import networkx as nx

        graph = nx.MultiDiGraph()
        graph.add_node("sink", demand=len(self.home_cost))
        for u, home in enumerate(self.home_cost.tolist()):
            graph.add_node(("user", u), demand=-1)
            graph.add_edge(("user", u), "sink", capacity=1, weight=int(home))
        for u, s in np.argwhere(np.isfinite(self.edge_cost)).tolist():
            graph.add_edge(("user", u), ("server", s), capacity=1, weight=int(self.edge_cost[u, s]))
        for s in range(len(self.slots)):
            for cost in self.slot_costs(s).tolist():
                graph.add_edge(("server", s), "sink", capacity=1, weight=int(cost))
        return graph


def to_networkx(instance: Instance) -> "nx.MultiDiGraph":
    """Returns the first of an instance's flow networks: weight 1, as many slots as users could share a server.

    For `networkx.network_simplex` and the like; its cheapest flow is the assignment that `FlowNetwork.assign` finds.
    """
    most = most_users(instance.costs)
    return FlowNetwork.of(instance.costs, np.ones(len(most)), most, equal_shares=False).to_networkx()


def repair(costs: Costs, server: Int[np.ndarray, "user"], packed: Int[np.ndarray, "user"]) -> Int[np.ndarray, "user"]:
    """Makes an assignment feasible: users that must offload come first, others go home where the floors do not fit.

    Args:
        costs: of one instance.
        server: index of each user's server, or LOCAL; on usable pairs only.
        packed: a feasible place for each user that must offload, for where none is found near theirs.
    """
    users, must = np.arange(len(server)), ~costs.local_allowed
    edge_cost = costs.transmit_cost + costs.execute_cost
    kept = np.where(must, server, LOCAL)
    floor = np.where(kept == LOCAL, 0.0, costs.min_share[users, kept]) if costs.usable.size else np.zeros(len(server))
    room = _CAPACITY - load(floor, kept, costs.usable.shape[1])
    if (must & (kept == LOCAL)).any() or (room < 0).any():
        wanted = np.zeros(edge_cost.shape)
        wanted[users[server != LOCAL], server[server != LOCAL]] = edge_cost.max()
        nearest = pack(costs, wanted - edge_cost, packed)
        kept = packed if nearest is None else nearest
        room = _CAPACITY - load(np.where(kept == LOCAL, 0.0, costs.min_share[users, kept]), kept, len(room))
    saving = costs.local_cost - np.where(costs.usable, edge_cost, np.inf).min(axis=1, initial=np.inf)
    staying = users[~must & (server != LOCAL)]
    for u in staying[np.argsort(-saving[staying], kind="stable")]:
        fits = costs.usable[u] & (costs.min_share[u] <= room) & (edge_cost[u] < costs.local_cost[u])
        if fits.any():
            # the flow's server if there is room, else the cheapest that has some
            s = server[u] if fits[server[u]] else int(np.where(fits, edge_cost[u], np.inf).argmin())
            kept[u] = s
            room[s] -= costs.min_share[u, s]
    return kept
