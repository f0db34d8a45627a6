"""The certified optimum: set packing over servers' user sets, by column generation and HiGHS.

Source: [1] GADSG, Eqs. 23-25; equation numbers refer to [1]. [1] labels with an uncertified heuristic. Here a server's
cost depends only on the set of users it takes (`laegd.solvers.columns`), so the problem is a set-packing program whose
linear relaxation is nearly tight. Its duals certify a bound on every plan; a plan close to the bound rules out almost
all columns by their reduced costs, and a small integer program over the rest ends the proof.
"""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laegd.problem.feasibility import conflict, pack
from laegd.problem.instance import Instance, Plan, Progress, solve_each
from laegd.problem.objective import infeasible_plan, make_plan
from laegd.scenario.scenario import require
from laegd.solvers.calls import Advice, Hint
from laegd.solvers.limits import Limits, memory_of_machine
from laegd.solvers.reduction import cheapest_of, cheapest_runs, reduce_costs
from laegd.solvers.search import Search, least_cost

_COARSE = 1 / 16  # a plan this much cheaper than the one that the unit of cost is made for asks for another unit
_BOUND_TIME_S = 120.0  # of a bound alone, where no limit is given; 816 users of a city take a third
_LEAST_MEMORY = 1 << 26  # bytes; less than laegd itself takes
_STOPPED = (
    "exact: Expected to prove the optimum, got more sets of users than max_columns and the memory limit allow. "
    "The plan stands with its gap; raise both for a smaller one."
)


@dataclass(frozen=True)
class ExactSolver:
    """Finds the optimum with its proof; at a limit the best plan found, with a certified lower bound."""

    name: str = "exact"
    time_limit_s: float | None = None
    """Per instance; None: until the optimum is proved, or a warning says why it is not."""
    memory_limit_bytes: int | None = None
    """For the sets of users that are at work at a time; None: half of what the machine, or its control group, has."""
    max_columns: int = 200_000
    """Sets listed at once, and of those that a search keeps; servers with more are searched instead of listed."""

    def __post_init__(self) -> None:
        limit, memory = self.time_limit_s, self.memory_limit_bytes
        finite = limit is None or 0 < limit < math.inf
        require(finite, "time_limit_s", "a finite number above 0, or None", limit, "Give seconds, or leave it out.")
        enough = memory is None or memory >= _LEAST_MEMORY
        require(
            enough, "memory_limit_bytes", f"at least {_LEAST_MEMORY}, or None", memory, "Give more, or leave it out."
        )
        require(self.max_columns > 0, "max_columns", "at least 1", self.max_columns, "Keep the default.")

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Returns the plan of each instance; an infeasible one names users that cannot be served together."""
        return solve_each(self.solve_one, instances, progress)

    def solve_one(self, instance: Instance, hint: Hint | None = None) -> Plan:
        """Solves one instance.

        Args:
            instance: What to plan.
            hint: Asked for a plan where the search takes longer than a moment; a good one shortens the proof. It counts
                towards the limit, but not towards the plan's seconds.
        """
        begin = time.perf_counter()
        limits, costs, advice = self._limits(), instance.costs, None if hint is None else Advice(hint)
        packed = pack(costs)
        if packed is None:
            unserved = tuple(instance.user_ids[u] for u in conflict(costs))
            return infeasible_plan(instance, self.name, unserved, time.perf_counter() - begin)
        start, known_cost = cheapest_of(costs, [packed])
        while True:
            reduced, unit = reduce_costs(costs, known_cost)
            search = Search(reduced, start, limits, self.max_columns, advice)
            server, lower_bound = search.run()
            coarse, (start, known_cost) = known_cost, cheapest_of(costs, [start, server])
            if not known_cost < _COARSE * coarse:
                break
        if not search.proved(lower_bound) and not limits.time_over:
            warnings.warn(_STOPPED, RuntimeWarning, stacklevel=2)
        seconds = time.perf_counter() - begin - (0.0 if advice is None else advice.waited_s)
        return make_plan(instance, server, self.name, seconds, lower_bound * unit)

    def lower_bound(self, instance: Instance) -> float:
        """Returns a certified lower bound on the cost of every plan, the value of the relaxation; inf: infeasible.

        Where the relaxation takes more than a minute, or half of the time limit, what it certifies by then.
        """
        limits = self._limits(_BOUND_TIME_S)
        packed = pack(instance.costs)
        if packed is None:
            return np.inf if conflict(instance.costs) else least_cost(cheapest_runs(instance.costs))
        costs, unit = reduce_costs(instance.costs, cheapest_of(instance.costs, [packed])[1])
        return Search(costs, packed, limits, self.max_columns).relax().bound * unit

    def _limits(self, otherwise_s: float = math.inf) -> Limits:
        """Returns the limits of a search that begins now."""
        seconds, memory = self.time_limit_s, self.memory_limit_bytes
        return Limits(
            deadline=time.perf_counter() + (otherwise_s if seconds is None else seconds),
            memory_bytes=memory_of_machine() // 2 if memory is None else memory,
        )


def lower_bound(instance: Instance) -> float:
    """Returns a certified lower bound on the cost of every plan of the instance, inf where there is none."""
    return ExactSolver().lower_bound(instance)
