"""An instance at the size at which HiGHS's tolerances mean what they should.

HiGHS compares numbers with absolute tolerances, about 1e-7: costs of 1e-9 vanish in them, and beside costs of 1e9 they
vanish in rounding. So costs are counted in a unit in which a known plan costs about 1000, and ways to run a task that
alone make any plan dearer than that one are left out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from laegd.problem.allocation import optimal_shares
from laegd.problem.instance import Costs
from laegd.problem.objective import is_feasible, plan_cost

_SLACK = 1e-9  # relative; rounding must not cut off the known plan itself


class Reduced(NamedTuple):
    """Costs in another unit, without what no plan as good as the known one uses."""

    costs: Costs
    unit: float  # a power of 4, so that costs and their square roots lose no digit


def cheapest_runs(costs: Costs) -> Float[np.ndarray, "user"]:
    """Returns what each user costs at least, with a server of its own; inf for one that cannot be served.

    Args:
        costs: of one instance, without a leading axis.
    """
    alone = np.where(costs.usable, costs.transmit_cost + costs.execute_cost, np.inf).min(axis=1, initial=np.inf)
    return np.minimum(alone, np.where(costs.local_allowed, costs.local_cost, np.inf))


def reduce_costs(costs: Costs, known_cost: float) -> Reduced:
    """Leaves out what no plan within `known_cost` uses, the cost of a feasible plan, and changes the unit."""
    least = cheapest_runs(costs)
    limit = known_cost * (1.0 + _SLACK) - (least.sum() - least)  # what each user may cost beside the others
    usable = costs.usable & (costs.transmit_cost + costs.execute_cost <= limit[:, None])
    unit = 4.0 ** (math.frexp(known_cost)[1] // 2 - 5)
    reduced = costs._replace(
        local_cost=costs.local_cost / unit,
        local_allowed=costs.local_allowed & (costs.local_cost <= limit),
        transmit_cost=costs.transmit_cost / unit,
        execute_cost=costs.execute_cost / unit,
        min_share=np.where(usable, costs.min_share, 0.0),
    )
    return Reduced(reduced, unit)


def cheapest_of(costs: Costs, starts: Sequence[Int[np.ndarray, "user"]]) -> tuple[Int[np.ndarray, "user"], float]:
    """Returns the cheapest of some assignments and its cost, inf where none is feasible."""
    server = np.array(starts)
    share = optimal_shares(costs, server)
    cost = np.where(is_feasible(costs, server, share), plan_cost(costs, server, share), np.inf)
    return server[cost.argmin()], float(cost.min())
