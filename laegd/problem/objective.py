"""The cost of a plan and what it violates.

Source: [1] GADSG, Eqs. 22-25; equation numbers refer to [1]. Unlike [1], local cost counts once per user and the
deadline floor on shares holds only on the edges that are used; see `laegd.problem.instance`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.allocation import chosen, load, optimal_shares
from laegd.problem.instance import LOCAL, Costs, Instance, Plan
from laegd.scenario.columns import ArrayLike
from laegd.scenario.scenario import require

SHARE_TOLERANCE = 1e-9
"""By this part shares may miss their floor, or together exceed a server; far above rounding."""


def user_costs(
    costs: Costs, server: Int[np.ndarray, "*batch user"], share: Float[np.ndarray, "*batch user"]
) -> Float[np.ndarray, "*batch user"]:
    """Computes each user's part of the objective; inf where a user has no share of, or no link to, its server."""
    served = chosen(costs.covered, server) & (share > 0)
    remote = chosen(costs.transmit_cost, server) + chosen(costs.execute_cost, server) / np.where(served, share, 1.0)
    return np.where(server == LOCAL, costs.local_cost, np.where(served, remote, np.inf))


def plan_cost(
    costs: Costs, server: Int[np.ndarray, "*batch user"], share: Float[np.ndarray, "*batch user"]
) -> Float[np.ndarray, "*batch"]:
    """Computes the objective, Eq. 23 with local cost once per user; leading axes of `costs` broadcast to `server`'s."""
    return np.asarray(user_costs(costs, server, share).sum(axis=-1))


def is_feasible(
    costs: Costs, server: Int[np.ndarray, "*batch user"], share: Float[np.ndarray, "*batch user"]
) -> Bool[np.ndarray, "*batch"]:
    """Tells which plans obey every constraint, up to SHARE_TOLERANCE."""
    local = server == LOCAL
    least = chosen(costs.min_share, server) * (1.0 - SHARE_TOLERANCE)
    remote_ok = chosen(costs.usable, server) & (share >= least) & (share <= 1.0 + SHARE_TOLERANCE)
    users_ok = np.where(local, costs.local_allowed, remote_ok).all(axis=-1)
    return np.asarray(users_ok & (load(share, server, costs.covered.shape[-1]) <= 1.0 + SHARE_TOLERANCE).all(axis=-1))


def violations(instance: Instance, plan: Plan) -> list[str]:
    """Names every constraint that the plan breaks by more than SHARE_TOLERANCE; empty for a feasible plan."""
    costs, found = instance.costs, []
    known = (plan.server >= 0) & (plan.server < instance.num_servers)
    for u, name in enumerate(instance.user_ids):
        s, share = int(plan.server[u]), float(plan.share[u])
        if s == LOCAL:
            if not costs.local_allowed[u]:
                delay, deadline = costs.local_delay_s[u], instance.nodes.user_deadline_s[u]
                found.append(f"user {name}: the local run takes {delay:.4g} s, its deadline is {deadline:.4g} s")
            continue
        if not known[u]:
            found.append(f"user {name}: server {s} does not exist")
            continue
        target, floor = instance.server_ids[s], costs.min_share[u, s]
        if not costs.covered[u, s]:
            found.append(f"user {name}: out of coverage of server {target}")
        elif floor == 0:
            found.append(f"user {name}: server {target} cannot meet its deadline even alone")
        if not share >= floor * (1.0 - SHARE_TOLERANCE):  # also true of NaN
            found.append(f"user {name}: share {share:.10g} of server {target} is below its floor {floor:.10g}")
    total = load(np.where(known, plan.share, 0.0), np.where(known, plan.server, LOCAL), instance.num_servers)
    for s, name in enumerate(instance.server_ids):
        if not total[s] <= 1.0 + SHARE_TOLERANCE:
            found.append(f"server {name}: its shares sum to {total[s]:.10g}, above 1")
    return found


def infeasible_plan(instance: Instance, method: str, unserved: tuple[str, ...] = (), seconds: float = 0.0) -> Plan:
    """Returns the answer to an instance without a feasible plan, or for which none was found."""
    server = np.full(instance.num_users, LOCAL, dtype=np.int64)
    return Plan(method, server, np.zeros(instance.num_users), np.inf, False, seconds, None, unserved)


def make_plan(
    instance: Instance,
    server: ArrayLike,
    method: str = "own",
    seconds: float = 0.0,
    lower_bound: float | None = None,
    share: ArrayLike | None = None,
) -> Plan:
    """Returns the plan of an assignment, checked and with its cost.

    Args:
        instance: to which the plan belongs.
        server: index of each user's server, or LOCAL, -1, for its own device; of shape [user].
        method: name of the solver.
        seconds: that the solver took.
        lower_bound: on the cost of any plan, if known.
        share: of the server's computing power, of shape [user], 0 to 1; None: the optimal shares of this assignment.

    Returns:
        The plan; where a constraint is broken, the infeasible answer, whose `violations` name each.

    Raises:
        ValueError: There is not one server, or one share, for each user, or a server does not exist.

    Example:
        >>> plan = laegd.make_plan(instance, [-1, 0, 0])  # user 0 on its own device, users 1 and 2 at server 0
        >>> plan.cost if plan.feasible else plan.violations
    """
    index = _per_user(instance, "server", server, "iu", "whole numbers").astype(np.int64)
    exist = ((index >= LOCAL) & (index < instance.num_servers)).all()
    require(bool(exist), "server", f"{LOCAL} or 0 to {instance.num_servers - 1}", server, "Use LOCAL to stay.")
    if share is None:
        shares = optimal_shares(instance.costs, index)
    else:
        shares = np.where(index == LOCAL, 0.0, _per_user(instance, "share", share, "iuf", "numbers"))
    if not is_feasible(instance.costs, index, shares):
        broken = tuple(violations(instance, Plan(method, index, shares, np.inf, False)))
        return replace(infeasible_plan(instance, method, seconds=seconds), violations=broken)
    return Plan(method, index, shares, float(plan_cost(instance.costs, index, shares)), True, seconds, lower_bound)


def _per_user(instance: Instance, field: str, values: ArrayLike, kinds: str, expected: str) -> np.ndarray:
    """Returns an array of shape [user]; raises ValueError unless its type is of these kinds."""
    array = np.asarray(values)
    whole = array.shape == (instance.num_users,)
    found = f"shape {array.shape}"
    require(whole, field, f"{instance.num_users} numbers, one for each user", found, "Correct its length.")
    require(array.dtype.kind in kinds or array.size == 0, field, expected, array.dtype, "Correct its values.")
    return array
