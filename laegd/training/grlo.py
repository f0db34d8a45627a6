"""GRLO's loss: an actor-critic on graphs, without labels.

Source: [1] GADSG, Sec. V-B, and the abstract of [2] Z. Sun, Y. Mo, C. Yu, "Graph-Reinforcement-Learning-Based Task
Offloading for Multiaccess Edge Computing", 2023: a graph network with actor and critic, trained without labels, by "a
method that quickly explores action space and approaches the optimal solution". Open there and settled here: an instance
is one decision round, so a return is a reward; a user's place is drawn independently of the other users', given the
graph; the reward is that of the plan that would be executed, repaired and at its best shares; beside the policy
gradient the actor learns the best plan that exploration found from the step's actions.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from laegd.config import GRLOConfig
from laegd.decoding.candidates import Problem, edges_of
from laegd.decoding.explore import Actions, action_belief, explored, repaired
from laegd.decoding.polish import cheapest, priced
from laegd.graphs.encode import GraphBatch
from laegd.models.actor_critic import ActorCritic, allowed_places, log_policy
from laegd.problem.instance import LOCAL

LARGEST_RATIO = 20.0
"""Cost over `cost_alone` of which the reward sees no more; a plan that breaks a constraint counts as this dear."""
_SMALLEST_COST = 1e-12  # keeps logs finite where there is no user


class ActorCriticSums(NamedTuple):
    """Sums over instances."""

    policy: Float[Array, ""]
    imitation: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    reward: Float[Array, ""]


def cost_alone(problem: Problem) -> Float[Array, "batch"]:
    """Returns what each instance would cost if every user had the network to itself: a scale without labels."""
    remote = jnp.where(problem.usable, problem.transmit_cost + problem.execute_cost, jnp.inf).min(-1, initial=jnp.inf)
    local = jnp.where(problem.local_allowed | ~jnp.isfinite(remote), problem.local_cost, jnp.inf)
    return jnp.minimum(remote, local).sum(-1)


def reward_of(cost: Float[Array, "batch sample"], problem: Problem) -> Float[Array, "batch sample"]:
    """Returns minus the log of cost over `cost_alone`, so that a per cent counts the same on every instance."""
    ratio = cost / jnp.maximum(cost_alone(problem), _SMALLEST_COST)[:, None]
    return -jnp.log(jnp.clip(ratio, _SMALLEST_COST, LARGEST_RATIO))


def log_likelihood(
    log_probability: Float[Array, "batch user place"], place: Int[Array, "batch sample user"]
) -> Float[Array, "batch sample"]:
    """Returns the mean over users of the log-probability of their places; a mean, so that scales weigh the same."""
    taken = jnp.take_along_axis(log_probability[:, None], place[..., None], axis=-1)[..., 0]
    return taken.sum(-1) / max(place.shape[-1], 1)


def policy_loss(
    log_probability: Float[Array, "batch user place"],
    place: Int[Array, "batch sample user"],
    advantage: Float[Array, "batch sample"],
) -> Float[Array, "batch"]:
    """Returns what has as its gradient minus the policy gradient, over the number of users, estimated from samples."""
    return -(jax.lax.stop_gradient(advantage) * log_likelihood(log_probability, place)).mean(-1)


def draw_places(keys: Array, log_probability: Float[Array, "batch user place"]) -> Int[Array, "batch sample user"]:
    """Draws actions; keys [batch sample 2]."""
    return jax.vmap(jax.vmap(jax.random.categorical, (0, None)))(keys, log_probability)


def _consult(model: ActorCritic, params: Any, graph: GraphBatch, problem: Problem) -> tuple[Array, Array]:
    """Returns the log-policy over the allowed places and the value of each instance."""
    logits, value = cast(tuple[Array, Array], model.apply({"params": params}, graph))
    return log_policy(logits, allowed_places(problem.local_allowed, problem.usable)), value


def act(model: ActorCritic, params: Any, keys: Array, graph: GraphBatch, problem: Problem) -> Actions:
    """Returns the starts of exploration: the likeliest action, then drawn ones; keys [batch sample 2]."""
    log_probability, _ = _consult(model, params, graph, problem)
    place = draw_places(keys, log_probability).at[:, 0].set(log_probability.argmax(-1))
    policy = jnp.exp(log_probability)
    return Actions(action_belief(place, policy), policy.max(-1))


def actor_critic_loss(
    model: ActorCritic, params: Any, keys: Array, graph: GraphBatch, problem: Problem, settings: GRLOConfig
) -> tuple[Float[Array, ""], ActorCriticSums]:
    """Draws actions, rewards them and scores actor and critic; `keys` has one key per instance.

    Returns:
        The weighted loss and its parts, as sums over instances.
    """
    log_probability, value = _consult(model, params, graph, problem)
    policy = jnp.exp(log_probability)
    draws = jax.vmap(lambda key: jax.random.split(key, settings.num_actions))(keys)
    place = draw_places(draws, jax.lax.stop_gradient(log_probability))
    reward, target, found = _judge(place, jax.lax.stop_gradient(policy), problem)

    num_users = max(place.shape[-1], 1)
    imitation = jnp.where(found, -log_likelihood(log_probability, target)[:, 0], 0.0)
    sums = ActorCriticSums(
        policy=policy_loss(log_probability, place, reward - value[:, None]).sum(),
        imitation=imitation.sum(),
        value=((reward - value[:, None]) ** 2).mean(-1).sum(),
        entropy=-(policy * log_probability).sum() / num_users,
        reward=reward.mean(-1).sum(),
    )
    loss = (
        settings.policy_weight * sums.policy
        + settings.imitation_weight * sums.imitation
        + settings.value_weight * sums.value
        - settings.entropy_weight * sums.entropy
    )
    return loss, sums


def _judge(
    place: Int[Array, "batch sample user"], policy: Float[Array, "batch user place"], problem: Problem
) -> tuple[Float[Array, "batch sample"], Int[Array, "batch 1 user"], Array]:
    """Returns the reward of each action, the best places that exploration found, and whether they are feasible.

    Exploration starts from the cheapest of the drawn actions and the likeliest one; it keeps a feasible plan feasible.
    """
    edges = edges_of(problem)
    num_servers = problem.usable.shape[-1]
    starts = jnp.concatenate([place, policy.argmax(-1)[:, None]], axis=1)
    plans = priced(repaired(action_belief(starts, policy), problem), edges)
    start = cheapest(plans, 1)
    server = jnp.moveaxis(explored(start.server, policy.max(-1), edges), (0, 1, 2), (2, 1, 0))
    target = jnp.where(server == LOCAL, num_servers, server)
    return reward_of(plans.cost[:-1].T, problem), target, jnp.isfinite(start.cost[0])
