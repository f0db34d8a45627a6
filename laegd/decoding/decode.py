"""From beliefs to plans: every belief is decoded at each threshold, the cheapest feasible plan is kept.

Where we differ from [1] GADSG: shares come in closed form by default, and users that cannot run locally are placed
first, so that a plan obeys every constraint or is reported. All of it is one program without a loop over instances or
candidates; arrays carry the instances last, see `laegd.decoding.candidates`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from laegd.decoding.candidates import (
    SHARE_TOLERANCE,
    Edges,
    Problem,
    cost_of,
    edges_of,
    first_best,
    one_hot,
    problem_of,
    projected_shares,
)
from laegd.decoding.polish import Candidates, cheapest, polished, priced
from laegd.problem.instance import LOCAL
from laegd.scenario.scenario import require

__all__ = ["DecodeConfig", "Decoded", "Problem", "decode", "greedy_assignment", "problem_of"]

# Tries to make room for users that must offload and found none, by sending another one to its next server. Where 13
# such users nearly fill 7 servers this cuts the instances missed at N = 8 to a third; default settings hardly need it.
MAX_RELOCATIONS = 8

# Up to so many users are sorted by comparing all pairs: for 33 users a ninth of the time of XLA's sort on a CPU.
MOST_COMPARED = 128

MAX_THRESHOLDS, MAX_POLISH = 100, 1_000_000


@dataclass(frozen=True)
class DecodeConfig:
    """Settings of the way from beliefs to a plan."""

    thresholds: tuple[float, ...] = (0.03,)
    """A belief becomes one candidate per threshold: an edge is taken where its belief exceeds it. 0.5 alone leaves
    users at home."""
    allocation: Literal["optimal", "model"] = "optimal"
    """Shares in closed form, or the sampled ones projected onto the constraints."""
    polish_rounds: int = 0
    """Rounds of local search after decoding, one move each; 0: none."""
    polish_top: int = 1
    """How many of an instance's candidates are polished, the cheapest first; of those at one cost a single one."""

    def __post_init__(self) -> None:
        sound = len(self.thresholds) > 0 and all(0 <= threshold < 1 for threshold in self.thresholds)
        require(sound, "thresholds", "one or more numbers in [0, 1)", self.thresholds, "Use (0.03,).")
        known = self.allocation in ("optimal", "model")
        require(known, "allocation", "'optimal' or 'model'", self.allocation, "Use 'optimal' for closed-form shares.")
        many = len(self.thresholds)
        require(many <= MAX_THRESHOLDS, "thresholds", f"at most {MAX_THRESHOLDS}", many, "Use (0.03,).")
        require(self.polish_rounds >= 0, "polish_rounds", "at least 0", self.polish_rounds, "Use 0 for none.")
        require(self.polish_top >= 1, "polish_top", "at least 1", self.polish_top, "Use 1 for the best candidate.")
        for name in ("polish_rounds", "polish_top"):
            require(getattr(self, name) <= MAX_POLISH, name, f"at most {MAX_POLISH:,}", getattr(self, name), "Use 1.")
        matches = self.polish_rounds == 0 or self.allocation == "optimal"
        require(matches, "polish_rounds", "0 with allocation 'model'", self.polish_rounds, "Use allocation 'optimal'.")


class Decoded(NamedTuple):
    """The best plan of each instance; where none was found every user is local, cost is inf, feasible is False."""

    server: Int[Array, "batch user"]
    share: Float[Array, "batch user"]
    cost: Float[Array, "batch"]
    feasible: Bool[Array, "batch"]


@partial(jax.jit, static_argnames="thresholds")
def greedy_assignment(
    belief: Float[Array, "batch sample user server"], problem: Problem, thresholds: tuple[float, ...]
) -> tuple[Int[Array, "batch cand user"], Bool[Array, "batch cand"]]:
    """Places users one by one, those that cannot run locally first, then by belief, each on its best server with room.

    Returns:
        The server of each user (LOCAL: none) and whether every user is served. Candidate i is sample i % num_samples
        at threshold i // num_samples.
    """
    server, feasible = _greedy(jnp.moveaxis(belief, 0, -1), edges_of(problem), thresholds)
    return jnp.moveaxis(server, (0, 1, 2), (2, 1, 0)), feasible.T


