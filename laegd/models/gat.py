"""The attention layer between users and servers, dense or sparse with the same parameters.

Source: [1] GADSG, Eqs. 28-34; equation numbers refer to [1]. Where we differ from it, and why:
- Missing edges are masked out of the softmax; Eq. 31 multiplies the exponent, which would give them weight exp(0) = 1.
- Servers listen to their users as well (`directed=True` is [1]'s form): else no edge can know who wants its server.
- A gated sum stands beside the attention average, which cannot count how many users compete for a server.
- Normalisation, a residual edge path, and the diffusion time added to the edges in every layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from laegd.models.dense import Dense
from laegd.models.wiring import GraphState, Wiring

_SOFTMAX_EPSILON = 1e-15  # Eq. 31; decides only where a node has no real neighbour
_LARGEST_SCORE = 30.0  # exp of it, and sums of that, are far from float32's ends


class GraphAttentionLayer(nn.Module):
    """One round of messages between users and servers; Eqs. 28-34."""

    num_heads: int
    directed: bool = False
    gated_sum: bool = True

    @nn.compact
    def __call__(self, state: GraphState, time: Float[Array, "graph *_ feat"], wiring: Wiring) -> GraphState:
        """Returns the next state; `time` is each graph's, or one for all."""
        hidden, num_scores = state.edges.shape[-1], self.num_heads * (1 if self.directed else 2)

        def of(nodes: jax.Array, name: str) -> jax.Array:
            return Dense(hidden, name=name)(nodes)

        # C e of Eqs. 28 and 34 and W_g e of Eq. 30 are the only products with the edges' hidden states.
        mixed = wiring.from_users(of(state.users, "user_gate")) + wiring.from_servers(of(state.servers, "server_gate"))
        mixed = mixed + of(state.edges, "edge_gate")
        # Gate and edge update share one normalised sum: a second norm would cost more than everything else per edge.
        mixed = nn.RMSNorm(name="edge_norm")(mixed) + wiring.from_graphs(of(time, "time"))
        gate = wiring.masked(nn.sigmoid(mixed))  # Eq. 28

        score = wiring.from_users(of(state.users, "user_score")) + wiring.from_servers(
            of(state.servers, "server_score")
        )
        score = Dense(num_scores, use_bias=False, name="score")(jnp.tanh(score))  # Eq. 29
        score = score * nn.sigmoid(Dense(num_scores, name="score_gate")(state.edges))  # Eq. 30
        # The softmax of Eq. 31, its sum taken at the node. No largest score is subtracted: tanh bounds the scores.
        weight = wiring.masked(jnp.exp(jnp.clip(score, -_LARGEST_SCORE, _LARGEST_SCORE)))

        to_users = gate * wiring.from_servers(of(state.servers, "server_value"))
        users = self._gather(to_users, weight[..., : self.num_heads], wiring.to_users)
        servers = ()
        if not self.directed:
            to_servers = gate * wiring.from_users(of(state.users, "user_value"))
            servers = self._gather(to_servers, weight[..., self.num_heads :], wiring.to_servers)
        return GraphState(
            users=self._update(state.users, users, "user"),
            servers=self._update(state.servers, servers, "server"),
            edges=state.edges + nn.relu(mixed),  # Eq. 34
        )

    def _gather(
        self, message: jax.Array, weight: jax.Array, total: Callable[[jax.Array], jax.Array]
    ) -> tuple[jax.Array, ...]:
        """Returns the attention average (Eqs. 31-32) and, beside it, the gated sum of the messages to a role."""
        width = message.shape[-1] // self.num_heads  # each head weighs its own part
        sums = total(jnp.repeat(weight, width, axis=-1) * message)
        average = sums / jnp.repeat(total(weight) + _SOFTMAX_EPSILON, width, axis=-1)
        return (average, total(message)) if self.gated_sum else (average,)

    def _update(self, nodes: jax.Array, messages: tuple[jax.Array, ...], role: str) -> jax.Array:
        """Returns the nodes' next state; Eq. 33 with the node beside its messages and the residual outside the ReLU."""
        change = Dense(nodes.shape[-1], name=f"{role}_update")(jnp.concatenate([nodes, *messages], axis=-1))
        return nodes + nn.relu(nn.LayerNorm(name=f"{role}_norm")(change))
