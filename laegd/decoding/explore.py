"""Actions to plans: an action is repaired until it fits, then explored user by user; the cheapest plan is kept.

Source: [1] GADSG, Sec. V-B, which says of GRLO that it searches by "an enhanced sequential exploration" and no more.
Settled here: users in turn, the one of whose place the actor is least sure first, each tries every place with all the
others held and takes the cheapest at the best shares; one pass. Arrays carry the instances last, see
`laegd.decoding.candidates`. Places are the servers, then local.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from laegd.decoding.candidates import SHARE_TOLERANCE, Edges, Problem, edges_of, one_hot
from laegd.decoding.decode import DecodeConfig, Decoded, best_plan, decode, greedy_assignment
from laegd.decoding.polish import LEAST_GAIN, first_least, priced
from laegd.problem.instance import LOCAL

_TAKEN = 0.25  # beliefs of `action_belief` above it are servers that the user goes to
_PER_SERVER = ("transmit_cost", "execute_cost", "min_share")  # fields of `Edges`
_NO_ROOM = 2.0  # a floor that no server can hold, finite so that sums and differences of floors are too


class Actions(NamedTuple):
    """What an actor makes of a batch of instances: the starts of exploration."""

    offload: Float[Array, "batch sample user server"]  # `action_belief`
    certainty: Float[Array, "batch user"]  # probability of the likeliest place


def action_belief(
    place: Int[Array, "batch sample user"], policy: Float[Array, "batch user place"]
) -> Float[Array, "batch sample user server"]:
    """Returns beliefs that `repaired` reads: the chosen server first, then those the actor prefers to staying local.

    In [0, 1]: at least 1/2 for the chosen server; if one was chosen, over 1/4 for others likelier than local; the rest
    below.
    """
    num_servers = policy.shape[-1] - 1
    server, local = policy[:, None, :, :-1], policy[:, None, :, -1:]
    second = (server > local) & (place != num_servers)[..., None]
    belief = jnp.where(second, _TAKEN * (1.0 + server), _TAKEN * server)
    return jnp.where(one_hot(place, num_servers, axis=3), 0.5 + 0.5 * server, belief)


def repaired(belief: Float[Array, "batch sample user server"], problem: Problem) -> Int[Array, "user cand batch"]:
    """Returns the servers of actions, in the inner layout: the surest first, each on its next server if one is full."""
    server, _ = greedy_assignment(belief, problem, (_TAKEN,))
    return jnp.moveaxis(server, (0, 1, 2), (2, 1, 0))


@jax.jit
def explore(
    server: Int[Array, "batch cand user"], certainty: Float[Array, "batch user"], problem: Problem
) -> Int[Array, "batch cand user"]:
    """Improves each candidate by one pass over its users, the least certain first."""
    found = explored(jnp.moveaxis(server, (0, 1, 2), (2, 1, 0)), certainty, edges_of(problem))
    return jnp.moveaxis(found, (0, 1, 2), (2, 1, 0))


def explored(
    server: Int[Array, "user cand batch"], certainty: Float[Array, "batch user"], edges: Edges
) -> Int[Array, "user cand batch"]:
    """`explore` in the inner layout."""
    num_users, num_servers = edges.min_share.shape[:2]
    order = jnp.argsort(certainty, axis=1).T  # [user batch]

    def visit(rank: Array, place: Array) -> Array:
        user = one_hot(order[rank], num_users)[:, None]  # [user 1 batch]
        costs = _costs_of_places(place, user, edges)  # [place cand batch]
        here = jnp.where(user, place, 0).sum(0)
        now = jnp.take_along_axis(costs, here[None], axis=0)[0]
        # From an infeasible place any feasible one is a gain; among equal ones the user stays.
        better = costs.min(0) < jnp.where(jnp.isfinite(now), now * (1.0 - LEAST_GAIN), now)
        return jnp.where(user, jnp.where(better, first_least(costs), here), place)

    place = lax.fori_loop(0, num_users, visit, jnp.where(server == LOCAL, num_servers, server))
    return jnp.where(place == num_servers, LOCAL, place)


def _costs_of_places(
    place: Int[Array, "user cand batch"], user: Bool[Array, "user 1 batch"], edges: Edges
) -> Float[Array, "place cand batch"]:
    """Returns the cost of the whole plan for each place of one user per instance; inf where it breaks a constraint."""
    num_servers = edges.min_share.shape[1]
    others = one_hot(place, num_servers, axis=1) & ~user[:, None]  # [user server cand batch]
    # One program for both: compiling it takes longer than running it.
    members = jnp.concatenate([others, others | user[:, None]], axis=1)
    twice = edges._replace(**{name: jnp.tile(getattr(edges, name), (1, 2, 1, 1)) for name in _PER_SERVER})
    without, joined = jnp.split(_server_costs(members, twice), 2)
    goal = jnp.eye(num_servers, dtype=bool)[:, :, None, None]
    remote = jnp.where(goal, joined[None], without[None]).sum(1)  # [server cand batch]
    alone = jnp.where(edges.local_allowed, edges.local_cost, jnp.inf)  # [user 1 batch]
    local = without.sum(0) + jnp.where(user, alone, 0.0).sum(0)
    at_home = jnp.where((place == num_servers) & ~user, alone, 0.0).sum(0)
    return jnp.concatenate([remote, local[None]]) + at_home


def _server_costs(member: Bool[Array, "user server cand batch"], edges: Edges) -> Float[Array, "server cand batch"]:
    """Returns what each server's users cost at their best shares, inf where they do not fit; a user may be on several.

    The water-filling of `closed_form_shares`, per server.
    """
    root = jnp.where(member, jnp.sqrt(edges.execute_cost), 0.0)
    floor = jnp.where(member, jnp.minimum(edges.min_share, _NO_ROOM), 0.0)

    def shares(bound: Array) -> Array:
        left = 1.0 - jnp.where(bound, floor, 0.0).sum(0)
        total = jnp.where(bound, 0.0, root).sum(0)
        factor = jnp.where((total > 0) & (left > 0), left / jnp.where(total > 0, total, 1.0), 0.0)
        return jnp.where(bound, floor, root * factor)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        bound, share, _ = state
        grown = bound | (share < floor)
        return grown, shares(grown), jnp.any(grown != bound)

    free = jnp.zeros_like(root, dtype=bool)
    _, share, _ = lax.while_loop(lambda state: state[2], step, (free, shares(free), jnp.bool_(True)))
    cost = edges.transmit_cost + edges.execute_cost / jnp.where(share > 0, share, 1.0)
    return jnp.where(floor.sum(0) <= 1.0 + SHARE_TOLERANCE, jnp.where(member, cost, 0.0).sum(0), jnp.inf)


@partial(jax.jit, static_argnames="settings")
def decode_actions(actions: Actions, problem: Problem, settings: DecodeConfig) -> Decoded:
    """Repairs and explores every start and returns the cheapest feasible plan of each instance.

    Of the settings those of polish count: an actor has no thresholds and no shares.
    """
    if 0 in actions.offload.shape[2:]:
        return decode(actions.offload, actions.offload, problem, settings)
    edges = edges_of(problem)
    plans = priced(explored(repaired(actions.offload, problem), actions.certainty, edges), edges)
    return best_plan(plans, edges, settings)