def _greedy(
    belief: Float[Array, "sample user server batch"], edges: Edges, thresholds: tuple[float, ...]
) -> tuple[Int[Array, "user cand batch"], Bool[Array, "cand batch"]]:
    num_samples, num_users, num_servers, num_batch = belief.shape
    usable = jnp.isfinite(edges.min_share)
    score = jnp.where(usable, jnp.moveaxis(belief, 0, 2), -1.0)  # [user server sample batch]
    must = jnp.broadcast_to(~edges.local_allowed, (num_users, num_samples, num_batch))
    # Among those that must offload, the ones with fewest servers choose first.
    choices = jnp.where(must, usable.sum(1), num_servers + 1)
    order, rank = rank_users(choices, -score.max(1, initial=-1.0))
    score = jnp.take_along_axis(score, order[:, None], axis=0)
    need = jnp.take_along_axis(
        jnp.broadcast_to(edges.min_share, score.shape), order[:, None], axis=0
    )  # [rank server sample batch]
    must = jnp.take_along_axis(must, order, axis=0)

    forced, room = _place_forced(score, need, must)
    feasible = ~jnp.any(must & (forced == num_servers), axis=0)
    limit = jnp.asarray(thresholds, dtype=score.dtype)[:, None, None]

    def place(room: Array, user: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        score, need, must = user  # [server sample batch] twice, [sample batch]
        fits = (need[:, None] <= room) & (score[:, None] > limit) & ~must
        chosen = first_best(jnp.where(fits, score[:, None], -1.0))  # [threshold sample batch]
        return room - jnp.where(one_hot(chosen, num_servers), need[:, None], 0.0), chosen

    room = jnp.broadcast_to(room[:, None], (num_servers, len(thresholds), num_samples, num_batch))
    _, free = lax.scan(place, room, (score, need, must))
    server = jnp.where(must[:, None], forced[:, None], free)  # [rank threshold sample batch]
    server = jnp.take_along_axis(server, rank[:, None], axis=0)
    server = jnp.where(server == num_servers, LOCAL, server).reshape(num_users, -1, num_batch)
    return server, jnp.tile(feasible, (len(thresholds), 1))


def rank_users(
    first: Int[Array, "user *rest"], then: Float[Array, "user *rest"]
) -> tuple[Int[Array, "user *rest"], Int[Array, "user *rest"]]:
    """Ranks users by two keys, the first of equals first; returns the users by rank, and the rank of each user."""
    if len(first) > MOST_COMPARED:
        order = jnp.lexsort((then, first), axis=0)
        return order, jnp.argsort(order, axis=0)
    own = lax.broadcasted_iota(jnp.int32, (len(first), *first.shape), 0)  # [user other *rest]
    other = own.swapaxes(0, 1)
    earlier = (then < then[:, None]) | ((then == then[:, None]) & (other < own))
    rank = ((first < first[:, None]) | ((first == first[:, None]) & earlier)).sum(1, dtype=jnp.int32)
    return jnp.where(rank == own, other, 0).sum(1), rank


def _place_forced(
    score: Float[Array, "rank server sample batch"],
    need: Float[Array, "rank server sample batch"],
    must: Bool[Array, "rank sample batch"],
) -> tuple[Int[Array, "rank sample batch"], Float[Array, "server sample batch"]]:
    """Places the users that must offload; returns their servers (num_servers: none) and the room that is left."""
    num_servers = score.shape[1]

    def place(rank: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        server, room = state
        fits = (need[rank] <= room) & must[rank]
        chosen = first_best(jnp.where(fits, score[rank], -1.0))
        return server.at[rank].set(chosen), room - jnp.where(one_hot(chosen, num_servers), need[rank], 0.0)

    def stuck(state: tuple[Array, Array, Array]) -> Array:
        server, _, tries = state
        return jnp.any(must & (server == num_servers)) & (tries < MAX_RELOCATIONS)

    def relocate(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        server, room, tries = state
        return (*_relocate(score, need, must, server, room), tries + 1)

    server = jnp.full(must.shape, num_servers, dtype=jnp.int32)
    room = jnp.full(score.shape[1:], 1.0 + SHARE_TOLERANCE, dtype=score.dtype)
    server, room = lax.fori_loop(0, must.sum(0).max(initial=0), place, (server, room))
    server, room, _ = lax.while_loop(stuck, relocate, (server, room, jnp.int32(0)))
    return server, room


def _relocate(
    score: Array, need: Array, must: Array, server: Int[Array, "rank sample batch"], room: Array
) -> tuple[Array, Array]:
    """Makes room for the first stuck user of each candidate by sending one placed user to another server."""
    num_users, num_servers = score.shape[:2]
    late = first_best(jnp.where(must & (server == num_servers), 0.0, -1.0))  # [sample batch]
    index = jnp.minimum(late, num_users - 1)[None, None]
    late_need = jnp.take_along_axis(need, index, axis=0)[0]  # [server sample batch]
    late_score = jnp.take_along_axis(score, index, axis=0)[0]
    at = one_hot(server, num_servers, axis=1)  # [rank server sample batch]

    other = jnp.where((need <= room) & ~at, score, -1.0)
    freed = room + need
    possible = at & (late_need <= freed) & (other.max(1, keepdims=True) >= 0) & (late < num_users)
    value = jnp.where(possible, late_score + other.max(1, keepdims=True), -1.0).max(1)
    mover = first_best(value)  # [sample batch]
    found = mover < num_users
    index = jnp.minimum(mover, num_users - 1)[None, None]
    target = jnp.where(found, first_best(jnp.take_along_axis(other, index, axis=0)[0]), num_servers)
    mover_need = jnp.take_along_axis(need, index, axis=0)[0]
    left = jnp.where(found, jnp.take_along_axis(server, index[0], axis=0)[0], num_servers)
    into, away = one_hot(target, num_servers), one_hot(left, num_servers)
    room = room - jnp.where(into, mover_need, 0.0) + jnp.where(away, mover_need - late_need, 0.0)
    server = jnp.where(one_hot(mover, num_users), target, server)
    return jnp.where(one_hot(late, num_users) & found, left, server), room


@partial(jax.jit, static_argnames="settings")
def decode(
    belief: Float[Array, "batch belief user server"],
    shares: Float[Array, "batch sampled user server"],
    problem: Problem,
    settings: DecodeConfig,
) -> Decoded:
    """Decodes every belief at every threshold and returns the cheapest feasible plan of each instance.

    Belief i goes with shares i modulo their number.
    """
    if 0 in belief.shape[2:]:
        return _all_local(problem)
    edges = edges_of(problem)
    server, _ = _greedy(jnp.moveaxis(belief, 0, -1), edges, settings.thresholds)
    if settings.allocation == "model":
        guess = jnp.moveaxis(shares, (0, 1), (3, 2))
        guess = jnp.tile(guess, (1, 1, server.shape[1] // guess.shape[2], 1))
        at = one_hot(server, belief.shape[3], axis=1)
        share = projected_shares(guess, at, edges)
        plans = Candidates(server, share, cost_of(at, share, edges))
    else:
        plans = priced(server, edges)
    return best_plan(plans, edges, settings)


def best_plan(plans: Candidates, edges: Edges, settings: DecodeConfig) -> Decoded:
    """Returns the cheapest feasible plan of each instance, polished where that is asked for."""
    if settings.polish_rounds > 0:
        plans = polished(cheapest(plans, settings.polish_top), edges, settings.polish_rounds)
    best = cheapest(plans, 1)
    feasible = jnp.isfinite(best.cost[0])
    server = jnp.where(feasible, best.server[:, 0], LOCAL)
    return Decoded(server.T, jnp.where(feasible, best.share[:, 0], 0.0).T, best.cost[0], feasible)


def _all_local(problem: Problem) -> Decoded:
    """The only plan of instances without users or without servers."""
    feasible = problem.local_allowed.all(1)
    cost = jnp.where(feasible, problem.local_cost.sum(1), jnp.inf)
    server = jnp.full(problem.local_cost.shape, LOCAL, dtype=jnp.int32)
    return Decoded(server, jnp.zeros_like(problem.local_cost), cost, feasible)
