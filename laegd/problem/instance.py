"""The optimisation problem of a scenario, and its solutions.

Source: [1] GADSG, Eqs. 13-25; equation numbers refer to [1]. An `Instance` holds what every solver needs: per user the
local run, per user-server pair the offloaded run at full load. A `Plan` says where each task runs and with which share.
Where we differ from [1]: local cost counts once per user, not once per edge, and a local run is allowed where it meets
the deadline (the text of [1] says "exceeds", its constraint C5 needs "meets").
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.scenario.channel import links
from laegd.scenario.range import require_computable
from laegd.scenario.scenario import Channel, Nodes, Scenario, ScenarioBatch, nodes_of

LOCAL = -1  # in Plan.server: the task runs on the user's own device
_ROWS_SHOWN = 50  # users of a plan in a notebook
_LEAST_RATE_BPS = 1e-12  # a link that needs 30,000 years for a bit is none; at a rate of 0 its delay would be infinite


class Costs(NamedTuple):
    """Delay, energy and cost of every way to run a task; leading axes are free. Pairs out of coverage hold 0."""

    local_delay_s: Float[np.ndarray, "*batch user"]  # Eq. 13
    local_energy_j: Float[np.ndarray, "*batch user"]  # Eq. 14
    local_cost: Float[np.ndarray, "*batch user"]  # J_loc, Eq. 15
    local_allowed: Bool[np.ndarray, "*batch user"]  # lambda: the local run meets the deadline
    covered: Bool[np.ndarray, "*batch user server"]  # the pair is an edge of the graph: in reach, and heard
    transmit_delay_s: Float[np.ndarray, "*batch user server"]  # Eq. 16
    transmit_energy_j: Float[np.ndarray, "*batch user server"]  # Eq. 17
    transmit_cost: Float[np.ndarray, "*batch user server"]  # J_tr, Eq. 18
    execute_delay_s: Float[np.ndarray, "*batch user server"]  # at full load, Eq. 19
    execute_energy_j: Float[np.ndarray, "*batch user server"]  # at full load, Eq. 20
    execute_cost: Float[np.ndarray, "*batch user server"]  # J_exe at full load, Eq. 21
    min_share: Float[np.ndarray, "*batch user server"]  # mu, Eq. 22; 0: cannot meet the deadline even alone

    @property
    def usable(self) -> Bool[np.ndarray, "*batch user server"]:
        """Pairs on which a task may be offloaded: covered, and the deadline can be met at full load."""
        return self.covered & (self.min_share > 0)


def costs_of(channel: Channel, chip_energy_factor: float, nodes: Nodes) -> Costs:
    """Computes Eqs. 13-22 for one network or a batch of them; raises ValueError where a number is out of range."""
    require_computable(channel, chip_energy_factor, nodes)
    covered, _, rate_bps = links(channel, nodes)
    covered &= rate_bps >= _LEAST_RATE_BPS
    weight = nodes.user_delay_weight
    local_delay_s = nodes.user_workload_flop / nodes.user_capacity_flops
    local_energy_j = chip_energy_factor * nodes.user_capacity_flops**3 * local_delay_s

    def edge(values: np.ndarray) -> np.ndarray:
        return np.where(covered, values, 0.0)

    weight_k = weight[..., :, None]
    workload = nodes.user_workload_flop[..., :, None]
    capacity = nodes.server_capacity_flops[..., None, :]
    transmit_delay_s = edge(nodes.user_task_bits[..., :, None] / np.maximum(rate_bps, _LEAST_RATE_BPS))
    transmit_energy_j = nodes.user_transmit_power_w[..., :, None] * transmit_delay_s
    execute_delay_s = edge(workload / capacity)
    execute_energy_j = nodes.server_active_power_w[..., None, :] * execute_delay_s
    slack_s = nodes.user_deadline_s[..., :, None] - transmit_delay_s
    # not slack_s >= execute_delay_s: the difference is rounded too, against a user that is exactly in time
    meets_deadline = covered & (transmit_delay_s + execute_delay_s <= nodes.user_deadline_s[..., :, None])
    return Costs(
        local_delay_s=local_delay_s,
        local_energy_j=local_energy_j,
        local_cost=weight * local_delay_s + (1.0 - weight) * local_energy_j,
        local_allowed=local_delay_s <= nodes.user_deadline_s,
        covered=covered,
        transmit_delay_s=transmit_delay_s,
        transmit_energy_j=transmit_energy_j,
        transmit_cost=weight_k * transmit_delay_s + (1.0 - weight_k) * transmit_energy_j,
        execute_delay_s=execute_delay_s,
        execute_energy_j=execute_energy_j,
        execute_cost=weight_k * execute_delay_s + (1.0 - weight_k) * execute_energy_j,
        min_share=np.where(meets_deadline, workload / np.maximum(slack_s * capacity, workload), 0.0),
    )


@dataclass(frozen=True)
class Instance:
    """One network's problem: `nodes` and `costs` without a leading axis, and the names of servers and users."""

    nodes: Nodes
    costs: Costs
    server_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    channel: Channel | None = None
    """What its links are computed from, where that is known."""

    @staticmethod
    def from_scenario(scenario: Scenario) -> "Instance":
        """Computes the costs of a scenario."""
        nodes = nodes_of(scenario)
        costs = costs_of(scenario.channel, scenario.chip_energy_factor, nodes)
        server_ids, user_ids = tuple(s.id for s in scenario.servers), tuple(u.id for u in scenario.users)
        return Instance(nodes, costs, server_ids, user_ids, scenario.channel)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def num_servers(self) -> int:
        """Number of servers, HAPs included."""
        return len(self.server_ids)

    @property
    def digest(self) -> int:
        """128 bits that name this network's random streams, wherever it stands among others.

        They are those of the network, not of its costs, which may differ in the last digit between machines.
        """
        digest = hashlib.blake2b(digest_size=16)
        for values in self.nodes:
            digest.update(values.tobytes())
        return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True)
