"""The attention layer between users and servers, dense or sparse with the same parameters.

Source: [1] GADSG, Eqs. 28-34; equation numbers refer to [1]. Where we differ from it, and why:
- Missing edges are masked out of the softmax; Eq. 31 multiplies the exponent, which would give them weight exp(0) = 1.
- Servers listen to their users as well (`directed=True` is [1]'s form): else no edge can know who wants its server.
- A gated sum stands beside the attention average, which cannot count how many users compete for a server.
- Normalisation, a residual edge path, and the diffusion time added to the edges in every layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

_MASKED_SCORE = -1e9  # exp of it is 0, and unlike -inf it has no NaN in its gradient
_SOFTMAX_EPSILON = 1e-9  # Eq. 31; decides only where a node has no real neighbour


class DenseWiring(NamedTuple):
    """Every user with every server of its graph: nodes [batch, node, feat], edges [batch, user, server, feat]."""

    mask: Bool[Array, "batch user server"]

    def from_users(self, values: Float[Array, "batch user feat"]) -> Float[Array, "batch user 1 feat"]:
        """Returns each edge's user's values, in a shape that broadcasts over edges."""
        return values[:, :, None]

    def from_servers(self, values: Float[Array, "batch server feat"]) -> Float[Array, "batch 1 server feat"]:
        """Returns each edge's server's values, in a shape that broadcasts over edges."""
        return values[:, None]

    def to_users(self, values: Float[Array, "batch user server feat"]) -> Float[Array, "batch user feat"]:
        """Sums values of edges per user."""
        return values.sum(axis=2)

    def to_servers(self, values: Float[Array, "batch user server feat"]) -> Float[Array, "batch server feat"]:
        """Sums values of edges per server."""
        return values.sum(axis=1)

    def user_max(self, values: Float[Array, "batch user server feat"]) -> Float[Array, "batch user 1 feat"]:
        """Returns the largest value among the edges of each edge's user."""
        return values.max(axis=2, keepdims=True, initial=_MASKED_SCORE)

    def server_max(self, values: Float[Array, "batch user server feat"]) -> Float[Array, "batch 1 server feat"]:
        """Returns the largest value among the edges of each edge's server."""
        return values.max(axis=1, keepdims=True, initial=_MASKED_SCORE)

    def masked(
        self, values: Float[Array, "batch user server feat"], other: float = 0.0
    ) -> Float[Array, "batch user server feat"]:
        """Replaces the values of edges that are no real ones."""
        return jnp.where(self.mask[..., None], values, other)


class SparseWiring(NamedTuple):
    """A list of edges: nodes [node, feat], edges [edge, feat]. Users and servers share one numbering of nodes."""

    server: Int[Array, "edge"]
    user: Int[Array, "edge"]
    mask: Bool[Array, "edge"]
    num_nodes: int

    def from_users(self, values: Float[Array, "node feat"]) -> Float[Array, "edge feat"]:
        """Returns each edge's user's values, in a shape that broadcasts over edges."""
        return values[self.user]

    def from_servers(self, values: Float[Array, "node feat"]) -> Float[Array, "edge feat"]:
        """Returns each edge's server's values, in a shape that broadcasts over edges."""
        return values[self.server]

    def to_users(self, values: Float[Array, "edge feat"]) -> Float[Array, "node feat"]:
        """Sums values of edges per user."""
        return jax.ops.segment_sum(values, self.user, self.num_nodes)

    def to_servers(self, values: Float[Array, "edge feat"]) -> Float[Array, "node feat"]:
        """Sums values of edges per server."""
        return jax.ops.segment_sum(values, self.server, self.num_nodes)

    def user_max(self, values: Float[Array, "edge feat"]) -> Float[Array, "edge feat"]:
        """Returns the largest value among the edges of each edge's user."""
        return jax.ops.segment_max(values, self.user, self.num_nodes)[self.user]

    def server_max(self, values: Float[Array, "edge feat"]) -> Float[Array, "edge feat"]:
        """Returns the largest value among the edges of each edge's server."""
        return jax.ops.segment_max(values, self.server, self.num_nodes)[self.server]

    def masked(self, values: Float[Array, "edge feat"], other: float = 0.0) -> Float[Array, "edge feat"]:
        """Replaces the values of edges that are no real ones."""
        return jnp.where(self.mask[:, None], values, other)


Wiring = DenseWiring | SparseWiring
"""Which users and servers an edge joins: all that the two forms differ in."""


class GraphState(NamedTuple):
    """What a layer turns into the next: hidden states of users, servers and edges."""

    users: Float[Array, "*user feat"]
    servers: Float[Array, "*server feat"]
    edges: Float[Array, "*edge feat"]


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
        score = wiring.masked(score, _MASKED_SCORE)

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
