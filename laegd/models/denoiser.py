"""The denoising network: embeddings, rounds of messages, and two heads per edge.

Source: [1] GADSG, Sec. IV-B; equation numbers refer to [1]. It sees a noisy plan on a graph and says, per edge, whether
the clean plan offloads there (two logits) and which noise its share carries. The diffusion time enters on the edge path
only. With the gated convolution for attention it is the network of GDSG.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float, Num

from laegd.graphs.encode import EXISTS, GraphBatch
from laegd.models.dense import Dense
from laegd.models.gat import GraphAttentionLayer
from laegd.models.gcn import GatedConvolutionLayer
from laegd.models.wiring import DenseWiring, EdgeList, GraphState, SparseWiring, Wiring
from laegd.scenario.scenario import require

TIME_PERIODS = 10_000.0
"""Longest period of the time's sinusoidal features, in diffusion steps, over 2 pi; as in the transformer."""


MAX_WEIGHTS = 10**8  # num_layers x hidden^2; a layer has about a dozen matrices of that size
MAX_LAYERS = 100  # each is compiled by itself

# A layer's edges are those before it plus a change, and so are their gradients, backwards. On a CPU XLA works out anew
# what is cheap wherever it is read, and that would be the sum over all layers: time that grows with their square.
_COMPILED_APART = {"inlineable": "false"}
_WITH_WHAT_IS_AROUND = {"inlineable": "true"}


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the network; the defaults are for CPUs, [1] has hidden = 256 and num_layers = 10."""

    hidden: int = 64
    """Width of all hidden states; a multiple of num_heads, even."""
    num_layers: int = 5
    """Rounds of messages."""
    num_heads: int = 4
    """Attention heads; Table III."""
    directed: bool = False
    """Users listen to servers only, as [1] prints; by default servers listen to users too."""
    gated_sum: bool = True
    """Adds a gated sum beside the attention average."""
    encoder: Literal["attention", "convolution"] = "attention"
    """GADSG's layer, or GDSG's."""
    aggregation: Literal["sum", "mean", "max"] = "sum"
    """How a convolution joins the messages to a node; attention has its own way."""

    def __post_init__(self) -> None:
        for name, known in (("encoder", ("attention", "convolution")), ("aggregation", ("sum", "mean", "max"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: Expected one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name in ("hidden", "num_layers", "num_heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: Expected a whole number above 0, got {value!r}. Use e.g. 64, 5 or 4.")
            require(value <= MAX_WEIGHTS, name, f"at most {MAX_WEIGHTS:,}", value, "Use e.g. 64, 5 or 4.")
        if self.hidden % self.num_heads or self.hidden % 2:
            near = -(-self.hidden // (2 * self.num_heads)) * 2 * self.num_heads
            raise ValueError(
                f"hidden: Expected an even multiple of num_heads = {self.num_heads}, got {self.hidden}. Use {near}."
            )
        weights, expected = self.num_layers * self.hidden**2, f"num_layers x hidden^2 of at most {MAX_WEIGHTS:,}"
        require(weights <= MAX_WEIGHTS, "hidden, num_layers", expected, weights, "Use 64 and 5.")
        require(self.num_layers <= MAX_LAYERS, "num_layers", f"at most {MAX_LAYERS}", self.num_layers, "Use 5.")


class GraphParts(NamedTuple):
    """A graph as the layers know it: what joins what, and the features of users, servers and edges."""

    wiring: Wiring
    users: Float[Array, "*user feat"]
    servers: Float[Array, "*server feat"]
    edges: Float[Array, "*edge feat"]


class GraphEncoder(nn.Module):
    """Hidden states of users, servers and edges after all rounds of messages."""

    config: ModelConfig

    @nn.compact
    def __call__(self, graph: GraphParts, time: Float[Array, "graph *_ feat"]) -> GraphState:
        """Embeds the graph and passes messages; `time` is the hidden state of each graph's time, or of all."""
        config, hidden = self.config, self.config.hidden
        state = GraphState(
            users=Dense(hidden, name="embed_user")(graph.users),
            servers=Dense(hidden, name="embed_server")(graph.servers),
            edges=Dense(hidden, name="embed_edge")(graph.edges),
        )
        layer: nn.Module
        if config.encoder == "attention":
            layer = GraphAttentionLayer(config.num_heads, config.directed, config.gated_sum, parent=None)
        else:
            layer = GatedConvolutionLayer(config.aggregation, config.directed, parent=None)
        for number in range(config.num_layers):
            name = f"layer_{number}"
            if self.is_initializing():
                state = layer.clone(parent=self, name=name)(state, time, graph.wiring)
            else:
                with set_xla_metadata(**_COMPILED_APART if jax.default_backend() == "cpu" else {}):
                    state = _round(layer, self.variables["params"][name], state, time, graph.wiring)
        return state


