"""GRLO's network: the denoiser's trunk, an actor that chooses each user's place, a critic that foresees the reward.

Source: [2] Z. Sun, Y. Mo, C. Yu, "Graph-Reinforcement-Learning-Based Task Offloading for Multiaccess Edge Computing",
2023, as [1] GADSG, Sec. V-B, sums it up: graph embeddings, offloading actions, an actor-critic. Neither sizes nor
layers are given there, so the trunk is the very one of the network it is compared with, without a plan as input.
A place is a server or, last, the user's own device.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from laegd.graphs.encode import GraphBatch
from laegd.models.denoiser import GraphEncoder, ModelConfig, dense_parts
from laegd.models.dense import Dense

_MASKED_LOGIT = -1e9  # exp of it is 0, and unlike -inf it has no NaN in its gradient


class ActorCritic(nn.Module):
    """Scores every user's places, and foresees the reward of acting on them."""

    config: ModelConfig

    @nn.compact
    def __call__(self, graph: GraphBatch) -> tuple[Float[Array, "batch user place"], Float[Array, "batch"]]:
        """Returns the logit of each user's places, allowed or not, and each instance's value."""
        hidden = self.config.hidden
        no_time = jnp.zeros((1, 1, 1, hidden))
        parts = dense_parts(graph)
        wiring, state = parts.wiring, GraphEncoder(self.config, name="encoder")(parts, no_time)
        users, servers = nn.LayerNorm(name="user_norm")(state.users), nn.LayerNorm(name="server_norm")(state.servers)
        edges = nn.LayerNorm(name="edge_norm")(state.edges)

        out = Dense(hidden, name="actor_edge")(edges)
        out = out + wiring.from_users(Dense(hidden, use_bias=False, name="actor_edge_user")(users))
        out = out + wiring.from_servers(Dense(hidden, use_bias=False, name="actor_edge_server")(servers))
        offload = Dense(1, name="actor_edge_out")(nn.relu(out))[..., 0]
        local = Dense(1, name="actor_local_out")(nn.relu(Dense(hidden, name="actor_local")(users)))

        mask = jnp.asarray(graph.edge_mask)[..., None]
        pooled = (_mean(users, 1), _mean(servers, 1), _mean(wiring.masked(edges), (1, 2), mask))
        value = nn.relu(Dense(hidden, name="critic")(jnp.concatenate(pooled, axis=-1)))
        return jnp.concatenate([offload, local], axis=-1), Dense(1, name="critic_out")(value)[..., 0]


def _mean(values: jax.Array, axes: int | tuple[int, ...], mask: jax.Array | None = None) -> jax.Array:
    """Returns the mean over real entries, 0 where there is none; `values` are 0 where there is no real one."""
    count = (jnp.ones(values.shape) if mask is None else mask).sum(axes)
    return values.sum(axes) / jnp.maximum(count, 1)


def allowed_places(
    local_allowed: Bool[Array, "batch user"], usable: Bool[Array, "batch user server"]
) -> Bool[Array, "batch user place"]:
    """Returns where each user may run; a user that may run nowhere gets its own device, so that it has an action."""
    local = local_allowed | ~usable.any(-1)
    return jnp.concatenate([usable, local[..., None]], axis=-1)


def log_policy(
    logits: Float[Array, "batch user place"], allowed: Bool[Array, "batch user place"]
) -> Float[Array, "batch user place"]:
    """Returns the log-probability of each user's places; that of a place that is not allowed is the log of 0."""
    return jax.nn.log_softmax(jnp.where(allowed, logits, _MASKED_LOGIT), axis=-1)
