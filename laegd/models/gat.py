"""The attention layer between users and servers, dense or sparse with the same parameters.

Source: [1] GADSG, Eqs. 28-34; equation numbers refer to [1]. Where we differ from it, and why:
- Missing edges are masked out of the softmax; Eq. 31 multiplies the exponent, which would give them weight exp(0) = 1.
- Servers listen to their users as well (`directed=True` is [1]'s form): else no edge can know who wants its server.
- A gated sum stands beside the attention average, which cannot count how many users compete for a server.
- Normalisation, a residual edge path, and the diffusion time added to the edges in every layer.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from laegd.models.wiring import MASKED_SCORE, GraphState, Wiring

_SOFTMAX_EPSILON = 1e-9  # Eq. 31; decides only where a node has no real neighbour


class GraphAttentionLayer(nn.Module):
    """One round of messages between users and servers; Eqs. 28-34."""

    num_heads: int
    directed: bool = False
    gated_sum: bool = True

    @nn.compact
    def __call__(self, state: GraphState, time: Float[Array, "*time feat"], wiring: Wiring) -> GraphState:
        """Returns the next state; `time` broadcasts over edges."""
        hidden, num_scores = state.edges.shape[-1], self.num_heads * (1 if self.directed else 2)
        # A h_u of Eqs. 28 and 34, W h_u of Eq. 29, and the message: one product per node, none of them per edge.
        edge_u, score_u, value_u = jnp.split(nn.Dense(3 * hidden, name="from_user")(state.users), 3, axis=-1)
        edge_s, score_s, value_s = jnp.split(nn.Dense(3 * hidden, name="from_server")(state.servers), 3, axis=-1)
        # C e of Eqs. 28 and 34 beside W_g e of Eq. 30: the only product with the edges' hidden states.
        from_edge = nn.Dense(hidden + num_scores, name="from_edge")(state.edges)
        edge_e, score_gate = from_edge[..., :hidden], nn.sigmoid(from_edge[..., hidden:])

        # Gate and edge update share one normalised sum: a second norm would cost more than everything else per edge.
        mixed = wiring.from_users(edge_u) + wiring.from_servers(edge_s) + edge_e
        mixed = nn.RMSNorm(name="edge_norm")(mixed) + nn.Dense(hidden, name="time")(time)
        gate = wiring.masked(nn.sigmoid(mixed))  # Eq. 28

        score = jnp.tanh(wiring.from_users(score_u) + wiring.from_servers(score_s))
        score = nn.Dense(num_scores, use_bias=False, name="score")(score) * score_gate  # Eqs. 29-30
        score = wiring.masked(score, MASKED_SCORE)

        users = self._gather(gate, wiring.from_servers(value_s), score[..., : self.num_heads], wiring, "user")
        servers = ()
        if not self.directed:
            servers = self._gather(gate, wiring.from_users(value_u), score[..., self.num_heads :], wiring, "server")
        return GraphState(
            users=self._update(state.users, users, "user"),
            servers=self._update(state.servers, servers, "server"),
            edges=state.edges + nn.relu(mixed),  # Eq. 34
        )

    def _gather(
        self, gate: jax.Array, value: jax.Array, score: jax.Array, wiring: Wiring, role: str
    ) -> tuple[jax.Array, ...]:
        """Returns the attention average (Eqs. 31-32) and, beside it, the gated sum of the messages to a role."""
        largest, total = (
            (wiring.user_max, wiring.to_users) if role == "user" else (wiring.server_max, wiring.to_servers)
        )
        spread = wiring.from_users if role == "user" else wiring.from_servers
        weight = wiring.masked(jnp.exp(score - jax.lax.stop_gradient(largest(score))))
        weight = weight / (spread(total(weight)) + _SOFTMAX_EPSILON)  # Eq. 31
        message = gate * value
        weight = jnp.repeat(weight, message.shape[-1] // self.num_heads, axis=-1)  # each head weighs its own part
        average = total(weight * message)  # Eq. 32
        return (average, total(message)) if self.gated_sum else (average,)

    def _update(self, nodes: jax.Array, messages: tuple[jax.Array, ...], role: str) -> jax.Array:
        """Returns the nodes' next state; Eq. 33 with the node beside its messages and the residual outside the ReLU."""
        change = nn.Dense(nodes.shape[-1], name=f"{role}_update")(jnp.concatenate([nodes, *messages], axis=-1))
        return nodes + nn.relu(nn.LayerNorm(name=f"{role}_norm")(change))
