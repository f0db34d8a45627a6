"""Which users and servers an edge joins: all that the dense and the sparse form of a layer differ in."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MASKED_SCORE = -1e9  # exp of it is 0, and unlike -inf it has no NaN in its gradient


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
        return values.max(axis=2, keepdims=True, initial=MASKED_SCORE)

    def server_max(self, values: Float[Array, "batch user server feat"]) -> Float[Array, "batch 1 server feat"]:
        """Returns the largest value among the edges of each edge's server."""
        return values.max(axis=1, keepdims=True, initial=MASKED_SCORE)

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
