"""Which users and servers an edge joins: all that the dense and the sparse form of a layer differ in.

Of all pairs of a user and a server few are edges, so that a list of edges is the faster form wherever a graph is more
than a handful of servers; `EdgeList` turns arrays over pairs into such a list and back, inside a compiled program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

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

    def from_graphs(self, values: Float[Array, "batch 1 1 feat"]) -> Float[Array, "batch 1 1 feat"]:
        """Returns each edge's graph's values, in a shape that broadcasts over edges."""
        return values

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


@struct.dataclass
class SparseWiring:
    """A list of edges, by user: users [user, feat], servers [server, feat], edges [edge, feat]."""

    server: Int[Array, "edge"]
    user: Int[Array, "edge"]
    graph: Int[Array, "edge"]
    mask: Bool[Array, "edge"]
    num_users: int = struct.field(pytree_node=False)
    num_servers: int = struct.field(pytree_node=False)

    def from_users(self, values: Float[Array, "user feat"]) -> Float[Array, "edge feat"]:
        """Returns each edge's user's values."""
        return jnp.take(values, self.user, axis=0, mode="clip")

    def from_servers(self, values: Float[Array, "server feat"]) -> Float[Array, "edge feat"]:
        """Returns each edge's server's values."""
        return jnp.take(values, self.server, axis=0, mode="clip")

    def from_graphs(self, values: Float[Array, "graph *_ feat"]) -> Float[Array, "edge feat"]:
        """Returns each edge's graph's values, or the ones of all graphs, in a shape that broadcasts over edges."""
        values = values.reshape(len(values), values.shape[-1])
        return values if len(values) == 1 else jnp.take(values, self.graph, axis=0, mode="clip")

    def to_users(self, values: Float[Array, "edge feat"]) -> Float[Array, "user feat"]:
        """Sums values of edges per user."""
        return jax.ops.segment_sum(values, self.user, self.num_users, mode="promise_in_bounds")

    def to_servers(self, values: Float[Array, "edge feat"]) -> Float[Array, "server feat"]:
        """Sums values of edges per server."""
        return jax.ops.segment_sum(values, self.server, self.num_servers, mode="promise_in_bounds")

    def user_max(self, values: Float[Array, "edge feat"]) -> Float[Array, "edge feat"]:
        """Returns the largest value among the edges of each edge's user."""
        return self.from_users(jax.ops.segment_max(values, self.user, self.num_users))

    def server_max(self, values: Float[Array, "edge feat"]) -> Float[Array, "edge feat"]:
        """Returns the largest value among the edges of each edge's server."""
        return self.from_servers(jax.ops.segment_max(values, self.server, self.num_servers))

    def masked(self, values: Float[Array, "edge feat"], other: float = 0.0) -> Float[Array, "edge feat"]:
        """Replaces the values of edges that are no real ones."""
        return jnp.where(self.mask[:, None], values, other)


class EdgeList(NamedTuple):
    """The edges of a batch of graphs as a list of fixed length, in the order of the pairs; what is left is no edge."""

    pair: Int[Array, "edge"]
    """Number of the edge's pair among all pairs of the batch; where there is no edge, the number of pairs."""
    shape: tuple[int, int, int]
    """Graphs, users, servers."""

    @staticmethod
    def of(mask: Bool[Array, "batch user server"], length: int) -> "EdgeList":
        """Lists the edges that there are; `length` is at least their number."""
        (pair,) = jnp.nonzero(mask.ravel(), size=length, fill_value=mask.size)
        batch, users, servers = mask.shape
        return EdgeList(pair, (batch, users, servers))

    @property
    def wiring(self) -> SparseWiring:
        """Users and servers of the whole batch, numbered graph by graph."""
        batch, users, servers = self.shape
        pair = jnp.minimum(self.pair, batch * users * servers - 1)
        user = pair // servers
        server = user // users * servers + pair % servers
        real = self.pair < batch * users * servers
        return SparseWiring(server, user, user // users, real, batch * users, batch * servers)

    def take(self, values: Shaped[Array, "batch user server *feat"]) -> Shaped[Array, "edge *feat"]:
        """Picks the values of the edges; those of places without an edge are any pair's."""
        return jnp.take(values.reshape(-1, *values.shape[3:]), self.pair, axis=0, mode="clip")

    def spread(self, values: Shaped[Array, "edge *feat"]) -> Shaped[Array, "batch user server *feat"]:
        """Puts the values of edges back to their pairs; all other pairs hold 0."""
        batch, users, servers = self.shape
        flat = jnp.zeros((batch * users * servers, *values.shape[1:]), values.dtype)
        return flat.at[self.pair].set(values, mode="drop").reshape(*self.shape, *values.shape[1:])


Wiring = DenseWiring | SparseWiring
"""Which users and servers an edge joins: all that the two forms differ in."""


class GraphState(NamedTuple):
    """What a layer turns into the next: hidden states of users, servers and edges."""

    users: Float[Array, "*user feat"]
    servers: Float[Array, "*server feat"]
    edges: Float[Array, "*edge feat"]