class InstanceBatch(Sequence[Instance]):
    """Problems of one scale: `nodes` and `costs` have one leading axis, `instance`. A sequence of `Instance`."""

    nodes: Nodes
    costs: Costs
    server_ids: tuple[tuple[str, ...], ...]
    user_ids: tuple[tuple[str, ...], ...]
    channel: Channel | None = None
    """What the links of all are computed from, where that is known."""

    @staticmethod
    def from_scenarios(scenarios: ScenarioBatch) -> "InstanceBatch":
        """Computes the costs of a batch of scenarios."""
        costs = costs_of(scenarios.channel, scenarios.chip_energy_factor, scenarios.nodes)
        first = scenarios.scenario(0) if len(scenarios) else None
        server_ids = tuple(s.id for s in first.servers) if first else ()
        user_ids = tuple(u.id for u in first.users) if first else ()
        names = (server_ids,) * len(scenarios), (user_ids,) * len(scenarios)
        return InstanceBatch(scenarios.nodes, costs, *names, scenarios.channel)

    @staticmethod
    def stack(instances: Sequence[Instance]) -> "InstanceBatch":
        """Stacks instances of one scale; a batch is returned as it is."""
        if isinstance(instances, InstanceBatch):
            return instances
        return InstanceBatch(
            Nodes(*map(np.stack, zip(*(one.nodes for one in instances), strict=True))),
            Costs(*map(np.stack, zip(*(one.costs for one in instances), strict=True))),
            tuple(one.server_ids for one in instances),
            tuple(one.user_ids for one in instances),
            instances[0].channel if len({one.channel for one in instances}) == 1 else None,
        )

    def __len__(self) -> int:
        return len(self.server_ids)

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> "InstanceBatch": ...
    def __getitem__(self, index: int | slice) -> "Instance | InstanceBatch":
        nodes, costs = Nodes(*(v[index] for v in self.nodes)), Costs(*(v[index] for v in self.costs))
        if isinstance(index, slice):
            return InstanceBatch(nodes, costs, self.server_ids[index], self.user_ids[index], self.channel)
        return Instance(nodes, costs, self.server_ids[index], self.user_ids[index], self.channel)

    def take(self, indices: Int[np.ndarray, "instance"]) -> "InstanceBatch":
        """Returns the instances at these positions, in this order."""
        return InstanceBatch(
            Nodes(*(values[indices] for values in self.nodes)),
            Costs(*(values[indices] for values in self.costs)),
            tuple(self.server_ids[i] for i in indices),
            tuple(self.user_ids[i] for i in indices),
            self.channel,
        )


