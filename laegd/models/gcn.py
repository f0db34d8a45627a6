"""The gated graph convolution of GDSG, dense or sparse with the same parameters: the baseline's layer.

Source: [2] GDSG, Liang et al., IEEE Transactions on Mobile Computing 2025, which takes it from DIFUSCO:
h_i <- h_i + ReLU(norm(U h_i + aggregate_j(sigmoid(e_ij') * V h_j))) with e_ij' = A h_i + B h_j + C e_ij. Settled here:
- `directed=True` is the published form: users gather from servers, servers keep to themselves. Else both gather, so
  that the gain of attention and the gain of direction can be told apart.
- Gate, edge update, norms and the time on the edge path are those of the attention layer, so that the two differ in
  aggregation alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from laegd.models.dense import Dense
from laegd.models.wiring import MASKED_SCORE, GraphState, Wiring


class GatedConvolutionLayer(nn.Module):
    """One round of messages between users and servers, aggregated by a fixed rule."""

    aggregation: str = "sum"
    directed: bool = True

    @nn.compact
    def __call__(self, state: GraphState, time: Float[Array, "graph *_ feat"], wiring: Wiring) -> GraphState:
        """Returns the next state; `time` is each graph's, or one for all."""
        hidden = state.edges.shape[-1]
        # A h and V h: one product per node, none of them per edge.
        edge_u, value_u = jnp.split(Dense(2 * hidden, name="from_user")(state.users), 2, axis=-1)
        edge_s, value_s = jnp.split(Dense(2 * hidden, name="from_server")(state.servers), 2, axis=-1)
        mixed = wiring.from_users(edge_u) + wiring.from_servers(edge_s)
        mixed = mixed + Dense(hidden, name="from_edge")(state.edges)
        mixed = nn.RMSNorm(name="edge_norm")(mixed) + wiring.from_graphs(Dense(hidden, name="time")(time))
        gate = nn.sigmoid(mixed)

        users = self._aggregate(gate * wiring.from_servers(value_s), wiring, wiring.to_users, wiring.user_max)
        servers = None
        if not self.directed:
            servers = self._aggregate(gate * wiring.from_users(value_u), wiring, wiring.to_servers, wiring.server_max)
        return GraphState(
            users=self._update(state.users, users, "user"),
            servers=self._update(state.servers, servers, "server"),
            edges=state.edges + nn.relu(mixed),
        )

    def _aggregate(
        self,
        message: jax.Array,
        wiring: Wiring,
        total: Callable[[jax.Array], jax.Array],
        largest: Callable[[jax.Array], jax.Array],
    ) -> jax.Array:
        """Returns each node's sum, mean or maximum over its real edges; 0 where it has none."""
        if self.aggregation == "max":
            best = largest(wiring.masked(message, MASKED_SCORE))  # per edge: what its node's best edge holds
            first = wiring.masked(jnp.ones_like(message[..., :1]))
            # Every edge of a node holds the same value, so the mean over them is that value.
            return total(wiring.masked(best * jnp.ones_like(message))) / jnp.maximum(total(first), 1.0)
        summed = total(wiring.masked(message))
        if self.aggregation == "sum":
            return summed
        return summed / jnp.maximum(total(wiring.masked(jnp.ones_like(message[..., :1]))), 1.0)

    def _update(self, nodes: jax.Array, message: jax.Array | None, role: str) -> jax.Array:
        """Returns the nodes' next state; without a message a node keeps to itself."""
        change = Dense(nodes.shape[-1], name=f"{role}_update")(nodes)
        change = change if message is None else change + message
        return nodes + nn.relu(nn.LayerNorm(name=f"{role}_norm")(change))
