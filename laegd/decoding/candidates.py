"""Batches of candidate plans in JAX: their best shares and their cost.

Source: [1] GADSG, Eqs. 21-25; equation numbers refer to [1]. The NumPy twins, exact to float64, are in `laegd.problem`.
Inside, arrays carry the instances last ([user server cand batch]): the long axis is then contiguous, and one
instance's costs broadcast over its candidates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from laegd.problem.instance import Costs

# Room that sums of minimal shares may overshoot by: float32 keeps a sum of parts of 1 to about 1e-7 a term.
SHARE_TOLERANCE = 1e-6
_LARGEST_COST = 1e30  # float32 ends at 3e38; sums over users and divisions by shares stay below


class Problem(NamedTuple):
    """What decoding needs of a batch of instances, float32; NumPy arrays on the host, JAX arrays inside a program.

    A padded user may run locally at cost 0 and has no edge.
    """

    local_cost: Float[Any, "batch user"]
    local_allowed: Bool[Any, "batch user"]
    usable: Bool[Any, "batch user server"]
    transmit_cost: Float[Any, "batch user server"]
    execute_cost: Float[Any, "batch user server"]
    min_share: Float[Any, "batch user server"]


class Edges(NamedTuple):
    """A problem with the instances last and room for a candidate axis; `usable` folded into the minimal shares."""

    local_cost: Float[Array, "user 1 batch"]
    local_allowed: Bool[Array, "user 1 batch"]
    transmit_cost: Float[Array, "user server 1 batch"]
    execute_cost: Float[Array, "user server 1 batch"]
    min_share: Float[Array, "user server 1 batch"]  # inf where the edge cannot be used


def problem_of(costs: Costs) -> Problem:
    """Takes the arrays that decoding needs out of a batch of costs."""

    def single(values: np.ndarray) -> np.ndarray:
        return np.minimum(values, _LARGEST_COST).astype(np.float32)

    return Problem(
        local_cost=single(costs.local_cost),
        local_allowed=costs.local_allowed,
        usable=costs.usable,
        transmit_cost=single(costs.transmit_cost),
        execute_cost=single(costs.execute_cost),
        min_share=single(costs.min_share),
    )


def edges_of(problem: Problem) -> Edges:
    """Moves the instances to the last axis."""

    def turn(values: Array) -> Array:
        return jnp.moveaxis(values, 0, -1)[..., None, :]

    return Edges(
        local_cost=turn(problem.local_cost),
        local_allowed=turn(problem.local_allowed),
        transmit_cost=turn(problem.transmit_cost),
        execute_cost=turn(problem.execute_cost),
        min_share=turn(jnp.where(problem.usable, problem.min_share, jnp.inf)),
    )


def first_best(score: Float[Array, "choice *rest"]) -> Int[Array, "*rest"]:
    """Index of the first largest score along axis 0; the number of choices where no score is 0 or more."""
    num_choices = score.shape[0]
    best = score.max(0, initial=-1.0)
    index = jnp.arange(num_choices, dtype=jnp.int32).reshape((-1,) + (1,) * (score.ndim - 1))
    return jnp.where((score == best) & (best >= 0), index, num_choices).min(0, initial=num_choices)


def one_hot(index: Int[Array, "*rest"], num: int, axis: int = 0) -> Bool[Array, "..."]:
    """True where the new axis `axis` of length `num` equals the index; all False for an index out of range."""
    positions = lax.broadcasted_iota(jnp.int32, (*index.shape[:axis], num, *index.shape[axis:]), axis)
    return positions == jnp.expand_dims(index, axis)


@jax.jit
def optimal_shares(server: Int[Array, "batch cand user"], problem: Problem) -> Float[Array, "batch cand user"]:
    """The best shares of an assignment: y = max(mu, sqrt(J_exe) / nu), with nu such that a server's shares sum to 1."""
    at = one_hot(jnp.moveaxis(server, 0, -1).swapaxes(0, 1), problem.usable.shape[2], axis=1)
    return jnp.moveaxis(closed_form_shares(at, edges_of(problem)), (0, 1, 2), (2, 1, 0))


