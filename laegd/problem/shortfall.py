"""Why a network has no feasible plan: every user that cannot be served, what it lacks, and what helps.

A user that misses its deadline at home needs a server. In the order of this list it lacks

- reach: no server covers it;
- deadline: no server in reach could compute its task in time, however fast the link;
- rate: servers in reach could, but the transmission alone takes longer than the deadline on each of their links;
- deadline again: transmission and computation are in time each, but not one after the other;
- capacity: it could be served, but not beside the other users that depend on the same servers.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.feasibility import crowds
from laegd.problem.instance import Instance
from laegd.scenario.scenario import in_short

Cause = Literal["reach", "rate", "deadline", "capacity"]
_NAMES_SHOWN = 10


class Shortfall(NamedTuple):
    """Users that lack the same."""

    cause: Cause
    users: tuple[str, ...]
    detail: str
    """What is missing, with units, and the remedy."""

    def __str__(self) -> str:
        shown, more = self.users[:_NAMES_SHOWN], len(self.users) - _NAMES_SHOWN
        names = in_short(", ".join(shown)) + (f" and {more} more" if more > 0 else "")
        together = " together" if self.cause == "capacity" else ""
        return f"{names} cannot be served{together} ({self.cause}): {self.detail}"


def shortfalls(instance: Instance) -> list[Shortfall]:
    """Returns what users lack, each user once; empty where a plan exists, or nothing is proved within a moment."""
    costs = instance.costs
    alone = ~costs.local_allowed & ~costs.usable.any(axis=-1)  # [user]
    found = [
        Shortfall(cause, tuple(instance.user_ids[u] for u in users), describe(instance, int(users[0])))
        for cause, lacking, describe in _causes(instance)
        if len(users := np.flatnonzero(alone & lacking))
    ]
    return found + [_capacity(instance, users) for users in crowds(costs)]


def _causes(
    instance: Instance,
) -> Iterator[tuple[Cause, Bool[np.ndarray, "user"], Callable[[Instance, int], str]]]:
    """Yields what users can lack alone, who would lack it, and how to tell it of one user."""
    covered, costs = in_reach(instance), instance.costs
    deadline_s = instance.nodes.user_deadline_s[:, None]
    computes = covered & (_full_load_s(instance) <= deadline_s)  # [user server]
    carries = costs.covered & (costs.transmit_delay_s <= deadline_s)
    reach = ~np.asarray(covered.any(axis=-1))
    rate = np.asarray(computes.any(axis=-1)) & ~np.asarray((computes & carries).any(axis=-1))
    yield "reach", reach, _reach
    yield "rate", rate, _rate
    yield "deadline", ~reach & ~rate, _deadline


def in_reach(instance: Instance) -> Bool[np.ndarray, "user server"]:
    """Tells which servers cover which users, whatever the link between them carries."""
    return _distance_m(instance) <= instance.nodes.server_radius_m


def _distance_m(instance: Instance) -> Float[np.ndarray, "user server"]:
    nodes = instance.nodes
    return np.hypot(*np.moveaxis(nodes.user_xyz_m[:, None, :2] - nodes.server_xyz_m[None, :, :2], -1, 0))


def _full_load_s(instance: Instance) -> Float[np.ndarray, "user server"]:
    return instance.nodes.user_workload_flop[:, None] / instance.nodes.server_capacity_flops


def _reach(instance: Instance, user: int) -> str:
    distance_m, radius_m = _distance_m(instance)[user], instance.nodes.server_radius_m
    if not len(radius_m):
        return "there is no server; add one"
    nearest = int((distance_m - radius_m).argmin())
    return (
        f"{_name(instance, user)} is {distance_m[nearest]:.4g} m from {in_short(instance.server_ids[nearest])}, which "
        f"reaches {radius_m[nearest]:.4g} m; bring a server in reach, or raise coverage_radius_m"
    )


def _rate(instance: Instance, user: int) -> str:
    costs, nodes = instance.costs, instance.nodes
    delay_s = costs.transmit_delay_s[user][costs.covered[user]].min(initial=np.inf)
    bits = nodes.user_task_bits[user]
    best = f"{bits / delay_s:.4g} bit/s take {delay_s:.4g} s" if np.isfinite(delay_s) else "0 bit/s never arrive"
    return (
        f"the {bits:.4g} bits of {_name(instance, user)} at {best}, its deadline_s is {nodes.user_deadline_s[user]:g}; "
        "check bandwidth_hz (Hz), transmit_power_w (W), noise_power_w (W) and task_bits (bits)"
    )


def _deadline(instance: Instance, user: int) -> str:
    costs, nodes = instance.costs, instance.nodes
    remote_s = np.where(costs.covered, costs.transmit_delay_s + costs.execute_delay_s, np.inf)[user]
    best_s = min(remote_s.min(initial=np.inf), costs.local_delay_s[user])
    return (
        f"{_name(instance, user)} takes {best_s:.4g} s at best, its deadline_s is {nodes.user_deadline_s[user]:g}; "
        "raise it, or bring a faster server"
    )


def _capacity(instance: Instance, users: Int[np.ndarray, "user"]) -> Shortfall:
    costs = instance.costs
    usable = costs.usable[users]
    servers = np.flatnonzero(usable.any(axis=0))
    needed = np.where(usable, costs.min_share[users], np.inf).min(axis=1).sum()
    names = in_short(", ".join(instance.server_ids[s] for s in servers))
    detail = (
        f"to be in time they need {needed:.3g} servers at least, and depend on {len(servers)} ({names}); "
        "raise deadline_s or capacity_flops, or bring another server in reach"
    )
    return Shortfall("capacity", tuple(instance.user_ids[u] for u in users), detail)


def _name(instance: Instance, user: int) -> str:
    return in_short(instance.user_ids[user])