@dataclass(frozen=True)
class Plan:
    """Where each task runs, with which share; and what is known of it.

    An infeasible answer has every user local, cost inf and, where it is proved, the users that cannot be served
    together.
    """

    method: str
    server: Int[np.ndarray, "user"]  # index of the server, or LOCAL
    share: Float[np.ndarray, "user"]  # of the server's computing power, 0 for local
    cost: float
    feasible: bool
    seconds: float = 0.0
    """Time to make the plan, without compilation; in a batch, the batch's time divided by its size."""
    lower_bound: float | None = None
    """No plan of the instance costs less than this; None: not known."""
    unserved: tuple[str, ...] = ()
    """Users that are proved not to be servable together; empty for a feasible plan."""
    model_seconds: float = 0.0
    """Part of `seconds` that a network took; 0 for solvers without one."""
    decode_seconds: float = 0.0
    """Part of `seconds` that turning samples into plans took; 0 for solvers without samples."""
    certify_seconds: float = 0.0
    """Time to find the lower bound once the plan was made, beside `seconds`; 0 where the solver itself proves it."""
    violations: tuple[str, ...] = ()
    """Constraints that the assignment given to `make_plan` breaks, by name; empty for a feasible plan."""

    @cached_property
    def gap(self) -> float | None:
        """Certified relative gap (cost - lower_bound) / cost, at least 0; None where no bound is known."""
        if self.lower_bound is None or not self.feasible:
            return None
        return max(0.0, (self.cost - self.lower_bound) / self.cost) if self.cost > 0 else 0.0

    def _repr_html_(self) -> str:
        """Shows the plan in a notebook: a line on the whole, and a table of the users, the first ones of many."""
        gap = "" if self.gap is None else f", certified gap {100 * self.gap:.2f} %"
        known = f"cost {self.cost:.6g}{gap}" if self.feasible else "no feasible plan"
        rows = [
            f"<tr><td>{u}</td><td>{'own device' if s == LOCAL else s}</td><td>{self.share[u]:.3f}</td></tr>"
            for u, s in enumerate(self.server[:_ROWS_SHOWN].tolist())
        ]
        reasons = [*self.violations, *(f"user {name} cannot be served" for name in self.unserved)][:_ROWS_SHOWN]
        more = len(self.server) - len(rows)
        lines = "".join(f"<p>{escape(line)}</p>" for line in [*reasons, *([f"and {more} more users"] if more else [])])
        head = "<tr><th>user</th><th>server</th><th>share</th></tr>"
        return f"<p><b>{escape(self.method)}</b>: {known}</p><table>{head}{''.join(rows)}</table>{lines}"


@runtime_checkable
class Solver(Protocol):
    """Anything that plans: exact, heuristic or learned."""

    @property
    def name(self) -> str:
        """Stands in plans and tables."""
        ...

    def solve(self, instances: Sequence[Instance]) -> list[Plan]:
        """Returns one plan per instance, in order; infeasible ones are answered, not raised.

        Those of laegd also take `progress`, which a solver of one's own need not.
        """
        ...


Progress = Callable[[int, int, str], None]
"""Is told how many instances are done, how many there are, and what is done now."""


def solve_each(
    solve_one: Callable[[Instance], Plan], instances: Sequence[Instance], progress: Progress | None = None
) -> list[Plan]:
    """Solves one instance after another."""
    plans = []
    for instance in instances:
        plans.append(solve_one(instance))
        if progress is not None:
            progress(len(plans), len(instances), "")
    return plans
