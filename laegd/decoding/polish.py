"""Polish: a monotone local search on assignments under closed-form shares.

Each round prices every move (a user changes its place), swap (two users exchange theirs) and eviction (a user takes
another's place, who takes the best third one) and applies the best one, as long as the cost falls. A place is a server
or the user's own device. Arrays carry the instances last, see `laegd.decoding.candidates`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from laegd.decoding.candidates import SHARE_TOLERANCE, Edges, Problem, closed_form_shares, cost_of, edges_of, one_hot
from laegd.problem.instance import LOCAL

# Times that the set of binding floors is found anew when a change is priced; the price is then a lower bound, and exact
# where that many times are enough. The change that is chosen is priced exactly before it is made.
NUM_PRICINGS = 3
# A round must gain this share of the cost: less is rounding.
LEAST_GAIN = 1e-6


class Prices(NamedTuple):
    """What changes of one user's place add to the cost. Places are the servers, then local."""

    leave: Float[Array, "user cand batch"]  # the user's place is given up
    take: Float[Array, "user place cand batch"]  # the user comes on top
    replace: Float[Array, "user user cand batch"]  # the first user comes, the second leaves its place


class Candidates(NamedTuple):
    """Plans in the inner layout."""

    server: Int[Array, "user cand batch"]
    share: Float[Array, "user cand batch"]
    cost: Float[Array, "cand batch"]  # inf: infeasible


@jax.jit
def polish(
    server: Int[Array, "batch cand user"], problem: Problem, rounds: int | Int[Array, ""]
) -> Int[Array, "batch cand user"]:
    """Improves each candidate by up to `rounds` best changes; never worse, and feasible where it was."""
    edges = edges_of(problem)
    plans = priced(jnp.moveaxis(server, (0, 1, 2), (2, 1, 0)), edges)
    return jnp.moveaxis(polished(plans, edges, rounds).server, (0, 1, 2), (2, 1, 0))


def cheapest(plans: Candidates, num: int) -> Candidates:
    """Returns the cheapest candidates of each instance, cheapest first; of those at one cost the first, others last."""
    if num > 1:
        order = jnp.argsort(plans.cost, axis=0)
        cost = jnp.take_along_axis(plans.cost, order, axis=0)
        again = jnp.pad(cost[1:] <= cost[:-1] * (1.0 + LEAST_GAIN), ((1, 0), (0, 0)))
        order = jnp.take_along_axis(order, jnp.argsort(jnp.where(again, jnp.inf, cost), axis=0)[:num], axis=0)
    else:
        order = jnp.argmin(plans.cost, axis=0)[None]
    server, share = (jnp.take_along_axis(values, order[None], axis=1) for values in plans[:2])
    return Candidates(server, share, jnp.take_along_axis(plans.cost, order, axis=0))


def priced(server: Int[Array, "user cand batch"], edges: Edges) -> Candidates:
    """Assignments with their best shares and cost."""
    at = one_hot(server, edges.min_share.shape[1], axis=1)
    share = closed_form_shares(at, edges)
    return Candidates(server, share, cost_of(at, share, edges))


def polished(plans: Candidates, edges: Edges, rounds: int | Int[Array, ""]) -> Candidates:
    """`polish` in the inner layout, for plans with their best shares."""
    num_servers = edges.min_share.shape[1]

    def improves(state: tuple[Candidates, Array, Array]) -> Array:
        _, active, num_done = state
        return jnp.any(active) & (num_done < rounds)

    def improve(state: tuple[Candidates, Array, Array]) -> tuple[Candidates, Array, Array]:
        plans, active, num_done = state
        place = best_change(jnp.where(plans.server == LOCAL, num_servers, plans.server), edges)
        changed = priced(jnp.where(place == num_servers, LOCAL, place), edges)
        better = active & (changed.cost < plans.cost * (1.0 - LEAST_GAIN))
        kept = (jnp.where(better, new, old) for new, old in zip(changed, plans, strict=True))
        return Candidates(*kept), better, num_done + 1

    return lax.while_loop(improves, improve, (plans, jnp.isfinite(plans.cost), jnp.int32(0)))[0]