def closed_form_shares(at: Bool[Array, "user server cand batch"], edges: Edges) -> Float[Array, "user cand batch"]:
    """Water-filling by active sets: floors that bind are fixed, the rest is shared again until no more floor binds.

    Fixing a floor only takes from the others, so a floor once bound stays bound and the end is the exact optimum.
    """
    root = on_server(jnp.sqrt(edges.execute_cost), at)
    floor = on_server(edges.min_share, at)

    def shares(bound: Array) -> Array:
        left = 1.0 - per_server(jnp.where(bound, floor, 0.0), at)
        total = per_server(jnp.where(bound, 0.0, root), at)
        # Server wide factor 1 / nu; a server with nothing to share gives each its floor.
        factor = jnp.where((total > 0) & (left > 0), left / jnp.where(total > 0, total, 1.0), 0.0)
        return jnp.where(bound, floor, root * on_server(factor[None], at))

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        bound, share, _ = state
        grown = bound | (share < floor)
        return grown, shares(grown), jnp.any(grown != bound)

    free = jnp.zeros_like(root, dtype=bool)
    _, share, _ = lax.while_loop(lambda state: state[2], step, (free, shares(free), jnp.bool_(True)))
    return share


@jax.jit
def project_shares(
    guess: Float[Array, "batch cand user server"], server: Int[Array, "batch cand user"], problem: Problem
) -> Float[Array, "batch cand user"]:
    """The shares nearest to the guess, in squares, with y >= mu and a sum of at most 1 per server."""
    at = one_hot(jnp.moveaxis(server, 0, -1).swapaxes(0, 1), problem.usable.shape[2], axis=1)
    share = projected_shares(jnp.moveaxis(guess, (0, 1), (3, 2)), at, edges_of(problem))
    return jnp.moveaxis(share, (0, 1, 2), (2, 1, 0))


def projected_shares(
    guess: Float[Array, "user server cand batch"], at: Bool[Array, "user server cand batch"], edges: Edges
) -> Float[Array, "user cand batch"]:
    """Michelot's method: y = max(mu, guess - tau); floors that bind are fixed until no more floor binds."""
    wish = on_server(guess, at)
    floor = on_server(edges.min_share, at)

    def shares(bound: Array) -> Array:
        total = per_server(jnp.where(bound, floor, wish), at)
        num_free = per_server(jnp.where(bound, 0.0, 1.0), at)
        excess = jnp.maximum(total - 1.0, 0.0) / jnp.maximum(num_free, 1.0)
        return jnp.where(bound, floor, wish - on_server(excess[None], at))

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        bound, share, _ = state
        grown = bound | (share < floor)
        return grown, shares(grown), jnp.any(grown != bound)

    bound = wish < floor
    _, share, _ = lax.while_loop(lambda state: state[2], step, (bound, shares(bound), jnp.bool_(True)))
    return share


def on_server(values: Float[Array, "#user #server #cand #batch"], at: Array) -> Float[Array, "user cand batch"]:
    """Each user's value at its own server, 0 for a local user."""
    return jnp.where(at, values, 0.0).sum(1)


def per_server(values: Float[Array, "user cand batch"], at: Array) -> Float[Array, "server cand batch"]:
    """Sum of the users' values on each server."""
    return jnp.where(at, values[:, None], 0.0).sum(0)


@jax.jit
def plan_cost(
    server: Int[Array, "batch cand user"], share: Float[Array, "batch cand user"], problem: Problem
) -> Float[Array, "batch cand"]:
    """The objective of each candidate; inf where a constraint is broken."""
    at = one_hot(jnp.moveaxis(server, 0, -1).swapaxes(0, 1), problem.usable.shape[2], axis=1)
    return cost_of(at, jnp.moveaxis(share, 0, -1).swapaxes(0, 1), edges_of(problem)).T


def cost_of(
    at: Bool[Array, "user server cand batch"], share: Float[Array, "user cand batch"], edges: Edges
) -> Float[Array, "cand batch"]:
    """The objective of assignments in the inner layout; inf where a constraint is broken."""
    floor = on_server(edges.min_share, at)  # inf on an edge that cannot be used
    offload = at.any(1)
    execute = on_server(edges.execute_cost, at) / jnp.where(share > 0, share, 1.0)
    cost = jnp.where(offload, on_server(edges.transmit_cost, at) + execute, edges.local_cost).sum(0)
    served = jnp.where(offload, share >= floor * (1.0 - SHARE_TOLERANCE), edges.local_allowed).all(0)
    fits = (per_server(share, at) <= 1.0 + 3.0 * SHARE_TOLERANCE).all(0)
    return jnp.where(served & fits, cost, jnp.inf)
