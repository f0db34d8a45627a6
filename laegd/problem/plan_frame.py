"""Plans as columns, a row per user: for tables, and for the JSON that users read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from laegd.problem.allocation import chosen
from laegd.problem.instance import LOCAL, Instance, Plan
from laegd.problem.objective import user_costs
from laegd.scenario.scenario import require


class UserColumns(NamedTuple):
    """What a plan means for each user."""

    delay_s: Float[np.ndarray, "user"]
    energy_j: Float[np.ndarray, "user"]
    cost: Float[np.ndarray, "user"]  # inf without a share or a link


def user_columns(instance: Instance, plan: Plan) -> UserColumns:
    """Computes delay, energy and cost of each user under a plan."""
    costs, local = instance.costs, plan.server == LOCAL
    share = np.where(local | (plan.share <= 0), 1.0, plan.share)
    delay_s = chosen(costs.transmit_delay_s, plan.server) + chosen(costs.execute_delay_s, plan.server) / share
    energy_j = chosen(costs.transmit_energy_j, plan.server) + chosen(costs.execute_energy_j, plan.server) / share
    return UserColumns(
        np.where(local, costs.local_delay_s, delay_s),
        np.where(local, costs.local_energy_j, energy_j),
        user_costs(costs, plan.server, plan.share),
    )


def plans_to_frame(instances: Sequence[Instance], plans: Sequence[Plan]) -> dict[str, np.ndarray]:
    """Returns plans as columns of equal length, a row per user, as pandas.DataFrame and polars.DataFrame take them.

    Args:
        instances: that the plans are of.
        plans: one for each instance, in order.

    Returns:
        `instance`, its position; `method`; `feasible`; `user` and `server`, their ids, "" for the user's own device;
        `server_index`, -1 for that; `share`, 0 to 1; `delay_s`, `energy_j` and `cost` of the user, nan where the plan
        is infeasible.

    Raises:
        ValueError: There is not one plan for each instance.

    Example:
        >>> frame = pandas.DataFrame(laegd.plans_to_frame(instances, plans))
        >>> frame.groupby("server").share.sum()
    """
    expected = f"{len(instances)}, one for each instance"
    require(len(plans) == len(instances), "plans", expected, len(plans), "Give what `solve` returned.")
    pairs = list(zip(instances, plans, strict=True))
    sizes = [instance.num_users for instance, _ in pairs]
    values = [user_columns(instance, plan) if plan.feasible else _unknown(instance) for instance, plan in pairs]
    index = _joined([plan.server for plan in plans], np.int64)
    names = [("" if s == LOCAL else one.server_ids[s]) for one, plan in pairs for s in plan.server.tolist()]
    return {
        "instance": np.repeat(np.arange(len(pairs)), sizes),
        "method": np.repeat(np.array([plan.method for plan in plans], dtype=str), sizes),
        "feasible": np.repeat(np.array([plan.feasible for plan in plans], dtype=bool), sizes),
        "user": np.array([name for instance in instances for name in instance.user_ids], dtype=str),
        "server": np.array(names, dtype=str),
        "server_index": index,
        "share": _joined([plan.share for plan in plans], np.float64),
        **{name: _joined([getattr(one, name) for one in values], np.float64) for name in UserColumns._fields},
    }


def _unknown(instance: Instance) -> UserColumns:
    return UserColumns(*(np.full(instance.num_users, np.nan) for _ in UserColumns._fields))


def _joined(columns: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *columns])
