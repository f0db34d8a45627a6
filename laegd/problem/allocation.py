"""Closed-form shares of the servers for a fixed assignment.

Source: [1] GADSG, Eqs. 21-23; equation numbers refer to [1]. [1] hands the shares to a numerical solver. They need
none: a server minimises sum_k J_exe[k] / y_k subject to sum_k y_k <= 1 and y_k >= mu_k, whose optimality conditions
give y_k = max(mu_k, theta * sqrt(J_exe[k])) with the one theta for which the shares sum to 1.
"""

import math

import numpy as np
from jaxtyping import Float, Int, Shaped

from laegd.problem.instance import LOCAL, Costs


def chosen(
    values: Shaped[np.ndarray, "*costs #user server"], server: Int[np.ndarray, "*batch user"]
) -> Shaped[np.ndarray, "*batch user"]:
    """Returns each user's value at its server, 0 for LOCAL; the axes of `values` broadcast to those of `server`.

    Every server must exist: numbers beyond the last one are not noticed.
    """
    if values.shape[-1] == 0:
        return np.zeros(server.shape, values.dtype)
    picked = values.ravel().take(_row_starts(values) + server)  # quicker than np.take_along_axis where arrays are small
    return np.where(server == LOCAL, np.zeros((), values.dtype), picked)


def _row_starts(values: Shaped[np.ndarray, "*leading size"]) -> Int[np.ndarray, "*leading"]:
    """Returns the position in `values.ravel()` at which each row along the last axis begins."""
    *leading, size = values.shape
    return (size * np.arange(math.prod(leading))).reshape(leading)


def load(
    share: Float[np.ndarray, "*batch user"], server: Int[np.ndarray, "*batch user"], num_servers: int
) -> Float[np.ndarray, "*batch server"]:
    """Returns the sum of the shares on each server."""
    at_server = server[..., None] == np.arange(num_servers)  # [*batch user server]
    return np.where(at_server, share[..., None], 0.0).sum(axis=-2)


def optimal_shares(costs: Costs, server: Int[np.ndarray, "*batch user"]) -> Float[np.ndarray, "*batch user"]:
    """Computes the cheapest shares of an assignment, exactly (water-filling over sorted break points).

    Leading axes of `costs` broadcast to those of `server`.

    Args:
        costs: of the instances.
        server: index of each user's server, or LOCAL.

    Returns:
        Shares that sum to 1 on each server in use; 0 for local users. Where the floors mu of a server together exceed
        1, no shares are feasible and the floors themselves are returned.
    """
    num_servers = costs.min_share.shape[-1]
    floor = chosen(costs.min_share, server)
    root = np.sqrt(chosen(costs.execute_cost, server))
    ratio = floor / np.where(root > 0, root, 1.0)  # the floor binds where this exceeds theta

    order = np.argsort(ratio, axis=-1, kind="stable")
    position = _row_starts(order)[..., None] + order
    ratio, floor_k, root_k, server_k = (values.ravel().take(position) for values in (ratio, floor, root, server))
    at_server = server_k[..., None] == np.arange(num_servers)  # [*batch user server]
    floor_s = np.where(at_server, floor_k[..., None], 0.0)
    root_s = np.where(at_server, root_k[..., None], 0.0)
    floors_above = np.cumsum(floor_s[..., ::-1, :], axis=-2)[..., ::-1, :] - floor_s
    # what the server hands out at theta = ratio: increasing in ratio, so users up to the last that fits are free
    handed_out = ratio * chosen(np.cumsum(root_s, axis=-2), server_k) + chosen(floors_above, server_k)
    free = at_server & (handed_out <= 1.0)[..., None]  # [*batch user server]

    left = 1.0 - np.where(free, 0.0, floor_s).sum(axis=-2)
    free_root = np.where(free, root_s, 0.0).sum(axis=-2)
    theta = np.where(free_root > 0, left, 0.0) / np.where(free_root > 0, free_root, 1.0)  # [*batch server]
    theta_k = chosen(theta[..., None, :], server)
    return np.maximum(floor, np.minimum(theta_k * root, 1.0))


def exact_shares(
    costs: Costs, server: Int[np.ndarray, "instance user"], share: Float[np.ndarray, "instance user"]
) -> Float[np.ndarray, "instance user"]:
    """Makes shares that are feasible in float32 feasible in float64: what lies above the floors is scaled down."""
    num_servers = costs.covered.shape[-1]
    taken = server[..., None] == np.arange(num_servers)  # [instance, user, server]
    floor = (taken * costs.min_share).sum(-1)
    extra = np.where(server == LOCAL, 0.0, np.maximum(share - floor, 0.0))
    room = np.maximum(1.0 - (taken * costs.min_share).sum(1), 0.0)  # [instance, server]
    wanted = (taken * extra[..., None]).sum(1)
    scale = np.minimum(1.0, room / np.where(wanted > 0, wanted, 1.0))
    return np.where(server == LOCAL, 0.0, floor + extra * (taken * scale[:, None]).sum(-1))