def best_change(place: Int[Array, "user cand batch"], edges: Edges) -> Int[Array, "user cand batch"]:
    """Makes the move, swap or eviction that promises most, even if it promises a loss."""
    num_users, num_places = place.shape[0], edges.min_share.shape[1] + 1
    rest = place.shape[1:]
    prices = prices_of(place, edges)
    take = jnp.where(one_hot(place, num_places, axis=1), jnp.inf, prices.take)
    third, third_price = best_third_place(take, place)  # [newcomer evicted cand batch]

    move = prices.leave[:, None] + take  # [user place cand batch]
    swap = prices.replace + prices.replace.swapaxes(0, 1)  # [newcomer evicted cand batch]
    evict = prices.leave[:, None] + prices.replace + third_price
    pair = jnp.where(place[:, None] != place[None, :], jnp.minimum(swap, evict), jnp.inf)
    evicted_to = jnp.where(swap <= evict, place[:, None], third)

    num_moves = num_users * num_places
    choice = first_least(jnp.concatenate([move.reshape(-1, *rest), pair.reshape(-1, *rest)]))  # [cand batch]
    is_move = choice < num_moves
    index = jnp.maximum(choice - num_moves, 0)
    first = jnp.where(is_move, choice // num_places, index // num_users)
    second = jnp.where(is_move, num_users, index % num_users)  # num_users: nobody
    goal = jnp.where(is_move, choice % num_places, pick(place, index % num_users))
    second_goal = pick(evicted_to.reshape(-1, *rest), index)
    place = jnp.where(one_hot(first, num_users), goal, place)
    return jnp.where(one_hot(second, num_users), second_goal, place)


def best_third_place(
    take: Float[Array, "user place cand batch"], place: Int[Array, "user cand batch"]
) -> tuple[Int[Array, "newcomer user cand batch"], Float[Array, "newcomer user cand batch"]]:
    """The cheapest place of each user that is neither its own nor the newcomer's, and its price."""
    num_places = take.shape[1]
    best = first_least(take.swapaxes(0, 1))  # [user cand batch]
    others = jnp.where(one_hot(best, num_places, axis=1), jnp.inf, take)
    second = first_least(others.swapaxes(0, 1))
    taken = place[:, None] == best[None]
    return jnp.where(taken, second[None], best[None]), jnp.where(taken, others.min(1)[None], take.min(1)[None])


def first_least(values: Float[Array, "choice *rest"]) -> Int[Array, "*rest"]:
    """Index of the first smallest value along axis 0.; faster on CPU than XLA argmin."""
    positions = lax.broadcasted_iota(jnp.int32, values.shape, 0)
    return jnp.where(values == values.min(0), positions, values.shape[0] - 1).min(0)


def pick(values: Int[Array, "choice *rest"], index: Int[Array, "*rest"]) -> Int[Array, "*rest"]:
    """The value at each index along axis 0."""
    return jnp.take_along_axis(values, index[None], axis=0)[0]


def prices_of(place: Int[Array, "user cand batch"], edges: Edges) -> Prices:
    """Prices every change of one user's place, with the shares of the servers adapted to it."""
    num_users, num_servers = edges.min_share.shape[:2]
    at = one_hot(place, num_servers, axis=1)  # [user server cand batch]
    usable = jnp.isfinite(edges.min_share)
    root = jnp.where(usable, jnp.sqrt(edges.execute_cost), 0.0)
    floor = jnp.where(usable, edges.min_share, 0.0)
    transmit = jnp.where(usable, edges.transmit_cost, jnp.inf)
    local_cost = jnp.where(edges.local_allowed, edges.local_cost, jnp.inf)
    offload = place < num_servers  # [user cand batch]

    def at_place_of_second(values: Array) -> Array:
        """[user server ...] -> [user second ...]: the first user's value at the second's server, 0 for local."""
        return jnp.where(at[None], values[:, None], 0.0).sum(2)

    # The servers as they are, then for each user its server without it.
    neighbour = (place[:, None] == place[None]) & ~jnp.eye(num_users, dtype=bool)[:, :, None, None]
    costs = set_costs(
        jnp.concatenate([jnp.broadcast_to(root, at.shape), at_place_of_second(root)], axis=1),
        jnp.concatenate([jnp.broadcast_to(floor, at.shape), at_place_of_second(floor)], axis=1),
        jnp.concatenate([at, neighbour & offload[None]], axis=1),
    )  # [newcomer set cand batch], the last newcomer is nobody
    plain, without = costs[:, :num_servers], costs[:, num_servers:]
    local = jnp.broadcast_to(local_cost[:, None], (num_users, 1, *place.shape[1:]))
    take = jnp.concatenate([plain[:-1] - plain[-1:] + transmit, local], axis=1)
    now = jnp.where(at, plain[-1], 0.0).sum(1)  # [user cand batch], the cost of the user's server
    own_transmit = jnp.where(at, edges.transmit_cost, 0.0).sum(1)
    leave = jnp.where(offload, without[-1] - now - own_transmit, -edges.local_cost)
    served = at_place_of_second(transmit) + without[:-1] - now[None] - own_transmit[None]
    replace = jnp.where(offload[None], served, local_cost[:, None] - edges.local_cost[None])
    return Prices(leave, take, replace)


def by_rank(
    member: Bool[Array, "user set cand batch"],
    root: Float[Array, "user set cand batch"],
    floor: Float[Array, "user set cand batch"],
) -> tuple[Float[Array, "rank set cand batch"], Float[Array, "rank set cand batch"], Int[Array, ""]]:
    """Returns values of each set's members, first the members, then 0, and the size of the largest set.

    Sets are much smaller than the number of users, so what loops over ranks is quick.
    """
    number = lax.broadcasted_iota(jnp.int32, member.shape, 0)

    def take(state: tuple[Array, Array, tuple[Array, ...]]) -> tuple[Array, Array, tuple[Array, ...]]:
        rank, left, taken = state
        first = one_hot(jnp.where(left, number, len(left)).min(0), len(left))
        found = (jnp.where(first, column, 0.0).sum(0) for column in (root, floor))
        kept = tuple(column.at[rank].set(one) for column, one in zip(taken, found, strict=True))
        return rank + 1, left & ~first, kept

    nothing = (jnp.zeros_like(root), jnp.zeros_like(floor))
    largest, _, (roots, floors) = lax.while_loop(lambda state: jnp.any(state[1]), take, (jnp.int32(0), member, nothing))
    return roots, floors, largest


def set_costs(
    root: Float[Array, "user set #cand #batch"],
    floor: Float[Array, "user set #cand #batch"],
    member: Bool[Array, "user set cand batch"],
) -> Float[Array, "newcomer set cand batch"]:
    """Cost of executing each set of users on one server with one more user; last newcomer: nobody; inf: no room.

    With nu the price of a share, a user whose floor does not bind costs 2 nu sqrt(J), another one J / mu + nu^2 mu, and
    their sum less nu^2 is the dual of the server's problem: a lower bound at any nu, the cost at the right one. nu
    starts without floors and rises to the right one as floors bind.

    Args:
        root: sqrt(J_exe) of each user on the set's server, 0 where it cannot go there.
        floor: mu of each user on the set's server, 0 where it cannot go there.
        member: users of the set.
    """
    nobody = ((0, 1), (0, 0), (0, 0), (0, 0))
    new_root, new_floor = jnp.pad(root, nobody), jnp.pad(floor, nobody)
    member_root, member_floor = jnp.where(member, root, 0.0), jnp.where(member, floor, 0.0)
    total_floor = member_floor.sum(0) + new_floor
    nu = member_root.sum(0) + new_root
    first_root, first_floor, largest = by_rank(member, member_root, member_floor)

    def split(nu: Array) -> tuple[Array, Array, Array]:
        """Sums over the set: roots of the free, floors of the bound, cost of the bound."""

        def part(root: Array, floor: Array) -> tuple[Array, Array, Array]:
            free = root > floor * nu
            cost = root**2 / jnp.where(floor > 0, floor, 1.0)
            return jnp.where(free, root, 0.0), jnp.where(free, 0.0, floor), jnp.where(free, 0.0, cost)

        def add(rank: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            free_root, bound_floor, bound_cost = part(first_root[rank], first_floor[rank])
            return sums[0] + free_root, sums[1] + bound_floor, sums[2] + bound_cost

        return lax.fori_loop(0, largest, add, part(new_root, new_floor))

    def raise_price(_: Array, nu: Array) -> Array:
        free_root, bound_floor, _ = split(nu)
        left = 1.0 - bound_floor
        return jnp.maximum(nu, jnp.where(left > 0, free_root / jnp.where(left > 0, left, 1.0), nu))

    nu = lax.fori_loop(0, NUM_PRICINGS - 1, raise_price, nu)
    free_root, bound_floor, bound_cost = split(nu)
    cost = 2.0 * nu * free_root + bound_cost - nu**2 * (1.0 - bound_floor)
    return jnp.where(total_floor <= 1.0 + SHARE_TOLERANCE, cost, jnp.inf)