@partial(jax.jit, static_argnames="layer")
def _round(
    layer: nn.Module, params: Mapping[str, Any], state: GraphState, time: jax.Array, wiring: Wiring
) -> GraphState:
    """Passes messages once; traced once for all layers, which differ in their parameters alone."""
    with set_xla_metadata(**_WITH_WHAT_IS_AROUND):  # the layer's parts, of the gradient too
        following: Any = layer.apply({"params": params}, state, time, wiring)
    return following


class Denoiser(nn.Module):
    """Predicts the clean bit and the share's noise of every edge."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        xt: Num[Array, "*edge"],
        yt: Float[Array, "*edge"],
        t: Num[Array, "*time"],
        graph: GraphBatch | jraph.GraphsTuple,
    ) -> tuple[Float[Array, "*edge 2"], Float[Array, "*edge"]]:
        """Returns logits and noise per edge, 0 where there is no real edge.

        Args:
            xt: noisy offloading bits, 0 or 1; [batch, user, server], or [edge] with a GraphsTuple.
            yt: noisy shares, -1 to 1 plus noise; shaped as xt.
            t: diffusion time in steps, of each graph or of all; [batch, 1, 1] or [1, 1, 1], [graph] or [1] with a
                GraphsTuple.
            graph: the encoded instances; of one scale, or a GraphsTuple, padded or not.
        """
        hidden = self.config.hidden
        plan = jnp.stack([2.0 * xt - 1.0, yt], axis=-1)
        time = nn.relu(Dense(hidden, name="embed_time")(_time_features(t, hidden)))
        edge_list = None
        if isinstance(graph, jraph.GraphsTuple):
            parts = _parts_of_tuple(graph)
        elif graph.room is None:
            parts = dense_parts(graph)
        else:
            edge_list = EdgeList.of(jnp.asarray(graph.edge_mask), graph.room.size)
            parts, plan = _parts_of_list(graph, edge_list), edge_list.take(plan)
        wiring = parts.wiring
        features = jnp.concatenate([parts.edges, plan.astype(parts.edges.dtype)], axis=-1)
        state = GraphEncoder(self.config, name="encoder")(parts._replace(edges=features), time)
        out = Dense(hidden, name="head_edge")(nn.LayerNorm(name="head_norm")(state.edges))
        out = out + wiring.from_users(Dense(hidden, use_bias=False, name="head_user")(state.users))
        out = out + wiring.from_servers(Dense(hidden, use_bias=False, name="head_server")(state.servers))
        out = wiring.masked(Dense(3, name="head_out")(nn.relu(out)))
        out = out if edge_list is None else edge_list.spread(out)
        return out[..., :2], out[..., 2]


def dense_parts(graph: GraphBatch) -> GraphParts:
    """Returns every pair of a user and a server as an edge, real or not."""
    user_features, server_features, edge_features, mask = map(jnp.asarray, graph[:4])
    return GraphParts(DenseWiring(mask), user_features, server_features, edge_features)


def _parts_of_list(graph: GraphBatch, edges: EdgeList) -> GraphParts:
    user_features, server_features, edge_features, _ = map(jnp.asarray, graph[:4])
    users, servers = (nodes.reshape(-1, nodes.shape[-1]) for nodes in (user_features, server_features))
    return GraphParts(edges.wiring, users, servers, edges.take(edge_features))


def _parts_of_tuple(graph: jraph.GraphsTuple) -> GraphParts:
    """Returns a tuple whose roles each see all nodes: rows of the other role have no edges and reach no output."""
    nodes, edges = jnp.asarray(graph.nodes), jnp.asarray(graph.edges)
    senders, receivers, n_edge = (jnp.asarray(x) for x in (graph.senders, graph.receivers, graph.n_edge))
    of_graph = jnp.repeat(jnp.arange(len(n_edge)), n_edge, total_repeat_length=len(edges))
    # Padding has zeros for features, so its edges' flag says that they are no real ones.
    wiring = SparseWiring(senders, receivers, of_graph, edges[:, EXISTS] > 0, len(nodes), len(nodes))
    return GraphParts(wiring, nodes, nodes, edges)


def _time_features(t: jax.Array, width: int) -> jax.Array:
    """Returns sines and cosines of the diffusion time."""
    frequency = TIME_PERIODS ** -jnp.linspace(0.0, 1.0, width // 2)
    phase = t[..., None].astype(jnp.float32) * frequency  # [*time, width / 2]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
